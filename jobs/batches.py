"""Batches: made, found, stopped; their lines, read back. What is in their files is control's business."""

import json
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from jobs import ids, metrics
from jobs.database import Database, Driver, fetch
from jobs.errors import Conflict, NotFound, Unprocessable
from jobs.records import Batch, Line, NewBatch, Usage
from jobs.states import BatchStatus, Status
from jobs.webhooks import own_webhooks

_LAST: Final = UUID(int=2**128 - 1)
_MASS: Final = b"SET LOCAL statement_timeout = '10min'"
"""For statements that end a million jobs."""


async def create(database: Database, batch: NewBatch) -> Batch:
    """The batch, committed, or the one that its idempotency key made before.

    Raises:
        Unprocessable: its idempotency key came with another request.
    """
    async with database.transaction() as connection:
        found = await _made_before(connection, batch)
        if found is None:
            await fetch(
                connection,
                "batch_create",
                id=batch.id,
                tenant=batch.tenant_id,
                endpoint=batch.endpoint,
                input=batch.input_file_id,
                window=batch.window,
                seconds=batch.window_seconds,
                metadata=None if batch.metadata is None else json.dumps(batch.metadata),
                output_expires=batch.output_expires_seconds,
                retry_of=batch.retry_of,
                **own_webhooks([(batch.id, batch.webhook)]),
            )
    return await get(database, batch.tenant_id, found or batch.id)


async def get(database: Database, tenant_id: int, batch_id: UUID) -> Batch:
    """One batch.

    Raises:
        NotFound: this tenant has no such batch.
    """
    rows = await database.run("batch_find", id=batch_id, tenant=tenant_id)
    if not rows:
        raise NotFound(f"No batch found with id '{ids.batch_id(batch_id)}'.", param="id")
    return _batch(rows[0])


async def page(database: Database, tenant_id: int, *, limit: int, after: UUID | None = None) -> list[Batch]:
    """Up to `limit` of a tenant's batches made before `after`, newest first."""
    rows = await database.run("batch_page", tenant=tenant_id, before=after or _LAST, limit=limit)
    return [_batch(row) for row in rows]


async def cancel(database: Database, tenant_id: int, batch_id: UUID) -> tuple[Batch, list[UUID]]:
    """The batch, cancelling, and the ids of its jobs that were queued and have ended; what runs may finish.

    Raises:
        NotFound: this tenant has no such batch.
        Conflict: it has ended, and not by being cancelled.
    """
    before = await get(database, tenant_id, batch_id)
    ended: list[UUID] = []
    if before.status not in (BatchStatus.CANCELLING, BatchStatus.CANCELLED) and not before.status.terminal:
        ended = await _stop(database, batch_id, Status.CANCELLED, "batch_cancelling", tenant=tenant_id)
    batch = await get(database, tenant_id, batch_id)
    if batch.status not in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
        raise Conflict(f"Cannot cancel a batch with status '{batch.status}'.")
    return batch, ended


async def expire(database: Database) -> list[UUID]:
    """Stop the batches whose window is over; the ids of their jobs that were queued and have ended."""
    ended: list[UUID] = []
    for due in await database.run("batches_due"):
        ended += await _stop(database, due.id, Status.EXPIRED, "batch_expiring")
    return ended


async def lines(
    database: Database,
    batch_id: UUID,
    *,
    after: int,
    limit: int,
    status: Status | None = None,
    custom_id: str | None = None,
    with_request: bool = False,
) -> list[Line]:
    """Up to `limit` lines that ended after the `after`-th of their batch, in the order in which they did."""
    rows = await database.run(
        "batch_lines_ended",
        batch=batch_id,
        after=after,
        limit=limit,
        status=status,
        custom_id=custom_id,
        with_input=with_request,
    )
    return [line_of(row) for row in rows]


def line_of(row: Any) -> Line:
    """A row of `batch_lines.sql` or `batch_lines_ended.sql`."""
    request = getattr(row, "request", None)
    return Line(
        line=row.line,
        custom_id=row.custom_id,
        job_id=row.job_id,
        ended=row.ended,
        status=Status(row.status),
        ending=BatchStatus(row.ending),
        copy_of=row.copy_of,
        status_code=row.status_code,
        body=None if row.body is None else bytes(row.body),
        error_code=row.error_code,
        error_message=row.error_message,
        usage=Usage(row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens),
        request=None if request is None else bytes(request),
    )


async def _made_before(connection: Driver, batch: NewBatch) -> UUID | None:
    """Take the idempotency key of a batch, or find the batch that took it."""
    if batch.key is None:
        return None
    named: dict[str, Sequence[object]] = {"tenants": [batch.tenant_id], "keys": [batch.key.key]}
    await fetch(connection, "keys_lock", **named)
    for row in await fetch(connection, "keys_find", kind="batch", **named):
        if bytes(row.body_hash) != batch.key.body_hash:
            raise Unprocessable(
                f"The idempotency key '{batch.key.key}' was used with a different request.",
                param="Idempotency-Key",
                code="idempotency_key_reused",
            )
        found: UUID = row.object_id
        return found
    await fetch(connection, "keys_take", kind="batch", hashes=[batch.key.body_hash], ids=[batch.id], **named)
    return None


async def _stop(database: Database, batch_id: UUID, status: Status, mark: str, **more: object) -> list[UUID]:
    """End everything of a batch that waits and have the statement `mark` say so on it; the ids of what ended."""
    async with database.transaction() as connection:
        ended = await _end_waiting(connection, batch_id, status)
        await fetch(connection, mark, id=batch_id, **more)
    # Lines whose reading was committed before the mark but after the look; none can come now.
    async with database.transaction() as connection:
        ended += await _end_waiting(connection, batch_id, status)
    metrics.FINISHED.labels(status.value).inc(len(ended))
    return ended


async def _end_waiting(connection: Driver, batch_id: UUID, status: Status) -> list[UUID]:
    await connection.execute(_MASS)
    flows = [row.id for row in await fetch(connection, "batch_flows_lock", batch=batch_id)]
    if not flows:
        return []
    return [row.id for row in await fetch(connection, "batch_stop", flows=flows, status=status)]


def _batch(row: Any) -> Batch:
    status = BatchStatus(row.status)
    return Batch(
        id=row.id,
        tenant_id=row.tenant_id,
        endpoint=row.endpoint,
        model=row.model,
        status=status,
        ending=BatchStatus(row.ending),
        errors=row.errors,
        input_file_id=row.input_file_id,
        window=row.completion_window,
        metadata=row.metadata,
        output_expires_seconds=row.output_expires_s,
        retry_of=row.retry_of,
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        total=row.total,
        completed=row.completed,
        failed=row.failed,
        ended=row.ended,
        usage=Usage(row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens)
        if status not in (BatchStatus.VALIDATING, BatchStatus.FAILED)
        else None,
        created_at=row.created_at,
        expires_at=row.expires_at,
        in_progress_at=row.in_progress_at,
        finalizing_at=row.finalizing_at,
        completed_at=row.completed_at,
        failed_at=row.failed_at,
        expired_at=row.expired_at,
        cancelling_at=row.cancelling_at,
        cancelled_at=row.cancelled_at,
    )
