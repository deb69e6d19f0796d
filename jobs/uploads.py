"""Uploads: a file that comes in parts, in any order and in parallel, and becomes one blob when all are there.

pending -> completed | cancelled, or expired an hour after it began.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from jobs import files, ids
from jobs.blobs import Blobs
from jobs.database import Database, fetch
from jobs.errors import BadRequest, NotFound
from jobs.files import NewFile, StoredFile

PART_BYTES: Final = 64 * 2**20
"""Largest part."""
_SECONDS: Final = 3600


class UploadStatus(StrEnum):
    """OpenAI's."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class NewUpload:
    """What the file will be: `bytes` long, and kept for `file_expires_seconds` from its completion; None: for ever."""

    id: UUID
    tenant_id: int
    purpose: str
    filename: str
    mime_type: str
    bytes: int
    file_expires_seconds: int | None


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as readers see it."""

    id: UUID
    tenant_id: int
    purpose: str
    filename: str
    mime_type: str
    bytes: int
    file_expires_seconds: int | None
    status: UploadStatus
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """A part whose blob is stored."""

    id: UUID
    upload_id: UUID
    bytes: int
    blob: str
    created_at: datetime


def blob_key(part_id: UUID) -> str:
    """The key of a new part's blob."""
    return f"parts/{part_id.hex}"


async def create(database: Database, upload: NewUpload) -> Upload:
    """Begin an upload, which then has an hour."""
    [row] = await database.run(
        "upload_create",
        id=upload.id,
        tenant=upload.tenant_id,
        purpose=upload.purpose,
        filename=upload.filename,
        mime_type=upload.mime_type,
        bytes=upload.bytes,
        file_expires_s=upload.file_expires_seconds,
        seconds=_SECONDS,
    )
    return _upload(row)


async def pending(database: Database, tenant_id: int, upload_id: UUID) -> Upload:
    """An upload that still takes parts.

    Raises:
        NotFound: this tenant has no such upload.
        BadRequest: it has ended.
    """
    upload = await _get(database, tenant_id, upload_id)
    if upload.status is not UploadStatus.PENDING:
        raise _ended(upload)
    return upload


async def add_part(database: Database, tenant_id: int, upload_id: UUID, part_id: UUID, size: int) -> Part:
    """The row of a part whose blob, of `size` bytes, is there. Raises as `pending`: the blob is then not needed."""
    rows = await database.run(
        "upload_part_add", upload=upload_id, tenant=tenant_id, id=part_id, bytes=size, blob=blob_key(part_id)
    )
    if not rows:
        raise _ended(await _get(database, tenant_id, upload_id))
    return _part(rows[0])


async def complete(
    database: Database, blobs: Blobs, upload: Upload, part_ids: Sequence[UUID], md5: str | None = None
) -> tuple[Upload, StoredFile]:
    """Join these parts, in this order, to one file. Of several calls at once, one makes the file.

    Raises:
        BadRequest: a part is not the upload's, they are not as long as was said, or have another MD5 (hex), they cannot
            be what their purpose says, or the upload has ended.
    """
    parts = await _ordered(database, upload, part_ids)
    file = _file(upload)
    try:
        await blobs.put(file.blob, _joined(blobs, upload, parts, md5))
    except FileNotFoundError:
        await pending(database, upload.tenant_id, upload.id)  # the parts of one that ended meanwhile are swept
        raise
    async with database.transaction() as connection:
        rows = await fetch(connection, "upload_complete", id=upload.id, tenant=upload.tenant_id, file=file.id)
        if rows:
            return _upload(rows[0]), await files.insert(connection, file)
    await blobs.delete([file.blob])
    raise _ended(await _get(database, upload.tenant_id, upload.id))


async def cancel(database: Database, tenant_id: int, upload_id: UUID) -> Upload:
    """End an upload; its parts go later. One that is cancelled already stays so.

    Raises:
        NotFound: this tenant has no such upload.
        BadRequest: it is completed or has expired.
    """
    rows = await database.run("upload_cancel", id=upload_id, tenant=tenant_id)
    upload = _upload(rows[0]) if rows else await _get(database, tenant_id, upload_id)
    if upload.status is not UploadStatus.CANCELLED:
        raise _ended(upload)
    return upload


