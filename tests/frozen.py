"""A link that can freeze: half-open connections, which no store will ever end and over which nothing comes any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class Link:
    """Stands before a server and passes on what comes. What was opened before `freeze` is passed on no more."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._open: list[asyncio.Event] = []
        self._streams: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        """The server's URL, through this link."""
        account, _, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{account}@127.0.0.1:{self._port}"))

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for stream in self._streams:
            stream.close()

    def freeze(self) -> int:
        """Freeze the connections that are open now; how many there were. New ones work."""
        frozen = [gate for gate in self._open if gate.is_set()]
        for gate in frozen:
            gate.clear()
        return len(frozen)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._parts.hostname is not None
        far_reader, far_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._streams += (writer, far_writer)
        gate = asyncio.Event()
        gate.set()
        self._open.append(gate)
        try:
            await asyncio.gather(_pass_on(reader, far_writer, gate), _pass_on(far_reader, writer, gate))
        finally:
            self._open.remove(gate)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
    try:
        while data := await reader.read(2**16):
            await gate.wait()
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def link(url: str) -> AsyncIterator[Link]:
    """A link to the server of this URL, whose clients go by the link's own."""
    made = Link(url)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
