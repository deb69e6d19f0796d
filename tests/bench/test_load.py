"""The load generator sends what it was given and sees every failure."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn

from bench.load import Connection, generate, get, post
from worker.asgi import Receive, Scope, Send


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body, and with the status that the path names."""
    body = (await receive()).get("body", b"")
    await send({"type": "http.response.start", "status": int(scope["path"][1:]), "headers": _length(body)})
    await send({"type": "http.response.body", "body": body})


def _length(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(len(body)).encode())]


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(_echo, lifespan="off", log_level="warning", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving


async def test_a_connection_is_kept_for_one_request_after_the_other(base_url: str) -> None:
    connection = await Connection.open(base_url)

    assert await connection.ask(post("/200", b"x" * 100_000, "key")) == (200, b"x" * 100_000)
    assert await connection.ask(get("/404", "key")) == (404, b"")
    connection.close()


async def test_so_many_requests_as_asked_are_sent_over_all_connections(base_url: str) -> None:
    load = await generate(base_url, [post("/200", b"{}", "key"), post("/202", b"{}", "key")], 4, count=50)

    assert load.answered == 50
    assert load.rate > 0
    assert 0 <= load.idle <= 1


async def test_an_answer_that_is_no_success_makes_the_run_fail(base_url: str) -> None:
    with pytest.raises(RuntimeError, match=r"10 of 20 requests failed, the first with 429"):
        await generate(base_url, [post("/200", b"{}", "key"), post("/429", b"{}", "key")], 2, count=20)
