"""The events of a background response: at once, before, during and after its run, and the same to everybody."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from jobs import ids, streams
from jobs.database import Database
from jobs.records import ClaimedJob, Json, Outcome
from jobs.settings import Settings
from jobs.states import Status
from jobs.streams import Channel, Writer
from tests.api.conftest import Client, Key, Worker, jobs_written, served, url_of
from tests.jobs.ledger import rows
from worker.stream import Stream

RESPONSES = "/v1/responses"
ASKED = {"model": "org/tiny", "input": "hello", "background": True, "stream": True}


@pytest.fixture
async def socket(app: FastAPI, key: Key, worker: Worker) -> AsyncIterator[Client]:
    """A client that gets each event as it comes."""
    headers = {"Authorization": f"Bearer {key}"}
    async with served(app) as server, httpx.AsyncClient(base_url=url_of(server), headers=headers) as client:
        yield client


@pytest.fixture
async def writer(settings: Settings) -> AsyncIterator[Writer]:
    assert settings.redis_url
    made = Writer(settings.redis_url, settings.redis_prefix)
    yield made
    await made.close()


class Reader:
    """Reads a stream event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def event(self) -> Json:
        async for line in self._lines:
            if line.startswith("data: "):
                found: Json = json.loads(line.removeprefix("data: "))
                return found
        raise EOFError

    async def events(self, count: int) -> list[Json]:
        return [await self.event() for _ in range(count)]

    async def rest(self) -> list[Json]:
        found = []
        while True:
            try:
                found.append(await self.event())
            except EOFError:
                return found


def said(number: int, kind: str, **fields: Any) -> bytes:
    """An event as an engine says it."""
    data = {"type": f"response.{kind}", "sequence_number": number, **fields}
    return b"event: %s\ndata: %s\n\n" % (data["type"].encode(), json.dumps(data).encode())


def run(words: Iterable[str]) -> list[bytes]:
    """What an engine says in one run."""
    middle = [said(number, "output_text.delta", delta=word) for number, word in enumerate(words, 2)]
    last = said(len(middle) + 2, "completed", response={"status": "completed", "output": [], "usage": None})
    return [said(0, "created", response={}), said(1, "in_progress", response={}), *middle, last]


async def speak(worker: Worker, job: ClaimedJob, channel: Channel, events: Iterable[bytes]) -> None:
    """Say all of this, and end."""
    stream = Stream(job, channel)
    for event in events:
        stream.feed(event)
    await worker.finish(job, stream.close(stream.outcome()))


def texts(events: Iterable[Json]) -> list[str]:
    return [event.get("delta") or event["type"].removeprefix("response.") for event in events]


WHOLE = ["created", "queued", "in_progress", "one", "two", "completed"]


async def test_its_name_comes_at_once_and_the_rest_as_it_is_said(
    socket: Client, worker: Worker, writer: Writer
) -> None:
    async with socket.stream("POST", RESPONSES, json=ASKED) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        reader = Reader(response)
        begun = await reader.events(2)
        assert texts(begun) == WHOLE[:2]
        [job] = await worker.claim_next()
        assert begun[0]["response"]["id"] == ids.response_id(job.id)
        with await writer.open(job) as channel:
            stream = Stream(job, channel)
            events = run(["one", "two"])
            for event in events[:3]:
                stream.feed(event)
            assert texts(await reader.events(2)) == ["in_progress", "one"]
            for event in events[3:]:
                stream.feed(event)
            await worker.finish(job, stream.close(stream.outcome()))
        rest = await reader.rest()
        assert texts(rest) == ["two", "completed"]
    found = (await socket.get(f"{RESPONSES}/{ids.response_id(job.id)}")).json()
    assert rest[-1]["response"] == found
    assert found["background"] and found["status"] == "completed"


@pytest.mark.parametrize("forgotten", [False, True])
async def test_it_is_read_from_any_event_on_and_the_same_to_all(
    forgotten: bool, socket: Client, worker: Worker, writer: Writer, settings: Settings
) -> None:
    async with socket.stream("POST", RESPONSES, json=ASKED) as response:
        reader = Reader(response)
        [job] = await worker.claim_next()
        with await writer.open(job) as channel:
            await speak(worker, job, channel, run(["one", "two"]))
        whole = await reader.rest()
    assert texts(whole) == WHOLE
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    if forgotten:
        await writer._redis.flushall()
    for start in range(len(whole)):
        query = {"stream": "true"} | ({"starting_after": str(start - 1)} if start else {})
        again = await socket.get(f"{RESPONSES}/{ids.response_id(job.id)}", params=query)
        assert [json.loads(line[6:]) for line in again.text.splitlines() if line.startswith("data:")] == whole[start:]


async def test_who_goes_away_ends_nothing(socket: Client, worker: Worker, writer: Writer, database: Database) -> None:
    async with socket.stream("POST", RESPONSES, json=ASKED) as response:
        [created, _] = await Reader(response).events(2)
    [job] = await worker.claim_next()
    async with socket.stream("GET", f"{RESPONSES}/{created['response']['id']}?stream=true") as response:
        reader = Reader(response)
        assert texts(await reader.events(2)) == WHOLE[:2]
        with await writer.open(job) as channel:
            await speak(worker, job, channel, run(["one", "two"]))
        assert texts(await reader.rest()) == WHOLE[2:]
    assert await jobs_written(database) == 1


