"""A worker that is asked to end finishes what it can, hands the rest back unpunished, and leaves."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from jobs.claim import claim
from jobs.database import Database
from jobs.records import Tier
from jobs.states import Status
from tests.worker.place import Place, place, scalar, until
from worker.drain import Stop, Stopped, bury, drain, hand_back


@pytest.fixture
async def here(database: Database, tmp_path: Path) -> AsyncIterator[Place]:
    made = await place(database, tmp_path / "journal")
    yield made
    await made.engine.stop()


@pytest.fixture
async def stop() -> Stop:
    return Stop(asyncio.get_running_loop(), spread=lambda: None)


async def workers(here: Place) -> int:
    """How many are registered."""
    return int(await scalar(here.database, "SELECT count(*) FROM workers"))


async def test_jobs_shorter_than_the_drain_finish(here: Place, stop: Stop) -> None:
    running, waiting = await here.submit(4, delay=0.3), await here.submit(2)
    async with here.running():
        await until(lambda: here.began(running))
        await drain(here.runner, here.finisher, 10, stop)
        assert await hand_back(here.database, here.worker, 60) == 0
    assert await here.statuses(running + waiting) == [Status.COMPLETED] * 4 + [Status.QUEUED] * 2
    assert await workers(here) == 0


async def test_jobs_longer_than_the_drain_are_handed_back_refunded(here: Place, stop: Stop) -> None:
    jobs = await here.submit(2, hang=True)
    async with here.running():
        await until(lambda: here.began(jobs))
        await drain(here.runner, here.finisher, 0.1, stop)
        assert await hand_back(here.database, here.worker, 60) == 2
    rows = [await here.row(job) for job in jobs]
    assert [(row.status, row.attempts, row.losses) for row in rows] == [(Status.QUEUED, 0, 0)] * 2
    assert {entry.event for job in jobs for entry in here.entries(job)} == {"start", "abort"}
    assert await workers(here) == 0


async def test_asked_a_second_time_a_worker_hands_back_at_once(here: Place, stop: Stop) -> None:
    jobs = await here.submit(2, hang=True)
    async with here.running():
        await until(lambda: here.began(jobs))
        draining = asyncio.create_task(drain(here.runner, here.finisher, 3600, stop))
        stop.ask()
        await stop.begun()
        assert here.runner.running == 2
        stop.ask()
        await draining
        assert here.runner.running == 0


async def test_what_only_the_database_knows_of_is_handed_back_too(here: Place, stop: Stop) -> None:
    [job] = await here.submit()
    await claim(here.database, here.worker, here.model_id, Tier.DEFAULT, 1)
    await drain(here.runner, here.finisher, 0, stop)
    assert await hand_back(here.database, here.worker, 60) == 1
    assert (await here.row(job)).attempts == 0


async def test_a_deaf_job_does_not_hold_the_worker(here: Place, stop: Stop) -> None:
    [job] = await here.submit(hang=True, deaf=True)
    async with here.running():
        await until(lambda: here.began([job]))
        await drain(here.runner, here.finisher, 0, stop)
        assert await hand_back(here.database, here.worker, 60) == 1
        await here.engine.stop()


async def test_the_jobs_of_a_dead_engine_go_back_with_the_loss_counted(here: Place, stop: Stop) -> None:
    jobs = [*await here.submit(2, hang=True), *await here.submit(die=True, delay=0.05)]
    async with here.running():
        await until(lambda: here.deaths > 0)
        await drain(here.runner, here.finisher, 0, stop)
        orphaned = await bury(here.database, here.worker, 60, here.runner.in_engine)
    assert orphaned and orphaned.requeued == 3
    rows = [await here.row(job) for job in jobs]
    assert [(row.status, row.attempts, row.losses) for row in rows] == [(Status.QUEUED, 1, 1)] * 3
    assert await workers(here) == 0


async def test_a_claim_that_came_too_late_for_a_dead_engine_counts_no_loss(here: Place, stop: Stop) -> None:
    [ran] = await here.submit(die=True)
    async with here.running():
        await until(lambda: here.deaths > 0)
        [late] = await here.submit()
        await claim(here.database, here.worker, here.model_id, Tier.DEFAULT, 1)
        await drain(here.runner, here.finisher, 0, stop)
        orphaned = await bury(here.database, here.worker, 60, here.runner.in_engine)
    assert orphaned and orphaned.requeued == 1
    rows = [await here.row(job) for job in (ran, late)]
    assert [(row.status, row.attempts, row.losses) for row in rows] == [(Status.QUEUED, 1, 1), (Status.QUEUED, 0, 0)]


async def test_what_an_engine_refused_before_it_died_counts_no_loss(here: Place, stop: Stop) -> None:
    [ran], [refused] = await here.submit(hang=True), await here.submit(fail=503, delay=0.2)
    async with here.running():
        await until(lambda: here.began([ran, refused]))
        await drain(here.runner, here.finisher, 0.6, stop)
        await bury(here.database, here.worker, 60, here.runner.in_engine)
    rows = [await here.row(job) for job in (ran, refused)]
    assert [(row.status, row.attempts, row.losses) for row in rows] == [(Status.QUEUED, 1, 1), (Status.QUEUED, 0, 0)]


async def test_without_a_database_a_worker_still_gets_away(stop: Stop) -> None:
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert await hand_back(nowhere, uuid4(), 60) is None


async def test_a_stop_interrupts_what_comes_before_serving(stop: Stop) -> None:
    asyncio.get_running_loop().call_soon(stop.ask)
    with pytest.raises(Stopped):
        await stop.before(asyncio.sleep(3600))
    assert stop.code == 0


async def test_a_failure_shows_in_the_exit_status_and_hurries_nobody(stop: Stop) -> None:
    stop.fail()
    stop.fail(2)
    assert (stop.code, stop.asked) == (1, 1)
