"""The end of a worker: who asked for it and how urgently, and what becomes of the jobs that it holds."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Container, Coroutine
from typing import Any, Final, TypeVar
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs import lease
from jobs.database import Database
from jobs.finish import Finisher
from worker.runner import Runner

Answer = TypeVar("Answer")

_ABORT_SECONDS: Final = 2
"""How long aborted jobs may take to leave the engine."""
_RECORD_SECONDS: Final = 3
"""How long, beyond the drain, the last results and the handing back may take."""
_log = structlog.get_logger()


class Stopped(Exception):
    """The worker was asked to stop before this was done."""


class Stop:
    """The wish that this worker ends. Asked for once it drains; asked for again it hands its jobs back at once.

    `ask` and `fail` may be called from any thread and from a signal handler: they take no lock. `spread()` is called
    with the first wish, there and then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, spread: Callable[[], None]) -> None:
        self._loop = loop
        self._spread = spread
        self._begun = asyncio.Event()
        self._hurried = asyncio.Event()
        self.asked = 0
        self.asked_at = 0.0
        self.code = 0

    def ask(self) -> None:
        """End the worker; the second time, at once."""
        self.asked += 1
        if self.asked == 1:
            self.asked_at = time.monotonic()
            self._spread()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has ended already
            self._loop.call_soon_threadsafe((self._begun if self.asked == 1 else self._hurried).set)

    def fail(self, code: int = 1) -> None:
        """End the worker with an exit status that tells its keeper to start another."""
        self.code = self.code or code
        if not self.asked:
            self.ask()

    async def begun(self) -> None:
        """Return when the worker has been asked to stop."""
        await self._begun.wait()

    async def hurried(self) -> None:
        """Return when it has been asked a second time."""
        await self._hurried.wait()

    async def before(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Await `work`, unless the worker is asked to stop first.

        Raises:
            Stopped: it was; `work` has been cancelled.
        """
        task, asked = asyncio.ensure_future(work), asyncio.ensure_future(self.begun())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Stopped()
        finally:
            task.cancel()
            asked.cancel()
            await asyncio.wait({task, asked})


async def drain(runner: Runner, finisher: Finisher, seconds: float, stop: Stop) -> None:
    """Claim nothing more, give the running jobs so many seconds, abort the rest and record what ended."""
    runner.stop()
    _log.info("draining", running=runner.running, seconds=seconds)
    quiet, hurried = asyncio.ensure_future(runner.quiet()), asyncio.ensure_future(stop.hurried())
    await asyncio.wait({quiet, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    quiet.cancel()
    hurried.cancel()
    if aborted := runner.abort_all():
        _log.info("aborting the rest", jobs=aborted)
        await _within(_ABORT_SECONDS, runner.quiet())
    await _within(_RECORD_SECONDS, finisher.drain())


async def hand_back(database: Database, worker: UUID, lease_seconds: float) -> int | None:
    """Give up every job that the database says this worker holds, attempts refunded, and leave.

    That covers claims whose answer was lost, too. None if the database did not answer in time: the lease then ends
    by itself and the jobs count a loss.
    """

    async def give_up() -> int:
        held = await lease.renew(database, worker, lease_seconds, slots=1, draining=True)
        released = await lease.release(database, list((held or {}).items()))
        await lease.leave(database, worker)
        return released

    return await _persist(give_up)


async def bury(database: Database, worker: UUID, lease_seconds: float, ran: Container[UUID]) -> lease.Orphaned | None:
    """The engine died: jobs that `ran` on it go back with the loss counted, others refunded, and the worker leaves.

    None as for `hand_back`.
    """

    async def give_up() -> lease.Orphaned:
        held = await lease.renew(database, worker, lease_seconds, slots=1, draining=True)
        await lease.release(database, [(job, token) for job, token in (held or {}).items() if job not in ran])
        orphaned = await lease.orphan(database, worker)
        await lease.leave(database, worker)
        return orphaned

    return await _persist(give_up)


async def _persist(attempt: Callable[[], Awaitable[Answer]]) -> Answer | None:
    """Repeat an attempt while the database is away, for a few seconds; None if it stays away."""
    try:
        async with asyncio.timeout(_RECORD_SECONDS):
            while True:
                try:
                    return await attempt()
                except (SQLAlchemyError, OSError) as error:
                    _log.warning("leaving, but the database does not answer", error=str(error))
                    await asyncio.sleep(0.2)
    except TimeoutError:
        return None


async def _within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    """Await `work` for at most so long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work, seconds)
