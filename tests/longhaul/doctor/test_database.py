"""Looks at PostgreSQL."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.exc import OperationalError

from jobs.database import Database
from longhaul.doctor import database as doctor
from longhaul.doctor.finding import Level
from tests.jobs.ledger import rows
from tests.longhaul.doctor.conftest import faults, said

HASTY = ("database", Level.TROUBLE)
"""The tests' own server does not sync its disk, and the doctor says so."""


async def test_a_database_of_this_release_is_well_and_named(database: Database) -> None:
    found = await doctor.examine(database)
    assert faults(found) == [HASTY]
    assert "PostgreSQL 18" in said(found, "versions")
    assert "fsync, full_page_writes is off" in said(found, "database")
    assert "of this release" in said(found, "schema")
    assert "agrees" in said(found, "clock")


@asynccontextmanager
async def at_revision(database: Database, revision: str) -> AsyncIterator[None]:
    """The schema says that it is at this one; afterwards it says the truth, for tests that get the database next."""
    [row] = await rows(database, "SELECT version_num FROM alembic_version")
    await rows(database, "UPDATE alembic_version SET version_num = %s", revision)
    yield
    await rows(database, "UPDATE alembic_version SET version_num = %s", row.version_num)


async def test_a_schema_of_an_older_release_wants_to_be_migrated(database: Database) -> None:
    async with at_revision(database, "0007"):
        found = await doctor.examine(database)
    assert faults(found) == [HASTY, ("schema", Level.TROUBLE)]
    assert "is at 0007" in said(found, "schema")


async def test_a_schema_of_a_newer_release_is_a_warning(database: Database) -> None:
    async with at_revision(database, "9999"):
        assert faults(await doctor.examine(database)) == [HASTY, ("schema", Level.WARNING)]


async def test_a_database_that_nobody_migrated_says_so(database: Database) -> None:
    await rows(database, "DROP TABLE alembic_version")
    found = await doctor.examine(database)
    assert faults(found) == [HASTY, ("schema", Level.TROUBLE)]
    assert "migrate" in (found[-1].do or "")


async def test_missing_partitions_are_noticed_before_they_are_needed(database: Database) -> None:
    days = await rows(database, "SELECT relname FROM pg_class WHERE relname LIKE 'requests_20%%' AND relkind = 'r'")
    await rows(database, f"DROP TABLE {max(row.relname for row in days)}")
    assert ("schema", Level.WARNING) in faults(await doctor.examine(database))


@pytest.mark.parametrize(("ahead", "level"), [(-3600, Level.TROUBLE), (10, Level.WARNING)])
async def test_a_clock_that_is_off_is_noticed(ahead: float, level: Level, database: Database) -> None:
    found = await doctor.examine(database, lambda: time.time() + ahead)
    assert faults(found) == [HASTY, ("clock", level)]
    assert ("ahead of" if ahead > 0 else "behind") in said(found, "clock")


async def test_a_database_that_is_away_is_for_the_caller_to_say() -> None:
    lost = Database("postgresql+psycopg://x:y@127.0.0.1:1/z")
    with pytest.raises(OperationalError):
        await doctor.examine(lost)
    await lost.close()
