"""`GET /v1/jobs/{id}/events`: before, during and after the run, from the start or behind any event."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import redis

from jobs import cancel, ids
from jobs.database import Database
from jobs.records import Json, Outcome, Usage
from jobs.states import Status
from tests.api.conftest import Client, Worker, chat
from tests.api.test_live import CHAT, DONE, Voice, said, server, sockets, voice
from tests.until import until

__all__ = ["server", "sockets", "voice"]


class Reading:
    """One reader of a job's events."""

    def __init__(self, client: Client, job: str, last: str = "") -> None:
        self.body = b""
        self._headers = {"Last-Event-ID": last} if last else {}
        self.task = asyncio.create_task(self._read(client, job))

    async def _read(self, client: Client, job: str) -> bytes:
        async with client.stream("GET", f"/v1/jobs/{job}/events", headers=self._headers) as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            async for piece in response.aiter_raw():
                self.body += piece
        return self.body

    async def has_read(self, end: bytes) -> None:
        await until(lambda: self.body.endswith(end))


@pytest.fixture
async def job(sockets: Client) -> str:
    """A job that streams, queued."""
    accepted = await sockets.post("/v1/jobs", json={"endpoint": CHAT, "body": chat(stream=True)})
    name: str = accepted.json()["id"]
    return name


@pytest.fixture
async def plain(sockets: Client) -> AsyncIterator[str]:
    accepted = await sockets.post("/v1/jobs", json={"endpoint": CHAT, "body": chat()})
    yield accepted.json()["id"]


def status(job: str, name: str, **more: object) -> bytes:
    shown = {"id": job, "object": "job.status", "status": name, **more}
    return b"event: job.%s\ndata: %s\n\n" % (name.encode(), json.dumps(shown, separators=(",", ":")).encode())


def numbered(*events: bytes, run: int = 1, first: int = 0) -> bytes:
    return b"".join(b"id: %d-%d\n%s" % (run, number, event) for number, event in enumerate(events, first))


def last_status(body: bytes) -> tuple[str, Json]:
    name, data = body.rstrip().rpartition(b"\n\n")[2].split(b"\n")
    return name.decode(), json.loads(data.removeprefix(b"data: "))


async def test_readers_before_during_and_after_the_run_read_the_same_bytes(
    sockets: Client, voice: Voice, job: str, redis_url: str
) -> None:
    before = Reading(sockets, job)
    await before.has_read(status(job, "queued"))
    await voice.begin()
    await before.has_read(status(job, "queued") + status(job, "in_progress"))
    voice.say(said("a"), said("b"))
    await before.has_read(numbered(said("a"), said("b")))
    during = Reading(sockets, job)
    await during.has_read(numbered(said("a"), said("b")))
    voice.say(said("c"))
    await voice.end()
    whole = await before.task
    begun = status(job, "queued") + status(job, "in_progress")
    assert whole.startswith(begun + numbered(said("a"), said("b"), said("c"), DONE))
    name, data = last_status(whole)
    assert (name, data["status"], data["error"]) == ("event: job.completed", "completed", None)
    assert data["usage"]["output_tokens"] == 2
    after = Reading(sockets, job)
    with redis.Redis.from_url(redis_url) as client:
        assert await during.task == await after.task == whole
        client.flushall()
    assert await Reading(sockets, job).task == whole


@pytest.mark.parametrize("kept", ["in Redis", "in the database"])
async def test_last_event_id_goes_on_behind_an_event(
    sockets: Client, voice: Voice, job: str, redis_url: str, kept: str
) -> None:
    await voice.begin()
    voice.say(said("a"), said("b"), said("c"))
    if kept == "in Redis":
        waiting = Reading(sockets, job, "1-1")
        await waiting.has_read(numbered(said("c"), first=2))
        assert waiting.body == numbered(said("c"), first=2)
        await voice.end()
        body = await waiting.task
    else:
        await voice.end()
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        body = await Reading(sockets, job, "1-1").task
    assert body.startswith(numbered(said("c"), DONE, first=2))
    assert last_status(body)[0] == "event: job.completed"
    assert (await Reading(sockets, job, "1-3").task).startswith(b"event: job.completed")


