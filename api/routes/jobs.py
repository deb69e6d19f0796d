"""`/v1/jobs`: submit, look, wait, list, cancel, retry and delete jobs."""

import asyncio
import re
from typing import Annotated, Any, Final, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from api import answers, auth, envelope, exchange, limits, objects, paging, parts, payload
from api.events import Events, place
from api.parts import Parts
from api.payload import JsonResponse
from jobs import error_response, ids, read
from jobs.admission import terms
from jobs.admission.admit import Submit, allowed
from jobs.errors import BadRequest, Conflict, LonghaulError, NotFound
from jobs.payload import parse, write
from jobs.records import Json, NewJob, Tenant
from jobs.states import Status

router = APIRouter(prefix="/v1/jobs")
Caller: TypeAlias = Annotated[Tenant, Depends(auth.tenant)]

_MOST: Final = 1000
_FIELDS: Final = frozenset(
    {"endpoint", "body", "webhook", "service_tier", "metadata", "expires_after", "timeout", "idempotency_key"}
)
_METADATA: Final = re.compile(r"metadata\[(.+)\]", re.DOTALL)
_TRACED: Final = 10
"""So many jobs of an array, the first, are traced with their request: a trace of a thousand runs is read by nobody."""
_TURN: Final = 64
"""Items that are admitted before the loop may do something else."""


@router.post("")
async def submit(request: Request, tenant: Caller) -> Response:
    """One job, or an array of them: all or nothing."""
    here = parts.of(request)
    raw = await payload.read(request, here.settings.body_limit_bytes)
    value = parse(raw)
    if isinstance(value, list):
        return await _submit_all(here, request, tenant, value)
    identity, header = exchange.id_of(request), request.headers.get("idempotency-key")
    job = await _admit(here, tenant, value, identity, header, exchange.trace_of(request))
    await limits.refuse_flex(here, [job])
    accepted = await here.acceptor.accept(job)
    return await answers.accepted_response(here, request, job, accepted.id)


@router.get("")
async def index(
    request: Request,
    tenant: Caller,
    status: Status | None = None,
    model: str | None = None,
    batch: str | None = None,
    after: str | None = None,
    limit: paging.Limit = 20,
    order: paging.Order = "desc",
) -> JsonResponse:
    """A page of the tenant's jobs, newest first, without response payload. `metadata[NAME]=VALUE` filters too."""
    rows = await read.page(
        parts.of(request).database,
        tenant.id,
        limit=limit + 1,
        after=paging.cursor(after),
        ascending=order == "asc",
        status=status,
        model=None if model is None else terms.storable(model, "model"),
        batch_id=None if batch is None else _batch_id(batch),
        metadata=_metadata(request),
    )
    return JsonResponse(paging.page(rows, limit, lambda view: objects.job(view, with_body=False)))


@router.get("/{job_id}")
async def retrieve(
    request: Request, tenant: Caller, job_id: str, wait: Annotated[float, Query(ge=0)] = 0
) -> JsonResponse:
    """One job; with `wait` not before it has ended or so many seconds have passed."""
    here, identity = parts.of(request), ids.parse_job_id(job_id)
    exchange.concerns(request, identity)
    if wait:
        view = await read.job(here.database, tenant.id, identity)
        if not view.status.terminal:
            seconds = min(wait, here.settings.wait_seconds)
            ending = await answers.until(here, request, here.waiters.wait(identity, seconds))
            if ending is answers.Interruption.DISCONNECTED:
                raise ClientDisconnect
    return JsonResponse(await answers.job_object(here, tenant.id, identity))


@router.get("/{job_id}/events")
async def events(request: Request, tenant: Caller, job_id: str, starting_after: str | None = None) -> Response:
    """What becomes of it, as server-sent events; `Last-Event-ID` or `starting_after` goes on behind an event."""
    here, identity, after = parts.of(request), ids.parse_job_id(job_id), place(request, starting_after)
    exchange.concerns(request, identity)
    view = await read.job(here.database, tenant.id, identity, with_body=False)
    return Events(here, request, view, after)


@router.post("/{job_id}/cancel")
async def cancel(request: Request, tenant: Caller, job_id: str) -> JsonResponse:
    """End a job wherever it is. One that is cancelled already is answered as it is, any other end is a 409."""
    here, identity = parts.of(request), ids.parse_job_id(job_id)
    exchange.concerns(request, identity)
    view = await read.job(here.database, tenant.id, identity)
    if not view.status.terminal:
        await here.cancel([identity])
    shown = await answers.job_object(here, tenant.id, identity)
    if shown["status"] != Status.CANCELLED:
        raise Conflict(f"Cannot cancel a job with status '{shown['status']}'.")
    return JsonResponse(shown)


