"""Makes room: partitions for the days to come, and away with what nobody may ask for any more."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from jobs import ids, migrate
from jobs.database import Database

_DAY = timedelta(days=1)
_log = structlog.get_logger()


async def run(database: Database, keep_days: int, now: datetime | None = None) -> int:
    """Make partitions ahead; remove jobs and batches made more than `keep_days` days ago that have ended, with their
    bodies, events made as long ago, and idempotency keys and lost workers past their time. How many rows went, dropped
    bodies aside. A job lives while a line of a batch that has not ended wants it.

    What fails is logged and left to the next round, and the rest is done.

    Raises:
        DBAPIError: the database is away.
    """
    now = (now or datetime.now(UTC)).astimezone(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first_kept = midnight - keep_days * _DAY
    with _holding_up_no_other("days to come"):
        await _make_days(database, now)
    bound = ids.floor(first_kept.timestamp())
    gone = await _until_none(database, "purge_lines", bound=bound)
    with _holding_up_no_other("purge_batches"):
        gone += len(await database.run("purge_batches", bound=bound))
    with _holding_up_no_other("days that are over"):
        await _drop_days(database, first_kept)
    gone += await _purge_jobs(database, bound)
    gone += await _until_none(database, "purge_deliveries", bound=bound)
    gone += await _until_none(database, "purge_own_webhooks", bound=bound)
    gone += await _until_none(database, "purge_keys")
    with _holding_up_no_other("deliveries_overdue"):
        await database.run("deliveries_overdue")
    with _holding_up_no_other("purge_workers"):
        gone += len(await database.run("purge_workers"))
    return gone


async def _make_days(database: Database, now: datetime) -> None:
    """Each day alone: one whose rows already lie in the default partition cannot be made any more, and need not be."""
    made = {row.day for row in await database.run("partitions") if row.whole}
    for day in migrate.days_ahead(now):
        if f"{day:%Y%m%d}" not in made:
            with _holding_up_no_other("make a day", day=f"{day:%Y%m%d}"):
                await _define(database, migrate.partitions(day))


async def _drop_days(database: Database, first_kept: datetime) -> None:
    """Drop the partitions of every day before `first_kept` of which no job is wanted any more."""
    for row in await database.run("partitions"):
        day = datetime.strptime(row.day, "%Y%m%d").replace(tzinfo=UTC)
        if day >= first_kept:
            break
        with _holding_up_no_other("drop a day", day=row.day):
            lower, upper = ids.floor(day.timestamp()), ids.floor((day + _DAY).timestamp())
            if await database.run("wanted_between", lower=lower, upper=upper):
                continue
            await _define(database, [f"DROP TABLE IF EXISTS {table}_{row.day}" for table in migrate.BODIES])
            _log.info("a day's bodies were dropped", day=row.day)


async def _purge_jobs(database: Database, bound: UUID) -> int:
    """Page by page, so that what a batch under way wants is passed by once."""
    gone, after = 0, UUID(int=0)
    with _holding_up_no_other("purge_jobs"):
        while rows := await database.run("purge_jobs", after=after, bound=bound):
            gone, after = gone + rows[0].gone, rows[0].last
    return gone


async def _define(database: Database, statements: Iterable[str]) -> None:
    """All of these definitions or none. Whoever is at a body may finish, but nobody queues for long behind this."""
    async with database.transaction() as driver:
        await driver.execute("SET LOCAL lock_timeout = '5s'")
        for statement in statements:
            await driver.execute(statement.encode())


async def _until_none(database: Database, statement: str, **parameters: object) -> int:
    gone = 0
    with _holding_up_no_other(statement):
        while rows := await database.run(statement, **parameters):
            gone += len(rows)
    return gone


@contextmanager
def _holding_up_no_other(step: str, **about: str) -> Iterator[None]:
    """One step: if it fails while the database is there, the next round tries it again."""
    try:
        yield
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        _log.warning("a step of the purge failed", step=step, error=str(error.orig), **about)
