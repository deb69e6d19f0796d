"""What a collector of traces got: `tests.receiver.Receiver` is one, since OTLP over HTTP is a POST."""

from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.receiver import Receiver


@dataclass(frozen=True)
class Sent:
    """A span. Ids are in hex, `parent` is "" for the first of a trace; times are nanoseconds since 1970."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    facts: dict[str, str | int]


def spans(collector: Receiver, trace: str | None = None) -> list[Sent]:
    """Every span that it got, or those of one trace."""
    found: list[Sent] = []
    for hit in collector.hits:
        assert hit.path == "/v1/traces"
        for process in ExportTraceServiceRequest.FromString(hit.body).resource_spans:
            service = {fact.key: fact.value.string_value for fact in process.resource.attributes}["service.name"]
            for scope in process.scope_spans:
                found += [
                    Sent(
                        service,
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        {fact.key: fact.value.string_value or fact.value.int_value for fact in span.attributes},
                    )
                    for span in scope.spans
                ]
    return [span for span in found if trace in (None, span.trace)]
