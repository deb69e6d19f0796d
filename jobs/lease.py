"""A worker holds its jobs while its lease is renewed; else they go back, counted; what it hands back is refunded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from jobs import conversations, metrics
from jobs.database import Database, Driver, Rows, fetch
from jobs.records import Flags, Tier
from jobs.states import Status


@dataclass(frozen=True, slots=True)
class Orphaned:
    """What became of a lost worker's jobs: how many wait again for which model, which ended as `worker_lost`, and the
    runs (job, lease token) that were streams."""

    model_id: int | None
    requeued: int
    failed: list[UUID]
    streams: list[tuple[UUID, int]] = field(default_factory=list)


async def renew(
    database: Database, worker: UUID, lease_seconds: float, slots: int, draining: bool
) -> dict[UUID, int] | None:
    """Live for one more lease, on the database's clock.

    Returns:
        The lease token of each job that the database says this worker holds; None if the worker is not known.
    """
    if not await database.run("renew", worker=worker, lease=lease_seconds, slots=slots, draining=draining):
        return None
    return {row.id: row.lease_token for row in await database.run("held", worker=worker)}


async def release(database: Database, jobs: Sequence[tuple[UUID, int]]) -> int:
    """Hand these `(job, lease token)` back with their attempt refunded; how many were still ours to hand back."""
    if not jobs:
        return 0
    jobs = sorted(jobs)  # as every statement that takes several jobs' rows
    job_ids = [job for job, _ in jobs]
    async with database.transaction() as connection:
        locked = await fetch(connection, "flows_lock", ids=job_ids)
        released = await fetch(
            connection,
            "release",
            ids=job_ids,
            lease_tokens=[token for _, token in jobs],
            locked=[flow.id for flow in locked],
        )
    return len(released)


async def orphan(database: Database, worker: UUID, *, only_expired: bool = False) -> Orphaned:
    """Take a lost worker's jobs from it, counting the loss; a worker whose engine died does it for itself.

    With `only_expired` nothing is taken from a worker that renewed its lease in the meantime.
    """
    async with database.transaction() as connection:
        if only_expired and not await fetch(connection, "lease_expired_lock", worker=worker):
            return Orphaned(None, 0, [])
        orphans = await fetch(connection, "orphans", worker=worker)
        taken = await _take(connection, worker, orphans)
    return await _orphaned(database, orphans, taken)


async def lose(database: Database, worker: UUID, jobs: Mapping[UUID, int]) -> Orphaned:
    """The same for these jobs alone (with their lease tokens), of a worker that lives on."""
    async with database.transaction() as connection:
        held = await fetch(connection, "orphans", worker=worker)
        orphans = [row for row in held if jobs.get(row.id) == row.lease_token]
        taken = await _take(connection, worker, orphans)
    return await _orphaned(database, orphans, taken)


async def _take(connection: Driver, worker: UUID, orphans: Rows) -> Rows:
    """Those of the worker's jobs that were taken from it; with their flags, those that ended with it."""
    if not orphans:
        return []
    moving = [row for row in orphans if row.moves]
    if moving:
        await fetch(
            connection,
            "flows_make",
            models=[row.model_id for row in moving],
            tiers=[int(Tier.SUSPECT)] * len(moving),
            tenants=[row.tenant_id for row in moving],
            waited=[row.waited for row in moving],
            batches=[row.batch_id for row in moving],
        )
    job_ids = [row.id for row in orphans]
    locked = await fetch(connection, "orphan_lock", ids=job_ids)
    return await fetch(connection, "orphan", worker=worker, ids=job_ids, locked=[flow.id for flow in locked])


async def _orphaned(database: Database, orphans: Rows, taken: Rows) -> Orphaned:
    if not orphans:
        return Orphaned(None, 0, [])
    failed = [row.id for row in taken if row.flags is not None]
    metrics.FINISHED.labels(Status.FAILED.value).inc(len(failed))
    metrics.ORPHANS.labels("failed").inc(len(failed))
    metrics.ORPHANS.labels("requeued").inc(len(taken) - len(failed))
    await conversations.free(database, [row.id for row in taken if (row.flags or 0) & Flags.SUCCESSOR])
    streams = [(row.id, row.lease_token) for row in orphans if row.streams]
    return Orphaned(orphans[0].model_id, len(taken) - len(failed), failed, streams)


async def expired(database: Database, lease_seconds: float, *, watched: bool = True) -> list[UUID]:
    """Workers whose lease was ended, or ran out, and who still hold jobs.

    None that ran out while the database is younger than one lease, since nobody could renew before it was up, nor
    unless the caller has `watched` it answer for as long.
    """
    return [row.id for row in await database.run("lease_expired", lease=lease_seconds, watched=watched)]


async def end(database: Database, worker: UUID) -> None:
    """Let a worker's lease expire now: somebody saw it die."""
    await database.run("lease_end", worker=worker)


async def end_home(database: Database, host: str, home: str) -> int:
    """Let the leases of every worker that this host started from this folder expire now; how many there were."""
    return len(await database.run("lease_end_home", host=host, home=home))


async def leave(database: Database, worker: UUID) -> None:
    """A clean stop: the worker holds nothing any more and its row goes."""
    async with database.transaction() as connection:
        await fetch(connection, "worker_lock", worker=worker)
        await fetch(connection, "worker_leave", worker=worker)
