"""Conversations: their turns run one after another, each behind what was said in those before it."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs import payload
from jobs.database import Database, Driver, fetch
from jobs.records import Json, NewJob

_SYSTEM: Final = ("system", "developer")
_SAID: Final = ("role", "content", "tool_calls")
_log = structlog.get_logger()


async def lock(connection: Driver, jobs: Sequence[NewJob]) -> None:
    """Let nobody else add turns to the conversations of these jobs before this transaction ends. Before their flows."""
    turns = [job for job in jobs if job.conversation is not None]
    if turns:
        await fetch(connection, "turns_lock", **_named(turns))


async def add(connection: Driver, jobs: Sequence[NewJob]) -> None:
    """Make those of these jobs that have a conversation its next turns, in their order. After `lock`, in the
    transaction that inserted them."""
    turns = [job for job in jobs if job.conversation is not None]
    if turns:
        await fetch(connection, "turns_hold", **_named(turns))
        await fetch(connection, "turns_add", ids=[job.id for job in turns], **_named(turns))


async def free(database: Database, ended: Sequence[UUID]) -> dict[str, int]:
    """Let the turns run that waited for these jobs; how many, by the queue of their model.

    Not in the transaction that ended them: flows are locked before jobs. Control frees what this cannot.
    """
    if not ended:
        return {}
    try:
        async with database.transaction() as connection:
            locked = await fetch(connection, "turns_flows_lock", ids=ended)
            if not locked:
                return {}
            rows = await fetch(connection, "turns_free", ids=ended, locked=[flow.id for flow in locked])
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        _log.warning("turns wait for control to free them", error=str(error))
        return {}
    return {row.queue: row.jobs for row in rows}


async def overdue(database: Database) -> list[UUID]:
    """Jobs that have ended and whose successors still wait, a thousand at most."""
    return [row.id for row in await database.run("turns_overdue")]


async def before(database: Database, job_id: UUID) -> list[Json]:
    """The messages of the turns before this one that completed, with their answers, in order."""
    messages: list[Json] = []
    for row in await database.run("turns_before", job=job_id):
        messages += payload.decode(bytes(row.request))["messages"]
        messages += _answer(payload.decode(bytes(row.response)))
    return messages


def joined(earlier: Sequence[Json], messages: Sequence[Json]) -> list[Json]:
    """All messages of a conversation, oldest first. Templates want one system message, in front: the newest rules."""
    spoken = [*earlier, *messages]
    system = [message for message in spoken if message.get("role") in _SYSTEM]
    return [*system[-1:], *(message for message in spoken if message.get("role") not in _SYSTEM)]


def _answer(response: Any) -> list[Json]:
    choices = response.get("choices") if isinstance(response, dict) else None
    if not choices:
        return []
    message = choices[0]["message"]
    return [{name: message[name] for name in _SAID if message.get(name) is not None}]


def _named(turns: Sequence[NewJob]) -> dict[str, Sequence[object]]:
    return {"tenants": [job.tenant_id for job in turns], "conversations": [job.conversation for job in turns]}
