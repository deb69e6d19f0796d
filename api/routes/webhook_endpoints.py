"""`/v1/webhook_endpoints`: create, look, list, change, delete and test endpoints, and give them new secrets."""

import asyncio
import time
from typing import Annotated, Any, Final, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.requests import ClientDisconnect

from api import answers, auth, envelope, paging, parts, payload, webhook_objects
from api.file_objects import required
from api.parts import Parts
from api.payload import JsonResponse
from jobs import deliveries, events, ids, webhooks
from jobs.admission import webhook
from jobs.deliveries import Delivery, DeliveryStatus
from jobs.errors import BadRequest, Unavailable
from jobs.records import Json, Tenant
from jobs.webhooks import Changes

router = APIRouter(prefix="/v1")
Caller: TypeAlias = Annotated[Tenant, Depends(auth.tenant)]

_FIELDS: Final = frozenset({"name", "url", "event_types", "headers"})
_KEEP: Final = "keep_old_secret_active_for_24_hours"
_TEST_SECONDS: Final = 20.0
"""More than a receiver has to answer."""
_LONGEST_PAUSE_SECONDS: Final = 0.2


@router.get("/webhook_event_types")
async def event_types(tenant: Caller) -> JsonResponse:
    """What an endpoint may listen to."""
    return JsonResponse({"object": "list", "data": events.TYPES})


@router.post("/webhook_endpoints")
async def create(request: Request, tenant: Caller) -> JsonResponse:
    """A new endpoint, with its secret."""
    here = parts.of(request)
    fields = await _read(here, request, _FIELDS)
    made, secret = await webhooks.create(
        here.database,
        here.vault,
        tenant.id,
        name=webhook.endpoint_name(fields.get("name")),
        url=webhook.address(fields.get("url"), here.admission.reach, "url"),
        event_types=webhook.event_types(required(fields, "event_types"), "event_types"),
        headers=webhook.headers(fields.get("headers"), "headers"),
    )
    return JsonResponse(webhook_objects.endpoint_with_secret(made, secret))


@router.get("/webhook_endpoints")
async def index(request: Request, tenant: Caller, after: str | None = None, limit: paging.Limit = 20) -> JsonResponse:
    """A page of the tenant's endpoints, newest first."""
    database, cursor = parts.of(request).database, paging.cursor(after, "whe_")
    rows = await webhooks.page(database, tenant.id, limit=limit + 1, after=cursor)
    return JsonResponse(paging.page(rows, limit, webhook_objects.endpoint))


@router.get("/webhook_endpoints/{endpoint_id}")
async def retrieve(request: Request, tenant: Caller, endpoint_id: str) -> JsonResponse:
    """One endpoint."""
    found = await webhooks.get(parts.of(request).database, tenant.id, parsed(endpoint_id))
    return JsonResponse(webhook_objects.endpoint(found))


@router.post("/webhook_endpoints/{endpoint_id}")
async def update(request: Request, tenant: Caller, endpoint_id: str) -> JsonResponse:
    """Change what is given, also for what waits to be delivered; `disabled: false` enables an endpoint again."""
    here, identity = parts.of(request), parsed(endpoint_id)
    fields = await _read(here, request, _FIELDS | {"disabled"})
    changes = Changes(
        name=webhook.endpoint_name(fields["name"]) if "name" in fields else None,
        url=webhook.address(fields["url"], here.admission.reach, "url") if "url" in fields else None,
        event_types=webhook.event_types(fields["event_types"], "event_types") if "event_types" in fields else None,
        headers=webhook.headers(fields["headers"], "headers") if "headers" in fields else None,
        disabled=_flag(fields, "disabled") if "disabled" in fields else None,
    )
    changed = await webhooks.update(here.database, here.vault, tenant.id, identity, changes)
    return JsonResponse(webhook_objects.endpoint(changed))


@router.delete("/webhook_endpoints/{endpoint_id}")
async def delete(request: Request, tenant: Caller, endpoint_id: str) -> JsonResponse:
    """Remove an endpoint; what waits for it is not delivered any more."""
    await webhooks.delete(parts.of(request).database, tenant.id, parsed(endpoint_id))
    return JsonResponse({"id": endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True})


@router.post("/webhook_endpoints/{endpoint_id}/rotate_secret")
async def rotate_secret(request: Request, tenant: Caller, endpoint_id: str) -> JsonResponse:
    """A new secret; where that is asked for, the old one signs beside it for a day."""
    here, identity = parts.of(request), parsed(endpoint_id)
    fields = {} if payload.is_empty(request) else await _read(here, request, {_KEEP})
    keep_old = _KEEP in fields and _flag(fields, _KEEP)
    rotated, secret = await webhooks.rotate(here.database, here.vault, tenant.id, identity, keep_old=keep_old)
    return JsonResponse(webhook_objects.endpoint_with_secret(rotated, secret))


@router.post("/webhook_endpoints/{endpoint_id}/test")
async def test(request: Request, tenant: Caller, endpoint_id: str) -> JsonResponse:
    """Send an event about nothing, once and at once, and say what the receiver answered."""
    here, identity = parts.of(request), parsed(endpoint_id)
    kind = _event_type(required(await _read(here, request, {"event_type"}), "event_type"))
    sent = await deliveries.test(here.database, tenant.id, identity, kind)
    here.deliver()
    ending = await answers.until(here, request, _attempted(here, tenant, sent))
    if ending is answers.Interruption.DISCONNECTED:
        raise ClientDisconnect
    if not isinstance(ending, Delivery):
        # It goes out all the same; the SDK's own repeats would send more.
        waits = Unavailable("No control worker has sent the test event yet; it is in the endpoint's deliveries.")
        return envelope.response(request, waits, headers={"x-should-retry": "false"})
    last = ending.attempts[-1]
    if last.status_code is None:
        message = f"The test event did not reach the endpoint: {last.error}."
        raise BadRequest(message, param="url", code="webhook_not_delivered")
    return JsonResponse(webhook_objects.test_result(ending, last.status_code))


def parsed(endpoint_id: str) -> UUID:
    """The UUID in an endpoint's public id. Raises NotFound if it is none."""
    return ids.parse("whe_", endpoint_id, f"No webhook endpoint found with id '{endpoint_id}'.")


async def _attempted(here: Parts, tenant: Tenant, delivery_id: UUID) -> Delivery | None:
    """The delivery once it was attempted; None where that takes too long. Control tells nobody, so this looks."""
    deadline, pause = time.monotonic() + _TEST_SECONDS, 0.01
    while time.monotonic() < deadline:
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * 1.5)
        found = await deliveries.get(here.database, tenant.id, delivery_id)
        if found.status is not DeliveryStatus.PENDING:
            return found
    return None


async def _read(here: Parts, request: Request, known: frozenset[str] | set[str]) -> Json:
    return await payload.fields(request, here.settings.body_limit_bytes, known)


def _event_type(value: Any) -> str:
    if value not in events.TYPES:
        supported = ", ".join(map(repr, events.TYPES))
        message = f"Invalid value: '{value!s:.100}'. Supported values are: {supported}."
        raise BadRequest(message, param="event_type", code="invalid_value")
    return str(value)


def _flag(fields: Json, name: str) -> bool:
    value: Any = fields[name]
    if not isinstance(value, bool):
        raise BadRequest(f"Invalid type for '{name}': expected a boolean.", param=name, code="invalid_type")
    return value
