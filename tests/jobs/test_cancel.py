"""The ends that no engine brings about."""

import asyncio
import random
from uuid import UUID, uuid4

import pytest

from jobs import lease
from jobs.accept import Acceptor
from jobs.cancel import cancel, expire, free_key, retire
from jobs.claim import claim, claim_suspects
from jobs.database import Database
from jobs.finish import Finisher
from jobs.read import results
from jobs.records import ClaimedJob, IdempotencyKey, Outcome, Tier
from jobs.states import Status
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import assert_counters_are_true, job_row, rows, statuses, value

DONE = Outcome(Status.COMPLETED, 200, b"{}")


async def test_a_queued_job_is_cancelled_and_never_begun(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    one, two = await accept(new_job(), new_job())
    assert await cancel(database, [one]) == [one]
    row = await job_row(database, one)
    assert (row.status, row.worker_id, row.attempts) == ("cancelled", None, 0)
    assert [job.id for job in await claim(database, worker, model_id, Tier.DEFAULT, 9)] == [two]
    await assert_counters_are_true(database)


async def test_a_running_job_is_cancelled_and_its_result_refused(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    [job_id] = await accept(new_job())
    [job] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert await cancel(database, [job_id]) == [job_id]
    assert not await Finisher(database, lambda ended: None).finish(job, DONE)
    assert await lease.release(database, [(job.id, job.lease_token)]) == 0
    assert await lease.renew(database, worker, 60, 1, False) == {}
    row = await job_row(database, job_id)
    assert (row.status, row.worker_id) == ("cancelled", None)
    assert await value(database, "SELECT count(*) FROM results") == 0
    await assert_counters_are_true(database)


async def test_what_has_ended_stays_as_it_ended(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job())
    [job] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
    await Finisher(database, lambda ended: None).finish(job, DONE)
    assert await cancel(database, [job.id]) == []
    assert await statuses(database, [job.id]) == [Status.COMPLETED]


async def test_many_are_cancelled_at_once_wherever_they_are(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    jobs = await accept(*(new_job(tier=Tier(number % 4), waited=number % 3 == 0) for number in range(40)))
    await claim(database, worker, model_id, Tier.DEFAULT, 5)
    assert sorted(await cancel(database, [*jobs, *jobs, uuid4()])) == sorted(jobs)
    assert await cancel(database, jobs) == []
    assert await cancel(database, []) == []
    assert await value(database, "SELECT sum(queued) FROM flows") == 0
    await assert_counters_are_true(database)


async def test_a_cancel_gives_the_flows_time_back(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    """What was cancelled in the queue was never paid for: the flow's turn comes as if it had not been there."""
    await rows(database, "INSERT INTO tenants (name) VALUES ('other')")
    dear = await accept(*(new_job(cost=1000) for _ in range(50)))
    [cheap] = await accept(new_job(cost=1))
    await accept(*(new_job(tenant_id=2, cost=10) for _ in range(50)))
    await cancel(database, dear)
    served = [(await claim(database, worker, model_id, Tier.DEFAULT, 1))[0].id for _ in range(2)]
    assert cheap in served


async def test_only_jobs_whose_time_has_run_out_expire(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    [running] = await accept(new_job(expires_seconds=3600))
    await claim(database, worker, model_id, Tier.DEFAULT, 1)
    await rows(database, "UPDATE jobs SET expires_at = now()")
    over, later, never = await accept(new_job(expires_seconds=0), new_job(expires_seconds=60), new_job())
    assert await expire(database) == [over]
    assert await expire(database) == []
    assert await statuses(database, [running, over, later, never]) == [
        Status.IN_PROGRESS,
        Status.EXPIRED,
        Status.QUEUED,
        Status.QUEUED,
    ]
    await assert_counters_are_true(database)


async def test_of_very_many_a_thousand_expire_at_a_time(database: Database, accept: Accept, new_job: MakeJob) -> None:
    await accept(*(new_job(expires_seconds=0) for _ in range(1001)))
    assert [len(await expire(database)) for _ in range(3)] == [1000, 1, 0]
    await assert_counters_are_true(database)


async def test_a_retired_models_queue_ends_with_a_reason(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    [running] = await accept(new_job())
    await claim(database, worker, model_id, Tier.DEFAULT, 1)
    waiting = await accept(new_job(), new_job(tier=Tier.BATCH), new_job(tier=Tier.SUSPECT))
    other = await value(database, "INSERT INTO models (name, queue, registration) VALUES ('n', 'n', '{}') RETURNING id")
    [elsewhere] = await accept(new_job(model_id=other))
    blocked = waiting[0]
    await rows(database, "UPDATE jobs SET blocked_on = %s WHERE id = %s", running, blocked)
    await rows(
        database,
        "UPDATE flows SET queued = queued - 1, open = queued > 1 WHERE id = (SELECT flow_id FROM jobs WHERE id = %s)",
        blocked,
    )
    assert sorted(await retire(database, model_id)) == sorted(waiting)
    assert await retire(database, model_id) == []
    assert await statuses(database, [running, elsewhere]) == [Status.IN_PROGRESS, Status.QUEUED]
    found = await results(database, waiting)
    assert {(result.status, result.error_code) for result in found.values()} == {(Status.FAILED, "model_retired")}
    assert len(found) == 3
    await assert_counters_are_true(database)


async def test_the_key_of_a_job_that_a_disconnect_cancelled_is_free_again(database: Database, new_job: MakeJob) -> None:
    acceptor = Acceptor(database, lambda model, count: None)
    first, second = (new_job(key=IdempotencyKey("k", b"a" * 16)) for _ in range(2))
    await acceptor.accept(first)
    await free_key(database, 1, "k", uuid4())
    assert (await acceptor.accept(second)).existed
    await cancel(database, [first.id])
    await free_key(database, 1, "k", first.id)
    assert not (await acceptor.accept(second)).existed


@pytest.mark.parametrize("seed", range(4))
async def test_racing_with_its_result_a_job_ends_one_way_and_stays_so(
    seed: int, database: Database, database_url: str, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    """Fifty rounds of four jobs each: what cancel reported is cancelled for good, all else has its result."""
    chance = random.Random(seed)
    other = Database(database_url, pool_size=2)
    finisher = Finisher(other, lambda ended: None)
    cancels = 0

    async def finish_soon(job: ClaimedJob) -> bool:
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        return await finisher.finish(job, DONE)

    for _ in range(50):
        ids = await accept(*(new_job() for _ in range(4)))
        jobs = await claim(database, worker, model_id, Tier.DEFAULT, 4)
        finishing = asyncio.gather(*(finish_soon(job) for job in jobs))
        cancelled = await cancel(database, chance.sample(ids, 4))
        finished = [job.id for job, ended in zip(jobs, await finishing, strict=True) if ended]
        assert sorted(cancelled + finished) == sorted(ids)
        found = await results(database, ids)
        assert {job for job, result in found.items() if result.status == Status.CANCELLED} == set(cancelled)
        assert {job for job, result in found.items() if result.body} == set(finished)
        cancels += len(cancelled)
    await other.close()
    assert 0 < cancels < 200  # both had their wins
    await assert_counters_are_true(database)


@pytest.mark.parametrize("seed", range(4))
async def test_racing_with_claims_rescues_and_hand_backs_a_cancel_is_final(
    seed: int, database: Database, database_url: str, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    chance = random.Random(seed)
    other = Database(database_url, pool_size=2)

    async def churn() -> None:
        jobs = await claim(other, worker, model_id, Tier.DEFAULT, 8) + await claim_suspects(other, worker, model_id)
        if chance.random() < 0.5:
            await lease.release(other, [(job.id, job.lease_token) for job in jobs])
        await lease.orphan(other, worker)

    for _ in range(50):
        ids = await accept(*(new_job() for _ in range(4)))
        churning = asyncio.create_task(churn())
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        cancelled = await cancel(database, ids)
        await churning
        ended = await rows(database, "SELECT id, status FROM jobs WHERE id = ANY(%s)", ids)
        assert {row.id for row in ended if row.status == "cancelled"} == set(cancelled)
        assert {row.status for row in ended if row.id not in cancelled} <= {"failed"}
    await other.close()
    await assert_counters_are_true(database)
