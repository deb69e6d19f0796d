"""A batch of a million lines on an engine that answers at once: whether its pace holds, and what memory it takes.

`LONGHAUL_BATCH_LINES` and `LONGHAUL_BATCH_FILE_LIMIT` are raised for it. Redis holds tickets, wake-ups, nothing else.
"""

import asyncio
import time

import redis

from bench import pipeline
from bench.figure import Figure, Goal, Scale, say
from bench.files import Batches, write
from bench.large import chats, peak_mb
from bench.stack import deployment, stores

_LINES = 1_000_000
_LOOK_SECONDS = 0.5
_LIMITS = {"LONGHAUL_BATCH_LINES": str(2 * _LINES), "LONGHAUL_BATCH_FILE_LIMIT": str(4 * 2**30)}


async def run(scale: Scale) -> list[Figure]:
    """The pace of the last tenth over the first, and peaks of memory, MB."""
    count = scale.of(_LINES)
    with stores() as servers:
        async with deployment(servers, "million", {**pipeline.ENVIRONMENT, **_LIMITS}) as ours:
            parts = {part: await ours.start(part) for part in ("control", "api", "worker")}
            path = servers.folder / "million.jsonl"
            some = chats(min(count, 1000))
            write(path, (some[number % len(some)] | {"model": pipeline.MODEL} for number in range(count)))
            batches = Batches.of(ours)
            batch_id = await batches.create(await batches.upload(path))
            await batches.until(batch_id, "in_progress", "finalizing", "completed")
            reached, redis_mb = await _watch(batches, batch_id, count, servers.redis_url)
            await batches.until(batch_id, "completed")
            await batches.close()
            peaks = {part: peak_mb(child) for part, child in parts.items()}
    first, last = reached[0.1] - reached[0.0], reached[1.0] - reached[0.9]
    what = f"{count:,} lines, an engine that answers at once:"
    return [
        Figure(f"{what} jobs/s of the last tenth over the first", [first / last], "x", Goal(0.9)),
        Figure(f"{what} Redis at most", [redis_mb], "MB", Goal(50, at_most=True)),
        *(Figure(f"{what} {part} at most", [peak], "MB", Goal(300, at_most=True)) for part, peak in peaks.items()),
    ]


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