@pytest.mark.parametrize(
    ("end", "last"),
    [
        (Outcome(Status.FAILED, 400, b'{"error":{"message":"too long"}}'), ("response.failed", "invalid_prompt")),
        (Outcome(Status.FAILED, error_code="request_timeout"), ("response.failed", "server_error")),
    ],
)
async def test_a_failure_of_which_nothing_was_said_is_the_last_event(
    end: Outcome, last: tuple[str, str], socket: Client, worker: Worker
) -> None:
    async with socket.stream("POST", RESPONSES, json=ASKED) as response:
        reader = Reader(response)
        [job] = await worker.claim_next()
        await worker.finish(job, end)
        events = await reader.rest()
    assert (events[-1]["type"], events[-1]["response"]["error"]["code"]) == last
    assert [event["sequence_number"] for event in events] == [0, 1, 2]


async def test_a_response_that_is_cancelled_has_no_more_events(socket: Client, worker: Worker) -> None:
    async with socket.stream("POST", RESPONSES, json=ASKED) as response:
        reader = Reader(response)
        [created, _] = await reader.events(2)
        await socket.post(f"{RESPONSES}/{created['response']['id']}/cancel")
        [last] = await reader.rest()
    assert (last["type"], last["code"], last["sequence_number"]) == ("error", "cancelled", 1)


async def test_a_response_that_is_cancelled_keeps_what_it_had_said(
    socket: Client, worker: Worker, writer: Writer
) -> None:
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    events = [
        said(2, "output_item.added", output_index=0, item=item),
        said(3, "content_part.added", output_index=0, content_index=0, part={"type": "output_text", "text": ""}),
        *(
            said(4 + at, "output_text.delta", output_index=0, content_index=0, delta=word)
            for at, word in enumerate("ab")
        ),
    ]
    async with socket.stream("POST", RESPONSES, json=ASKED) as response:
        reader = Reader(response)
        [job] = await worker.claim_next()
        with await writer.open(job) as channel:
            stream = Stream(job, channel)
            for event in [*run([])[:2], *events]:
                stream.feed(event)
            await reader.events(len(events) + 3)
            path = f"{RESPONSES}/{ids.response_id(job.id)}"
            cancelled = (await socket.post(f"{path}/cancel")).json()
        await reader.rest()
    begun = item | {"status": "incomplete", "content": [{"type": "output_text", "text": "ab"}]}
    assert (cancelled["status"], cancelled["output"], cancelled["usage"]) == ("cancelled", [begun], None)
    assert (await socket.get(path)).json() == cancelled


async def test_the_numbers_of_a_second_run_go_on_and_no_reader_gets_both(
    socket: Client, worker: Worker, writer: Writer, database: Database
) -> None:
    async with socket.stream("POST", RESPONSES, json=ASKED) as response:
        reader = Reader(response)
        [job] = await worker.claim_next()
        with await writer.open(job) as channel:
            stream = Stream(job, channel)
            for event in run(["one", "two"])[:3]:
                stream.feed(event)
            seen = await reader.events(4)
        rest = await reader.rest()
        assert [(event["type"], event["code"]) for event in rest] == [("error", "worker_lost")]
    await rows(database, "UPDATE jobs SET status = 'queued', worker_id = NULL")
    await rows(database, "UPDATE flows SET queued = 1, open = true")
    [job] = await worker.claim_next()
    assert job.lease_token == 2
    with await writer.open(job) as channel:
        await speak(worker, job, channel, run(["three"]))
    path = f"{RESPONSES}/{ids.response_id(job.id)}"
    spliced = await socket.get(path, params={"stream": "true", "starting_after": seen[-1]["sequence_number"]})
    assert '"code":"worker_lost"' in spliced.text
    async with socket.stream("GET", path, params={"stream": "true"}) as response:
        anew = await Reader(response).rest()
    assert texts(anew) == ["created", "queued", "created", "queued", "in_progress", "three", "completed"]
    assert [event["sequence_number"] for event in anew] == [0, 1, 4, 5, 6, 7, 8]


async def test_only_what_streams_in_the_background_has_events(socket: Client, worker: Worker) -> None:
    response = (await socket.post(RESPONSES, json=ASKED | {"stream": False})).json()
    path = f"{RESPONSES}/{response['id']}"
    for query in ({"stream": "true"}, {"starting_after": "3"}, {"stream": "true", "starting_after": "-1"}):
        refused = await socket.get(path, params=query)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, list(query)[-1])


async def test_what_is_kept_of_it_goes_with_it(
    socket: Client, worker: Worker, writer: Writer, database: Database
) -> None:
    async with socket.stream("POST", RESPONSES, json=ASKED) as response:
        [created, _] = await Reader(response).events(2)
    [job] = await worker.claim_next()
    with await writer.open(job) as channel:
        await speak(worker, job, channel, run(["one"]))
    assert await streams.stored(database, job.id)
    await socket.delete(f"{RESPONSES}/{created['response']['id']}")
    assert await streams.stored(database, job.id) is None
