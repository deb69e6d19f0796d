"""A request that streams, from door to door, with a hand that plays its worker."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from api.server import Server
from jobs import cancel
from jobs.database import Database
from jobs.records import ClaimedJob, Flags, Outcome, StreamLog, Usage
from jobs.settings import Settings
from jobs.states import Status
from jobs.streams import Channel, Recorder, Writer
from tests.api.conftest import Client, Key, Worker, becomes, chat, running, served, url_of, value
from tests.until import until

CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
RESULT = Outcome(Status.COMPLETED, 200, b'{"id":"x"}', Usage(input=1, output=2))


def said(word: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % word.encode()


@dataclass
class Voice:
    """Runs streams as a worker does, word by word, when a test says so."""

    worker: Worker
    writer: Writer
    job: ClaimedJob = field(init=False)
    channel: Channel = field(init=False)
    recorder: Recorder = field(default_factory=Recorder)

    async def begin(self) -> None:
        """Claim the next job and begin its stream."""
        [self.job] = await self.worker.claim_next()
        self.channel = (await self.writer.open(self.job)).__enter__()

    def say(self, *events: bytes) -> None:
        for event in events:
            self.recorder.add(event)
            self.channel.append(event, tokens=1)

    async def end(self, outcome: Outcome = RESULT) -> None:
        """Say the end, and store the result with the log."""
        self.say(DONE)
        self.channel.end()
        log = StreamLog(self.channel.run, self.channel.first, self.recorder.body())
        ended = Outcome(outcome.status, outcome.status_code, outcome.body, outcome.usage, log=log)
        assert await self.worker.finish(self.job, ended)

    def give_up(self) -> None:
        """The run is lost before its end."""
        self.channel.__exit__()


@pytest.fixture
async def voice(worker: Worker, settings: Settings) -> AsyncIterator[Voice]:
    assert settings.redis_url
    writer = Writer(settings.redis_url, settings.redis_prefix)
    yield Voice(worker, writer)
    await writer.close()


@pytest.fixture
async def server(settings: Settings, worker: Worker) -> AsyncIterator[Server]:
    async with running(settings) as app, served(app) as server:
        yield server


@pytest.fixture
async def sockets(server: Server, key: Key) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url_of(server), headers=headers, timeout=30) as client:
        yield client


class Hearing:
    """One request that streams, heard piece by piece."""

    def __init__(self, client: Client, **more: object) -> None:
        self._client = client
        self._more = more
        self.body = b""
        self.response: httpx.Response | None = None
        self.task = asyncio.create_task(self._hear())

    async def _hear(self) -> httpx.Response:
        body = chat(stream=True, **self._more)
        async with self._client.stream("POST", CHAT, json=body) as response:
            self.response = response
            async for piece in response.aiter_raw():
                self.body += piece
        return response

    async def has_heard(self, body: bytes) -> None:
        await until(lambda: self.body == body)


async def test_every_event_is_heard_before_the_next_is_said(sockets: Client, voice: Voice) -> None:
    hearing = Hearing(sockets)
    await voice.begin()
    heard = b""
    for word in "abc":
        voice.say(said(word))
        heard += said(word)
        await hearing.has_heard(heard)
    await voice.end()
    response = await hearing.task
    assert hearing.body == heard + DONE
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-request-id"] == f"req_{voice.job.id.hex}"


async def test_the_job_runs_as_a_stream_and_its_result_is_stored(sockets: Client, voice: Voice) -> None:
    hearing = Hearing(sockets)
    await voice.begin()
    assert voice.job.flags == Flags.STREAMS
    assert json.loads(voice.job.body)["stream"] is True
    voice.say(said("a"))
    await voice.end()
    await hearing.task
    shown = (await sockets.get(f"/v1/jobs/job_{voice.job.id.hex}")).json()
    assert (shown["status"], shown["response"]["body"], shown["usage"]["output_tokens"]) == (
        "completed",
        {"id": "x"},
        2,
    )


async def test_an_error_before_the_first_event_is_an_ordinary_response(sockets: Client, voice: Voice) -> None:
    hearing = Hearing(sockets)
    await voice.begin()
    voice.give_up()
    error = {"error": {"message": "too long", "type": "invalid_request_error", "param": None, "code": None}}
    await voice.worker.finish(voice.job, Outcome(Status.FAILED, 400, json.dumps(error).encode()))
    response = await hearing.task
    assert (response.status_code, json.loads(hearing.body)) == (400, error)
    assert response.headers["content-type"] == "application/json"


async def test_a_stream_that_someone_cancels_ends_with_an_error(
    sockets: Client, voice: Voice, database: Database
) -> None:
    hearing = Hearing(sockets)
    await voice.begin()
    voice.say(said("a"))
    await hearing.has_heard(said("a"))
    cancelled = await sockets.post(f"/v1/jobs/job_{voice.job.id.hex}/cancel")
    assert cancelled.json()["status"] == "cancelled"
    await hearing.task
    _, error, done = hearing.body.split(b"\n\n", 2)
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "cancelled"
    assert done == DONE


async def test_a_run_that_is_lost_before_its_first_event_is_followed_by_the_next(
    sockets: Client, voice: Voice, database: Database
) -> None:
    hearing = Hearing(sockets)
    await voice.begin()
    voice.give_up()
    async with database.transaction() as connection:
        await connection.execute("UPDATE jobs SET status = 'queued', worker_id = NULL, started_at = NULL")
        await connection.execute("UPDATE flows SET queued = 1, open = true, cursor = ''")
    await voice.begin()
    assert voice.job.lease_token == 2
    voice.say(said("b"))
    await voice.end()
    await hearing.task
    assert hearing.body == said("b") + DONE


async def test_a_run_that_is_lost_after_it_ends_the_stream_and_fails_the_job(
    sockets: Client, voice: Voice, database: Database
) -> None:
    hearing = Hearing(sockets)
    await voice.begin()
    voice.say(said("a"))
    await hearing.has_heard(said("a"))
    voice.give_up()
    await hearing.task
    _, error, done = hearing.body.split(b"\n\n", 2)
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "worker_lost"
    assert done == DONE
    shown = (await sockets.get(f"/v1/jobs/job_{voice.job.id.hex}")).json()
    assert (shown["status"], shown["error"]["code"]) == ("failed", "worker_lost")


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_goes_away_cancels_its_job(
    sockets: Client, voice: Voice, database: Database, begun: bool
) -> None:
    hearing = Hearing(sockets)
    await voice.begin()
    if begun:
        voice.say(said("a"))
        await hearing.has_heard(said("a"))
    hearing.task.cancel()
    await becomes(database, "SELECT status::text FROM jobs", "cancelled")


async def test_the_sdk_does_not_come_back_for_a_stream_that_has_begun(
    sockets: Client, voice: Voice, database: Database
) -> None:
    sockets.headers["x-stainless-retry-count"] = "0"
    hearing = Hearing(sockets)
    await voice.begin()
    voice.say(said("a"))
    await hearing.has_heard(said("a"))
    hearing.task.cancel()
    await becomes(database, "SELECT status::text FROM jobs", "cancelled")


async def test_its_repeat_finds_a_stream_that_has_not(sockets: Client, voice: Voice, database: Database) -> None:
    sockets.headers["x-stainless-retry-count"] = "0"
    hearing = Hearing(sockets)
    await voice.begin()
    hearing.task.cancel()
    await becomes(database, "SELECT abandoned_at IS NOT NULL FROM repeats", True)
    sockets.headers["x-stainless-retry-count"] = "1"
    again = Hearing(sockets)
    await becomes(database, "SELECT abandoned_at IS NULL FROM repeats", True)
    voice.say(said("a"))
    await voice.end()
    await again.task
    assert again.body == said("a") + DONE


async def test_a_key_finds_the_stream_of_its_job_even_when_it_has_ended(sockets: Client, voice: Voice) -> None:
    sockets.headers["Idempotency-Key"] = "k"
    hearing = Hearing(sockets)
    await voice.begin()
    voice.say(said("a"))
    early = Hearing(sockets)
    await early.has_heard(said("a"))
    await voice.end()
    await asyncio.gather(hearing.task, early.task)
    late = Hearing(sockets)
    await late.task
    assert hearing.body == early.body == late.body == said("a") + DONE


async def test_a_client_that_stalls_holds_up_nobody(sockets: Client, voice: Voice, server: Server, key: Key) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url_of(server).rpartition(":")[2]), limit=1024)
    body = json.dumps(chat(stream=True)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await voice.begin()
    large = said("x" * 10_000)
    for _ in range(3000):  # more than all buffers on the way together
        voice.say(large)
    await voice.end()
    other = Voice(voice.worker, voice.writer)
    hearing = Hearing(sockets)
    await other.begin()
    other.say(said("a"))
    await other.end()
    await hearing.task
    assert hearing.body == said("a") + DONE
    stalled = b""
    while DONE not in stalled[-100:]:
        stalled += await reader.read(2**20)
    assert stalled.count(b'xxxx"') == 3000
    writer.close()


async def test_a_server_that_stops_lets_a_stream_end(sockets: Client, voice: Voice, server: Server) -> None:
    hearing = Hearing(sockets)
    await voice.begin()
    voice.say(said("a"))
    await hearing.has_heard(said("a"))
    server.should_exit = True
    await until(lambda: not server.servers[0].is_serving())
    voice.say(said("b"))
    await voice.end()
    await hearing.task
    assert hearing.body == said("a") + said("b") + DONE


async def test_a_server_that_stops_sends_who_has_heard_nothing_elsewhere(
    sockets: Client, voice: Voice, server: Server
) -> None:
    hearing = Hearing(sockets)
    await voice.begin()
    server.should_exit = True
    response = await hearing.task
    assert response.status_code == 503
    assert response.headers["x-should-retry"] == "true"


async def test_an_asynchronous_stream_is_a_job_that_streams(sockets: Client, voice: Voice, database: Database) -> None:
    accepted = await sockets.post(CHAT, json=chat(stream=True), headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    assert await value(database, "SELECT flags FROM jobs") == Flags.STREAMS | Flags.TELLS
    await voice.begin()
    assert not voice.job.waited
    await cancel.cancel(database, [voice.job.id])


async def test_a_retry_streams_too(sockets: Client, voice: Voice, database: Database) -> None:
    accepted = await sockets.post("/v1/jobs", json={"endpoint": CHAT, "body": chat(stream=True)})
    path = f"/v1/jobs/{accepted.json()['id']}"
    await sockets.post(f"{path}/cancel")
    assert (await sockets.post(f"{path}/retry")).status_code == 202
    assert await value(database, "SELECT min(flags & 16) FROM jobs") == Flags.STREAMS