async def leftovers(database: Database) -> list[tuple[UUID, str]]:
    """Ids and blobs of the parts of uploads that have ended, a thousand at most."""
    return [(row.id, row.blob) for row in await database.run("upload_leftovers")]


async def forget_parts(database: Database, part_ids: Sequence[UUID]) -> None:
    """Remove the rows of parts whose blobs are gone."""
    await database.run("upload_parts_forget", ids=list(part_ids))


async def forget(database: Database) -> int:
    """Remove uploads that ended a day ago or more and whose parts are gone, a thousand at most; how many there were."""
    return len(await database.run("upload_forget"))


def missing(upload_id: str) -> NotFound:
    """What is said of an upload that does not exist, by its public id."""
    return NotFound(f"No such Upload object: {upload_id}", param="id")


async def _get(database: Database, tenant_id: int, upload_id: UUID) -> Upload:
    rows = await database.run("upload_get", id=upload_id, tenant=tenant_id)
    if not rows:
        raise missing(ids.upload_id(upload_id))
    return _upload(rows[0])


async def _ordered(database: Database, upload: Upload, part_ids: Sequence[UUID]) -> list[Part]:
    rows = await database.run("upload_parts", upload=upload.id, ids=list(part_ids))
    found = {row.id: _part(row) for row in rows}
    if strangers := [part_id for part_id in part_ids if part_id not in found]:
        message = f"Invalid 'part_ids': the upload has no part '{ids.part_id(strangers[0])}'."
        raise BadRequest(message, param="part_ids", code="invalid_value")
    if len(found) < len(part_ids):
        raise BadRequest("Invalid 'part_ids': a part is named twice.", param="part_ids", code="invalid_value")
    size = sum(part.bytes for part in found.values())
    if size != upload.bytes:
        message = (
            f"Invalid 'part_ids': the parts have {size} bytes together, but the upload was to have {upload.bytes}."
        )
        raise BadRequest(message, param="part_ids", code="invalid_value")
    return [found[part_id] for part_id in part_ids]


async def _joined(blobs: Blobs, upload: Upload, parts: Sequence[Part], md5: str | None) -> AsyncIterator[bytes]:
    """The bytes of all parts. What is wrong with them is raised behind the last, so that they become no blob."""
    beginning = files.Beginning()
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        async for chunk in blobs.read(part.blob):
            beginning.add(chunk)
            if md5 is not None:
                digest.update(chunk)
            yield chunk
    if md5 is not None and md5.lower() != digest.hexdigest():
        message = f"Invalid 'md5': the parts' own is {digest.hexdigest()}."
        raise BadRequest(message, param="md5", code="invalid_value")
    if upload.purpose == files.BATCH:
        beginning.check()


def _file(upload: Upload) -> NewFile:
    file_id = ids.new()
    return NewFile(
        id=file_id,
        tenant_id=upload.tenant_id,
        purpose=upload.purpose,
        filename=upload.filename,
        bytes=upload.bytes,
        blob=files.blob_key(file_id),
        expires_seconds=upload.file_expires_seconds,
    )


def _ended(upload: Upload) -> BadRequest:
    return BadRequest(f"The upload '{ids.upload_id(upload.id)}' has ended: its status is '{upload.status}'.")


def _upload(row: Any) -> Upload:
    return Upload(
        id=row.id,
        tenant_id=row.tenant_id,
        purpose=row.purpose,
        filename=row.filename,
        mime_type=row.mime_type,
        bytes=row.bytes,
        file_expires_seconds=row.file_expires_s,
        status=UploadStatus(row.status),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def _part(row: Any) -> Part:
    return Part(id=row.id, upload_id=row.upload_id, bytes=row.bytes, blob=row.blob, created_at=row.created_at)
