"""The spans of one run."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobs import ids
from jobs.cancel import cancel
from jobs.database import Database
from jobs.records import ClaimedJob, Flags, Outcome, Tier, Usage
from jobs.states import Status
from jobs.traces import Traces
from tests.worker.place import place, until
from worker.run_trace import RunTrace, traced

CALLER: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WORKER: Final = uuid4()
JOB: Final = ClaimedJob(
    id=ids.new(),
    lease_token=1,
    flow_id=1,
    tenant_id=1,
    tier=Tier.FLEX,
    cost=1,
    weight=1,
    attempts=1,
    timeout_seconds=60,
    flags=Flags.NONE,
    endpoint="/v1/completions",
    body=b"{}",
    service_tier=None,
    waited=False,
    traceparent=CALLER,
    queued_seconds=5.0,
)
DONE: Final = Outcome(Status.COMPLETED, 200, b"{}", Usage(input=3, output=2))


class Collector:
    """Traces of a worker, and what came of them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.traces = Traces("worker", self._exporter)

    def begin(self, job: ClaimedJob = JOB, worker: UUID = WORKER, ago: float = 0.5) -> RunTrace:
        trace = traced(self.traces, job, worker, time.time_ns() - int(ago * 1e9))
        assert trace is not None
        return trace

    def sent(self) -> Sequence[ReadableSpan]:
        self.traces.close()
        return self._exporter.get_finished_spans()

    def spans(self) -> dict[str, ReadableSpan]:
        """Those of one run, by name."""
        sent = self.sent()
        assert len({span.name for span in sent}) == len(sent)
        return {span.name: span for span in sent}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.traces.close()


async def ended(error: Exception | None = None) -> "asyncio.Task[None]":
    async def run() -> None:
        if error:
            raise error

    task = asyncio.create_task(run())
    await asyncio.wait({task})
    if error:
        task.exception()
    return task


def seconds(span: ReadableSpan) -> float:
    assert span.start_time and span.end_time
    return (span.end_time - span.start_time) / 1e9


async def test_a_run_is_a_wait_a_claim_the_engine_and_a_result(collector: Collector) -> None:
    trace = collector.begin()
    trace.ran(DONE)
    trace.recorded(True)
    trace.end(await ended())
    spans = collector.spans()
    assert spans.keys() == {"queue", "run", "claim", "engine", "result"}
    run = spans["run"]
    assert {name for name, span in spans.items() if span.parent and span.parent.span_id == run.context.span_id} == {
        "claim",
        "engine",
        "result",
    }
    for name in ("queue", "run"):
        parent = spans[name].parent
        assert parent is not None and f"{parent.span_id:016x}" == "b7ad6b7169203331"
    assert all(span.status.is_ok for span in spans.values())
    assert (run.attributes or {})["longhaul.status"] == "completed"
    assert (spans["engine"].attributes or {})["gen_ai.usage.output_tokens"] == 2


async def test_the_wait_ends_where_the_claim_begins(collector: Collector) -> None:
    trace = collector.begin()
    trace.end(await ended())
    spans = collector.spans()
    assert spans["queue"].end_time == spans["claim"].start_time == spans["run"].start_time
    assert 4 < seconds(spans["queue"]) < 5
    assert spans["claim"].end_time == spans["engine"].start_time


async def test_a_job_that_did_not_wait_has_no_wait_that_ends_before_it_begins(collector: Collector) -> None:
    trace = collector.begin(replace(JOB, queued_seconds=0.0))
    trace.end(await ended())
    assert seconds(collector.spans()["queue"]) == 0


async def test_the_engine_is_told_its_span(collector: Collector) -> None:
    trace = collector.begin()
    trace.end(await ended())
    engine = collector.spans()["engine"]
    assert trace.traceparent == f"00-0af7651916cd43dd8448eb211c80319c-{engine.context.span_id:016x}-01"


async def test_what_the_engine_did_not_want_has_no_result(collector: Collector) -> None:
    trace = collector.begin()
    trace.ran(None)
    trace.end(await ended())
    spans = collector.spans()
    assert "result" not in spans
    assert not spans["engine"].status.is_ok and not spans["run"].status.is_ok


async def test_a_result_that_was_refused_says_so(collector: Collector) -> None:
    trace = collector.begin()
    trace.ran(DONE)
    trace.recorded(False)
    trace.end(await ended())
    assert collector.spans()["result"].status.description == "the job was no longer held"


async def test_a_run_that_broke_leaves_no_span_open(collector: Collector) -> None:
    trace = collector.begin()
    trace.end(await ended(RuntimeError("any")))
    spans = collector.spans()
    assert spans["engine"].status.description == "failed"
    assert spans["run"].status.description == "no result"


async def test_a_failed_job_names_its_reason(collector: Collector) -> None:
    trace = collector.begin()
    trace.ran(Outcome(Status.FAILED, error_code="request_timeout"))
    trace.recorded(True)
    trace.end(await ended())
    spans = collector.spans()
    assert spans["result"].status.is_ok
    assert spans["run"].status.description == "request_timeout"


async def test_a_runner_traces_what_it_runs_and_what_is_taken_from_it(
    database: Database, tmp_path: Path, collector: Collector
) -> None:
    here = await place(database, tmp_path / "journal", traces=collector.traces)
    [done] = await here.submit(traceparent=CALLER)
    [plain] = await here.submit()
    async with here.running() as runner:
        await here.all_are(Status.COMPLETED, [done, plain])
        [hanging] = await here.submit(traceparent=CALLER, hang=True)
        await until(lambda: here.began([hanging]))
        await cancel(database, [hanging])
        runner.abort([hanging])
        await until(lambda: not runner.running)
    await here.engine.stop()
    sent = collector.sent()
    jobs = [(span.attributes or {})["longhaul.job_id"] for span in sent if span.name == "run"]
    assert jobs == [ids.job_id(done), ids.job_id(hanging)]
    assert [span.name for span in sent].count("result") == 1
    assert [span.status.description for span in sent if span.name == "engine"] == [None, "aborted"]


def test_a_job_that_is_not_traced_makes_no_spans(collector: Collector) -> None:
    assert traced(collector.traces, replace(JOB, traceparent=None), WORKER, 1) is None
    assert traced(collector.traces, replace(JOB, traceparent=CALLER.removesuffix("01") + "00"), WORKER, 1) is None
    assert collector.spans() == {}
