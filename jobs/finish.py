"""An `Outcome` becomes a terminal row with its result, fenced and in company; flows pay what their jobs did cost."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias
from uuid import UUID

import structlog
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from jobs import conversations, metrics, payload
from jobs.database import Database
from jobs.group_commit import GroupCommit
from jobs.records import ClaimedJob, Flags, Outcome, Result, Tier
from jobs.states import Status

Ending: TypeAlias = tuple[ClaimedJob, Outcome]

_COMPANY: Final = 500
_LOAD_BYTES: Final = 16 * 2**20
"""One statement carries them as text, twice their size, and the server takes a gigabyte at most."""
_UNSTORABLE: Final = Outcome(
    Status.FAILED, error_code="server_error", error_message="The engine's response could not be stored."
)
_log = structlog.get_logger()


class Finisher:
    """Records outcomes. After each commit `announce(ended)` hears of them, with the results of those that a client
    waits for, `deliver()` that webhooks wait to be sent, if any do, `finalise()` that a batch has nothing left to run,
    and `publish(queue, count)` of the turns of conversations that may run now; none may block."""

    def __init__(
        self,
        database: Database,
        announce: Callable[[Sequence[UUID | Result]], None],
        deliver: Callable[[], None] = lambda: None,
        finalise: Callable[[], None] = lambda: None,
        publish: Callable[[str, int], None] = lambda queue, count: None,
    ) -> None:
        self._database = database
        self._announce = announce
        self._deliver = deliver
        self._finalise = finalise
        self._publish = publish
        self._group: GroupCommit[Ending, bool] = GroupCommit(
            self._flush, limit=_COMPANY, size_of=_size, load=_LOAD_BYTES
        )

    async def finish(self, job: ClaimedJob, outcome: Outcome, patience: float = 0) -> bool:
        """Commit one outcome, however long the database is away; False if the job was no longer ours to end.

        It may wait up to `patience` seconds for others to travel with.
        """
        return await self._group.add((job, outcome), patience)

    def tell(self, ended: Sequence[UUID]) -> None:
        """These ended without an outcome: whoever waits hears of them, and their webhooks are sent."""
        if ended:
            self._announce(ended)
            self._deliver()

    async def drain(self) -> None:
        """Return when everything has been recorded."""
        await self._group.drain()

    @property
    def waiting(self) -> int:
        """How many outcomes stand behind the flush in flight."""
        return self._group.waiting

    async def _flush(self, endings: Sequence[Ending]) -> Sequence[bool]:
        metrics.FINISH_COMPANY.observe(len(endings))
        # In id order: every statement that ends jobs takes their rows so. Of two runs of one job the later is last.
        recorded = await self._record(sorted(endings, key=lambda ending: (ending[0].id, ending[0].lease_token)))
        # All of them, not only the ended: a flush that is sent again because its commit's answer was lost ends nothing.
        self._announce(
            [_result(job.id, recorded[job.id]) if job.waited and job.id in recorded else job.id for job, _ in endings]
        )
        _count(endings, recorded)
        return [job.id in recorded for job, _ in endings]

    async def _record(self, endings: Sequence[Ending]) -> dict[UUID, Outcome]:
        """Write these and return what was written of those that ended. A result is never dropped: it exists nowhere
        else."""
        pause = 0.05
        while True:
            try:
                rows = await self._database.run("finish", **_columns(endings))
            except (DataError, IntegrityError, UnicodeError) as error:
                if len(endings) > 1:  # one result that cannot be stored must not hold up its company
                    half = len(endings) // 2
                    return await self._record(endings[:half]) | await self._record(endings[half:])
                job, _ = endings[0]
                _log.error("a result cannot be stored", job_id=str(job.id), error=str(error))
                endings = [(job, _UNSTORABLE)]
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                _log.warning("results are kept until the database takes them", results=len(endings), error=str(error))
                await asyncio.sleep(pause)
                pause = min(1.0, pause * 2)
            else:
                if rows and rows[0].told:
                    self._deliver()
                if rows and rows[0].ready:
                    self._finalise()
                freed = await conversations.free(
                    self._database, [row.id for row in rows if row.flags & Flags.SUCCESSOR]
                )
                for queue, count in freed.items():
                    self._publish(queue, count)
                outcomes = {job.id: outcome for job, outcome in endings}
                return {row.id: outcomes[row.id] for row in rows}


def _columns(endings: Sequence[Ending]) -> dict[str, list[object]]:
    """The parameters of `finish.sql`: one list a column."""
    outcomes = [outcome for _, outcome in endings]
    return {
        "ids": [job.id for job, _ in endings],
        "lease_tokens": [job.lease_token for job, _ in endings],
        "statuses": [outcome.status.value for outcome in outcomes],
        "status_codes": [outcome.status_code for outcome in outcomes],
        "bodies": [outcome.body for outcome in outcomes],
        "error_codes": [outcome.error_code for outcome in outcomes],
        "error_messages": [outcome.error_message for outcome in outcomes],
        "input": [outcome.usage.input for outcome in outcomes],
        "cached": [outcome.usage.cached for outcome in outcomes],
        "output": [outcome.usage.output for outcome in outcomes],
        "reasoning": [outcome.usage.reasoning for outcome in outcomes],
        "incomplete": [_is_incomplete(job, outcome) for job, outcome in endings],
        **_logs(endings),
    }


def _count(endings: Sequence[Ending], recorded: Mapping[UUID, Outcome]) -> None:
    metrics.STALE_RESULTS.inc(len(endings) - len(recorded))
    for status, count in Counter(outcome.status for outcome in recorded.values()).items():
        metrics.FINISHED.labels(status.value).inc(count)
    tokens: Counter[tuple[Tier, str]] = Counter()
    for job_id, tier in {job.id: job.tier for job, _ in endings}.items():
        if job_id in recorded:
            usage = recorded[job_id].usage
            tokens[tier, "input"] += usage.input
            tokens[tier, "cached"] += usage.cached
            tokens[tier, "output"] += usage.output
            tokens[tier, "reasoning"] += usage.reasoning
    for (tier, kind), count in tokens.items():
        metrics.TOKENS.labels(tier.label, kind).inc(count)


def _result(job: UUID, outcome: Outcome) -> Result:
    return Result(job, outcome.status, outcome.status_code, outcome.body, outcome.error_code, outcome.error_message)


def _logs(endings: Sequence[Ending]) -> dict[str, list[object]]:
    logs = [(job.id, outcome.log) for job, outcome in endings if outcome.log is not None]
    return {
        "logged": [job_id for job_id, _ in logs],
        "log_runs": [log.run for _, log in logs],
        "log_firsts": [log.first for _, log in logs],
        "log_bodies": [log.body for _, log in logs],
    }


def _size(ending: Ending) -> int:
    _, outcome = ending
    return len(outcome.body or b"") + (len(outcome.log.body) if outcome.log else 0)


def _is_incomplete(job: ClaimedJob, outcome: Outcome) -> bool:
    """Whether it is one of OpenAI's responses that ended before it was complete, which has an event of its own."""
    if not job.flags & Flags.RESPONSES or outcome.body is None:
        return False
    response = payload.shown(outcome.body)
    return isinstance(response, dict) and response.get("status") == "incomplete"


