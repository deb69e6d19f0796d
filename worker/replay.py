"""One request on an ASGI app, chunk by chunk, without a socket. Leaving early is how the client disconnects."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final

import structlog

from worker.asgi import Application, Headers, Message, Scope

GRACE_SECONDS: Final = 10.0
"""How long an app may take to end after the disconnect, and again after its task was cancelled."""

_log = structlog.get_logger()


class BrokenResponse(Exception):
    """The app ended before its response did."""


class Replay:
    """`async with Replay(app, path, body) as response:` has `status` and `headers`; iterating yields the body's chunks.

    Leaving the block before the last chunk, by an exception or a cancellation too, sends `http.disconnect` and waits
    for the app to end. What the app raises before its response is complete is raised here.
    """

    status: int
    headers: Headers

    def __init__(
        self, app: Application, path: str, body: bytes, headers: Headers = (), grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._app = app
        self._scope = _scope(path, body, headers)
        self._grace = grace_seconds
        self._request: bytes | None = body
        self._gone: asyncio.Event | None = None
        self._chunks: deque[bytes] = deque()
        self._sink: Callable[[bytes], None] | None = None
        self._complete = False
        self._wake: asyncio.Future[None] | None = None

    async def __aenter__(self) -> "Replay":
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(self._app(self._scope, self._receive, self._send))
        self._task.add_done_callback(self._progress)
        self.status = 0
        try:
            while not self.status:
                await self._next()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._task.done():
            await self._leave()
        elif not self._task.cancelled():
            self._task.exception()  # looked at, so that asyncio does not report it: the response was complete

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._complete:
                raise StopAsyncIteration
            await self._next()
        return self._chunks.popleft()

    async def into(self, sink: Callable[[bytes], None]) -> None:
        """Give `sink` every chunk in the very step in which the app sends it, and return after the last: nobody has to
        be woken for each token. Raises what iterating raises."""
        while self._chunks:
            sink(self._chunks.popleft())
        self._sink = sink
        while not self._complete:
            await self._next()

    async def _next(self) -> None:
        """Wait until the app sent something.

        Raises:
            BrokenResponse: it ended, and its response is not complete.
        """
        if self._task.done():
            self._task.result()
            raise BrokenResponse(f"{self._scope['path']} was not answered to its end")
        self._wake = self._loop.create_future()
        await self._wake

    def _progress(self, _: object = None) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _receive(self) -> Message:
        if self._request is not None:
            body, self._request = self._request, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._gone is None:
            self._gone = asyncio.Event()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            if chunk := message.get("body"):
                (self._sink or self._chunks.append)(chunk)
            self._complete = not message.get("more_body", False)
            if self._sink and not self._complete:
                return
        self._progress()

    async def _leave(self) -> None:
        self._request = None
        if self._gone is None:
            self._gone = asyncio.Event()
        self._gone.set()
        if not self._task.done():
            await asyncio.wait({self._task}, timeout=self._grace)
        if not self._task.done():
            _log.warning("the engine's app did not end after a disconnect, cancelling it", path=self._scope["path"])
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=self._grace)
        if self._task.done() and not self._task.cancelled():
            self._task.exception()


def _scope(path: str, body: bytes, headers: Headers) -> Scope:
    """As uvicorn makes it. Its `spec_version` has Starlette listen for the disconnect instead of finding it at a send,
    which a request that waits for its first token would never reach."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"longhaul"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *headers,
        ],
        "client": ("127.0.0.1", 0),
        "server": ("longhaul", 80),
        "state": {},
    }
