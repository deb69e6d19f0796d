"""Does each chore in its period, one process at a time, whatever Redis does and as soon as the database answers."""

import asyncio
import contextlib
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import func, select

from jobs import metrics
from jobs.database import Database, is_connection_lost
from jobs.errors import Unavailable

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Chore:
    """One chore: `run` does what there is to do and says how much it was; `seconds` is its period.

    Several processes are at a `shared` one at the same time: it takes a lock for each thing that it does. A `called`
    one is what tickets tell of.
    """

    name: str
    seconds: float
    run: Callable[[], Awaitable[int]]
    shared: bool = False
    called: bool = False


class Timetable:
    """All chores of this process."""

    def __init__(self, database: Database, chores: Sequence[Chore]) -> None:
        self._database = database
        self._news = {chore: asyncio.Event() for chore in chores}

    async def keep(self) -> None:
        """Do every chore now, and then in its period, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for chore in self._news:
                group.create_task(self._repeat(chore))

    def wake(self) -> None:
        """Do the chores that tickets tell of before their time; the others keep to theirs."""
        for chore, news in self._news.items():
            if chore.called:
                news.set()

    async def do(self, chore: Chore) -> int | None:
        """One round of a chore; None if another process is at it. Raises nothing but a cancellation."""
        try:
            if chore.shared:
                done: int | None = await chore.run()
            else:
                async with _alone(self._database, chore.name) as alone:
                    done = await chore.run() if alone else None
        except Exception as error:  # a chore that fails is tried again in its next round, and holds up no other
            metrics.CHORES.labels(chore.name, "failed").inc()
            lost = isinstance(error, Unavailable) or is_connection_lost(error)
            _log.warning("a chore failed", chore=chore.name, error=str(error), exc_info=None if lost else error)
            return None
        metrics.CHORES.labels(chore.name, "left to another" if done is None else "done").inc()
        if done:
            _log.debug("a chore was done", chore=chore.name, count=done)
        return done

    async def _repeat(self, chore: Chore) -> None:
        while True:
            await self.do(chore)
            # Jitter, so that several processes do not all come at the same moment.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(chore.seconds * random.uniform(0.8, 1.2)):
                    await self._news[chore].wait()
            self._news[chore].clear()


@contextlib.asynccontextmanager
async def _alone(database: Database, name: str) -> AsyncIterator[bool]:
    """Whether this process got the chore's advisory lock, which it then holds; a lost connection gives it back."""
    lock = zlib.crc32(f"longhaul {name}".encode())
    async with database.engine.connect() as connection:
        got = bool(await connection.scalar(select(func.pg_try_advisory_lock(lock))))
        try:
            yield got
            if got:
                await connection.execute(select(func.pg_advisory_unlock(lock)))
        except BaseException:
            await connection.invalidate()
            raise
