"""Traces by OpenTelemetry where OTEL_EXPORTER_OTLP_ENDPOINT is set; else it is not imported, and nothing is done.

One trace goes from the HTTP request through queue, claim and engine to the result and its webhooks, in three processes:
what joins them is the `traceparent` (W3C Trace Context) that is kept on the job.
"""

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OtelSpan

Kind: TypeAlias = Literal["server", "client", "producer", "consumer", "internal"]
Facts: TypeAlias = Mapping[str, str | int | float | bool]

_HEADER: Final = "traceparent"
_SAMPLER: Final = "OTEL_TRACES_SAMPLER"
_CLOSE_SECONDS: Final = 2.0
_log = structlog.get_logger()


class Span:
    """One step that is under way. Times are nanoseconds since 1970, by this machine's clock; None is now."""

    def __init__(self, span: "OtelSpan") -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        """What a later step names as its parent."""

    def name(self, name: str) -> None:
        """Call it otherwise, now that more is known."""
        self._span.update_name(name)

    def end(self, facts: Facts | None = None, *, at: int | None = None, error: str | None = None) -> None:
        """It is over; with an `error`, it failed."""
        from opentelemetry.trace import StatusCode

        if facts:
            self._span.set_attributes(facts)
        if error is not None:
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end(at)


class Traces:
    """The spans of one process, sent to a collector from a thread of their own; those that it refuses are lost.

    Its variables say the rest: `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`. Without the
    first, traces that the caller began are recorded if it records them, and others at a pace.
    """

    def __init__(self, part: str, exporter: "SpanExporter") -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from jobs.trace_pace import Pace

        named = Resource({"service.name": f"longhaul-{part}", "service.namespace": "longhaul"})
        self._provider = TracerProvider(
            sampler=None if _SAMPLER in os.environ else ParentBased(Pace()),
            resource=Resource.create().merge(named).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("longhaul")
        self._kinds = {kind.name.lower(): kind for kind in SpanKind}
        self._propagator = TraceContextTextMapPropagator()

    def begin(
        self,
        name: str,
        parent: str | None,
        *,
        kind: Kind = "internal",
        at: int | None = None,
        facts: Facts | None = None,
    ) -> Span | None:
        """A step below `parent`, a `traceparent`; without one, or with one that is none, the first of a trace.

        None if this trace is not to be recorded, as its parent or the sampler says.
        """
        # Never the context that happens to be current: a library's own spans may be open in it.
        context = self._propagator.extract({} if parent is None else {_HEADER: parent})
        span = self._tracer.start_span(name, context, self._kinds[kind], facts, start_time=at)
        return Span(span) if span.is_recording() else None

    def past(self, name: str, parent: str, began: int, ended: int, facts: Facts | None = None) -> None:
        """A step that is over."""
        if span := self.begin(name, parent, at=began, facts=facts):
            span.end(at=ended)

    def close(self) -> None:
        """Send what has not been sent. Blocks for as long as the collector takes, two seconds at most."""
        # The SDK itself would wait for half a minute where a collector takes connections and answers nothing.
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


def of(endpoint: str | None, part: str) -> Traces | None:
    """The traces of this part, if there is an `endpoint` to send them to, and the extra `traces` to make them."""
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return Traces(part, OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces"))
    except ImportError as error:
        _log.warning("no traces are made: install longhaul[traces]", missing=error.name)
        return None
