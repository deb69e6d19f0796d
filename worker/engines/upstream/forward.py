"""The ASGI app of the forwarding engine: each request goes to the server with the most room, each chunk comes back."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from jobs import payload
from worker.asgi import Headers, Receive, Scope, Send
from worker.engines import JobLost
from worker.engines.upstream.connection import Connection, ConnectionLost, Unreachable, read
from worker.engines.upstream.server import TROUBLE, Server

_OURS: Final = ("metadata", "service_tier")
"""Fields that speak to this queue. A server that knows them by name would take them for its own: OpenAI bills by the
tier, and refuses metadata of what is not stored."""
_MESSAGES: Final = "/v1/messages"
"""Whose metadata is another's."""
_INSTANT: Final = frozenset({"/tokenize", "/detokenize"})
_PASSED_ON: Final = frozenset({b"content-type", b"retry-after"})
_ERROR_EVENTS: Final = (b'data: {"error"', b"event: error")
_TROUBLE_BYTES: Final = 64 * 1024
_SHOWN: Final = 300
_log = structlog.get_logger()


class Forward:
    """Called by `worker.replay.Replay`, which gives a request's body whole and takes every chunk at once."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the server does. A disconnect closes the connection to it.

        Raises:
            JobLost: the connection broke, or the server answered as one that is dying.
        """
        body = _without_ours(scope["path"], (await receive())["body"])
        here = asyncio.current_task()
        assert here is not None
        gone = asyncio.ensure_future(receive())
        gone.add_done_callback(lambda gone: None if gone.cancelled() else here.cancel())
        server = _roomiest(self._servers)
        server.under_way += 1
        try:
            await _forward(server, scope, body, send)
        finally:
            server.under_way -= 1
            gone.cancel()


async def _forward(server: Server, scope: Scope, body: bytes, send: Send) -> None:
    path, headers = server.path(scope["path"]), [header for header in scope["headers"] if header[0].startswith(b"x-")]
    sent_at = time.monotonic()
    connection: Connection | None = None
    try:
        connection = await server.connections.send("POST", path, body, headers)
        if connection.status in TROUBLE:
            await _pass_on_trouble(server, connection, sent_at, send)
        else:
            await _pass_on(server, connection, send)
            server.answered(sent_at, telling=connection.status == 200 and scope["path"] not in _INSTANT)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        server.connections.keep(connection)
        connection = None
    except Unreachable as error:
        await _say_unreachable(server, error, sent_at, send)
    except ConnectionLost as error:
        await server.probe()
        raise JobLost(f"{server.url}: {error}") from error
    finally:
        if connection is not None:
            connection.close()


async def _pass_on(server: Server, connection: Connection, send: Send) -> None:
    """The answer as it comes, but for its end. What a dying server says (5xx, or an error in a stream) is none."""
    if connection.status >= 500 and not await server.probe():
        raise ConnectionLost(f"it answered {connection.status} and serves no more")
    headers = _passed_on(connection.headers)
    await send({"type": "http.response.start", "status": connection.status, "headers": headers})
    while chunk := await connection.chunk():
        server.heard()
        if any(error in chunk for error in _ERROR_EVENTS) and not await server.probe():
            raise ConnectionLost("its stream ended with an error, and it serves no more")
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _pass_on_trouble(server: Server, connection: Connection, sent_at: float, send: Send) -> None:
    said = await read(connection, _TROUBLE_BYTES)
    if server.refused(sent_at, connection.status, connection.headers):
        _log.warning(
            "an upstream server refuses; its jobs wait",
            url=server.url,
            status=connection.status,
            said=said[:_SHOWN].decode(errors="replace"),
            seconds=round(server.held, 1),
        )
    await _answer(send, connection.status, said, _passed_on(connection.headers))


async def _say_unreachable(server: Server, error: Unreachable, sent_at: float, send: Send) -> None:
    """Nothing was sent, so nothing is lost: to the worker it is one more refusal."""
    server.refused(sent_at, 503, ())
    await server.probe()
    await _answer(send, 503, payload.write({"error": {"message": str(error), "code": 503}}), ())


async def _answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _roomiest(servers: Sequence[Server]) -> Server:
    """The one whose window is the least full; where none has room, the one that is asked again first."""
    able = [server for server in servers if server.room]
    if able:
        return min(able, key=lambda server: server.under_way / server.room)
    return min([server for server in servers if server.up] or servers, key=lambda server: server.held)


def _passed_on(headers: Headers) -> Headers:
    return [header for header in headers if header[0] in _PASSED_ON]


def _without_ours(path: str, body: bytes) -> bytes:
    named = [name for name in _OURS if b'"%s"' % name.encode() in body]
    if not named or path.startswith(_MESSAGES):
        return body
    try:
        fields = payload.decode(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(fields, dict) or fields.keys().isdisjoint(named):
        return body
    return payload.write({name: value for name, value in fields.items() if name not in named})