@router.post("/{job_id}/retry")
async def retry(request: Request, tenant: Caller, job_id: str) -> Response:
    """Run an ended job again, as a new one that names the old; once for each Idempotency-Key."""
    here, identity = parts.of(request), ids.parse_job_id(job_id)
    key = terms.idempotency_key(request.headers.get("idempotency-key"), "Idempotency-Key")
    stored = await read.request(here.database, tenant.id, identity)
    if not stored.status.terminal:
        raise Conflict(f"Cannot retry a job with status '{stored.status}'.")
    job = await here.admission.again(tenant, identity, stored, key, exchange.trace_of(request))
    await limits.refuse_flex(here, [job])
    accepted = await here.acceptor.accept(job)
    return await answers.accepted_response(here, request, job, accepted.id)


@router.delete("/{job_id}")
async def delete(request: Request, tenant: Caller, job_id: str) -> Json:
    """Erase an ended job with its request and its result."""
    identity = ids.parse_job_id(job_id)
    exchange.concerns(request, identity)
    await read.delete(parts.of(request).database, tenant.id, identity)
    return {"id": job_id, "object": "job", "deleted": True}


async def _submit_all(here: Parts, request: Request, tenant: Tenant, items: list[Any]) -> Response:
    if not 1 <= len(items) <= _MOST:
        raise BadRequest(f"Expected an array of 1 to {_MOST} jobs, but got {len(items)}.", code="invalid_value")
    if "idempotency-key" in request.headers:
        message = "The Idempotency-Key header stands for one job; give each job of an array its own `idempotency_key`."
        raise BadRequest(message, param="Idempotency-Key", code="invalid_value")
    jobs: list[NewJob] = []
    faults: list[tuple[int, LonghaulError]] = []
    # Ids made within a millisecond have no order; sorted, the jobs keep that of the array.
    identities = sorted(ids.new() for _ in items)
    for index, item in enumerate(items):
        if index % _TURN == 0:
            await asyncio.sleep(0)
        try:
            traceparent = exchange.trace_of(request) if index < _TRACED else None
            jobs.append(await _admit(here, tenant, item, identities[index], None, traceparent))
        except (BadRequest, NotFound) as error:
            error.param = str(index) if error.param is None else f"{index}.{error.param}"
            faults.append((index, error))
    if faults:
        errors = [{"index": index, **error_response.fields(error)} for index, error in faults]
        return envelope.response(request, faults[0][1], errors=errors)
    await limits.refuse_flex(here, jobs)
    accepted = await here.acceptor.accept_all(jobs)
    data = [await answers.accepted_object(here, job, one.id) for job, one in zip(jobs, accepted, strict=True)]
    return JsonResponse({"object": "list", "data": data}, 202)


async def _admit(
    here: Parts, tenant: Tenant, item: Any, identity: UUID, header: str | None, traceparent: str | None
) -> NewJob:
    """The job of one item; errors name the field, with `body.` before those of the body."""
    if not isinstance(item, dict):
        raise BadRequest("A job must be a JSON object.", code="invalid_type")
    for name in item.keys() - _FIELDS:
        raise BadRequest(
            f"Unrecognized request argument supplied: {name:.100}", param=name[:100], code="unknown_parameter"
        )
    for name in ("endpoint", "body"):
        if name not in item:
            message = f"Missing required parameter: '{name}'."
            raise BadRequest(message, param=name, code="missing_required_parameter")
    endpoint = allowed(item["endpoint"])
    key = terms.idempotency_key(item.get("idempotency_key"))
    outside = terms.read(item, here.admission.reach)
    submitted = Submit(
        id=identity,
        tenant=tenant,
        endpoint=endpoint,
        raw=write(item["body"]),
        body=item["body"],
        waited=False,
        key=key or terms.idempotency_key(header, "Idempotency-Key"),
        traceparent=traceparent,
    )
    try:
        return await here.admission.admit(submitted, outside)
    except (BadRequest, NotFound) as error:
        name = (error.param or "").partition(".")[0]
        if name != "webhook" or item.get("webhook") is None:  # the item's own wins over one in the body
            error.param = "body" if error.param is None else f"body.{error.param}"
        raise


def _metadata(request: Request) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if match := _METADATA.fullmatch(name):
            found[terms.storable(match[1], "metadata")] = terms.storable(value, "metadata")
    return found or None


def _batch_id(text: str) -> UUID:
    prefix, _, digits = text.partition("_")
    if prefix == "batch" and re.fullmatch("[0-9a-f]{32}", digits):
        return UUID(hex=digits)
    raise NotFound(f"No batch found with id '{text}'.", param="batch")
