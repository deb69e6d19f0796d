"""Renews the worker's lease from a thread and over a connection of its own: a busy loop must not cost the leases."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs import lease
from jobs.database import Database
from jobs.loop import LoopThread
from worker.runner import Runner

_log = structlog.get_logger()
_BEATS: Final = 4
"""Renewals in one lease."""
_RETRY_SECONDS: Final = 1.0


class Lease:
    """How long this worker may still believe that its jobs are its own. By the monotonic clock, from before the
    renewal was sent, so never longer than the database believes it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._renewed_at = -float("inf")

    def renewed(self, at: float) -> None:
        """A renewal that was sent `at` (monotonic seconds) succeeded."""
        self._renewed_at = at

    def is_good(self) -> bool:
        return time.monotonic() - self._renewed_at < self.seconds


class Heartbeat:
    """Renews `lease` four times in its length, and tells the runner each time what the database says that it holds.

    `register(database)` is called when the database does not know this worker any more.
    """

    def __init__(
        self,
        url: str,
        worker: UUID,
        lease: Lease,
        runner: Runner,
        slots: Callable[[], int],
        register: Callable[[Database], Awaitable[object]],
    ) -> None:
        self._url = url
        self._worker = worker
        self._lease = lease
        self._runner = runner
        self._slots = slots
        self._register = register
        self._thread = LoopThread("heartbeat")

    def start(self) -> None:
        """Begin to beat; called on the runner's loop, to which the findings are brought."""
        self._runner_loop = asyncio.get_running_loop()
        self._thread.start()
        self._beating = self._thread.run(self._beat())

    async def stop(self) -> None:
        """Return after the last beat; one that still waits for the database is given up."""
        self._beating.cancel()
        await asyncio.to_thread(self._thread.stop)

    async def _beat(self) -> None:
        structlog.contextvars.bind_contextvars(worker_id=str(self._worker))
        database = Database(self._url, pool_size=2)
        pause = self._lease.seconds / _BEATS
        try:
            while True:
                renewed = await self._renew(database)
                await asyncio.sleep(pause if renewed else min(pause, _RETRY_SECONDS))
        finally:
            await database.close()

    async def _renew(self, database: Database) -> bool:
        """One beat; whether the database took it."""
        before, sent_at = self._runner.held, time.monotonic()
        try:
            async with asyncio.timeout(max(1.0, self._lease.seconds / 2)):
                held = await lease.renew(
                    database, self._worker, self._lease.seconds, self._slots(), self._runner.stopping
                )
                if held is None:
                    _log.warning("this worker was given up for lost; it registers again")
                    await self._register(database)
                    held = {}
        except Exception as error:  # whatever it is, a heart that stops would cost every job
            away = isinstance(error, (SQLAlchemyError, OSError, TimeoutError))
            _log.warning("the lease could not be renewed", error=str(error), exc_info=not away)
            return False
        # The findings first: nothing is claimed on the new lease before what the old one lost is out of the engine.
        self._runner_loop.call_soon_threadsafe(self._runner.reconcile, before, held)
        self._lease.renewed(sent_at)
        return True
