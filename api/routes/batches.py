"""`/v1/batches`: create, look, list, cancel and retry batches, and read their results as they come."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Annotated, Any, Final, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from api import auth, batch_objects, batch_results, paging, parts, payload
from api.file_objects import required
from api.parts import Parts
from api.payload import JsonResponse
from jobs import batch_retry, batches, files, ids, webhooks
from jobs.admission import terms, webhook
from jobs.admission.admit import allowed
from jobs.errors import BadRequest
from jobs.files import NewFile
from jobs.payload import parse, write
from jobs.records import Batch, IdempotencyKey, Json, NewBatch, Tenant
from jobs.states import Status

router = APIRouter(prefix="/v1/batches")
Caller: TypeAlias = Annotated[Tenant, Depends(auth.tenant)]

_FIELDS: Final = frozenset(
    {
        *("input_file_id", "requests", "endpoint", "completion_window", "metadata", "output_expires_after"),
        *webhook.BATCH_FIELDS,
    }
)
_MOST_INLINE: Final = 5000
_TURN: Final = 64
"""Lines that are written before the loop may do something else."""
_INPUT: Final = "input"

Number: TypeAlias = Annotated[int, Query(ge=0, le=batch_results.MOST)]
Count: TypeAlias = Annotated[int, Query(ge=1, le=batch_results.MOST)]


@router.post("")
async def create(request: Request, tenant: Caller) -> JsonResponse:
    """A batch of the lines of a file, or of `requests`, which become one."""
    here = parts.of(request)
    fields = _known(parse(await payload.read(request, here.settings.body_limit_bytes)))
    inline = fields.get("requests")
    file = ids.new() if inline is not None else batch_objects.input_file(required(fields, "input_file_id"))
    endpoint = allowed(required(fields, "endpoint"))
    window, seconds = batch_objects.window(required(fields, "completion_window"))
    metadata = terms.read({"metadata": fields.get("metadata")}, here.admission.reach).metadata
    asked = webhook.of_batch(fields, here.admission.reach)
    output_expires_seconds = batch_objects.output_expiry(fields.get("output_expires_after"))
    lines = [] if inline is None else await _lines(inline, endpoint)
    batch = NewBatch(
        id=ids.new(),
        tenant_id=tenant.id,
        endpoint=endpoint,
        input_file_id=file,
        window=window,
        window_seconds=seconds,
        metadata=metadata,
        output_expires_seconds=output_expires_seconds,
        webhook=None if asked is None else await here.admission.sealer.seal(tenant.id, asked),
        key=_key(request, _canonical(fields), *lines),
    )
    made = await (batches.create(here.database, batch) if inline is None else _of(here, batch, _each(lines)))
    here.wake_control()
    return JsonResponse(batch_objects.batch(made))


@router.get("")
async def index(request: Request, tenant: Caller, after: str | None = None, limit: paging.Limit = 20) -> JsonResponse:
    """A page of the tenant's batches, newest first."""
    rows = await batches.page(
        parts.of(request).database, tenant.id, limit=limit + 1, after=paging.cursor(after, "batch_")
    )
    return JsonResponse(paging.page(rows, limit, batch_objects.batch))


@router.get("/{batch_id}")
async def retrieve(request: Request, tenant: Caller, batch_id: str) -> JsonResponse:
    """One batch."""
    return JsonResponse(batch_objects.batch(await _found(parts.of(request), tenant, batch_id)))


@router.post("/{batch_id}/cancel")
async def cancel(request: Request, tenant: Caller, batch_id: str) -> JsonResponse:
    """End what waits of a batch; what runs may finish. One that is cancelled already is answered as it is."""
    here = parts.of(request)
    batch, ended = await batches.cancel(here.database, tenant.id, _parsed(batch_id))
    here.announcer.announce(ended)
    here.wake_control()
    return JsonResponse(batch_objects.batch(batch))


@router.post("/{batch_id}/retry")
async def retry(request: Request, tenant: Caller, batch_id: str) -> JsonResponse:
    """A new batch of what failed, expired or was cancelled in one that has ended; once for each Idempotency-Key."""
    here = parts.of(request)
    old = await _found(here, tenant, batch_id)
    batch_retry.refuse(old)
    batch = NewBatch(
        id=ids.new(),
        tenant_id=tenant.id,
        endpoint=old.endpoint,
        input_file_id=ids.new(),
        window=old.window,
        window_seconds=batch_objects.window(old.window)[1],
        metadata=old.metadata,
        output_expires_seconds=old.output_expires_seconds,
        retry_of=old.id,
        webhook=await webhooks.own(here.database, old.id),
        key=_key(request, b"retry", old.id.bytes),
    )
    lines = batch_retry.lines(here.database, old, here.settings.timeout_seconds)
    made = await _of(here, batch, lines)
    here.wake_control()
    return JsonResponse(batch_objects.batch(made))