async def test_starting_after_does_the_same_until_a_reconnect_knows_better(
    sockets: Client, voice: Voice, job: str
) -> None:
    await voice.begin()
    voice.say(said("a"), said("b"), said("c"))
    await voice.end()
    path = f"/v1/jobs/{job}/events"
    body = (await sockets.get(path, params={"starting_after": "1-0"})).content
    assert body.startswith(numbered(said("b"), said("c"), DONE, first=1))
    again = await sockets.get(path, params={"starting_after": "1-0"}, headers={"Last-Event-ID": "1-1"})
    assert again.content.startswith(numbered(said("c"), DONE, first=2))


@pytest.mark.parametrize("wrong", ["abc", "3", "-1", "1-", "1--1", "1-1,1-2", "9999999999-1"])
async def test_an_event_id_that_is_none_of_ours_is_named(sockets: Client, job: str, wrong: str) -> None:
    path = f"/v1/jobs/{job}/events"
    for name, request in (
        ("Last-Event-ID", {"headers": {"Last-Event-ID": wrong}}),
        ("starting_after", {"params": {"starting_after": wrong}}),
    ):
        response = await sockets.get(path, **request)  # type: ignore[arg-type]
        assert (response.status_code, response.json()["error"]["param"]) == (400, name)


async def test_a_run_that_is_lost_ends_its_readers_and_the_next_is_the_jobs(
    sockets: Client, voice: Voice, job: str, database: Database
) -> None:
    reading = Reading(sockets, job)
    await voice.begin()
    voice.say(said("a"), said("b"))
    await reading.has_read(numbered(said("a"), said("b")))
    voice.give_up()
    body = await reading.task
    assert b'"code":"worker_lost"' in body
    async with database.transaction() as connection:
        await connection.execute("UPDATE jobs SET status = 'queued', worker_id = NULL, started_at = NULL")
        await connection.execute("UPDATE flows SET queued = 1, open = true, cursor = ''")
    await voice.begin()
    voice.recorder = type(voice.recorder)()
    voice.say(said("x"))
    await voice.end()
    again = await Reading(sockets, job, "1-1").task
    assert again.startswith(numbered(said("x"), DONE, run=2, first=2))
    fresh = await Reading(sockets, job).task
    assert fresh == status(job, "queued") + status(job, "in_progress") + again


async def test_a_job_that_does_not_stream_has_its_statuses(sockets: Client, worker: Worker, plain: str) -> None:
    reading = Reading(sockets, plain)
    await reading.has_read(status(plain, "queued"))
    [claimed] = await worker.claim_next()
    await reading.has_read(status(plain, "in_progress"))
    await worker.finish(claimed, Outcome(Status.COMPLETED, 200, b"{}", Usage(1, 0, 2)))
    assert last_status(await reading.task)[0] == "event: job.completed"


async def test_a_job_that_was_cancelled_in_the_queue_never_ran(sockets: Client, database: Database, plain: str) -> None:
    await cancel.cancel(database, [ids.parse_job_id(plain)])
    body = await Reading(sockets, plain).task
    assert b"in_progress" not in body
    assert last_status(body) == (
        "event: job.cancelled",
        last_status(body)[1] | {"error": {"code": "cancelled", "message": "The job was cancelled."}},
    )


async def test_nobody_elses_job_has_events(sockets: Client) -> None:
    assert (await sockets.get(f"/v1/jobs/job_{UUID(int=7).hex}/events")).status_code == 404


async def test_a_running_stream_shows_its_tokens_so_far(sockets: Client, voice: Voice, job: str) -> None:
    async def shown() -> object:
        return (await sockets.get(f"/v1/jobs/{job}")).json()["tokens_so_far"]

    async def shows_two() -> bool:
        return await shown() == 2

    assert await shown() is None
    await voice.begin()
    voice.say(said("a"), said("b"))
    await until(shows_two)
    await voice.end()
    assert await shown() is None


async def test_a_cancelled_stream_keeps_what_it_had_said(
    sockets: Client, voice: Voice, job: str, redis_url: str
) -> None:
    reading = Reading(sockets, job)
    await voice.begin()
    voice.say(said("a"), said("b"))
    await reading.has_read(numbered(said("a"), said("b")))
    await sockets.post(f"/v1/jobs/{job}/cancel")
    voice.give_up()
    whole = await reading.task
    assert whole.startswith(status(job, "queued") + status(job, "in_progress") + numbered(said("a"), said("b")))
    assert last_status(whole)[0] == "event: job.cancelled"
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert await Reading(sockets, job).task == whole
