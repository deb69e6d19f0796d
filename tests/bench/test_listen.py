"""The load generator for streams counts what it hears and sees every stream that was cut."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn

from bench.listen import listen
from bench.load import post
from worker.asgi import Receive, Scope, Send


async def _speak(scope: Scope, receive: Receive, send: Send) -> None:
    """As many events as the path says, and the end unless it says `cut`; a path that is no number is refused."""
    await receive()
    count, _, how = scope["path"][1:].partition("/")
    if not count.isdecimal():
        await send({"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"2")]})
        return await send({"type": "http.response.body", "body": b"{}"})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for _ in range(int(count)):
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"" if how else b"data: [DONE]\n\n"})


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(_speak, lifespan="off", log_level="warning", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving


async def test_every_event_of_every_stream_is_counted(base_url: str) -> None:
    heard = await listen(base_url, [post("/7", b"{}", "key"), post("/3", b"{}", "key")] * 10, 4)
    assert (heard.answered, heard.events, heard.dropped) == (20, 100, 0)
    assert heard.first_p50_ms > 0


@pytest.mark.parametrize("path", ["/5/cut", "/refused"])
async def test_a_stream_that_does_not_come_to_its_end_makes_the_run_fail(base_url: str, path: str) -> None:
    with pytest.raises(RuntimeError, match="1 of 2 streams were cut"):
        await listen(base_url, [post("/1", b"{}", "key"), post(path, b"{}", "key")], 1)
