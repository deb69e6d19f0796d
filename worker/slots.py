"""The engine's slots: which jobs are in them, and when freed ones are worth a claim."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from jobs.records import ClaimedJob, Tier

_FREED_SHARE: Final = 16
"""Freed slots are claimed for once they are a sixteenth of all, and half of those that are to spare: a claim of one
costs twelve times a job of sixteen."""
_FREED_SECONDS: Final = 0.150
"""... or so long after the first of them became free."""


@dataclass(frozen=True, slots=True)
class Run:
    """A job in the engine, and the task that carries it."""

    job: ClaimedJob
    task: asyncio.Task[None]


class Slots:
    """Used on one loop only. `size` is asked anew each time, since an engine's slots may change while it runs; `spare`
    of them are more than it runs at once."""

    def __init__(self, size: Callable[[], int], spare: int = 0) -> None:
        self._size = size
        self._spare = spare
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._quiet = asyncio.Event()
        for at_the_start in (self._wake, self._room, self._quiet):
            at_the_start.set()
        self._closed = False
        self._hungry = False
        self.crowded = False
        """At the last claim every slot was taken, and jobs still waited."""
        self._freed = 0
        self._timer: asyncio.TimerHandle | None = None
        self.runs: dict[UUID, Run] = {}
        self.tiers: Counter[Tier] = Counter()

    @property
    def size(self) -> int:
        return self._size()

    @property
    def free(self) -> int:
        return max(0, self._size() - len(self.runs))

    def occupy(self, job: ClaimedJob, task: asyncio.Task[None]) -> None:
        """A claimed job enters the engine, where an aborted run of its own may still be leaving."""
        if earlier := self.runs.get(job.id):
            self.vacate(earlier.job)
        self.runs[job.id] = Run(job, task)
        self.tiers[job.tier] += 1
        self._quiet.clear()
        if not self.free:
            self._room.clear()

    def vacate(self, job: ClaimedJob) -> bool:
        """A job left the engine; False if it had left before."""
        run = self.runs.get(job.id)
        if run is None or run.job is not job:
            return False
        del self.runs[job.id]
        self.tiers[job.tier] -= 1
        if not self.runs:
            self._quiet.set()
        if self.free and not self.crowded:
            self._room.set()
        if self._hungry:
            self._freed += 1
            if self._freed >= max(self._size() / _FREED_SHARE, self._spare / 2) or not self.runs:
                self.ring()
            elif self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_FREED_SECONDS, self.ring)
        return True

    def ring(self) -> None:
        """Look for jobs now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake.set()

    def claimed(self, more: bool) -> None:
        """A claim is done. `more`: jobs still wait, so that freed slots are worth the next one.

        While they do and every slot was taken, the next claim comes by itself: a ticket would tell nothing.
        """
        self._hungry = more
        self.crowded = more and not self.free
        self._freed = 0
        if self.free:
            self._room.set()

    def close(self) -> None:
        """Nobody will enter any more: who waits for a slot need not."""
        self._closed = True
        self._room.set()
        self.ring()

    async def rung(self, seconds: float) -> None:
        """Return when somebody rang since the last time, or after so long."""
        if not self._wake.is_set():
            bell = asyncio.get_running_loop().call_later(seconds, self._wake.set)
            await self._wake.wait()
            bell.cancel()
        self._wake.clear()

    async def room(self) -> None:
        """Return when a slot is free that nobody waits for as far as is known, or none will ever be."""
        if not self.free and not self._closed:  # they may have become fewer
            self._room.clear()
        await self._room.wait()

    async def quiet(self) -> None:
        """Return when nothing runs."""
        await self._quiet.wait()
