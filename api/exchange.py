"""One HTTP exchange: its id, the headers that every response has, its log line, and an answer to what nobody caught."""

import time
from typing import Final
from uuid import UUID

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import envelope
from jobs import ids, metrics
from jobs.endpoints import INFERENCE
from jobs.traces import Span, Traces

_ID: Final = "longhaul.id"
_JOB: Final = "longhaul.job"
_SPAN: Final = "longhaul.span"
_VERSION: Final = (b"openai-version", b"2020-10-01")
_ACCEPTED: Final = 202
_PROBES: Final = frozenset({"/livez", "/readyz", "/health", "/metrics"})
_GONE: Final = 499
"""nginx's status for a client that did not wait."""
_log = structlog.get_logger()


def id_of(request: Request) -> UUID:
    """The id of this exchange, which is also the id of the job that it submits, if it submits one."""
    identity: UUID = request.scope[_ID]
    return identity


def trace_of(request: Request) -> str | None:
    """The `traceparent` under which goes on what this exchange begins; None if it is not traced."""
    span: Span | None = request.scope.get(_SPAN)
    return None if span is None else span.traceparent


def concerns(request: Request, job: UUID) -> None:
    """Have the log line of this exchange name the job."""
    request.scope[_JOB] = job


class Exchange:
    """Middleware around everything, plain ASGI: Starlette's own would cost a task and two queues a request."""

    def __init__(self, app: ASGIApp, traces: Traces | None = None) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = time.perf_counter()
        identity = scope[_ID] = ids.new()
        if self._traces and scope["path"] not in _PROBES:
            scope[_SPAN] = _span(self._traces, scope)
        status = 0

        async def send_dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                spent = f"{(time.perf_counter() - began) * 1000:.0f}"
                message["headers"] += (
                    (b"x-request-id", f"req_{identity.hex}".encode()),
                    (b"openai-processing-ms", spent.encode()),
                    _VERSION,
                )
            await send(message)

        try:
            await self._app(scope, receive, send_dressed)
        except ClientDisconnect:
            status = _GONE
        except Exception:
            _log.exception("a request failed", request_id=f"req_{identity.hex}", path=scope["path"])
            if status:
                raise
            await envelope.crash(Request(scope))(scope, receive, send_dressed)
        finally:
            _note(scope, identity, status, began)


def _span(traces: Traces, scope: Scope) -> Span | None:
    """Below the caller's, if the request names one."""
    parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
    facts = {"http.request.method": scope["method"], "url.path": scope["path"]}
    return traces.begin(scope["method"], parent, kind="server", facts=facts)


def _end_span(span: Span, scope: Scope, identity: UUID, status: int) -> None:
    route = scope["path"] if scope["path"] in INFERENCE else getattr(scope.get("route"), "path", None)
    facts: dict[str, str | int] = {"http.response.status_code": status, "longhaul.request_id": f"req_{identity.hex}"}
    if route is not None:
        facts["http.route"] = route
        span.name(f"{scope['method']} {route}")
    if (job := scope.get(_JOB)) is not None:
        facts["longhaul.job_id"] = ids.job_id(job)
    span.end(facts, error=f"status {status}" if status >= 500 else None)


def _note(scope: Scope, identity: UUID, status: int, began: float) -> None:
    if span := scope.get(_SPAN):
        _end_span(span, scope, identity, status)
    metrics.HTTP_REQUESTS.labels(scope["method"], str(status)).inc()
    # A line costs a quarter of a submit, and an accepted job is written down anyway, under the same id.
    note = _log.debug if status == _ACCEPTED or scope["path"] in _PROBES else _log.info
    job = scope.get(_JOB)
    note(
        "request",
        request_id=f"req_{identity.hex}",
        job_id=None if job is None else ids.job_id(job),
        method=scope["method"],
        path=scope["path"],
        status=status,
        ms=round((time.perf_counter() - began) * 1000, 1),
    )
