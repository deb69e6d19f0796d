"""Free slots -> claim -> run each -> finish: the heart of the worker."""

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs import claim as claims
from jobs import lease, metrics, order
from jobs.database import Database
from jobs.finish import Finisher, Settlement
from jobs.records import ClaimedJob, Flags, Outcome, Tier
from jobs.streams import Writer
from jobs.traces import Traces
from worker import history
from worker.attempt import BackOff, attempt
from worker.dialect import Dialect
from worker.engines import Engine, EngineDead, JobLost
from worker.run_trace import RunTrace, traced
from worker.slots import Slots

_POLL_SECONDS: Final = 1.0
_GATHER_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 0.1
"""So long may a result wait for others if no client waits for it: a commit of one costs as much as of ten."""
_LINE_PATIENCE_SECONDS: Final = 0.3
"""... and that of a batch's line, which is seldom asked for alone."""
_BACKLOG: Final = 1000
"""So many results may wait for the database before the worker stops claiming."""
_SUSPECTS_PATIENCE_SECONDS: Final = 30.0
_SUSPECTS_LATER_SECONDS: Final = 300.0
_NOBODY: Final = claims.Waiting(0, False)
_log = structlog.get_logger()


class Runner:
    """Keeps the engine's slots full, with one claim loop that tickets, freed slots and a poll each second wake.

    `lease_is_good()` gates every claim; `engine_died()` is called when a job finds the engine dead; `spare` slots are
    more than the engine runs at once. Used on one loop.
    """

    def __init__(
        self,
        database: Database,
        engine: Engine,
        dialect: Dialect,
        worker: UUID,
        model_id: int,
        shares: order.Shares,
        finisher: Finisher,
        writer: Writer,
        lease_is_good: Callable[[], bool],
        engine_died: Callable[[], None],
        spare: int = 0,
        traces: Traces | None = None,
    ) -> None:
        self._database = database
        self._engine = engine
        self._dialect = dialect
        self._worker = worker
        self._model_id = model_id
        self._shares = shares
        self._finisher = finisher
        self._writer = writer
        self._settlement = Settlement(database, model_id)
        self._lease_is_good = lease_is_good
        self._engine_died = engine_died
        self._traces = traces
        self._slots = Slots(lambda: engine.slots, spare)
        self._likely: Tier | None = None
        self._known: dict[UUID, int] = {}
        self._returns: dict[UUID, int] = {}
        self._losses: dict[UUID, int] = {}
        self._strays: dict[UUID, int] = {}
        self._paused_until = 0.0
        self._suspects_had_their_turn = False
        self._suspects_not_before = 0.0
        self._heard: list[asyncio.Future[bool]] = []
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Claim whenever slots are free, until `stop`; a claim in flight is then waited for, but not started."""
        while not self.stopping:
            await self._slots.rung(_POLL_SECONDS * random.uniform(0.9, 1.1))
            heard, self._heard = self._heard, []
            looked = False
            try:
                await self._hand_back()
                if self._slots.free and self._may_claim():
                    await self._fill()
                    looked = True
                    await asyncio.sleep(0)  # what was claimed begins before anything else does
            except Exception as error:
                away = isinstance(error, (SQLAlchemyError, OSError, TimeoutError))
                _log.warning("cannot claim", error=str(error), exc_info=not away)
                self._pause(_POLL_SECONDS)
            for answer in heard:
                if not answer.done():
                    answer.set_result(looked and not self._slots.crowded)
            if looked:
                await self._gather()

    async def settle(self) -> None:
        """Pay flows back and learn, once a second, for ever."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await self.pay()

    async def pay(self) -> None:
        """Settle once."""
        try:
            await self._settlement.flush()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            _log.warning("cannot settle", error=str(error))

    async def take(self) -> None:
        """A ticket: return once a slot was free and the claim loop has been woken. Waits as long as that takes, so
        that a worker that cannot claim leaves the tickets behind it to others."""
        await self.ready()
        self.ring()

    async def ready(self) -> bool:
        """Return when a slot is free and may be claimed for; False if that will never be again."""
        await self._slots.room()
        while not self.stopping and not self._may_claim():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), _POLL_SECONDS / 10)
        return not self.stopping

    async def hear(self) -> bool:
        """Jobs came: have the next round look for them. False if it did not soon, or left some that others may take."""
        if self.stopping:
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._heard.append(answer)
        self.ring()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                return await answer
        return False

    def ring(self) -> None:
        """Jobs wait: look for them."""
        self._slots.ring()

    @property
    def held(self) -> dict[UUID, int]:
        """The lease token of each job that this worker knows it holds. May be read from any thread."""
        return self._known.copy()

    @property
    def in_engine(self) -> dict[UUID, int]:
        """Those of them that the engine took, and has not given back."""
        return {job_id: token for job_id, token in self._known.items() if job_id not in self._returns}

    @property
    def stopping(self) -> bool:
        """Whether it claims nothing any more."""
        return self._stopped.is_set()

    @property
    def running(self) -> int:
        """How many jobs are in the engine."""
        return len(self._slots.runs)

    def abort(self, job_ids: Iterable[UUID]) -> None:
        """Take these out of the engine, where they still are in it. Nothing will be written about them."""
        for job_id in job_ids:
            if run := self._slots.runs.get(job_id):
                self._cancel(run.task)

    def reconcile(self, before: Mapping[UUID, int], held: Mapping[UUID, int]) -> None:
        """Compare what was `held` here `before` the database was asked with what it says that we hold.

        What it does not confirm is aborted. What it holds for us and nobody here knows is the fruit of a claim whose
        answer was lost: it is handed back, between two claims, so that no answer is still on its way.
        """
        for job_id, token in before.items():
            run = self._slots.runs.get(job_id)
            if run and run.job.lease_token == token != held.get(job_id):
                self._cancel(run.task)
        self._strays = {job_id: token for job_id, token in held.items() if job_id not in self._known}
        if self._strays:
            self._slots.ring()

    def stop(self) -> None:
        """Claim nothing more; tickets are let go."""
        self._stopped.set()
        self._slots.close()
        for answer in self._heard:
            if not answer.done():
                answer.set_result(False)

    def abort_all(self) -> int:
        """Take every job out of the engine; how many there were."""
        for run in self._slots.runs.values():
            self._cancel(run.task)
        return self.running

    async def quiet(self) -> None:
        """Return when nothing runs."""
        await self._slots.quiet()

    def _may_claim(self) -> bool:
        return (
            not self.stopping
            and self._engine.alive()
            and time.monotonic() >= self._paused_until
            and self._lease_is_good()
            and self._finisher.waiting < _BACKLOG
        )

    def _pause(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        asyncio.get_running_loop().call_later(seconds, self._slots.ring)

    async def _fill(self) -> None:
        """One claim: what waits, divided among the tiers by their shares."""
        lanes = await self._look()
        free = self._slots.free
        if lanes.pop(Tier.SUSPECT, _NOBODY).jobs:
            self._likely = None
            if await self._serve_suspects():
                return
        self._suspects_had_their_turn = False
        interactive = any(lanes.get(tier, _NOBODY).served for tier in order.INTERACTIVE)
        waiting = {tier: lane.jobs for tier, lane in lanes.items()}
        given = order.allocate(free, self._slots.size, self._slots.tiers, waiting, interactive, self._shares)
        claimed = 0
        for tier, count in given:
            asked_at = time.time_ns()
            jobs = await claims.claim(self._database, self._worker, self._model_id, tier, count)
            self._start(jobs, asked_at)
            claimed += len(jobs)
            self._likely = tier
        self._slots.claimed(more=claimed >= free or sum(waiting.values()) > claimed)

    async def _look(self) -> dict[Tier, claims.Waiting]:
        """What waits. An idle engine begins with the tier where it found jobs the last time, in the same round trip:
        what is the tier's own part of the slots it would get in any case."""
        free = self._slots.free
        if self.running or self._likely is None:
            return await claims.waiting(self._database, self._model_id, free)
        part = self._shares.part(self._likely, self._slots.size)
        asked_at = time.time_ns()
        jobs, lanes = await claims.claim_and_look(
            self._database, self._worker, self._model_id, self._likely, part, free
        )
        self._start(jobs, asked_at)
        return lanes

    async def _gather(self) -> None:
        """Beside a busy engine, whose next step is milliseconds away, let jobs come together for the next claim."""
        if self._busy:
            await asyncio.sleep(_GATHER_SECONDS)

    @property
    def _busy(self) -> bool:
        return self.running * 2 >= self._slots.size

    def _patience(self, job: ClaimedJob) -> float:
        if job.waited or not self._busy:
            return 0
        return _LINE_PATIENCE_SECONDS if job.flags & Flags.LINES else _PATIENCE_SECONDS

    async def _serve_suspects(self) -> bool:
        """Run the next few suspects with nothing beside them, if it is their turn and ours; whether we did."""
        if self._suspects_had_their_turn or time.monotonic() < self._suspects_not_before:
            return False
        if not await claims.hold_suspects(self._database, self._worker, self._model_id):
            return False
        self._suspects_had_their_turn = True
        if not await self._quiet_in_time():
            # A straggler must not idle the whole worker: another may serve them, or this one later.
            await claims.yield_suspects(self._database, self._worker, self._model_id)
            self._suspects_not_before = time.monotonic() + _SUSPECTS_LATER_SECONDS
            return False
        if self._may_claim():
            asked_at = time.time_ns()
            self._start(await claims.claim_suspects(self._database, self._worker, self._model_id), asked_at)
            await self._slots.quiet()
        self._slots.ring()
        return True

    async def _quiet_in_time(self) -> bool:
        """Whether every slot became empty before the patience with what runs was over."""
        try:
            async with asyncio.timeout(_SUSPECTS_PATIENCE_SECONDS):
                await self._slots.quiet()
        except TimeoutError:
            return False
        return True

    def _start(self, jobs: Iterable[ClaimedJob], asked_at: int) -> None:
        """Run what a claim brought that was `asked_at` (nanoseconds since 1970)."""
        if self.stopping:
            return
        for job in jobs:
            self._known[job.id] = job.lease_token
            trace = traced(self._traces, job, self._worker, asked_at) if self._traces else None
            if trace:
                job = replace(job, traceparent=trace.traceparent)
            task = asyncio.create_task(self._run(job, trace))
            if trace:
                task.add_done_callback(trace.end)
            task.add_done_callback(functools.partial(self._ended, job))
            self._slots.occupy(job, task)

    async def _run(self, job: ClaimedJob, trace: RunTrace | None) -> None:
        """One job, from the engine to its row. It can be aborted until it leaves the engine."""
        began = time.monotonic()
        whole = await history.joined(self._database, job)
        outcome = (
            whole if isinstance(whole, Outcome) else await attempt(self._engine, self._dialect, self._writer, whole)
        )
        self._slots.vacate(job)
        if trace:
            trace.ran(None if isinstance(outcome, BackOff) else outcome)
        if isinstance(outcome, BackOff):
            self._pause(outcome.seconds)
            self._settlement.note(job, None)
            self._returns[job.id] = job.lease_token
            self._slots.ring()
            return
        metrics.RUN_SECONDS.labels(job.tier.label).observe(time.monotonic() - began)
        recorded = await self._finisher.finish(job, outcome, self._patience(job))
        if recorded:
            self._settlement.note(job if isinstance(whole, Outcome) else whole, outcome)
        if trace:
            trace.recorded(recorded)

    def _ended(self, job: ClaimedJob, task: asyncio.Task[None]) -> None:
        """Forget a job, unless it was in the engine when that died or the worker ended: it is then still held."""
        self._slots.vacate(job)
        if task.cancelled():
            self._settlement.note(job, None)
            if self.stopping:
                return
        elif error := task.exception():
            if isinstance(error, EngineDead):
                self.stop()
                self._engine_died()
            elif isinstance(error, JobLost):
                _log.warning("a job is lost, but not its engine", job_id=str(job.id), error=str(error))
                self._settlement.note(job, None)
                self._losses[job.id] = job.lease_token
                self._slots.ring()
            else:
                _log.error("a job goes back, by a fault of the worker", job_id=str(job.id), exc_info=error)
                self._pause(_POLL_SECONDS)
                self._returns[job.id] = job.lease_token
                self._slots.ring()
            return
        if job.id not in self._returns and self._known.get(job.id) == job.lease_token:
            del self._known[job.id]

    async def _hand_back(self) -> None:
        """Release jobs that the engine did not want, and strays; those that it lost go back too, counted, or end."""
        losses = self._losses.copy()
        if losses:
            lost = await lease.lose(self._database, self._worker, losses)
            for job_id in losses:
                self._losses.pop(job_id, None)
                self._known.pop(job_id, None)
            self._finisher.tell(lost.failed)
        strays = {job_id: token for job_id, token in self._strays.items() if job_id not in self._known}
        back = strays | self._returns
        if not back:
            return
        await lease.release(self._database, list(back.items()))
        self._strays = {}
        for job_id in back:
            self._returns.pop(job_id, None)
            self._known.pop(job_id, None)

    def _cancel(self, task: asyncio.Task[None]) -> None:
        if not task.cancelling():
            task.cancel()
