"""A lease lives as long as its worker, whatever keeps the worker's loop busy."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from jobs.cancel import cancel
from jobs.claim import claim
from jobs.database import Database
from jobs.records import Tier
from jobs.states import Status
from tests.worker.place import Place, place, scalar, until
from worker.heartbeat import Heartbeat, Lease


@pytest.fixture
async def here(database: Database, tmp_path: Path) -> AsyncIterator[Place]:
    made = await place(database, tmp_path / "journal")
    yield made
    await made.engine.stop()


@asynccontextmanager
async def beating(here: Place, database_url: str, lease: Lease) -> AsyncIterator[None]:
    """The heartbeat of this place's worker runs inside the block."""

    async def register(database: Database) -> None:
        await here.enlist(database)

    heartbeat = Heartbeat(database_url, here.worker, lease, here.runner, slots=lambda: 7, register=register)
    heartbeat.start()
    yield
    await heartbeat.stop()


async def test_a_busy_loop_does_not_cost_the_lease(here: Place, database_url: str) -> None:
    lease = Lease(1)
    async with beating(here, database_url, lease):
        await until(lease.is_good)
        time.sleep(1.5)  # noqa: ASYNC251 - the loop is kept busy on purpose
        assert lease.is_good()
        assert await here.lease_seconds_left() > 0


async def test_a_renewal_tells_slots_and_draining(here: Place, database_url: str) -> None:
    here.runner.stop()
    lease = Lease(1)
    async with beating(here, database_url, lease):
        await until(lease.is_good)
    assert await scalar(here.database, "SELECT ARRAY[slots::text, draining::text] FROM workers") == ["7", "true"]


async def test_a_cancel_whose_news_was_lost_reaches_the_engine_by_the_renewal(here: Place, database_url: str) -> None:
    [job] = await here.submit(hang=True)
    async with here.running() as runner, beating(here, database_url, Lease(0.4)):
        await until(lambda: here.began([job]))
        await cancel(here.database, [job])
        await until(lambda: runner.running == 0)
    assert [entry.event for entry in here.entries(job)] == ["start", "abort"]


async def test_a_claim_whose_answer_was_lost_comes_back_by_the_renewal(here: Place, database_url: str) -> None:
    [job] = await here.submit()
    await claim(here.database, here.worker, here.model_id, Tier.DEFAULT, 1)
    async with here.running(), beating(here, database_url, Lease(0.4)):
        await here.all_are(Status.COMPLETED, [job])
    assert (await here.row(job)).attempts == 1


async def test_a_worker_that_was_given_up_registers_again_and_lets_its_jobs_go(here: Place, database_url: str) -> None:
    [job] = await here.submit(hang=True)
    async with here.running() as runner:
        await until(lambda: here.began([job]))
        await scalar(here.database, "DELETE FROM workers RETURNING id")
        async with beating(here, database_url, Lease(0.4)):
            await until(lambda: runner.running == 0)
    assert await here.lease_seconds_left() > 0


async def test_a_lease_that_cannot_be_renewed_is_no_good_after_its_length(here: Place) -> None:
    lease = Lease(0.2)
    lease.renewed(time.monotonic())
    [job] = await here.submit(hang=True)
    async with here.running() as runner:
        await until(lambda: here.began([job]))
        async with beating(here, "postgresql+psycopg://nobody@127.0.0.1:1/none", lease):
            await until(lambda: not lease.is_good())
            await asyncio.sleep(0)
        assert runner.running == 1, "what runs is kept until a renewal does not confirm it"


async def test_connections_that_break_cost_no_job(here: Place, database_url: str) -> None:
    elsewhere = Database(database_url, pool_size=2)
    watcher = replace(here, database=elsewhere)
    jobs = await watcher.submit(200, delay=0.02)
    async with here.running(), beating(here, database_url, Lease(0.4)):
        for finished in (1, 80, 160):
            await until(partial(here.has_announced, finished))
            await cut_others(elsewhere)
        await watcher.all_are(Status.COMPLETED, jobs)
    rows = [await watcher.row(job) for job in jobs]
    assert {(row.attempts, row.losses) for row in rows} == {(1, 0)}
    await elsewhere.close()


async def cut_others(database: Database) -> None:
    """Break every connection to this database but this one."""
    await scalar(
        database,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
