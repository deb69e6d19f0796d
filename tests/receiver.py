"""A receiver of webhooks on a port of its own: it answers as it is told to, and remembers what it got and when."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from jobs.records import Json


@dataclass(frozen=True, slots=True)
class Hit:
    """One POST. Header names are in lower case; `at` is of `time.time`."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> Json:
        event: Json = json.loads(self.body)
        return event


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer; after `seconds`, or never."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    seconds: float = 0
    never: bool = False


Answerer: TypeAlias = Callable[[Hit], Reply]


def _fine(hit: Hit) -> Reply:
    return Reply()


class Receiver:
    """`answer` may be changed at any time; `most_at_once` is the largest number of POSTs that it held together."""

    def __init__(self) -> None:
        self.answer: Answerer = _fine
        self.hits: list[Hit] = []
        self.port = 0
        self.most_at_once = 0
        self._now = 0

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept as long as its client keeps it."""
        try:
            while True:
                await self._exchange(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        hit = Hit(head[0].split(" ")[1], headers, body, time.time())
        self.hits.append(hit)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            reply = self.answer(hit)
            if reply.never:
                await reader.read()  # until the client gives up
                raise ConnectionResetError
            if reply.seconds:
                await asyncio.sleep(reply.seconds)
        finally:
            self._now -= 1
        more = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        head_line = f"HTTP/1.1 {reply.status} X\r\ncontent-length: {len(reply.body)}\r\n{more}\r\n"
        writer.write(head_line.encode() + reply.body)
        await writer.drain()


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver, until the end of the block."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
