"""The schema: made once whoever tries, known to the code, and undone by its downgrade."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, inspect, text

from jobs import ids, migrate, tables
from jobs.database import Database
from longhaul.embedded import EmbeddedPostgres
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import rows


@pytest.fixture
def empty_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    server, _, _ = postgres.url.replace("+psycopg", "").rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare TEMPLATE template0")
        yield postgres.url.removesuffix("longhaul") + "bare"
        connection.execute("DROP DATABASE bare WITH (FORCE)")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    migrate.upgrade(database_url)  # the copy has the partitions of a few days only
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


def table_names(url: str) -> set[str]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = set(inspect(connection).get_table_names())
    engine.dispose()
    return found


def test_processes_that_migrate_at_once_do_it_once(empty_url: str) -> None:
    code = f"from jobs import migrate; migrate.upgrade({empty_url!r})"
    racing = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(60) for process in racing] == [0, 0, 0]
    assert {table.name for table in tables.metadata.sorted_tables} <= table_names(empty_url)
    migrate.upgrade(empty_url)


def test_a_downgrade_leaves_nothing(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    engine, config = create_engine(empty_url), Config()
    config.set_main_option("script_location", str(migrate.folder()))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
        assert connection.scalar(text("SELECT count(*) FROM pg_type WHERE typname = 'job_status'")) == 0
    engine.dispose()
    assert table_names(empty_url) == {"alembic_version"}
    migrate.upgrade(empty_url)


def test_a_schema_is_current_unless_it_is_older_than_the_code(empty_url: str) -> None:
    assert not migrate.is_current(empty_url)
    migrate.upgrade(empty_url)
    assert migrate.is_current(empty_url)
    declare(empty_url, "0001")
    assert not migrate.is_current(empty_url)


def test_a_schema_of_a_later_release_is_current_and_stays_as_it_is(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    declare(empty_url, "9999")
    assert migrate.is_current(empty_url)
    migrate.upgrade(empty_url)
    assert migrate.is_current(empty_url)


def declare(url: str, revision: str) -> None:
    """Make the schema pass for that of a revision."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [revision])


def test_the_code_names_only_columns_that_exist(engine: Engine) -> None:
    found = inspect(engine)
    for table in tables.metadata.sorted_tables:
        columns = {column["name"] for column in found.get_columns(table.name)}
        assert {column.name for column in table.columns} <= columns
        assert found.get_pk_constraint(table.name)["constrained_columns"] == [key.name for key in table.primary_key]


def partitions(engine: Engine, table: str) -> set[str]:
    with engine.connect() as connection:
        found = connection.scalars(
            text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = CAST(:table AS regclass)"),
            {"table": table},
        )
        return set(found)


@pytest.mark.parametrize("table", ["requests", "results"])
def test_bodies_have_a_partition_for_yesterday_and_each_of_the_next_days(table: str, engine: Engine) -> None:
    today = datetime.now(UTC)
    days = {f"{table}_{today + timedelta(days=offset):%Y%m%d}" for offset in range(-1, migrate.DAYS_AHEAD + 1)}
    assert partitions(engine, table) - days <= {f"{table}_default", f"{table}_{today - timedelta(days=2):%Y%m%d}"}
    assert len(partitions(engine, table)) == migrate.DAYS_AHEAD + 3


def test_making_partitions_again_adds_the_days_that_are_missing(engine: Engine) -> None:
    before = partitions(engine, "requests")
    with engine.begin() as connection:
        migrate.make_partitions(connection, datetime.now(UTC) + timedelta(days=3))
    assert len(partitions(engine, "requests") - before) == 3


async def test_a_day_whose_rows_lie_in_the_default_partition_stops_no_migration(
    engine: Engine, database_url: str, database: Database
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    day = f"{tomorrow:%Y%m%d}"
    for table in migrate.BODIES:
        for offset in (1, 2):
            await rows(database, f"DROP TABLE {table}_{datetime.now(UTC) + timedelta(days=offset):%Y%m%d}")
    await rows(database, "INSERT INTO results (job_id) VALUES (%s)", ids.floor(tomorrow.timestamp()))
    migrate.upgrade(database_url)
    assert f"requests_{day}" not in partitions(engine, "requests")
    for table in migrate.BODIES:
        assert len(partitions(engine, table)) == migrate.DAYS_AHEAD + 2


async def test_a_body_lies_in_the_partition_of_its_ids_day(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    moments = [now, now + timedelta(days=1, milliseconds=-1), now + timedelta(days=1), now + timedelta(days=400)]
    for moment in moments:
        await accept(new_job(id=ids.floor(moment.timestamp())))
    found = await rows(database, "SELECT tableoid::regclass::text AS partition FROM requests ORDER BY job_id")
    today, tomorrow = f"requests_{now:%Y%m%d}", f"requests_{now + timedelta(days=1):%Y%m%d}"
    assert [row.partition for row in found] == [today, today, tomorrow, "requests_default"]
