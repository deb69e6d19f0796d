"""A load generator for streams: keep-alive connections, one stream at a time on each, of which it only counts.

`python -m bench.listen` is the process of its own in which it runs: see `listen`.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self, cast
from urllib.parse import urlsplit

import uvloop

from bench.load import elsewhere, handed_over

_EVENT = b"data: {"
_DONE = b"data: [DONE]"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a run heard. `events` are all that had data, `dropped` the streams that did not come to their `[DONE]`."""

    answered: int
    dropped: int
    events: int
    seconds: float
    first_p50_ms: float
    first_failure: str | None


class Stream(asyncio.Protocol):
    """One keep-alive connection; `hear` sends a request and returns when its stream has ended."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._first = 0.0
        self._end: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, base_url: str) -> Self:
        """Connect to the host of a URL."""
        address = urlsplit(base_url)
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(cls, address.hostname or "127.0.0.1", address.port or 80)
        return stream

    async def hear(self, data: bytes) -> tuple[float, bytes]:
        """Seconds to the first event, and all that came. Raises ConnectionError when the server hangs up."""
        self._received.clear()
        self._first = 0.0
        self._end = asyncio.get_running_loop().create_future()
        sent = time.perf_counter()
        self._transport.write(data)
        await self._end
        return self._first - sent, bytes(self._received)

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._first and _EVENT in self._received:
            self._first = time.perf_counter()
        ended = self._received.endswith(_LAST_CHUNK) or (not self._first and self._received.endswith(b"}"))
        if ended and self._end and not self._end.done():
            self._end.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self._end and not self._end.done():
            self._end.set_exception(ConnectionResetError("the server closed the connection"))


async def hear(base_url: str, requests: Sequence[bytes], connections: int) -> Heard:
    """Each of these requests once, so many at a time."""
    streams = [await Stream.open(base_url) for _ in range(connections)]
    waiting = iter(requests)
    firsts: list[float] = []
    failures: list[str] = []
    total = 0

    async def keep_busy(stream: Stream) -> None:
        nonlocal total
        for data in waiting:
            first, body = await stream.hear(data)
            firsts.append(first)
            total += body.count(_EVENT)
            if not body.startswith(b"HTTP/1.1 200") or _DONE not in body or b'"error"' in body:
                failures.append(body[-300:].decode(errors="replace"))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(keep_busy(stream))
    seconds = time.perf_counter() - began
    for stream in streams:
        stream.close()
    return Heard(
        answered=len(firsts),
        dropped=len(failures),
        events=total,
        seconds=seconds,
        first_p50_ms=statistics.median(firsts) * 1000,
        first_failure=failures[0] if failures else None,
    )


async def listen(base_url: str, requests: Sequence[bytes], connections: int) -> Heard:
    """`hear` in a process of its own, so that its work is not mistaken for the bench's.

    Raises:
        RuntimeError: a stream failed or was cut, so that something else was measured.
    """
    heard = Heard(**await elsewhere("bench.listen", [base_url, str(connections)], requests))
    if heard.dropped:
        raise RuntimeError(f"{heard.dropped} of {heard.answered} streams were cut, the first: {heard.first_failure}")
    return heard


def main() -> None:
    """`python -m bench.listen BASE_URL CONNECTIONS`, and the requests on stdin."""
    base_url, connections = sys.argv[1:]
    print(json.dumps(asdict(uvloop.run(hear(base_url, handed_over(), int(connections))))))


if __name__ == "__main__":
    main()
