"""One request on an ASGI app: chunks as they come, and a way out at any moment."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from worker.asgi import Message, Receive, Scope, Send
from worker.replay import BrokenResponse, Replay

Handler = Callable[[Receive, Send], Awaitable[None]]
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-kind", b"test")]}


class App:
    """An ASGI app of one function, which remembers what it was asked and how it ended."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.scope: Scope = {}
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        try:
            await self._handler(receive, send)
        finally:
            self.ended.set()


def chunk(body: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def hello(receive: Receive, send: Send) -> None:
    request = await receive()
    await send(START)
    await send(chunk(b"you said " + request["body"]))


async def until_gone(receive: Receive, send: Send) -> None:
    await receive()
    await send(START)
    await send(chunk(b"first", more=True))
    assert (await receive())["type"] == "http.disconnect"


async def test_a_response_has_status_headers_and_body() -> None:
    async with Replay(App(hello), "/v1/x", b"hi") as response:
        assert response.status == 200
        assert response.headers == [(b"x-kind", b"test")]
        assert [part async for part in response] == [b"you said hi"]


async def test_the_app_gets_a_post_of_json_with_our_headers() -> None:
    app = App(hello)
    async with Replay(app, "/v1/x", b"hi", [(b"x-request-id", b"1")]):
        headers = dict(app.scope["headers"])
    assert (app.scope["method"], app.scope["path"]) == ("POST", "/v1/x")
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"content-length"] == b"2"
    assert headers[b"x-request-id"] == b"1"


async def test_chunks_are_handed_out_while_the_app_still_runs() -> None:
    go_on = asyncio.Event()

    async def handler(receive: Receive, send: Send) -> None:
        await send(START)
        await send(chunk(b"one", more=True))
        await go_on.wait()
        await send(chunk(b"two", more=True))
        await send(chunk(b""))

    app = App(handler)
    async with Replay(app, "/", b"") as response:
        assert await anext(response) == b"one"
        assert not app.ended.is_set()
        go_on.set()
        assert [part async for part in response] == [b"two"]


async def test_leaving_early_disconnects_and_waits_for_the_app() -> None:
    app = App(until_gone)
    async with Replay(app, "/", b"") as response:
        await anext(response)
    assert app.ended.is_set()


async def test_a_cancelled_run_disconnects_before_the_response_too() -> None:
    reached = asyncio.Event()

    async def handler(receive: Receive, send: Send) -> None:
        await receive()
        reached.set()
        assert (await receive())["type"] == "http.disconnect"

    app = App(handler)

    async def run() -> None:
        async with Replay(app, "/", b""):
            raise AssertionError("there is no response")

    task = asyncio.create_task(run())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.ended.is_set()


async def test_what_comes_after_the_disconnect_is_not_handed_out() -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await send(START)
        await receive()
        await receive()
        await send(chunk(b"null"))

    async def run() -> list[bytes]:
        async with asyncio.timeout(0.01), Replay(App(handler), "/", b"") as response:
            return [part async for part in response]

    with pytest.raises(TimeoutError):
        await run()


async def test_an_app_that_is_deaf_to_the_disconnect_is_cancelled() -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await send(START)
        await asyncio.Event().wait()

    app = App(handler)
    async with Replay(app, "/", b"", grace_seconds=0.01):
        pass
    assert app.ended.is_set()


async def test_what_the_app_raises_is_raised() -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await send(START)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with Replay(App(handler), "/", b"") as response:
            await anext(response)


async def test_an_app_that_ends_without_its_last_chunk_is_a_broken_response() -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await send(START)
        await send(chunk(b"half", more=True))

    with pytest.raises(BrokenResponse):
        async with Replay(App(handler), "/", b"") as response:
            _ = [part async for part in response]


async def test_an_app_that_raises_after_its_whole_response_has_answered() -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await send(START)
        await send(chunk(b"all"))
        raise ValueError("too late")

    async with Replay(App(handler), "/", b"") as response:
        assert [part async for part in response] == [b"all"]


async def test_a_sink_has_each_chunk_in_the_step_in_which_it_is_sent() -> None:
    heard: list[bytes] = []
    listening = asyncio.Event()

    async def handler(receive: Receive, send: Send) -> None:
        await send(START)
        await listening.wait()
        for number in range(3):
            await send(chunk(b"%d" % number, more=True))
            assert heard[-1] == b"%d" % number
        await send(chunk(b""))

    async with Replay(App(handler), "/", b"") as response:
        listening.set()
        await response.into(heard.append)
    assert heard == [b"0", b"1", b"2"]


async def test_a_sink_has_what_came_before_it() -> None:
    heard: list[bytes] = []
    async with Replay(App(hello), "/", b"hi") as response:
        await response.into(heard.append)
    assert heard == [b"you said hi"]


async def test_what_the_app_raises_behind_a_sink_is_raised() -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await send(START)
        await send(chunk(b"half", more=True))
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with Replay(App(handler), "/", b"") as response:
            await response.into(lambda chunk: None)
