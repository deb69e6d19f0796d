"""`/v1/files`: upload, list, look, download and delete files, in chunks both ways."""

import hashlib
from collections.abc import AsyncIterator
from typing import Annotated, Final, TypeAlias
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from api import auth, file_objects, paging, parts
from api.multipart import Form
from api.payload import JsonResponse
from jobs import files, ids
from jobs.admission import terms
from jobs.errors import BadRequest, TooLarge
from jobs.files import NewFile
from jobs.records import IdempotencyKey, Json, Tenant
from jobs.settings import Settings

router = APIRouter(prefix="/v1/files")
Caller: TypeAlias = Annotated[Tenant, Depends(auth.tenant)]

_MOST: Final = 10_000


@router.post("")
async def create(request: Request, tenant: Caller) -> JsonResponse:
    """Store the file of a form. Its fields may stand before or behind it."""
    here = parts.of(request)
    key = terms.idempotency_key(request.headers.get("idempotency-key"), "Idempotency-Key")
    incoming = await _Incoming.of(request, here.settings, keyed=key is not None)
    file_id = ids.new()
    blob = files.blob_key(file_id)
    size = await here.blobs.put(blob, incoming.chunks())
    file = NewFile(
        id=file_id,
        tenant_id=tenant.id,
        purpose=incoming.purpose,
        filename=incoming.filename,
        bytes=size,
        blob=blob,
        expires_seconds=incoming.expires_seconds,
    )
    try:
        stored = await files.create(
            here.database, file, None if key is None else IdempotencyKey(key, incoming.digest())
        )
    except BadRequest:
        await here.blobs.delete([blob])
        raise
    if stored.id != file_id:
        await here.blobs.delete([blob])
    return JsonResponse(file_objects.file(stored))


@router.get("")
async def index(
    request: Request,
    tenant: Caller,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = _MOST,
    order: paging.Order = "desc",
) -> JsonResponse:
    """A page of the tenant's files, newest first."""
    rows = await files.page(
        parts.of(request).database,
        tenant.id,
        limit=limit + 1,
        after=paging.cursor(after, "file-"),
        ascending=order == "asc",
        purpose=None if purpose is None else terms.storable(purpose, "purpose"),
    )
    return JsonResponse(paging.page(rows, limit, file_objects.file))


@router.get("/{file_id}")
async def retrieve(request: Request, tenant: Caller, file_id: str) -> JsonResponse:
    """One file."""
    return JsonResponse(file_objects.file(await files.get(parts.of(request).database, tenant.id, _parsed(file_id))))


@router.get("/{file_id}/content")
async def content(request: Request, tenant: Caller, file_id: str) -> Response:
    """The file's bytes."""
    here = parts.of(request)
    stored = await files.get(here.database, tenant.id, _parsed(file_id))
    try:
        size = await here.blobs.size(stored.blob)
    except FileNotFoundError:  # swept since
        raise files.missing(file_id) from None
    headers = {"content-length": str(size), "content-disposition": _attachment(stored.filename)}
    return StreamingResponse(here.blobs.read(stored.blob), headers=headers, media_type="application/octet-stream")


@router.delete("/{file_id}")
async def delete(request: Request, tenant: Caller, file_id: str) -> Json:
    """Hide a file at once."""
    await files.delete(parts.of(request).database, tenant.id, _parsed(file_id))
    return {"id": file_id, "object": "file", "deleted": True}


class _Incoming:
    """A file on its way in, and what its form says of it: all known, and all checked, once its chunks were drawn."""

    def __init__(self, form: Form, filename: str, settings: Settings, keyed: bool) -> None:
        self.filename = filename
        self.purpose = ""
        self.expires_seconds: int | None = None
        self._form = form
        self._settings = settings
        self._beginning = files.Beginning()
        self._content = hashlib.blake2b(digest_size=16) if keyed else None
        self._size = 0

    @classmethod
    async def of(cls, request: Request, settings: Settings, keyed: bool) -> "_Incoming":
        """The form's file, as soon as it begins.

        Raises:
            BadRequest: there is none, or what stands before it is at fault.
        """
        form = Form(request, max(settings.file_limit_bytes, settings.batch_file_limit_bytes))
        filename = file_objects.filename(file_objects.required({"file": await form.file("file")}, "file"), "file")
        incoming = cls(form, filename, settings, keyed)
        if "purpose" in form.fields:
            incoming.purpose = file_objects.purpose(form.fields)
        return incoming

    async def chunks(self) -> AsyncIterator[bytes]:
        """The file's bytes. What is wrong is raised behind the last of them at the latest, so that no blob is made."""
        async for chunk in self._form.chunks():
            self._size += len(chunk)
            self._refuse_size()
            self._beginning.add(chunk)
            if self._content is not None:
                self._content.update(chunk)
            yield chunk
        await self._form.rest()
        self.purpose = file_objects.purpose(self._form.fields)
        self.expires_seconds = files.lifetime(self.purpose, _expires_after(self._form.fields))
        self._refuse_size()
        if self.purpose == files.BATCH:
            self._beginning.check()

    def digest(self) -> bytes:
        """16 bytes that tell whether the same file came again, of one that is keyed."""
        assert self._content is not None
        about = repr((self.purpose, self.filename)).encode()
        return hashlib.blake2b(about + self._content.digest(), digest_size=16).digest()

    def _refuse_size(self) -> None:
        settings = self._settings
        if self.purpose == files.BATCH and self._size > settings.batch_file_limit_bytes:
            raise BadRequest("File is too large.")
        limit = settings.file_limit_bytes
        if self.purpose in ("", files.BATCH):  # not known yet, or checked
            limit = max(limit, settings.batch_file_limit_bytes)
        if self._size > limit:
            raise TooLarge(f"The file is over the limit of {limit} bytes.", param="file", code="request_too_large")


def _expires_after(fields: dict[str, str]) -> int | None:
    seconds = fields.get("expires_after[seconds]")
    plain = seconds is not None and seconds.isascii() and seconds.isdecimal() and len(seconds) < 10
    return file_objects.expires_after(
        fields.get("expires_after[anchor]"), int(seconds) if seconds and plain else seconds
    )


def _parsed(file_id: str) -> UUID:
    return ids.parse("file-", file_id, files.missing(file_id).message)


def _attachment(filename: str) -> str:
    """RFC 6266: a name that a header cannot hold as it is goes percent-encoded."""
    quoted = quote(filename, safe="")
    return f'attachment; filename="{filename}"' if quoted == filename else f"attachment; filename*=UTF-8''{quoted}"
