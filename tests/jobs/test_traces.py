"""Traces: who is whose parent, what is not recorded, and that nothing of it is there while it is off."""

import socket
import subprocess
import sys
import time

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobs import traces
from jobs.traces import Traces

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def test_a_step_goes_on_with_its_parents_trace(exporter: InMemorySpanExporter) -> None:
    made = Traces("api", exporter)
    outer = made.begin("outer", CALLER, kind="server", at=1_000, facts={"a": 1})
    assert outer is not None
    assert outer.traceparent.startswith(f"00-{TRACE}-")
    inner = made.begin("inner", outer.traceparent)
    assert inner is not None
    inner.end()
    outer.end({"b": 2}, at=5_000)
    made.close()
    inner_sent, outer_sent = exporter.get_finished_spans()
    assert f"{inner_sent.context.trace_id:032x}" == TRACE
    assert inner_sent.parent is not None and inner_sent.parent.span_id == outer_sent.context.span_id
    assert (outer_sent.start_time, outer_sent.end_time) == (1_000, 5_000)
    assert dict(outer_sent.attributes or {}) == {"a": 1, "b": 2}
    assert outer_sent.resource.attributes["service.name"] == "longhaul-api"


@pytest.mark.parametrize("parent", [None, "", "00-nonsense", f"ff-{TRACE}-b7ad6b7169203331-01"])
def test_without_a_parent_that_is_one_a_trace_begins(parent: str | None, exporter: InMemorySpanExporter) -> None:
    made = Traces("api", exporter)
    first = made.begin("first", parent)
    assert first is not None
    assert TRACE not in first.traceparent


def test_a_trace_that_its_caller_does_not_record_is_not_recorded_here(exporter: InMemorySpanExporter) -> None:
    made = Traces("api", exporter)
    assert made.begin("any", CALLER.removesuffix("01") + "00") is None
    made.past("any", CALLER.removesuffix("01") + "00", 1, 2)
    made.close()
    assert exporter.get_finished_spans() == ()


def begun(made: Traces, parent: str | None) -> int:
    """How many of a thousand steps at once are recorded."""
    return sum(made.begin("any", parent) is not None for _ in range(1000))


def test_a_flood_is_recorded_at_a_pace_unless_its_caller_asks_for_it(exporter: InMemorySpanExporter) -> None:
    made = Traces("api", exporter)
    assert 0 < begun(made, None) < 500
    assert begun(made, CALLER) == 1000


def test_the_environment_may_name_the_sampler(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    assert begun(Traces("api", exporter), None) == 1000
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert begun(Traces("api", exporter), None) == 0


def test_a_step_that_failed_says_why(exporter: InMemorySpanExporter) -> None:
    made = Traces("api", exporter)
    span = made.begin("any", None)
    assert span is not None
    span.end(error="the engine died")
    made.close()
    [sent] = exporter.get_finished_spans()
    assert (sent.status.is_ok, sent.status.description) == (False, "the engine died")


def test_the_environment_may_name_the_service(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    made = Traces("api", exporter)
    span = made.begin("any", None)
    assert span is not None
    span.end()
    made.close()
    assert exporter.get_finished_spans()[0].resource.attributes["service.name"] == "theirs"


def test_a_collector_that_never_answers_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as collector:
        made = traces.of(f"http://127.0.0.1:{collector.getsockname()[1]}", "worker")
        assert made is not None
        made.past("any", CALLER, 1, 2)
        began = time.monotonic()
        made.close()
        assert time.monotonic() - began < 5


def test_without_an_endpoint_there_are_none() -> None:
    assert traces.of(None, "api") is None
    assert traces.of("", "api") is None


def test_while_it_is_off_we_import_nothing_of_it() -> None:
    code = "import sys, jobs.traces as t; t.of(None, 'api'); sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
