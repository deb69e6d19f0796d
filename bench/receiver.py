"""A receiver of webhooks that answers at once, as a process: `python -m bench.receiver`.

It prints its port, then on each line that it reads what it got since the last one, as JSON: its `cpu` in seconds and up
to `MOST` of its `hits`, pairs of webhook-id and Unix time. What is posted below `/dead` is never answered.
"""

import asyncio
import json
import re
import sys
import time
from typing import Final, cast

import uvloop

_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_ID: Final = re.compile(rb"webhook-id: (\w+)", re.IGNORECASE)
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

MOST: Final = 500
"""Hits on one line: no longer than what a stream's reader takes."""

hits: list[tuple[str, float]] = []


class Connection(asyncio.Protocol):
    """One connection: no pipelining, so what has arrived is the next request or its beginning."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length, identity = _LENGTH.search(head), _ID.search(head)
        if not separator or length is None or identity is None or len(body) < int(length[1]):
            return
        self._received = b""
        hits.append((identity[1].decode(), time.time()))
        if not head.startswith(b"POST /dead"):
            self._transport.write(_ANSWER)


async def main() -> None:
    """Serve until its input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    cpu = time.process_time()
    while await loop.run_in_executor(None, sys.stdin.readline):
        now = time.process_time()
        print(json.dumps({"cpu": now - cpu, "hits": hits[:MOST]}), flush=True)
        del hits[:MOST]
        cpu = now


if __name__ == "__main__":
    uvloop.run(main())
