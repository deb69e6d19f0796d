"""The spans of one run of a traced job: its wait in the queue, the claim, the engine, the result."""

import asyncio
import time
from typing import Final
from uuid import UUID

from jobs import ids
from jobs.records import ClaimedJob, Outcome
from jobs.states import Status
from jobs.traces import Facts, Span, Traces

_SECOND: Final = 1_000_000_000


class RunTrace:
    """From the claim to the result, or to whatever else the run comes to."""

    def __init__(self, traces: Traces, run: Span, engine: Span) -> None:
        self._traces = traces
        self._run = run
        self._engine: Span | None = engine
        self._result: Span | None = None
        self._outcome: Outcome | None = None
        self.traceparent = engine.traceparent
        """What the engine's own spans are below."""

    def ran(self, outcome: Outcome | None) -> None:
        """The engine has answered, or does not want the job (None)."""
        if self._engine:
            self._engine.end(_usage(outcome), error=None if outcome else "the engine did not want it")
        self._engine, self._outcome = None, outcome
        if outcome:
            self._result = self._traces.begin("result", self._run.traceparent)

    def recorded(self, ours: bool) -> None:
        """The result is written down, if the job was still `ours`."""
        if self._result:
            self._result.end(error=None if ours else "the job was no longer held")
        self._result = None

    def end(self, task: "asyncio.Task[None]") -> None:
        """The run is over, however it ended."""
        for span in (self._engine, self._result):
            if span:
                span.end(error="aborted" if task.cancelled() else "failed")
        outcome = self._outcome
        facts = {} if outcome is None else {"longhaul.status": outcome.status.value}
        completed = outcome is not None and outcome.status is Status.COMPLETED
        reason = (outcome and outcome.error_code) or "no result"
        self._run.end(facts, error=None if completed else reason)


def traced(traces: Traces, job: ClaimedJob, worker: UUID, asked_at: int) -> RunTrace | None:
    """The spans of a job that was just claimed by a question `asked_at` (nanoseconds since 1970); None if its request
    is not traced."""
    parent, now = job.traceparent, time.time_ns()
    if parent is None:
        return None
    facts: Facts = {
        "longhaul.job_id": ids.job_id(job.id),
        "longhaul.endpoint": job.endpoint,
        "longhaul.tier": job.tier.label,
        "longhaul.attempt": job.attempts,
        "longhaul.worker_id": str(worker),
    }
    run = traces.begin("run", parent, kind="consumer", at=asked_at, facts=facts)
    engine = run and traces.begin("engine", run.traceparent, kind="client", at=now)
    if run is None or engine is None:
        return None
    # How long it waited is said by the database's clock, and since when by ours: the wait ends where the claim began.
    submitted = min(now - int(job.queued_seconds * _SECOND), asked_at)
    traces.past("queue", parent, submitted, asked_at, {"longhaul.tier": job.tier.label})
    traces.past("claim", run.traceparent, asked_at, now)
    return RunTrace(traces, run, engine)


def _usage(outcome: Outcome | None) -> dict[str, int]:
    if outcome is None:
        return {}
    usage = {"gen_ai.usage.input_tokens": outcome.usage.input, "gen_ai.usage.output_tokens": outcome.usage.output}
    return usage if outcome.status_code is None else usage | {"http.response.status_code": outcome.status_code}
