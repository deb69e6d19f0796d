"""A receiver of webhooks for development: verifies what arrives as a real one should, and tells it."""

import asyncio
import hmac
import json
import re
import socket
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from jobs.signing import sign

TOLERANCE_SECONDS: Final = 300
"""How far the sender's clock may be from ours, either way; an older message may be one that somebody recorded."""
_MOST_BYTES: Final = 2**20
_REMEMBERED: Final = 10_000
_TIMESTAMP: Final = re.compile("[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A webhook as it arrived."""

    webhook_id: str
    event: dict[str, Any]
    verified: bool
    """False where there is no secret to verify with."""
    repeated: bool
    """It came before: deliveries are at least once, and `webhook-id` is what tells."""


class Unproven(Exception):
    """What arrived is not a webhook of whoever knows the secret."""


def verify(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> None:
    """Raises Unproven with the reason, unless one of the signatures is the secret's and the message is of now."""
    webhook_id, timestamp, signatures = (
        headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
    )
    if not (webhook_id and timestamp and signatures):
        raise Unproven("a header webhook-id, webhook-timestamp or webhook-signature is missing")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise Unproven("the header webhook-timestamp is no number")
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        raise Unproven(f"the header webhook-timestamp is more than {TOLERANCE_SECONDS} seconds from now")
    expected = sign(webhook_id, int(timestamp), body, [secret]).encode()
    if not any(hmac.compare_digest(expected, given.encode()) for given in signatures.split()):
        raise Unproven("no signature is of this secret")


class Receiver:
    """An ASGI app that tells each webhook to `tell`, and what it refused to `complain`."""

    def __init__(self, secret: str | None, tell: Callable[[Arrival], None], complain: Callable[[str], None]) -> None:
        self._secret = secret
        self._tell = tell
        self._complain = complain
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(Request(scope, receive))
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return PlainTextResponse("Webhooks are POSTed here.", 405)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BYTES:
                return PlainTextResponse("The body is too large.", 413)
        try:
            self._tell(self._arrival(request.headers, bytes(body)))
        except Unproven as fault:
            self._complain(str(fault))
            return PlainTextResponse(f"Refused: {fault}.", 401)
        return Response(status_code=204)

    def _arrival(self, headers: Mapping[str, str], body: bytes) -> Arrival:
        if self._secret is not None:
            verify(headers, body, self._secret, time.time())
        try:
            event = json.loads(body)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise Unproven("the body is no JSON object")
        webhook_id = headers.get("webhook-id", "")
        return Arrival(webhook_id, event, self._secret is not None, self._came_before(webhook_id))

    def _came_before(self, webhook_id: str) -> bool:
        before = webhook_id in self._seen
        self._seen[webhook_id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return before


@asynccontextmanager
async def listening(receiver: Receiver) -> AsyncIterator[str]:
    """The URL at which the receiver is reached from this machine, until the end of the block."""
    # Whoever connects before the server has started waits in the socket's backlog.
    door = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = _Guest(uvicorn.Config(receiver, lifespan="off", log_level="error", server_header=False))
    serving = asyncio.create_task(server.serve([door]))
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}/"
    finally:
        server.should_exit = True
        await serving


class _Guest(uvicorn.Server):
    """A server in a process whose signals are not its to take."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
