"""Lost workers: whose jobs are taken, and whose are not."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy.exc import SQLAlchemyError

from control import rescue
from control.rescue import Watch
from jobs import claim, lease
from jobs.database import Database
from jobs.records import Tier
from jobs.states import Status
from tests.control.conftest import Ears
from tests.jobs.conftest import Accept, MakeJob, Outage
from tests.jobs.ledger import assert_counters_are_true, job_row, rows, statuses

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def watched(*seconds: float, lease_seconds: float = 60) -> Watch:
    watch = Watch(lease_seconds)
    for second in seconds:
        watch.answered(NOON + timedelta(seconds=second))
    return watch


async def ran_out(database: Database, worker: UUID) -> None:
    await rows(database, "UPDATE workers SET lease_until = now() - interval '1 second' WHERE id = %s", worker)


async def rescued(database: Database, ears: Ears, watch: Watch, lease_seconds: float = 0) -> int:
    return await rescue.run(database, watch, lease_seconds, ears.announce, ears.publish, ears.lose)


def test_a_lease_of_answers_is_long_enough() -> None:
    assert not Watch(60).long_enough
    assert not watched(0, 15, 30, 45).long_enough
    assert watched(0, 15, 30, 45, 60).long_enough


def test_a_gap_begins_it_anew() -> None:
    assert not watched(0, 15, 30, 45, 60, 100).long_enough
    watch = watched(0, 15, 30, 45, 60)
    watch.failed()
    watch.answered(NOON + timedelta(seconds=75))
    assert not watch.long_enough


def test_a_clock_that_goes_back_begins_it_anew() -> None:
    assert not watched(0, 15, 30, 45, 60, 50).long_enough


async def test_a_lost_workers_jobs_wait_again_with_the_loss_counted(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int, worker: UUID, ears: Ears
) -> None:
    [job, other] = await accept(new_job(), new_job())
    await claim.claim(database, worker, model_id, Tier.DEFAULT, 2)
    await ran_out(database, worker)
    assert await rescued(database, ears, Watch(0)) == 2
    assert await statuses(database, [job, other]) == [Status.QUEUED, Status.QUEUED]
    row = await job_row(database, job)
    assert (row.attempts, row.losses, row.worker_id) == (1, 1, None)
    assert ears.published == [(model_id, 2)]
    assert await rescued(database, ears, Watch(0)) == 0
    await assert_counters_are_true(database)


async def test_a_live_workers_jobs_are_its_own(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int, worker: UUID, ears: Ears
) -> None:
    [job] = await accept(new_job())
    await claim.claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert await rescued(database, ears, Watch(0)) == 0
    assert await statuses(database, [job]) == [Status.IN_PROGRESS]


async def test_a_lease_that_ran_out_proves_nothing_to_a_rescuer_that_just_came(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int, worker: UUID, ears: Ears
) -> None:
    await accept(new_job())
    await claim.claim(database, worker, model_id, Tier.DEFAULT, 1)
    await ran_out(database, worker)
    assert await rescued(database, ears, Watch(60)) == 0


async def test_nor_while_the_database_is_younger_than_a_lease(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int, worker: UUID, ears: Ears
) -> None:
    await accept(new_job())
    await claim.claim(database, worker, model_id, Tier.DEFAULT, 1)
    await ran_out(database, worker)
    assert await rescued(database, ears, Watch(0), lease_seconds=100_000) == 0


async def test_a_lease_that_was_ended_needs_no_waiting(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int, worker: UUID, ears: Ears
) -> None:
    [job] = await accept(new_job())
    await claim.claim(database, worker, model_id, Tier.DEFAULT, 1)
    await lease.end(database, worker)
    assert await rescued(database, ears, Watch(60), lease_seconds=100_000) == 1
    assert await statuses(database, [job]) == [Status.QUEUED]


async def test_who_waits_hears_of_a_job_that_was_lost_too_often(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int, worker: UUID, ears: Ears
) -> None:
    [job] = await accept(new_job())
    await claim.claim(database, worker, model_id, Tier.DEFAULT, 1)
    await rows(database, "UPDATE jobs SET losses = 9")
    await ran_out(database, worker)
    assert await rescued(database, ears, Watch(0)) == 1
    assert await statuses(database, [job]) == [Status.FAILED]
    assert ears.announced == [job]
    assert ears.published == []


async def test_an_outage_of_the_database_begins_the_watch_anew(database: Database, outage: Outage, ears: Ears) -> None:
    watch = Watch(0)
    await rescued(database, ears, watch)
    assert watch.long_enough
    async with outage():
        with pytest.raises(SQLAlchemyError):
            await rescued(database, ears, watch)
    assert not watch.long_enough
