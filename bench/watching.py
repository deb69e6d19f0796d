"""What it costs to be watched: jobs/s with an engine that answers at once, metrics and traces on, over both off.

On: every part has its metrics read once a second, more often than Prometheus would, and sends its traces to a collector
that takes them and does nothing with them. Both are part of the cost, on the same cores.

Traces that nobody began are recorded at a pace (see `jobs.trace_pace`), with the first ten jobs of an array: a few of a
hundred jobs here. So a second figure, without a goal, records every request, and with it one job in ten.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx

from bench import pipeline
from bench.figure import Figure, Goal, Scale, alternate, ratios
from bench.stack import Stores, deployment, stores
from jobs.trace_pace import A_SECOND
from longhaul.embedded import free_port

_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_TAKEN: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
_LOOK_SECONDS: Final = 1.0
_EVERY: Final = {"OTEL_TRACES_SAMPLER": "parentbased_always_on"}


async def run(scale: Scale) -> list[Figure]:
    """The ratio of jobs/s, pair by pair: with the traces that are recorded unasked, and with all."""
    with stores() as servers:
        async with collector() as url:
            paced = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
            return [
                await measure(scale, servers, f"{A_SECOND} requests a second traced", "paced", paced, Goal(0.95)),
                await measure(scale, servers, "every request traced", "every", paced | _EVERY, None),
            ]


async def measure(
    scale: Scale, servers: Stores, traced: str, name: str, tracing: Mapping[str, str], goal: Goal | None
) -> Figure:
    """Jobs/s, watched so over not watched."""

    async def watched(pair: int) -> float:
        return await rate(servers, f"{name}_on_{pair}", scale.seconds, tracing)

    async def alone(pair: int) -> float:
        return await rate(servers, f"{name}_off_{pair}", scale.seconds, {})

    pairs = await alternate(scale.pairs, watched, alone)
    return ratios(f"metrics on, {traced}, over both off: jobs through the whole pipeline", pairs, "/s", goal)


async def rate(servers: Stores, name: str, seconds: float, tracing: Mapping[str, str]) -> float:
    """Jobs/s of a deployment of its own, watched if it has somewhere to send traces to."""
    async with deployment(servers, name, {**pipeline.ENVIRONMENT, **tracing}) as ours:
        pages = [f"{ours.base_url}/metrics"]
        for part in ("control", "api", "worker"):
            if tracing and part != "api":
                port = free_port()
                ours.environment["LONGHAUL_METRICS_PORT"] = str(port)
                pages.append(f"http://127.0.0.1:{port}/metrics")
            await ours.start(part)
        reading = asyncio.create_task(_read(pages)) if tracing else None
        try:
            return await pipeline.rate(ours, seconds)
        finally:
            if reading:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading


@asynccontextmanager
async def collector() -> AsyncIterator[str]:
    """The URL of something that takes traces."""
    server = await asyncio.start_server(_take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            length = _LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(_TAKEN)
            await writer.drain()
    writer.close()


async def _read(pages: Sequence[str]) -> None:
    """Read every page once a second, until cancelled."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            for page in pages:
                (await client.get(page)).raise_for_status()
            await asyncio.sleep(_LOOK_SECONDS)
