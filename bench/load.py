"""A load generator that costs next to nothing: keep-alive connections, one request at a time on each, no library.

`python -m bench.load` is the process of its own in which it runs: see `generate`.
"""

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Self, cast
from urllib.parse import urlsplit

import uvloop

from jobs.records import Json


@dataclass(frozen=True, slots=True)
class Load:
    """What a run sent and got. `idle` is the share of its time in which the generator had nothing to do."""

    answered: int
    failed: int
    seconds: float
    idle: float
    p50_ms: float
    p99_ms: float
    first_failure: str | None

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds


def post(path: str, body: bytes, key: str, prefer: str | None = None) -> bytes:
    """A POST of JSON as it goes over the wire."""
    lines = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return _head(f"POST {path}", key, [*lines, f"Prefer: {prefer}"] if prefer else lines) + body


def get(path: str, key: str) -> bytes:
    """A GET as it goes over the wire."""
    return _head(f"GET {path}", key, [])


def _head(line: str, key: str, lines: Sequence[str]) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: bench", f"Authorization: Bearer {key}", *lines, "", ""]).encode()


class Connection(asyncio.Protocol):
    """One keep-alive connection; `ask` sends a request and returns the response's status and body."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def open(cls, base_url: str) -> Self:
        """Connect to the host of a URL."""
        address = urlsplit(base_url)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, address.hostname or "127.0.0.1", address.port or 80)
        return connection

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """One request, one answer. Raises ConnectionError when the server hangs up, or has."""
        if self._transport.is_closing():
            raise ConnectionResetError("the server had closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._answer

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        lines = bytes(self._received[:head]).lower()
        start = lines.index(b"content-length:") + 15
        end = lines.find(b"\r\n", start)
        length = int(lines[start : end if end > 0 else head])
        if len(self._received) < head + 4 + length or self._answer is None:
            return
        body = bytes(self._received[head + 4 :])
        self._received.clear()
        if not self._answer.done():
            self._answer.set_result((int(lines[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server closed the connection"))


async def offer(base_url: str, requests: Sequence[bytes], connections: int, count: int, seconds: float) -> Load:
    """Keep `connections` busy with these requests, over and over: `count` times, or for `seconds` where that is 0."""
    loop = asyncio.get_running_loop()
    opened = [await Connection.open(base_url) for _ in range(connections)]
    waiting: Iterator[bytes] = itertools.islice(itertools.cycle(requests), count or None)
    took: list[float] = []
    failures: list[str] = []
    cpu, began = time.process_time(), loop.time()

    async def keep_busy(connection: Connection) -> None:
        for data in waiting:
            sent = loop.time()
            status, body = await connection.ask(data)
            took.append(loop.time() - sent)
            if status >= 300:
                failures.append(f"{status} {body[:300].decode(errors='replace')}")
            if not count and loop.time() - began >= seconds:
                return

    async with asyncio.TaskGroup() as group:
        for connection in opened:
            group.create_task(keep_busy(connection))
    elapsed = loop.time() - began
    for connection in opened:
        connection.close()
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else [took[0]] * 99
    return Load(
        answered=len(took),
        failed=len(failures),
        seconds=elapsed,
        idle=1 - (time.process_time() - cpu) / elapsed,
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
        first_failure=failures[0] if failures else None,
    )


async def generate(
    base_url: str, requests: Sequence[bytes], connections: int, *, count: int = 0, seconds: float = 0
) -> Load:
    """`offer` in a process of its own, so that its work is not mistaken for the bench's.

    Raises:
        RuntimeError: not every answer was 2xx, so that something else was measured.
    """
    load = Load(**await elsewhere("bench.load", [base_url, str(connections), str(count), str(seconds)], requests))
    if load.failed:
        raise RuntimeError(f"{load.failed} of {load.answered} requests failed, the first with {load.first_failure}")
    return load


async def elsewhere(module: str, arguments: Sequence[str], requests: Sequence[bytes]) -> Json:
    """What a load generator says that runs in a process of its own, to which these requests are `handed_over`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        sizes = json.dumps([len(data) for data in requests]).encode()
        said, _ = await process.communicate(sizes + b"\n" + b"".join(requests))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError("the load generator failed")
    answer: Json = json.loads(said)
    return answer


def handed_over() -> list[bytes]:
    """On stdin: the requests' sizes, then the requests."""
    sizes = json.loads(sys.stdin.buffer.readline())
    return [sys.stdin.buffer.read(size) for size in sizes]


def main() -> None:
    """`python -m bench.load BASE_URL CONNECTIONS COUNT SECONDS`, and the requests on stdin."""
    base_url, connections, count, seconds = sys.argv[1:]
    load = uvloop.run(offer(base_url, handed_over(), int(connections), int(count), float(seconds)))
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()
