"""The ends that no engine brings about: cancelled at any point of the life, expired in the queue, retired."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias
from uuid import UUID

from jobs import conversations, metrics
from jobs.database import Database, fetch
from jobs.records import Flags
from jobs.states import Status

Publish: TypeAlias = Callable[[str, int], None]
"""Says that so many more jobs of a queue may run: turns that waited for those that were ended."""

_ENDS: Final = {
    "cancel": Status.CANCELLED,
    "lose": Status.FAILED,
    "expire": Status.EXPIRED,
    "retire": Status.FAILED,
}
"""What jobs become by each statement."""
_NOT_NOW: Final[Publish] = lambda queue, jobs: None  # noqa: E731  # idle workers look once a second


async def cancel(database: Database, ids: Sequence[UUID], publish: Publish = _NOT_NOW) -> list[UUID]:
    """End these jobs wherever they are; the ones that this call ended. Their worker still has to be told."""
    return await _end(database, "cancel", ids, publish)


async def lose(database: Database, ids: Sequence[UUID], publish: Publish = _NOT_NOW) -> list[UUID]:
    """Fail these as `worker_lost` wherever they are; the ones that this call ended. Their worker has to be told."""
    return await _end(database, "lose", ids, publish)


async def expire(database: Database) -> list[UUID]:
    """End the queued jobs whose time ran out, a thousand at most; the ones that this call ended."""
    return await _end(database, "expire", [row.id for row in await database.run("expire_due")])


async def retire(database: Database, model_id: int) -> list[UUID]:
    """End the queued jobs of a model that is retired, a thousand at most; the ones that this call ended."""
    return await _end(database, "retire", [row.id for row in await database.run("retire_due", model=model_id)])


async def free_key(database: Database, tenant_id: int, key: str, job_id: UUID) -> None:
    """Make an idempotency key usable again: the disconnect of its client cancelled this job."""
    await database.run("key_free", tenant=tenant_id, key=key, id=job_id)


async def _end(database: Database, name: str, ids: Sequence[UUID], publish: Publish = _NOT_NOW) -> list[UUID]:
    if not ids:
        return []
    ended: list[UUID] = []
    followed: list[UUID] = []
    remaining = list(ids)
    # A job that a rescue moves to its suspect flow between look and lock is missed; the next round finds it there.
    for _ in range(3):
        async with database.transaction() as connection:
            locked = await fetch(connection, "flows_lock", ids=remaining)
            rows = await fetch(connection, name, ids=remaining, locked=[flow.id for flow in locked])
        ended += [row.id for row in rows]
        followed += [row.id for row in rows if row.flags & Flags.SUCCESSOR]
        remaining = [job for job in remaining if job not in set(ended)]
        if not remaining or not await database.run("unfinished", ids=remaining):
            break
    metrics.FINISHED.labels(_ENDS[name].value).inc(len(ended))
    for queue, jobs in (await conversations.free(database, followed)).items():
        publish(queue, jobs)
    return ended
