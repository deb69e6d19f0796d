"""What must be true of every job after every fault, asked of the tables and of the engine's own journal."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import text

from jobs.database import Database
from tests import journal
from tests.journal import Entry


async def statuses(database: Database) -> dict[str, int]:
    """How many jobs have which status."""
    async with database.engine.connect() as connection:
        rows = await connection.execute(text("SELECT status::text AS name, count(*) AS jobs FROM jobs GROUP BY 1"))
        return {row.name: row.jobs for row in rows}


async def held(database: Database, worker: UUID) -> set[str]:
    """The jobs that a worker holds now, by their hex ids."""
    async with database.engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT id FROM jobs WHERE worker_id = :worker AND status = 'in_progress'"), {"worker": worker}
        )
        return {row.id.hex for row in rows}


async def attempts(database: Database) -> dict[str, int]:
    """The attempts that each job counts, by its hex id."""
    async with database.engine.connect() as connection:
        return {row.id.hex: row.attempts for row in await connection.execute(text("SELECT id, attempts FROM jobs"))}


async def check_completed_once(database: Database, accepted: Collection[str], entries: Collection[Entry]) -> None:
    """Every accepted job, and no other, completed with one result, which an answer of the engine stands behind."""
    async with database.engine.connect() as connection:
        completed = {
            row.id.hex for row in await connection.execute(text("SELECT id FROM jobs WHERE status = 'completed'"))
        }
        results = [
            row.job_id.hex
            for row in await connection.execute(text("SELECT job_id FROM results WHERE status_code = 200"))
        ]
    assert completed == set(accepted)
    assert sorted(results) == sorted(accepted)
    answered = journal.ends(entries)
    assert set(accepted) <= set(answered), "a result is stored that the engine never gave"


async def check_order_is_clean(database: Database) -> None:
    """With nothing left to do, no flow counts a job and none is open."""
    async with database.engine.connect() as connection:
        rows = await connection.execute(text("SELECT id, queued, open FROM flows WHERE queued <> 0 OR open"))
        assert rows.fetchall() == []
