"""Makes room: partitions for the days to come, and away with what nobody may ask for any more."""

from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobs import ids, migrate, repeats
from jobs.database import Database

_DAY = timedelta(days=1)
_log = structlog.get_logger()


async def run(database: Database, keep_days: int, now: datetime | None = None) -> int:
    """Make partitions ahead; remove jobs made more than `keep_days` days ago that have ended, with their bodies, and
    idempotency keys, answered repeats and lost workers past their time. How many rows went, dropped bodies aside."""
    now = (now or datetime.now(UTC)).astimezone(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first_kept = midnight - keep_days * _DAY
    await _make_days(database, now)
    await _drop_days(database, first_kept)
    gone = await _until_none(database, "purge_jobs", bound=ids.floor(first_kept.timestamp()))
    gone += await _until_none(database, "purge_keys")
    while forgotten := await repeats.forget(database):
        gone += forgotten
    return gone + len(await database.run("purge_workers"))


async def _make_days(database: Database, now: datetime) -> None:
    """Each day alone: one whose rows already lie in the default partition cannot be made any more, and need not be."""
    made = {row.day for row in await database.run("partitions")}
    for day in migrate.days_ahead(now):
        if f"{day:%Y%m%d}" not in made:
            try:
                async with database.engine.begin() as connection:
                    await connection.execute(text("SET LOCAL lock_timeout = '5s'"))
                    await connection.run_sync(migrate.make_partition, day)
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                _log.warning("a partition could not be made", day=f"{day:%Y-%m-%d}", error=str(error.orig))


async def _drop_days(database: Database, first_kept: datetime) -> None:
    """Drop the partitions of every day before `first_kept` whose jobs have all ended."""
    for row in await database.run("partitions"):
        day = datetime.strptime(row.day, "%Y%m%d").replace(tzinfo=UTC)
        lower, upper = ids.floor(day.timestamp()), ids.floor((day + _DAY).timestamp())
        if day >= first_kept or await database.run("unfinished_between", lower=lower, upper=upper):
            continue
        async with database.engine.begin() as connection:
            # Whoever is reading a body may finish, but nobody shall queue for long behind this.
            await connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            await connection.execute(text(f"DROP TABLE requests_{row.day}, results_{row.day}"))
        _log.info("a day's bodies were dropped", day=row.day)


async def _until_none(database: Database, statement: str, **parameters: object) -> int:
    gone = 0
    while rows := await database.run(statement, **parameters):
        gone += len(rows)
    return gone