@router.get("/{batch_id}/results")
async def results(
    request: Request,
    tenant: Caller,
    batch_id: str,
    after: Number = 0,
    limit: Count = batch_results.MOST,
    follow: bool = False,
    status: Status | None = None,
    custom_id: str | None = None,
) -> StreamingResponse:
    """The lines that have ended, in the order in which they did; with `follow` until the batch has."""
    here = parts.of(request)
    if status is not None and not status.terminal:
        message = f"Invalid 'status': no line has ended as '{status}'."
        raise BadRequest(message, param="status", code="invalid_value")
    wanted = batch_results.Wanted(
        after=after,
        limit=limit,
        follow=follow,
        with_input=_includes_input(request),
        status=status,
        custom_id=None if custom_id is None else terms.storable(custom_id, "custom_id"),
    )
    batch = await _found(here, tenant, batch_id)
    return StreamingResponse(batch_results.stream(here, batch, wanted), media_type="application/jsonl")


async def _found(here: Parts, tenant: Tenant, batch_id: str) -> Batch:
    return await batches.get(here.database, tenant.id, _parsed(batch_id))


def _parsed(batch_id: str) -> UUID:
    return ids.parse("batch_", batch_id, f"No batch found with id '{batch_id}'.")


def _known(value: Any) -> Json:
    """The fields of a create, none of them strange, with one input."""
    if not isinstance(value, dict):
        raise BadRequest("The request body must be a JSON object.", code="invalid_type")
    for name in value.keys() - _FIELDS:
        raise BadRequest(
            f"Unrecognized request argument supplied: {name:.100}", param=name[:100], code="unknown_parameter"
        )
    if value.get("requests") is not None and value.get("input_file_id") is not None:
        message = "Give either 'input_file_id' or 'requests', not both."
        raise BadRequest(message, param="requests", code="invalid_value")
    return value


async def _lines(requests: Any, endpoint: str) -> list[bytes]:
    """Requests as lines of a file, which its validation reads like any other."""
    if not isinstance(requests, list):
        message = "Invalid type for 'requests': expected an array."
        raise BadRequest(message, param="requests", code="invalid_type")
    if not 1 <= len(requests) <= _MOST_INLINE:
        message = f"Invalid 'requests': expected 1 to {_MOST_INLINE} requests, but got {len(requests)}."
        raise BadRequest(message, param="requests", code="invalid_value")
    lines: list[bytes] = []
    for index, line in enumerate(requests):
        if index % _TURN == 0:
            await asyncio.sleep(0)
        if not isinstance(line, dict):
            name = f"requests.{index}"
            raise BadRequest(f"Invalid type for '{name}': expected an object.", param=name, code="invalid_type")
        lines.append(write({"method": "POST", "url": endpoint, **line}) + b"\n")
    return lines


async def _each(lines: Sequence[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


async def _of(here: Parts, batch: NewBatch, lines: AsyncIterable[bytes]) -> Batch:
    """The batch of these lines, stored as its input file; or the one that its key made before, which has its own."""
    blob = files.blob_key(batch.input_file_id)
    file = NewFile(
        id=batch.input_file_id,
        tenant_id=batch.tenant_id,
        purpose=files.BATCH,
        filename="requests.jsonl",
        bytes=await here.blobs.put(blob, lines),
        blob=blob,
        expires_seconds=files.lifetime(files.BATCH, None),
    )
    await files.create(here.database, file)
    made: Batch | None = None
    try:
        made = await batches.create(here.database, batch)
        return made
    finally:
        # Right also where nobody knows whether the batch was made: it may read a file that was deleted after.
        if made is None or made.id != batch.id:
            await files.delete(here.database, batch.tenant_id, file.id)


def _key(request: Request, *about: bytes) -> IdempotencyKey | None:
    """The request's idempotency key with 16 bytes that tell whether `about` is the same."""
    key = terms.idempotency_key(request.headers.get("idempotency-key"), "Idempotency-Key")
    if key is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for part in about:
        digest.update(part)
    return IdempotencyKey(key, digest.digest())


def _canonical(fields: Json) -> bytes:
    """All but the lines, whose own bytes speak for them."""
    return json.dumps({name: value for name, value in fields.items() if name != "requests"}, sort_keys=True).encode()


def _includes_input(request: Request) -> bool:
    asked = [value for name in ("include", "include[]") for value in request.query_params.getlist(name)]
    for value in asked:
        if value != _INPUT:
            message = f"Invalid value: '{value:.100}'. Supported values are: '{_INPUT}'."
            raise BadRequest(message, param="include", code="invalid_value")
    return bool(asked)
