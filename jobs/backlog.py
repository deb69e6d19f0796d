"""How long the queues are: what a submit is told at once, without looking for its exact place."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.database import Database
from jobs.records import Tier

Key: TypeAlias = tuple[int, Tier]
"""(model, tier)"""

_KEPT_SECONDS: Final = 1.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Lane:
    """Jobs that wait in a lane, and its measured speed: 0 while unknown."""

    queued: int
    tokens_per_second: float


class Backlog:
    """The lanes' counters, each kept for a second."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[Key, tuple[float, Lane | None]] = {}
        self._asking: dict[Key, asyncio.Task[Lane | None]] = {}

    async def joined(self, model_id: int, tier: Tier) -> Lane | None:
        """The lane that one more job was just put into: as it was at most a second ago, and the jobs since then.

        None while the database is away.
        """
        key = (model_id, tier)
        until, lane = self._kept.get(key, (0.0, None))
        if lane is not None and time.monotonic() < until:
            lane = Lane(lane.queued + 1, lane.tokens_per_second)
            self._kept[key] = (until, lane)
            return lane
        return await self.lane(model_id, tier)

    async def lane(self, model_id: int, tier: Tier) -> Lane | None:
        """A lane as it was at most a second ago. None while the database is away."""
        key = (model_id, tier)
        until, lane = self._kept.get(key, (0.0, None))
        if time.monotonic() < until:
            return lane
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key))
        # Whoever is cancelled while it waits must not cancel the question of the others.
        return await asyncio.shield(asking)

    async def _ask(self, key: Key) -> Lane | None:
        model_id, tier = key
        lane: Lane | None = None
        try:
            [row] = await self._database.run("lane_queued", model=model_id, tier=int(tier))
            lane = Lane(row.queued, row.tokens_per_second)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            _log.warning("the length of a queue is not known, the database does not answer", error=str(error))
        finally:
            del self._asking[key]
        self._kept[key] = (time.monotonic() + _KEPT_SECONDS, lane)
        return lane
