"""More of a part: four workers over one, and four API processes over one on the same cores.

The workers keep the scripted engine with 16 slots and 100 ms a job, so that more of them wait side by side. The API
processes take durable submits of one tenant, as in `bench.submit`, from four load generators; the sessions that wait
for a lock meanwhile are counted in the database and printed.
"""

import asyncio
import statistics
from functools import partial
from typing import Final

from sqlalchemy import text

from bench import model, pipeline
from bench.figure import Figure, Goal, Scale, alternate, ratios, say
from bench.load import generate
from bench.stack import Deployment, Stores, deployment, stores
from bench.submit import CONNECTIONS, submits
from jobs.records import Registration

_MANY: Final = 4
_ENGINE: Final = {
    "LONGHAUL_ENGINE": "tests.engines.scripted:factory",
    "LONGHAUL_TEST_SLOTS": "16",
    "LONGHAUL_TEST_DELAY": "0.1",
}
_LOOK_SECONDS: Final = 0.05
_WAITING: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def run(scale: Scale) -> list[Figure]:
    """Two ratios."""
    with stores() as servers:
        return [await _workers(scale, servers), await _apis(scale, servers)]


async def _workers(scale: Scale, servers: Stores) -> Figure:
    async def rate(count: int, pair: int) -> float:
        async with deployment(servers, f"workers_{count}_{pair}", _ENGINE) as ours:
            for part in ("control", "api"):
                await ours.start(part)
            for number in range(count):
                await ours.start("worker", name=f"worker-{number}")
            return await pipeline.rate(ours, scale.seconds)

    pairs = await alternate(scale.pairs, partial(rate, _MANY), partial(rate, 1))
    return ratios(f"{_MANY} workers of 16 slots and 100 ms a job: jobs/s over one worker", pairs, "/s", Goal(3.8))


async def _apis(scale: Scale, servers: Stores) -> Figure:
    registration = model.registration(model.NAME, await model.schemas())

    async def rate(count: int, pair: int) -> float:
        async with deployment(servers, f"apis_{count}_{pair}") as ours:
            return await _submits(ours, registration, count, scale.seconds)

    pairs = await alternate(scale.pairs, partial(rate, _MANY), partial(rate, 1))
    what = f"{_MANY} API processes on the same cores, one tenant: durable submits/s over one process"
    return ratios(what, pairs, "/s", Goal(0.9))


async def _submits(ours: Deployment, registration: Registration, count: int, seconds: float) -> float:
    """All the generators' rates together, on so many API processes."""
    await ours.know(registration)
    urls = [await ours.start_api(f"api-{number}") for number in range(count)]
    requests = submits(model.NAME, ours.key)
    watching = asyncio.create_task(_lock_waits(ours))
    try:
        loads = await asyncio.gather(
            *(
                generate(urls[number % count], requests, CONNECTIONS // _MANY, seconds=seconds)
                for number in range(_MANY)
            )
        )
    finally:
        watching.cancel()
    waits = await watching
    say(f"  {count} processes: {statistics.mean(waits):.2f} sessions wait for a lock, {max(waits)} at most")
    return sum(load.rate for load in loads)


async def _lock_waits(ours: Deployment) -> list[int]:
    """How many sessions waited at each look, until this is cancelled."""
    waits = []
    try:
        while True:
            async with ours.database.engine.connect() as connection:
                waits.append(int((await connection.execute(_WAITING)).scalar_one()))
            await asyncio.sleep(_LOOK_SECONDS)
    except asyncio.CancelledError:
        return waits
