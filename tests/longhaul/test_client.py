"""The client of the commands against a server that says what each test wants it to say."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from jobs.records import Json
from longhaul.client import Client, Refused, Unreachable, answer_text, failure_text

QUEUED: Json = {"id": "job_1", "object": "job", "status": "queued"}
DONE: Json = QUEUED | {"status": "completed"}


class Server:
    """An HTTP server that gives the next of its answers to each request, and remembers the request lines."""

    def __init__(self, answers: Sequence[tuple[int, str]]) -> None:
        self._answers: Iterator[tuple[int, str]] = iter(answers)
        self.asked: list[str] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Client]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, Client(f"http://127.0.0.1:{port}/v1", "key") as client:
            yield client

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.splitlines()[0].removesuffix(" HTTP/1.1"))
        status, body = next(self._answers)
        writer.write(
            f"HTTP/1.1 {status} Any\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()


def refusal(message: str, param: str | None = None) -> str:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}})


async def test_an_error_speaks_the_apis_words() -> None:
    async with Server([(404, refusal("No job found.", "id"))]).serving() as client:
        with pytest.raises(Refused, match="No job found") as caught:
            await client.job("job_1")
    assert (caught.value.status, caught.value.param) == (404, "id")


async def test_an_error_of_something_in_between_is_shown_as_it_is() -> None:
    async with Server([(502, "<h1>Bad Gateway</h1>")]).serving() as client:
        with pytest.raises(Refused, match="HTTP 502: <h1>Bad Gateway</h1>"):
            await client.job("job_1")


async def test_nobody_at_the_address_is_unreachable() -> None:
    async with Client("http://127.0.0.1:9/v1", "key") as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
            await client.job("job_1")


async def test_waiting_polls_until_the_end_and_tells_of_each_state() -> None:
    server = Server([(200, json.dumps(QUEUED)), (200, json.dumps(DONE))])
    seen: list[Json] = []
    async with server.serving() as client:
        assert await client.until_done("job_1", seen.append) == DONE
    assert seen == [QUEUED, DONE]
    assert server.asked == ["GET /v1/jobs/job_1", "GET /v1/jobs/job_1?wait=5"]


async def test_waiting_survives_an_api_that_restarts() -> None:
    server = Server([(200, json.dumps(QUEUED)), (503, refusal("Stopping.")), (200, json.dumps(DONE))])
    async with server.serving() as client:
        assert await client.until_done("job_1") == DONE


async def test_waiting_for_a_job_that_does_not_exist_ends_at_once() -> None:
    async with Server([(404, refusal("No job found."))]).serving() as client:
        with pytest.raises(Refused, match="No job found"):
            await client.until_done("job_1")


async def test_every_job_is_read_page_by_page() -> None:
    pages = [
        {"data": [{"id": "c"}, {"id": "b"}], "has_more": True, "last_id": "b"},
        {"data": [{"id": "a"}], "has_more": False, "last_id": "a"},
    ]
    server = Server([(200, json.dumps(page)) for page in pages])
    async with server.serving() as client:
        assert [job["id"] async for job in client.every({"limit": "2"})] == ["c", "b", "a"]
    assert server.asked == ["GET /v1/jobs?limit=2", "GET /v1/jobs?limit=2&after=b"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"choices": [{"message": {"content": "one"}}, {"message": {"content": "two"}}]}, "one\ntwo"),
        ({"choices": [{"text": "a completion"}]}, "a completion"),
        (
            {"output": [{"type": "reasoning"}, {"content": [{"type": "output_text", "text": "a response"}]}]},
            "a response",
        ),
        ({"type": "message", "content": [{"type": "text", "text": "a message"}]}, "a message"),
        ({"object": "list", "data": [{"score": 0.5}]}, '{"object": "list", "data": [{"score": 0.5}]}'),
    ],
    ids=["chat", "completion", "response", "message", "score"],
)
def test_an_answers_text_is_what_the_model_said(body: Json, text: str) -> None:
    assert answer_text({"response": {"body": body}}) == text


def test_a_chat_that_calls_a_tool_is_shown_whole() -> None:
    body = {"choices": [{"message": {"content": None, "tool_calls": [{"id": "call_1"}]}}]}
    assert "call_1" in answer_text({"response": {"body": body}})


def test_a_failure_is_told_in_the_engines_words_or_in_ours() -> None:
    engines = {
        "id": "job_1",
        "status": "failed",
        "error": None,
        "response": {"body": {"error": {"message": "Too long."}}},
    }
    ours = {"id": "job_2", "status": "expired", "error": {"code": "expired", "message": "Too late."}, "response": None}
    assert failure_text(engines) == "job_1 failed: Too long."
    assert failure_text(ours) == "job_2 expired: Too late."
    assert failure_text({"id": "job_3", "status": "cancelled", "error": None, "response": None}) == "job_3 cancelled"
