"""Queued jobs that nobody will run any more."""

from control import expire
from jobs import cancel
from jobs.database import Database
from jobs.states import Status
from tests.control.conftest import Ears
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import assert_counters_are_true, rows, statuses


async def test_only_what_is_past_its_time_expires(
    database: Database, accept: Accept, new_job: MakeJob, ears: Ears
) -> None:
    late, early, patient = await accept(
        new_job(expires_seconds=60), new_job(expires_seconds=3600), new_job(expires_seconds=None)
    )
    await rows(database, "UPDATE jobs SET expires_at = now() WHERE id = %s", late)
    assert await expire.run(database, ears.announce) == 1
    assert ears.announced == [late]
    assert await statuses(database, [late, early, patient]) == [Status.EXPIRED, Status.QUEUED, Status.QUEUED]
    await assert_counters_are_true(database)


async def test_more_than_a_thousand_expire_in_one_round(
    database: Database, accept: Accept, new_job: MakeJob, ears: Ears
) -> None:
    jobs = await accept(*(new_job(expires_seconds=60) for _ in range(2100)))
    await rows(database, "UPDATE jobs SET expires_at = now()")
    assert await expire.run(database, ears.announce) == 2100
    assert sorted(ears.announced) == sorted(jobs)
    await assert_counters_are_true(database)


async def test_jobs_of_a_retired_model_fail(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int, ears: Ears
) -> None:
    waiting, cancelled = await accept(new_job(), new_job())
    await cancel.cancel(database, [cancelled])
    assert await expire.run(database, ears.announce) == 0
    await rows(database, "UPDATE models SET retired_at = now() WHERE id = %s", model_id)
    assert await expire.run(database, ears.announce) == 1
    assert await statuses(database, [waiting, cancelled]) == [Status.FAILED, Status.CANCELLED]
    assert await expire.run(database, ears.announce) == 0
