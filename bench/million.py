"""A batch of a million lines on an engine that answers at once: whether its pace holds, and what memory it takes.

`LONGHAUL_BATCH_LINES` and `LONGHAUL_BATCH_FILE_LIMIT` are raised for it. Redis holds tickets, wake-ups, nothing else.
Beside it stands what vLLM's batch runner, which has all requests of a file in hand at once, takes on of the same file
in its first minute, or until that is 4 GB.
"""

import asyncio
import time
from pathlib import Path

import redis

from bench import model, pipeline
from bench.batch import BatchRunner
from bench.figure import Figure, Goal, Scale, say
from bench.files import Batches, write
from bench.large import chats, peak_mb
from bench.stack import Stores, deployment, stores

_LINES = 1_000_000
_LOOK_SECONDS = 0.5
_GROWTH_SECONDS = 60
_GROWTH_MB = 4000
_LIMITS = {"LONGHAUL_BATCH_LINES": str(2 * _LINES), "LONGHAUL_BATCH_FILE_LIMIT": str(4 * 2**30)}


async def run(scale: Scale) -> list[Figure]:
    """The pace of the last tenth over the first, and peaks of memory, MB."""
    count = scale.of(_LINES)
    with stores() as servers:
        async with deployment(servers, "million", {**pipeline.ENVIRONMENT, **_LIMITS}) as ours:
            parts = {part: await ours.start(part) for part in ("control", "api", "worker")}
            path = servers.folder / "million.jsonl"
            _write(path, count, pipeline.MODEL)
            batches = Batches.of(ours)
            batch_id = await batches.create(await batches.upload(path))
            await batches.until(batch_id, "in_progress", "finalizing", "completed")
            reached, redis_mb = await _watch(batches, batch_id, count, servers.redis_url)
            await batches.until(batch_id, "completed")
            await batches.close()
            peaks = {part: peak_mb(child) for part, child in parts.items()}
        path.unlink()
        growth = await _growth_of_run_batch(servers, count)
    first, last = reached[0.1] - reached[0.0], reached[1.0] - reached[0.9]
    what = f"{count:,} lines, an engine that answers at once:"
    return [
        Figure(f"{what} jobs/s of the last tenth over the first", [first / last], "x", Goal(0.9)),
        Figure(f"{what} Redis at most", [redis_mb], "MB", Goal(50, at_most=True)),
        *(Figure(f"{what} {part} at most", [peak], "MB", Goal(300, at_most=True)) for part, peak in peaks.items()),
        Figure(f"{what} what vLLM's run_batch grows by in a minute of it", [growth], "MB", None),
    ]


def _write(path: Path, count: int, name: str) -> None:
    some = chats(min(count, 1000))
    write(path, (some[number % len(some)] | {"model": name} for number in range(count)))


async def _growth_of_run_batch(servers: Stores, count: int) -> float:
    served = model.tiny(servers.folder)
    path = servers.folder / "theirs.jsonl"
    await asyncio.to_thread(_write, path, count, model.NAME)
    async with deployment(servers, "theirs", served.environment) as place:
        runner = await BatchRunner.start(place, served)
        return await runner.growth_mb(path, _GROWTH_SECONDS, _GROWTH_MB)


async def _watch(batches: Batches, batch_id: str, count: int, redis_url: str) -> tuple[dict[float, float], float]:
    """When the batch had run these shares of its lines, and the most that Redis held, MB."""
    reached = {0.0: time.perf_counter()}
    most = 0.0
    with redis.Redis.from_url(redis_url) as client:
        while 1.0 not in reached:
            await asyncio.sleep(_LOOK_SECONDS)
            counts = (await batches.http.get(f"/v1/batches/{batch_id}")).json()["request_counts"]
            for share in (0.1, 0.9, 1.0):
                if counts["completed"] >= share * count and share not in reached:
                    reached[share] = time.perf_counter()
                    say(f"  {counts['completed']:,} lines after {reached[share] - reached[0.0]:.1f} s")
            most = max(most, client.info("memory")["used_memory"] / 1e6)
    return reached, most
