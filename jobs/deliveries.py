"""Deliveries as their tenants see them: what was told to whom, every attempt of it, and doing it again."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from jobs import ids, webhooks
from jobs.database import Database
from jobs.errors import Conflict, NotFound

_LAST: Final = UUID(int=2**128 - 1)


class DeliveryStatus(StrEnum):
    """`pending` until a receiver took it, or every attempt failed."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. Without `latency_ms` nothing was sent, without `status_code` nothing was answered, for the reason in
    `error`; `answer` is the first KB of what the receiver said."""

    at: datetime
    latency_ms: int | None
    status_code: int | None
    error: str | None
    answer: bytes | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one receiver: an endpoint, or with none the subject's own webhook. `subject_id` is a job's or a
    batch's, by the event's type. `next_at` is when it is tried next, while it is pending."""

    id: UUID
    endpoint_id: UUID | None
    subject_id: UUID
    event_id: str
    type: str
    status: DeliveryStatus
    test: bool
    created_at: datetime
    next_at: datetime | None
    attempts: tuple[Attempt, ...]


async def of_endpoint(
    database: Database, tenant_id: int, endpoint_id: UUID, *, limit: int, after: UUID | None = None
) -> list[Delivery]:
    """Up to `limit` of an endpoint's deliveries made before `after`, newest first.

    Raises:
        NotFound: this tenant has no such endpoint.
    """
    await webhooks.get(database, tenant_id, endpoint_id)
    rows = await database.run(
        "deliveries_of_endpoint", endpoint=endpoint_id, tenant=tenant_id, before=after or _LAST, limit=limit
    )
    return await _with_attempts(database, rows)


async def of_subject(
    database: Database, tenant_id: int, subject_id: UUID, *, limit: int, after: UUID | None = None
) -> list[Delivery]:
    """Up to `limit` of the deliveries about a job or a batch made before `after`, newest first; none of a strange one.
    Whether it exists is for the caller to ask."""
    rows = await database.run(
        "deliveries_of_subject", subject=subject_id, tenant=tenant_id, before=after or _LAST, limit=limit
    )
    return await _with_attempts(database, rows)


async def get(database: Database, tenant_id: int, delivery_id: UUID) -> Delivery:
    """One delivery.

    Raises:
        NotFound: this tenant has no such delivery.
    """
    rows = await database.run("delivery_get", id=delivery_id, tenant=tenant_id)
    if not rows:
        raise _missing(delivery_id)
    return (await _with_attempts(database, rows))[0]


async def redeliver(database: Database, tenant_id: int, delivery_id: UUID) -> Delivery:
    """Send it again, now, with the same id and body, whatever became of it before; control still has to be woken.

    Raises:
        NotFound: this tenant has no such delivery.
        Conflict: its endpoint is disabled or deleted.
    """
    delivery = await get(database, tenant_id, delivery_id)
    if delivery.endpoint_id is not None:
        try:
            endpoint = await webhooks.get(database, tenant_id, delivery.endpoint_id)
        except NotFound:
            raise Conflict("Cannot redeliver: its webhook endpoint was deleted.") from None
        if endpoint.disabled_at is not None:
            raise Conflict(f"Cannot redeliver: its webhook endpoint is disabled ({endpoint.disabled_reason}).")
    await database.run("delivery_again", id=delivery_id, tenant=tenant_id)
    return await get(database, tenant_id, delivery_id)


async def test(database: Database, tenant_id: int, endpoint_id: UUID, event_type: str) -> UUID:
    """The id of a delivery that tells an endpoint, disabled or not, of an event about nothing; it is attempted once.

    Control still has to be woken; what became of it is in the delivery's attempts soon after.

    Raises:
        NotFound: this tenant has no such endpoint.
    """
    endpoint = await webhooks.get(database, tenant_id, endpoint_id)
    [row] = await database.run(
        "delivery_test", endpoint=endpoint.id, tenant=tenant_id, subject=ids.new(), type=event_type
    )
    identity: UUID = row.id
    return identity


async def _with_attempts(database: Database, rows: Sequence[Any]) -> list[Delivery]:
    attempts: defaultdict[UUID, list[Attempt]] = defaultdict(list)
    if rows:
        for row in await database.run("delivery_attempts", ids=[row.id for row in rows]):
            answer = None if row.answer is None else bytes(row.answer)
            attempts[row.delivery_id].append(Attempt(row.at, row.latency_ms, row.status_code, row.error, answer))
    return [
        Delivery(
            id=row.id,
            endpoint_id=row.endpoint_id,
            subject_id=row.subject_id,
            event_id=row.event_id,
            type=row.type,
            status=DeliveryStatus(row.status),
            test=row.test,
            created_at=row.created_at,
            next_at=row.next_at,
            attempts=tuple(attempts[row.id]),
        )
        for row in rows
    ]


def _missing(delivery_id: UUID) -> NotFound:
    return NotFound(f"No webhook delivery found with id '{ids.delivery_id(delivery_id)}'.", param="id")
