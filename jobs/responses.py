"""Responses as a resource: jobs of `/v1/responses` that their client asked to keep, and the conversations they make.

A conversation is not stored: each response names the one that it continues, and has only what it added itself. So the
earlier turns are read when they are needed, by any worker, and a turn that was deleted is gone for all that follow it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from jobs import ids, payload, read, response_items, streams
from jobs.database import Database
from jobs.errors import BadRequest, Conflict, NotFound, TooLarge
from jobs.records import Flags, Json, NewJob
from jobs.states import Status

_PARAM: Final = "previous_response_id"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One response: its request, and its answer or the error that it has instead, once it has ended."""

    id: UUID
    status: Status
    flags: Flags
    model: str
    request: bytes
    previous: UUID | None
    service_tier: str | None
    status_code: int | None
    body: bytes | None
    error_code: str | None
    error_message: str | None
    begun: Sequence[Json] = ()
    """What had been answered when it was cancelled, as far as it was streamed."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one response added to its conversation: the items of its request, and those of its answer."""

    id: UUID
    said: list[Any]
    answered: list[Any]


def accepted(job: NewJob) -> StoredResponse:
    """The response of a job that was accepted just now."""
    return StoredResponse(
        id=job.id,
        status=Status.QUEUED,
        flags=job.flags,
        model=job.model,
        request=job.body,
        previous=job.previous,
        service_tier=job.service_tier,
        status_code=None,
        body=None,
        error_code=None,
        error_message=None,
    )


async def get(database: Database, tenant_id: int, response_id: UUID) -> StoredResponse:
    """One response.

    Raises:
        NotFound: this tenant has no such response, or did not store it.
    """
    for row in await database.run("response_get", id=response_id, tenant=tenant_id):
        return StoredResponse(
            id=row.id,
            status=Status(row.status),
            flags=Flags(row.flags),
            model=row.model,
            request=bytes(row.request),
            previous=row.previous_id,
            service_tier=row.service_tier,
            status_code=row.status_code,
            body=None if row.response is None else bytes(row.response),
            error_code=row.error_code,
            error_message=row.error_message,
            begun=await _begun(database, response_id, Status(row.status), Flags(row.flags)),
        )
    raise _missing(response_id)


async def delete(database: Database, tenant_id: int, response_id: UUID) -> None:
    """Remove a response with everything that was stored of it. What continues it cannot be continued any more.

    Raises:
        NotFound: this tenant has no such response, or did not store it.
        Conflict: it has not ended, or a batch's files need it.
    """
    found = await get(database, tenant_id, response_id)
    if not found.status.terminal:
        raise Conflict(f"Cannot delete a response with status '{found.status}'. Cancel it first.")
    await read.delete(database, tenant_id, response_id)


async def measure(database: Database, tenant_id: int, previous: UUID, limit: int) -> int:
    """The bytes of the conversation that would be continued from `previous`.

    Raises:
        BadRequest: one of its turns does not exist for this tenant, was not stored, or has no answer to continue from.
        TooLarge: they are more than `limit`.
    """
    size = 0
    for row in await database.run("response_chain", id=previous, tenant=tenant_id):
        _insist_on(row, row.request_bytes)
        size += row.request_bytes + (row.response_bytes or 0)
    if size > limit:
        message = f"The conversation up to '{ids.response_id(previous)}' is over the limit of {limit} bytes."
        raise TooLarge(message, param=_PARAM, code="request_too_large")
    return size


async def turns(database: Database, tenant_id: int, last: UUID) -> list[Turn]:
    """The turns of the conversation up to `last`, oldest first.

    Raises:
        BadRequest: one of them is gone.
    """
    rows = await database.run("response_turns", id=last, tenant=tenant_id)
    for row in rows:
        _insist_on(row, row.request)
    return [_turn(row) for row in rows]


async def input_items(database: Database, tenant_id: int, response_id: UUID) -> list[Json]:
    """Every item that the response was made from, oldest first, those of the turns before it too as far as they are
    there.

    Raises:
        NotFound: this tenant has no such response, or did not store it.
    """
    rows = await database.run("response_turns", id=response_id, tenant=tenant_id)
    if rows[-1].request is None or rows[-1].flags & Flags.UNSTORED:
        raise _missing(response_id)
    *earlier, last = [_turn(row) for row in rows if row.request is not None]
    before = [item for turn in earlier for item in _listed(turn)]
    return before + response_items.listed(last.id, last.said)


def continued(request: Json, earlier: Sequence[Turn]) -> Json:
    """The request with the items of the earlier turns before its own, and naming no previous response."""
    items = [item for turn in earlier for item in (*turn.said, *turn.answered)]
    return {**request, "input": [*items, *response_items.said(request)], _PARAM: None}


def unknown_previous(name: object) -> BadRequest:
    """What a request gets that continues a response that is not there."""
    message = f"Previous response with id '{name!s:.100}' not found."
    return BadRequest(message, param=_PARAM, code="previous_response_not_found")


async def _begun(database: Database, response_id: UUID, status: Status, flags: Flags) -> list[Json]:
    if status is not Status.CANCELLED or Flags.STREAMS not in flags:
        return []
    log = await streams.stored(database, response_id)
    pieces = () if log is None else streams.unpack(log.body)
    return response_items.begun(event for piece in pieces for event in streams.events(piece))


def _missing(response_id: UUID) -> NotFound:
    return NotFound(f"Response with id '{ids.response_id(response_id)}' not found.", param="id")


def _insist_on(row: Any, request: object) -> None:
    """Raises BadRequest unless this turn is there and has been answered."""
    name = ids.response_id(row.id)
    if request is None or row.status is None or row.flags & Flags.UNSTORED:
        raise unknown_previous(name)
    if row.status != Status.COMPLETED:
        ended = Status(row.status).terminal
        why = "there is no answer to continue from" if ended else "wait until it has been answered"
        raise BadRequest(
            f"Cannot continue from the response '{name}' with status '{row.status}': {why}.",
            param=_PARAM,
            code="invalid_value",
        )


def _turn(row: Any) -> Turn:
    answer = None if row.response is None else bytes(row.response)
    return Turn(row.id, response_items.said(payload.decode(bytes(row.request))), response_items.output(answer))


def _listed(turn: Turn) -> list[Json]:
    return response_items.listed(turn.id, turn.said) + [item for item in turn.answered if isinstance(item, dict)]
