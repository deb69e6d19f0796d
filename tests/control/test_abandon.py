"""Jobs whose client did not come back."""

from uuid import UUID

from control import abandon
from jobs import claim, repeats
from jobs.database import Database
from jobs.records import IdempotencyKey, Tier
from jobs.states import Status
from tests.control.conftest import Ears
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import assert_counters_are_true, statuses, value

HASH = b"sixteen bytes..."


async def test_after_the_grace_they_are_cancelled_wherever_they_are(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int, worker: UUID, ears: Ears
) -> None:
    running, queued, awaited = await accept(*(new_job(repeat_hash=HASH) for _ in range(3)))
    await claim.claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert await repeats.abandon(database, running, 0)
    assert await repeats.abandon(database, queued, 0)
    assert await abandon.run(database, 60, ears.announce, ears.abort) == 0
    assert await abandon.run(database, 0, ears.announce, ears.abort) == 2
    assert await statuses(database, [running, queued, awaited]) == [Status.CANCELLED, Status.CANCELLED, Status.QUEUED]
    assert set(ears.announced) == set(ears.aborted) == {running, queued}
    await assert_counters_are_true(database)


async def test_a_repeat_in_time_keeps_the_job(database: Database, accept: Accept, new_job: MakeJob, ears: Ears) -> None:
    [job] = await accept(new_job(repeat_hash=HASH))
    await repeats.abandon(database, job, 0)
    assert await repeats.attach(database, 1, HASH, 1) == job
    assert await abandon.run(database, 0, ears.announce, ears.abort) == 0


async def test_the_keys_of_cancelled_jobs_are_free_again(
    database: Database, accept: Accept, new_job: MakeJob, ears: Ears
) -> None:
    job, other = await accept(
        new_job(repeat_hash=HASH, key=IdempotencyKey("mine", HASH)), new_job(key=IdempotencyKey("another", HASH))
    )
    await repeats.abandon(database, job, 0)
    await abandon.run(database, 0, ears.announce, ears.abort)
    assert await value(database, "SELECT array_agg(key) FROM idempotency") == ["another"]
    assert await statuses(database, [other]) == [Status.QUEUED]
