"""Bring a database's schema to this version, with Alembic, and make the partitions of the next days."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError

from jobs import ids

DAYS_AHEAD = 14
BODIES = ("requests", "results", "streams")
"""The insert-only tables that have a partition a day."""
_LOCK = 0x10_4A_01
"""The advisory lock under which one process migrates while the others wait."""
_log = structlog.get_logger()


def folder() -> Path:
    """Where the migrations lie: inside the installed package, else beside it in the checkout."""
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "migrations"


def upgrade(url: str) -> None:
    """Run every migration that this database lacks, once, whoever else tries at the same time.

    A schema of a newer version stays as it is: while a fleet is upgraded, parts of the version before start too.
    """
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(folder()))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        has_all = _has_all(connection)
        connection.commit()
        if not has_all:
            command.upgrade(config, "head")
        make_partitions(connection, datetime.now(UTC))
        connection.commit()
    engine.dispose()


def is_current(url: str) -> bool:
    """Whether this database has every migration of this version; one that a newer version has changed has them too."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = _has_all(connection)
    engine.dispose()
    return found


def _has_all(connection: Connection) -> bool:
    script = ScriptDirectory(str(folder()))
    older = {revision.revision for revision in script.walk_revisions()} - {script.get_current_head()}
    found = MigrationContext.configure(connection).get_current_revision()
    return found is not None and found not in older


def make_partitions(connection: Connection, now: datetime) -> None:
    """Create the daily partitions of `BODIES` from yesterday to `DAYS_AHEAD` days from now.

    A day whose rows already lie in a default partition stays there.
    """
    for day in days_ahead(now):
        try:
            with connection.begin_nested():
                for statement in partitions(day):
                    connection.execute(text(statement))
        except IntegrityError as error:
            _log.warning("a day's partitions could not be made", day=f"{day:%Y%m%d}", error=str(error.orig))


def days_ahead(now: datetime) -> list[datetime]:
    """Midnight (UTC) of each day that should have its partitions."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [midnight + timedelta(days=offset) for offset in range(-1, DAYS_AHEAD + 1)]


def partitions(day: datetime) -> list[str]:
    """The statements that create the partitions of one day where they are missing."""
    lower, upper = ids.floor(day.timestamp()), ids.floor((day + timedelta(days=1)).timestamp())
    return [
        f"CREATE TABLE IF NOT EXISTS {table}_{day:%Y%m%d} PARTITION OF {table} "
        f"FOR VALUES FROM ('{lower}') TO ('{upper}')"
        for table in BODIES
    ]
