"""TLS before a server that speaks none, as a proxy in front of Redis does it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Front:
    """Passes on to `server_port` what its clients say by TLS. `met` counts who believed that it is who it says."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.met = 0
        self._server_port = server_port
        self._ends: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def listening(self, context: ssl.SSLContext) -> AsyncIterator["Front"]:
        """On 127.0.0.1, at `port`."""
        server = await asyncio.start_server(self._meet, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._ends:
                writer.transport.abort()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.met += 1
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._ends |= {writer, server_writer}
        async with asyncio.TaskGroup() as group:
            group.create_task(_pass_on(reader, server_writer))
            group.create_task(_pass_on(server_reader, writer))
        self._ends -= {writer, server_writer}


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
