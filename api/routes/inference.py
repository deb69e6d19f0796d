"""Every inference endpoint: a request comes in, and its response or its job goes out."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from api import answers, auth, background, exchange, limits, parts, payload, prefer
from api.live import Live
from jobs.admission import terms
from jobs.admission.admit import Submit, multipart_refused
from jobs.endpoints import INFERENCE, MULTIPART
from jobs.errors import BadRequest
from jobs.payload import parse
from jobs.records import Flags


def install(app: FastAPI) -> None:
    """Add the endpoints as plain routes: what the body may be, the engine's own schema says, not a signature here."""
    for path in sorted(INFERENCE, key=lambda path: (path.count("/") == 1, path)):
        app.add_route(path, create, methods=["POST"])
    for path in sorted(MULTIPART):
        app.add_route(path, refuse_multipart, methods=["POST"])


async def create(request: Request) -> Response:
    """Admit, accept, answer."""
    here = parts.of(request)
    tenant = await auth.tenant(request)
    raw = await payload.read(request, here.settings.body_limit_bytes)
    preference = prefer.parse(request.headers.getlist("prefer"), here.settings.wait_seconds)
    submit = Submit(
        id=exchange.id_of(request),
        tenant=tenant,
        endpoint=request.scope["path"],
        raw=raw,
        body=parse(raw),
        waited=not preference.respond_async,
        key=terms.idempotency_key(request.headers.get("idempotency-key"), "Idempotency-Key"),
        traceparent=exchange.trace_of(request),
    )
    job = await here.admission.admit(submit)
    await limits.refuse_flex(here, [job])
    if Flags.BACKGROUND in job.flags:
        return await background.begin(here, request, job)
    if job.waited and job.flags & Flags.STREAMS:
        return Live(here, request, job, answers.Repeat.of(request))
    return await answers.answer(here, request, job, preference)


async def refuse_multipart(request: Request) -> Response:
    """Named, so that nobody looks for the fault in their own request."""
    await auth.tenant(request)
    raise BadRequest(multipart_refused(request.scope["path"]), code="unsupported_endpoint")
