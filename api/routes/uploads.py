"""`/v1/uploads`: a large file in parts."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from api import auth, file_objects, parts, payload
from api.multipart import Form
from api.payload import JsonResponse
from jobs import files, ids, uploads
from jobs.errors import BadRequest, NotFound, TooLarge
from jobs.payload import parse
from jobs.records import Json, Tenant
from jobs.uploads import NewUpload

router = APIRouter(prefix="/v1/uploads")
Caller: TypeAlias = Annotated[Tenant, Depends(auth.tenant)]

_BODY_BYTES: Final = 2**20
_MOST_PARTS: Final = 10_000


@router.post("")
async def create(request: Request, tenant: Caller) -> JsonResponse:
    """Begin an upload."""
    here = parts.of(request)
    fields = await _fields(request)
    purpose = file_objects.purpose(fields)
    batch, size = purpose == files.BATCH, _integer(fields, "bytes")
    limit = here.settings.batch_file_limit_bytes if batch else here.settings.file_limit_bytes
    if size > limit:
        raise BadRequest("File is too large.") if batch else _too_large(limit, "bytes")
    upload = NewUpload(
        id=ids.new(),
        tenant_id=tenant.id,
        purpose=purpose,
        filename=file_objects.filename(file_objects.required(fields, "filename"), "filename"),
        mime_type=file_objects.filename(file_objects.required(fields, "mime_type"), "mime_type"),
        bytes=size,
        file_expires_seconds=files.lifetime(purpose, _expires_after(fields.get("expires_after"))),
    )
    return JsonResponse(file_objects.upload(await uploads.create(here.database, upload)))


@router.post("/{upload_id}/parts")
async def add_part(request: Request, tenant: Caller, upload_id: str) -> JsonResponse:
    """Store one part, in any order and beside others."""
    here, identity = parts.of(request), _parsed(upload_id)
    await uploads.pending(here.database, tenant.id, identity)
    form = Form(request, uploads.PART_BYTES)
    file_objects.required({"data": await form.file("data")}, "data")
    part_id = ids.new()
    blob = uploads.blob_key(part_id)
    size = await here.blobs.put(blob, _limited(form))
    try:
        part = await uploads.add_part(here.database, tenant.id, identity, part_id, size)
    except (BadRequest, NotFound):
        await here.blobs.delete([blob])
        raise
    return JsonResponse(file_objects.part(part))


@router.post("/{upload_id}/complete")
async def complete(request: Request, tenant: Caller, upload_id: str) -> JsonResponse:
    """Make one file of the parts that are named, in their order."""
    here, identity = parts.of(request), _parsed(upload_id)
    fields = await _fields(request)
    upload = await uploads.pending(here.database, tenant.id, identity)
    part_ids = _part_ids(file_objects.required(fields, "part_ids"))
    md5 = fields.get("md5")
    if md5 is not None and not isinstance(md5, str):
        raise BadRequest("Invalid type for 'md5': expected a string.", param="md5", code="invalid_type")
    completed, file = await uploads.complete(here.database, here.blobs, upload, part_ids, md5)
    return JsonResponse(file_objects.upload(completed, file))


@router.post("/{upload_id}/cancel")
async def cancel(request: Request, tenant: Caller, upload_id: str) -> JsonResponse:
    """End an upload that is not completed."""
    return JsonResponse(
        file_objects.upload(await uploads.cancel(parts.of(request).database, tenant.id, _parsed(upload_id)))
    )


async def _fields(request: Request) -> Json:
    value = parse(await payload.read(request, _BODY_BYTES))
    if not isinstance(value, dict):
        raise BadRequest("The request body must be a JSON object.", code="invalid_type")
    return value


async def _limited(form: Form) -> AsyncIterator[bytes]:
    """The bytes of a part, to the form's end."""
    size = 0
    async for chunk in form.chunks():
        size += len(chunk)
        if size > uploads.PART_BYTES:
            raise _too_large(uploads.PART_BYTES, "data")
        yield chunk
    await form.rest()


def _too_large(limit: int, param: str) -> TooLarge:
    return TooLarge(f"The file is over the limit of {limit} bytes.", param=param, code="request_too_large")


def _integer(fields: Json, name: str) -> int:
    value = file_objects.required(fields, name)
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"Invalid type for '{name}': expected an integer."
        raise BadRequest(message, param=name, code="invalid_type")
    if value < 0:
        raise BadRequest(f"Invalid '{name}': expected 0 or more.", param=name, code="integer_below_min_value")
    return value


def _expires_after(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        message = "Invalid type for 'expires_after': expected an object."
        raise BadRequest(message, param="expires_after", code="invalid_type")
    # An empty one lacks its anchor, and is no way to say nothing.
    return file_objects.expires_after(value.get("anchor", ""), value.get("seconds"))


def _part_ids(value: Any) -> list[UUID]:
    if not isinstance(value, list) or len(value) > _MOST_PARTS:
        message = f"Invalid 'part_ids': expected an array of at most {_MOST_PARTS} ids."
        raise BadRequest(message, param="part_ids", code="invalid_type")
    try:
        return [
            ids.parse("part_", str(each), f"Invalid 'part_ids': '{each!s:.100}' is no part's id.") for each in value
        ]
    except NotFound as error:
        raise BadRequest(error.message, param="part_ids", code="invalid_value") from None


def _parsed(upload_id: str) -> UUID:
    return ids.parse("upload_", upload_id, uploads.missing(upload_id).message)
