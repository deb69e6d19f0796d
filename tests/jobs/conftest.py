"""One model with one worker, jobs for it, and an outage of the database at will."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import psycopg
import pytest

from jobs import ids
from jobs.accept import Acceptor
from jobs.database import Database
from jobs.records import NewJob, Tier
from tests.jobs.ledger import rows, value

MakeJob: TypeAlias = Callable[..., NewJob]
"""`new_job(cost=5, tier=Tier.FLEX)`: a job with these fields."""

Accept: TypeAlias = Callable[..., Awaitable[list[UUID]]]
"""`await accept(new_job(), new_job())`: their ids, once they are committed."""

MakeWorker: TypeAlias = Callable[[], Awaitable[UUID]]

Outage: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]
"""`async with outage():` nobody reaches the database inside the block."""


@pytest.fixture
async def model_id(database: Database) -> int:
    found = await value(database, "INSERT INTO models (name, queue, registration) VALUES ('m', 'q', '{}') RETURNING id")
    assert isinstance(found, int)
    return found


@pytest.fixture
def new_worker(database: Database, model_id: int) -> MakeWorker:
    async def make() -> UUID:
        worker = uuid4()
        await rows(
            database,
            "INSERT INTO workers (id, model_id, registration, slots, host, pid, home, lease_until)"
            " VALUES (%s, %s, '{}', 8, 'here', 1, '/home/of/it', now() + interval '1 minute')",
            worker,
            model_id,
        )
        return worker

    return make


@pytest.fixture
async def worker(new_worker: MakeWorker) -> UUID:
    return await new_worker()


@pytest.fixture
def new_job(model_id: int) -> MakeJob:
    def make(**fields: Any) -> NewJob:
        plain = NewJob(
            id=ids.new(),
            tenant_id=1,
            model_id=model_id,
            model="m",
            endpoint="/v1/completions",
            body=b"{}",
            tier=Tier.DEFAULT,
            waited=False,
            cost=1,
            timeout_seconds=60,
        )
        return replace(plain, **fields)

    return make


@pytest.fixture
def accept(database: Database) -> Accept:
    async def accept_them(*jobs: NewJob) -> list[UUID]:
        accepted = await Acceptor(database, lambda model, count: None).accept_all(jobs)
        return [each.id for each in accepted]

    return accept_them


@pytest.fixture
def outage(database_url: str) -> Outage:
    server, _, name = database_url.replace("+psycopg", "").rpartition("/")

    @asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        async with await psycopg.AsyncConnection.connect(f"{server}/postgres", autocommit=True) as connection:
            await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            try:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", (name,)
                )
                yield
            finally:
                await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())

    return outage
