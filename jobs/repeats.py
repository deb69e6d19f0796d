"""A repeat finds its job: OpenAI's SDK gives up and asks again by habit, and must not start over in the queue."""

from uuid import UUID

from jobs.database import Database


async def attach(database: Database, tenant_id: int, body_hash: bytes, repeat: int) -> UUID | None:
    """The job that repeat number `repeat` (1 or more) of this request now waits for.

    An abandoned job first, a finished one included, else the oldest that another connection still waits for. Each
    repeat number takes a job once, so that two equal requests that both repeat find two jobs.
    """
    rows = await database.run("repeat_attach", tenant=tenant_id, body_hash=body_hash, repeat=repeat)
    return rows[0].job_id if rows else None


async def abandon(database: Database, job_id: UUID, repeat: int) -> bool:
    """The client that waited as number `repeat` went away: the grace begins. False if a repeat waits by now."""
    return bool(await database.run("repeat_abandon", job=job_id, repeat=repeat))


async def end(database: Database, job_id: UUID, repeat: int) -> bool:
    """The client that waited as number `repeat` went away for good: the job is nobody's, and left to be cancelled.

    False if somebody else waits for it by now, or will.
    """
    return bool(await database.run("repeat_end", job=job_id, repeat=repeat))


async def keep(database: Database, job_id: UUID) -> None:
    """Somebody found this job by its idempotency key: from now on nobody's going away ends it."""
    await database.run("repeat_keep", job=job_id)


async def overdue(database: Database, grace_seconds: float) -> list[UUID]:
    """Jobs that nobody came back for in time, a thousand at most; they are forgotten here and left to be cancelled."""
    return [row.job_id for row in await database.run("repeat_overdue", grace=grace_seconds)]


async def forget(database: Database) -> int:
    """Remove the entries of jobs that were answered, a thousand at most; how many there were."""
    return len(await database.run("repeat_forget"))
