"""Looks at PostgreSQL."""

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


async def test_a_schema_of_an_older_release_wants_to_be_migrated(database: Database) -> None:
    await rows(database, "UPDATE alembic_version SET version_num = '0007'")
    found = await doctor.examine(database)
    assert faults(found) == [HASTY, ("schema", Level.TROUBLE)]
    assert "is at 0007" in said(found, "schema")


async def test_a_schema_of_a_newer_release_is_a_warning(database: Database) -> None:
    await rows(database, "UPDATE alembic_version SET version_num = '9999'")
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


async def test_a_clock_that_is_far_off_is_trouble(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.time.time
    for seconds, level in ((-3600, Level.TROUBLE), (10, Level.WARNING)):
        monkeypatch.setattr(doctor.time, "time", lambda ahead=seconds: real() + ahead)
        found = await doctor.examine(database)
        assert ("clock", level) in faults(found)
    assert "10.0 s ahead of the database's" in said(found, "clock")


async def test_a_database_that_is_away_is_for_the_caller_to_say() -> None:
    lost = Database("postgresql+psycopg://x:y@127.0.0.1:1/z")
    with pytest.raises(OperationalError):
        await doctor.examine(lost)
    await lost.close()
