"""Real PostgreSQL and Redis for the tests: one of each per process, a database of its own for every test."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import redis

from jobs import migrate
from jobs.database import Database
from jobs.settings import Settings
from longhaul.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.databases import Databases


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server whose database `longhaul` holds the migrated schema; it would not survive a power cut."""
    quick = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), quick)
    migrate.upgrade(server.start())
    _keep_few_partitions(server.url)
    yield server
    server.stop(immediate=True)


def _keep_few_partitions(url: str) -> None:
    """Leave yesterday's, today's and tomorrow's: each test copies the files of them all."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for day in migrate.days_ahead(datetime.now(UTC))[3:]:
            tables = ", ".join(f"{table}_{day:%Y%m%d}" for table in migrate.BODIES)
            connection.execute(f"DROP TABLE {tables}".encode())


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop(immediate=True)


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres) -> Databases:
    return Databases(postgres.url.replace("+psycopg", ""))


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, databases: Databases) -> Iterator[str]:
    """The URL of a copy of the migrated database that is this test's own."""
    name = databases.take()
    yield postgres.url.removesuffix("longhaul") + name
    databases.give_back(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> Iterator[str]:
    """The URL of a Redis that is emptied after the test."""
    yield redis_server.url
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str) -> Settings:
    """Settings for real servers of this test's own."""
    return Settings(home=tmp_path / "home", database_url=database_url, redis_url=redis_url, log_format="text")
