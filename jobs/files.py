"""Files: rows that name a blob. A file is there once its blob is whole, and hidden before its blob goes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, or_, select

from jobs import ids
from jobs.database import Database, Driver, fetch
from jobs.errors import BadRequest, NotFound, Unprocessable
from jobs.records import IdempotencyKey
from jobs.tables import FILES

BATCH: Final = "batch"
PURPOSES: Final = ("fine-tune", "assistants", BATCH, "user_data", "vision", "evals")
"""What a client may upload a file for, in the order in which OpenAI names them."""

_BATCH_EXPIRES_SECONDS: Final = 30 * 86_400
_MOST_LOOKED_AT: Final = 2**20
_GRACE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file whose blob is stored. `expires_seconds` counts from now; None: never."""

    id: UUID
    tenant_id: int
    purpose: str
    filename: str
    bytes: int
    blob: str
    expires_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as readers see it; `blob` is its key in the blob store."""

    id: UUID
    tenant_id: int
    purpose: str
    filename: str
    bytes: int
    blob: str
    created_at: datetime
    expires_at: datetime | None


def blob_key(file_id: UUID) -> str:
    """The key of a new file's blob."""
    return f"files/{file_id.hex}"


def lifetime(purpose: str, asked: int | None) -> int | None:
    """Seconds that a file is kept: what was asked for, else 30 days for a batch's input and for ever for any other."""
    return _BATCH_EXPIRES_SECONDS if asked is None and purpose == BATCH else asked


class Beginning:
    """The first line of a file that goes by. A line over a megabyte is left to the batch's own validation."""

    def __init__(self) -> None:
        self._line = b""
        self._whole = False

    def add(self, chunk: bytes) -> None:
        """The next chunk of the file."""
        if not self._whole:
            line, newline, _ = chunk.partition(b"\n")
            self._line += line
            self._whole = bool(newline) or len(self._line) > _MOST_LOOKED_AT

    def check(self) -> None:
        """Raises BadRequest if no batch could begin so. A byte order mark is left to the batch's own validation."""
        try:
            if len(self._line) <= _MOST_LOOKED_AT:
                json.loads(self._line)  # bytes: this passes over a byte order mark
        except (ValueError, RecursionError):
            raise BadRequest("Invalid file format for Batch API. Must be .jsonl") from None


async def create(database: Database, file: NewFile, key: IdempotencyKey | None = None) -> StoredFile:
    """The row of a file whose blob is there; or the file that this repeats, in which case its blob is not needed.

    Raises:
        Unprocessable: the idempotency key came with another file.
    """
    async with database.transaction() as connection:
        if key is not None:
            found = await _recognise(connection, file, key)
            if found is not None:
                return found
        return await insert(connection, file)


async def insert(connection: Driver, file: NewFile) -> StoredFile:
    """The row of a file, in the transaction of whatever makes it."""
    [row] = await fetch(
        connection,
        "file_create",
        id=file.id,
        tenant=file.tenant_id,
        purpose=file.purpose,
        filename=file.filename,
        bytes=file.bytes,
        blob=file.blob,
        expires_s=file.expires_seconds,
    )
    return _stored(row)


async def get(database: Database, tenant_id: int, file_id: UUID) -> StoredFile:
    """One file.

    Raises:
        NotFound: this tenant has no such file (any more).
    """
    rows = await database.run("file_get", id=file_id, tenant=tenant_id)
    if not rows:
        raise missing(ids.file_id(file_id))
    return _stored(rows[0])


async def kept(database: Database, tenant_id: int, file_id: UUID) -> StoredFile:
    """One file, also when it was deleted or expired since, as long as its blob is kept: for who may finish reading it.

    Raises:
        NotFound: this tenant has no such file, or it is gone for good.
    """
    rows = await database.run("file_kept", id=file_id, tenant=tenant_id)
    if not rows:
        raise missing(ids.file_id(file_id))
    return _stored(rows[0])


async def page(
    database: Database,
    tenant_id: int,
    *,
    limit: int,
    after: UUID | None = None,
    ascending: bool = False,
    purpose: str | None = None,
) -> list[StoredFile]:
    """Up to `limit` of a tenant's files beyond `after`, newest first unless `ascending`."""
    query = select(*FILES.c).where(
        FILES.c.tenant_id == tenant_id,
        FILES.c.deleted_at.is_(None),
        or_(FILES.c.expires_at.is_(None), FILES.c.expires_at > func.now()),
    )
    query = query.order_by(FILES.c.id if ascending else FILES.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(FILES.c.id > after if ascending else FILES.c.id < after)
    if purpose is not None:
        query = query.where(FILES.c.purpose == purpose)
    async with database.engine.connect() as connection:
        return [_stored(row) for row in await connection.execute(query)]


async def delete(database: Database, tenant_id: int, file_id: UUID) -> None:
    """Hide a file at once; its blob goes when no batch has still to read it.

    Raises:
        NotFound: this tenant has no such file (any more).
    """
    if not await database.run("file_delete", id=file_id, tenant=tenant_id):
        raise missing(ids.file_id(file_id))


async def gone(database: Database, grace_seconds: float = _GRACE_SECONDS) -> list[tuple[UUID, str]]:
    """Ids and blobs of files that were deleted or expired, a thousand at most, but for those that batches have still to
    read. The grace is for who found the file just before: a download, a batch that is being made."""
    return [(row.id, row.blob) for row in await database.run("file_gone", grace=grace_seconds)]


async def forget(database: Database, file_ids: Sequence[UUID]) -> None:
    """Remove the rows of files whose blobs are gone."""
    await database.run("file_forget", ids=list(file_ids))


def missing(file_id: str) -> NotFound:
    """What is said of a file that does not exist, by its public id."""
    return NotFound(f"No such File object: {file_id}", param="id")


async def _recognise(connection: Driver, file: NewFile, key: IdempotencyKey) -> StoredFile | None:
    """The file that has this key; None if this one took it. A file that is gone leaves its key to the next."""
    name = {"tenants": [file.tenant_id], "keys": [key.key]}
    await fetch(connection, "keys_lock", **name)
    for known in await fetch(connection, "keys_find", kind="file", **name):
        rows = await fetch(connection, "file_get", id=known.object_id, tenant=file.tenant_id)
        if rows and bytes(known.body_hash) != key.body_hash:
            raise Unprocessable(
                f"The idempotency key '{key.key}' was used with a different request.",
                param="idempotency_key",
                code="idempotency_key_reused",
            )
        if rows:
            return _stored(rows[0])
        await fetch(connection, "file_key_free", tenant=file.tenant_id, key=key.key)
    await fetch(connection, "keys_take", kind="file", hashes=[key.body_hash], ids=[file.id], **name)
    return None


def _stored(row: Any) -> StoredFile:
    return StoredFile(
        id=row.id,
        tenant_id=row.tenant_id,
        purpose=row.purpose,
        filename=row.filename,
        bytes=row.bytes,
        blob=row.blob,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