class Settlement:
    """What flows owe or get back, and what a worker learns, gathered and written once a second.

    It is not written with the results, so that they need no lock on a flow; a lost second costs a little fairness.
    """

    def __init__(self, database: Database, model_id: int) -> None:
        self._database = database
        self._model_id = model_id
        self._times: defaultdict[int, float] = defaultdict(float)
        self._lanes: dict[int, list[int]] = {}

    def note(self, job: ClaimedJob, outcome: Outcome | None) -> None:
        """A job ended with this outcome, or went back without one and gets its whole cost back."""
        if outcome is None:
            self._times[job.flow_id] -= job.cost / job.weight
            return
        usage = outcome.usage
        truth = max(1, usage.input + usage.output)
        self._times[job.flow_id] += (truth - job.cost) / job.weight
        if usage.input:
            lane = self._lanes.setdefault(int(job.tier), [0, 0, 0, 0])
            for position, amount in enumerate((1, usage.output, usage.input, len(job.body))):
                lane[position] += amount

    async def flush(self) -> None:
        """Write what was gathered since the last time. What cannot be written is lost: a little fairness."""
        times, lanes = self._times, dict(sorted(self._lanes.items()))  # one order of locks for all workers
        if not times:
            return
        self._times, self._lanes = defaultdict(float), {}
        await self._database.run("settle", flow_ids=list(times), times=list(times.values()))
        if lanes:
            jobs, outputs, inputs, body_bytes = (list(column) for column in zip(*lanes.values(), strict=True))
            await self._database.run(
                "learn",
                model=self._model_id,
                tiers=list(lanes),
                jobs=jobs,
                outputs=outputs,
                inputs=inputs,
                bytes=body_bytes,
            )
