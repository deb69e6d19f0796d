"""The tables as the tests see them: what a statement returns, where jobs are, and whether the counters are true."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import namedtuple_row

from jobs.database import Database
from jobs.states import Status


async def rows(database: Database, query: str, *parameters: Any) -> Sequence[Any]:
    """Run one statement with `%s` for its parameters and return its rows, if it has any, as named tuples."""
    async with database.transaction() as connection, connection.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute(query.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []


async def value(database: Database, query: str, *parameters: Any) -> Any:
    """The one value that a statement returns."""
    [row] = await rows(database, query, *parameters)
    [answer] = row
    return answer


async def waits_for_a_lock(database: Database) -> bool:
    """Whether a statement stands before a lock that another transaction holds."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await value(database, waiting))


async def job_row(database: Database, job_id: UUID) -> Any:
    """One row of `jobs`."""
    [row] = await rows(database, "SELECT * FROM jobs WHERE id = %s", job_id)
    return row


async def statuses(database: Database, job_ids: Iterable[UUID]) -> list[Status]:
    """The statuses of these jobs, in their order."""
    found = {row.id: Status(row.status) for row in await rows(database, "SELECT id, status FROM jobs")}
    return [found[job_id] for job_id in job_ids]


async def assert_counters_are_true(database: Database) -> None:
    """Every flow's `queued` is what a recount gives, and it is open if and only if something is queued."""
    wrong = await rows(
        database,
        "SELECT f.*, c.n FROM flows f CROSS JOIN LATERAL (SELECT count(*) AS n FROM jobs j"
        " WHERE j.flow_id = f.id AND j.status = 'queued' AND j.blocked_on IS NULL) c"
        " WHERE f.queued <> c.n OR f.open <> (c.n > 0)",
    )
    assert not wrong
