"""Deliveries of an endpoint, a job or a batch: listed with every attempt, and sent again."""

from typing import Annotated, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from api import auth, paging, parts, webhook_objects
from api.parts import Parts
from api.payload import JsonResponse
from api.routes.webhook_endpoints import parsed
from jobs import batches, deliveries, ids, read
from jobs.errors import NotFound
from jobs.records import Tenant

router = APIRouter(prefix="/v1")
Caller: TypeAlias = Annotated[Tenant, Depends(auth.tenant)]


@router.get("/webhook_endpoints/{endpoint_id}/deliveries")
async def of_endpoint(
    request: Request, tenant: Caller, endpoint_id: str, after: str | None = None, limit: paging.Limit = 20
) -> JsonResponse:
    """What was told to an endpoint, newest first."""
    database, cursor = parts.of(request).database, paging.cursor(after, "wh_")
    rows = await deliveries.of_endpoint(database, tenant.id, parsed(endpoint_id), limit=limit + 1, after=cursor)
    return JsonResponse(paging.page(rows, limit, webhook_objects.delivery))


@router.get("/jobs/{job_id}/deliveries")
async def of_job(
    request: Request, tenant: Caller, job_id: str, after: str | None = None, limit: paging.Limit = 20
) -> JsonResponse:
    """What was told of a job, to whomever, newest first."""
    here = parts.of(request)
    return await _of_subject(here, tenant, await _job(here, tenant, job_id), after, limit)


@router.get("/batches/{batch_id}/deliveries")
async def of_batch(
    request: Request, tenant: Caller, batch_id: str, after: str | None = None, limit: paging.Limit = 20
) -> JsonResponse:
    """What was told of a batch, to whomever, newest first."""
    here = parts.of(request)
    return await _of_subject(here, tenant, await _batch(here, tenant, batch_id), after, limit)


@router.post("/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}/redeliver")
async def redeliver_of_endpoint(request: Request, tenant: Caller, endpoint_id: str, delivery_id: str) -> JsonResponse:
    """Send it again, now, with the same id and body."""
    return await _again(parts.of(request), tenant, delivery_id, parsed(endpoint_id))


@router.post("/jobs/{job_id}/deliveries/{delivery_id}/redeliver")
async def redeliver_of_job(request: Request, tenant: Caller, job_id: str, delivery_id: str) -> JsonResponse:
    """Send it again, now, with the same id and body."""
    here = parts.of(request)
    return await _again(here, tenant, delivery_id, await _job(here, tenant, job_id))


@router.post("/batches/{batch_id}/deliveries/{delivery_id}/redeliver")
async def redeliver_of_batch(request: Request, tenant: Caller, batch_id: str, delivery_id: str) -> JsonResponse:
    """Send it again, now, with the same id and body."""
    here = parts.of(request)
    return await _again(here, tenant, delivery_id, await _batch(here, tenant, batch_id))


async def _job(here: Parts, tenant: Tenant, job_id: str) -> UUID:
    return (await read.job(here.database, tenant.id, ids.parse_job_id(job_id))).id


async def _batch(here: Parts, tenant: Tenant, batch_id: str) -> UUID:
    identity = ids.parse("batch_", batch_id, f"No batch found with id '{batch_id}'.")
    return (await batches.get(here.database, tenant.id, identity)).id


async def _of_subject(here: Parts, tenant: Tenant, subject: UUID, after: str | None, limit: int) -> JsonResponse:
    cursor = paging.cursor(after, "wh_")
    rows = await deliveries.of_subject(here.database, tenant.id, subject, limit=limit + 1, after=cursor)
    return JsonResponse(paging.page(rows, limit, webhook_objects.delivery))


async def _again(here: Parts, tenant: Tenant, delivery_id: str, whose: UUID) -> JsonResponse:
    """The delivery, due now, if it is one to this endpoint, or about this job or batch."""
    missing = f"No webhook delivery found with id '{delivery_id}'."
    found = await deliveries.get(here.database, tenant.id, ids.parse("wh_", delivery_id, missing))
    if whose not in (found.endpoint_id, found.subject_id):
        raise NotFound(missing, param="id")
    due = await deliveries.redeliver(here.database, tenant.id, found.id)
    here.deliver()
    return JsonResponse(webhook_objects.delivery(due))
