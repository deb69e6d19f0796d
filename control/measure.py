"""Measures the deployment for Prometheus: what waits, what runs, who serves, what stands in Redis."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from jobs import metrics, overview
from jobs.broker import CONTROL_QUEUE, DELIVER_QUEUE
from jobs.database import Database
from jobs.overview import Fleet

_UNACKED: Final = "unacked"
"""Where Celery's transport keeps what it took and has not acknowledged."""


class Measure:
    """Every control measures for itself, so that each one's numbers are fresh."""

    def __init__(self, database: Database, redis_url: str, prefix: str) -> None:
        self._database = database
        self._prefix = prefix
        self._redis = Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1))

    async def run(self) -> int:
        """Measure once; how many jobs wait. What cannot be measured is shown as missing, not as it was."""
        try:
            fleets = await overview.look(self._database)
            await self._learn(fleets)
        except Exception:
            _show([])
            await self._measure_redis({})
            raise
        _show(fleets)
        await self._measure_redis({fleet.queue: fleet.model for fleet in fleets})
        return sum(fleet.queued for fleet in fleets)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _learn(self, fleets: Sequence[Fleet]) -> None:
        """Keep what a worker of each was seen to do, for when none is left."""
        for fleet in fleets:
            if fleet.serving and fleet.measured:
                await self._database.run("measure_learn", model=fleet.id, speed=fleet.measured / fleet.serving)

    async def _measure_redis(self, models: Mapping[str, str]) -> None:
        names = {CONTROL_QUEUE: CONTROL_QUEUE, DELIVER_QUEUE: DELIVER_QUEUE, **models}
        try:
            async with self._redis.pipeline(transaction=False) as asked:
                for queue in names:
                    asked.llen(f"{{{self._prefix}}}:{queue}")
                asked.hlen(f"{{{self._prefix}}}:{_UNACKED}")
                *tickets, unacked = await asked.execute()
        except (RedisError, OSError, TimeoutError):
            metrics.BROKER_UP.set(0)
            metrics.UNACKED.set(math.nan)
            metrics.show(metrics.TICKETS_OUT, {})
            return
        metrics.BROKER_UP.set(1)
        metrics.UNACKED.set(unacked)
        metrics.show(metrics.TICKETS_OUT, {(name,): out for name, out in zip(names.values(), tickets, strict=True)})


def _show(fleets: Sequence[Fleet]) -> None:
    lanes = {(fleet.model, queue.tier.label): queue for fleet in fleets for queue in fleet.queues}
    metrics.show(metrics.QUEUED, {labels: queue.queued for labels, queue in lanes.items()})
    metrics.show(metrics.QUEUED_TOKENS, {labels: queue.tokens for labels, queue in lanes.items()})
    metrics.show(metrics.OLDEST, {labels: queue.oldest_seconds for labels, queue in lanes.items()})
    metrics.show(metrics.IN_PROGRESS, {labels: queue.running for labels, queue in lanes.items()})
    metrics.show(
        metrics.WORKERS,
        {(fleet.model, state): getattr(fleet, state) for fleet in fleets for state in ("serving", "draining", "lost")},
    )
    metrics.show(metrics.WORKER_SPEED, {(fleet.model,): fleet.worker_speed for fleet in fleets})
    metrics.show(metrics.WORKERS_WANTED, {(fleet.model,): fleet.wanted for fleet in fleets})
    metrics.show(
        metrics.DEADLINE,
        {(fleet.model,): fleet.deadline_seconds for fleet in fleets if fleet.deadline_seconds is not None},
    )
