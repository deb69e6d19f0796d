"""Deliveries as control sees them: due ones are claimed for a while, what became of them is marked. `sql/tell.sql` puts
them here, in the transaction of the end that they tell of."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from jobs import ids, payload, read
from jobs.database import Database
from jobs.deliveries import DeliveryStatus
from jobs.records import Json, Result
from jobs.secrets import Unreadable, Vault

LEASE_SECONDS: Final = 30.0
"""How long a claimed delivery is left to who claimed it; after that somebody else sends it."""
FEW: Final = 8
MANY: Final = 64
_LONGEST_RESULT: Final = 256 * 2**10


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a delivery goes, decrypted: the secrets are those that sign now."""

    url: str
    headers: dict[str, str]
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """A claimed delivery; `attempts` were made before. Without a `receiver` it cannot be sent, for this `reason`, which
    is `final` if no later attempt could do better."""

    id: UUID
    lease_token: int
    lane: int
    tenant_id: int
    subject_id: UUID
    type: str
    body: bytes
    attempts: int
    test: bool
    includes_result: bool
    receiver: Receiver | None
    reason: str | None = None
    final: bool = False
    traceparent: str | None = None
    """Where the trace of its job's request goes on."""

    @property
    def webhook_id(self) -> str:
        """The same on every attempt: by it a receiver knows what it has."""
        return ids.delivery_id(self.id)


@dataclass(frozen=True, slots=True)
class Mark:
    """What became of a claimed delivery. Pending ones are due again after `delay` seconds.

    Without `at` there was no attempt; without `latency_ms` it came to nothing before it was sent.
    """

    due: Due
    status: DeliveryStatus
    delay: float = 0.0
    at: datetime | None = None
    latency_ms: int | None = None
    status_code: int | None = None
    error: str | None = None
    answer: bytes | None = None


async def claim(
    database: Database,
    vault: Vault,
    full: Collection[int],
    quick: Collection[int],
    crowded: Collection[int],
    most: int,
) -> list[Due]:
    """Take up to `most` due deliveries: `MANY` of each lane in `quick`, `FEW` of others, none of those in `full` nor
    of the `crowded` tenants."""
    rows = await database.run(
        "deliveries_claim",
        full=list(full),
        quick=list(quick),
        crowded=list(crowded),
        many=MANY,
        few=FEW,
        most=most,
        lease=LEASE_SECONDS,
    )
    return [_due(row, vault) for row in rows]


async def include_result(database: Database, due: Due) -> Due | None:
    """The delivery with its job's result in the body, stored before anything is sent; None if it is no longer ours.

    A result that is over 256 KB, or not there any more, is left out.
    """
    result = (await read.results(database, [due.subject_id])).get(due.subject_id)
    body = due.body
    if result is not None and len(result.body or b"") <= _LONGEST_RESULT:
        event: Json = json.loads(due.body)
        event["data"] |= _result(result)
        body = payload.write(event)
    if not await database.run("delivery_include", id=due.id, lease_token=due.lease_token, body=body):
        return None
    return replace(due, body=body, includes_result=False)


async def mark(database: Database, marks: Sequence[Mark]) -> dict[UUID, str]:
    """Write what became of those deliveries that are still ours; the endpoints that this disabled, with the reason."""
    rows = await database.run(
        "deliveries_mark",
        ids=[mark.due.id for mark in marks],
        lease_tokens=[mark.due.lease_token for mark in marks],
        statuses=[mark.status.value for mark in marks],
        delays=[float(mark.delay) for mark in marks],
        ats=[mark.at for mark in marks],
        latencies=[mark.latency_ms for mark in marks],
        status_codes=[mark.status_code for mark in marks],
        errors=[mark.error for mark in marks],
        answers=[mark.answer for mark in marks],
    )
    return {row.id: row.disabled_reason for row in rows if row.disabled_reason is not None}


def _due(row: Any, vault: Vault) -> Due:
    receiver, reason, final = None, None, False
    try:
        if row.target is not None:
            receiver = _own_receiver(row, vault)
        elif row.url is None:
            reason, final = "its webhook was deleted", True
        elif row.disabled_reason is not None and not row.test:
            reason, final = f"its endpoint is disabled: {row.disabled_reason}", True
        else:
            headers = {} if row.headers is None else json.loads(vault.open(bytes(row.headers)))
            receiver = Receiver(row.url, headers, _opened(row, vault))
    except Unreadable as error:
        reason = str(error)
    return Due(
        id=row.id,
        lease_token=row.lease_token,
        lane=row.lane,
        tenant_id=row.tenant_id,
        subject_id=row.subject_id,
        type=row.type,
        body=bytes(row.body),
        attempts=row.attempts,
        test=row.test,
        includes_result=row.includes_result,
        receiver=receiver,
        reason=reason,
        final=final,
        traceparent=row.traceparent,
    )


def _own_receiver(row: Any, vault: Vault) -> Receiver:
    """That of a webhook that the subject brought: its own secret signs, else its tenant's."""
    target = json.loads(vault.open(bytes(row.target)))
    secret = target.get("secret")
    return Receiver(target["url"], target.get("headers") or {}, (secret,) if secret else _opened(row, vault))


def _opened(row: Any, vault: Vault) -> tuple[str, ...]:
    return tuple(vault.open(bytes(secret)) for secret in row.secrets)


def _result(result: Result) -> Json:
    """What the event's data gets, as the job object has it."""
    response, error = None, None
    if result.status_code is not None:
        response = {"status_code": result.status_code, "body": payload.shown(result.body)}
    if result.error_code is not None:
        error = {"code": result.error_code, "message": result.error_message}
    return {"status": result.status, "response": response, "error": error}
