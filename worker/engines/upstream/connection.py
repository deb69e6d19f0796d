"""HTTP/1.1 to one server, on connections that are kept; each carries one request at a time.

Why not httpx's pool: with 128 requests under way it costs 14 ms of CPU for each, more than a small model's answer;
this costs 0.03 ms. The parser is the one that uvicorn uses.
"""

import asyncio
import os
import socket
import ssl
import time
from collections import deque
from typing import Final, cast
from urllib.parse import urlsplit

import certifi
import httptools

from worker.asgi import Headers

_CONNECT_SECONDS: Final = 5.0
# Many servers close a connection after five idle seconds, and one that closes as we send costs a second connection.
_IDLE_SECONDS: Final = 4.0
_STALE_SECONDS: Final = 1.0
_SILENT_HOST: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Seconds until a host is asked whether it is still there, seconds between the questions, and how many. An answer may
be minutes away, so silence on the wire says nothing; a host that is gone does not even acknowledge."""


class Unreachable(Exception):
    """No connection to the server could be made: nothing was sent."""


class ConnectionLost(Exception):
    """The server hung up, or spoke no HTTP, before its response was complete."""


class Connection(asyncio.Protocol):
    """One connection. `status` and `headers` (names in lower case) are those of the response that `ask` returned on."""

    status: int
    headers: list[tuple[bytes, bytes]]

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: deque[bytes] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._lost: str | None = None
        self._keep = True
        self._complete = True
        self.idle_since = 0.0

    async def ask(self, request: bytes) -> None:
        """Send a request and return when the head of its response has come.

        Raises:
            ConnectionLost: it never came.
        """
        self.status, self.headers = 0, []
        self._asked_at = time.monotonic()
        self._heard = self._bounded = self._complete = False
        self._chunks.clear()
        self._transport.write(request)
        while not self.status:
            await self._next()

    async def chunk(self) -> bytes:
        """What came of the body since the last call, waiting for some; nothing after its end.

        Raises:
            ConnectionLost: the rest will never come.
        """
        while not self._chunks:
            if self._complete:
                return b""
            await self._next()
        chunk = b"".join(self._chunks)
        self._chunks.clear()
        return chunk

    def close(self) -> None:
        """Hang up. This is how the server learns that nobody wants the answer any more."""
        self._transport.abort()

    @property
    def was_stale(self) -> bool:
        """Whether it was lost so soon after the last request, and without a word, that the server had closed it by then
        and the request met nobody."""
        return self._lost is not None and not self._heard and time.monotonic() - self._asked_at < _STALE_SECONDS

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: the response was complete, and nobody hung up."""
        return self._complete and self._keep and self._lost is None

    async def _next(self) -> None:
        if self._lost is not None:
            raise ConnectionLost(self._lost)
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake

    def _progress(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # uvloop's own socket takes no options.
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _SILENT_HOST:
                wire.setsockopt(socket.IPPROTO_TCP, option, value)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._complete:  # nobody asked anything
            return self._break("the server spoke without being asked")
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            return self._break(f"the server speaks no HTTP/1.1: {error}")
        self._progress()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._complete and self.status and not self._bounded and error is None:
            self._complete = True  # a body without a length ends with its connection
        self._break(f"the connection was lost: {error}" if error else "the server closed the connection")

    def _break(self, why: str) -> None:
        self._lost = self._lost or why
        self._transport.abort()
        self._progress()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._bounded = self._bounded or name in (b"content-length", b"transfer-encoding")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
        else:  # an interim response: the real one follows
            self.headers = []

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self.status:
            self._complete = True
            self._keep = self._parser.should_keep_alive()


class Connections:
    """The connections to the server of one URL, as many as there are requests at once. Used on one loop.

    `url` is an API's base as OpenAI's SDK takes it: `http://host:8000/v1`.
    """

    def __init__(self, url: str, key: str = "") -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = _tls() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        lines = [f"host: {parts.netloc.rpartition('@')[2]}", "accept-encoding: identity", "user-agent: longhaul"]
        self._always = "\r\n".join([*lines, *([f"authorization: Bearer {key}"] if key else [])]).encode()
        self._idle: list[Connection] = []

    async def send(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Connection:
        """A connection on which this request was sent and the head of its response has come.

        It is the caller's: to `keep` after the last chunk, or to close.

        Raises:
            Unreachable: nothing was sent.
            ConnectionLost: it was, and no response will come.
        """
        request = self._encoded(method, path, body, headers)
        if (kept := self._kept()) is not None:
            try:
                return await _asked(kept, request)
            except ConnectionLost:
                if not kept.was_stale:
                    raise
        try:
            fresh = await self._connect()
        except Unreachable as error:
            if kept is not None:  # then it was sent, and may be why nobody is there any more
                raise ConnectionLost(str(error)) from error
            raise
        return await _asked(fresh, request)

    def keep(self, connection: Connection) -> None:
        """The caller is done with it."""
        if connection.reusable:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Hang up wherever nothing is under way."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _kept(self) -> Connection | None:
        """The connection that was used last; those that nobody needed for a while go."""
        while self._idle and not (self._idle[0].reusable and self._is_young(self._idle[0])):
            self._idle.pop(0).close()
        while self._idle:
            if (connection := self._idle.pop()).reusable:
                return connection
        return None

    def _is_young(self, connection: Connection) -> bool:
        return time.monotonic() - connection.idle_since < _IDLE_SECONDS

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        name = self._host if self._tls else None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    Connection, self._host, self._port, ssl=self._tls, server_hostname=name
                )
        except (OSError, TimeoutError) as error:
            why = str(error) or "it does not answer"
            raise Unreachable(f"{self._host}:{self._port} cannot be reached: {why}") from error
        return connection

    def _encoded(self, method: str, path: str, body: bytes, headers: Headers) -> bytes:
        lines = [f"{method} {path} HTTP/1.1".encode(), self._always, *(b"%s: %s" % header for header in headers)]
        if method == "POST":
            lines += [b"content-type: application/json", b"content-length: %d" % len(body)]
        return b"\r\n".join([*lines, b"", body])


async def read(connection: Connection, most: int) -> bytes:
    """The whole body, or what came of it by the chunk that made it longer than `most` bytes."""
    chunks: list[bytes] = []
    size = 0
    while size <= most and (chunk := await connection.chunk()):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


async def _asked(connection: Connection, request: bytes) -> Connection:
    try:
        await connection.ask(request)
    except BaseException:
        connection.close()
        raise
    return connection


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if "SSL_CERT_FILE" not in os.environ:  # not every machine has certificates of its own
        context.load_verify_locations(certifi.where())
    return context
