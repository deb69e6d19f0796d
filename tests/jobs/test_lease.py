"""Leases: what a worker keeps while it renews, what it hands back, and what becomes of it when it is lost."""

import asyncio
from uuid import UUID, uuid4

import pytest

from jobs import ids, lease
from jobs.claim import claim, claim_suspects
from jobs.database import Database
from jobs.finish import Finisher
from jobs.read import results
from jobs.records import Outcome, Tier
from jobs.states import Status
from tests.jobs.conftest import Accept, MakeJob, MakeWorker
from tests.jobs.ledger import assert_counters_are_true, job_row, rows, statuses, value

LONG = 3600.0
"""A lease, seconds, for which no test's server has been up."""


async def seconds_left(database: Database, worker: UUID) -> float:
    left = await value(database, "SELECT extract(epoch FROM lease_until - now()) FROM workers WHERE id = %s", worker)
    return float(left)


async def run_out(database: Database, worker: UUID) -> None:
    """Let so much time pass that the lease has run out by itself."""
    await rows(database, "UPDATE workers SET lease_until = now() - interval '1 second' WHERE id = %s", worker)


async def test_a_renewal_lasts_one_lease_from_now_on_the_databases_clock(database: Database, worker: UUID) -> None:
    assert await lease.renew(database, worker, 500, slots=3, draining=True) == {}
    assert 490 < await seconds_left(database, worker) <= 500
    [row] = await rows(database, "SELECT slots, draining FROM workers")
    assert (row.slots, row.draining) == (3, True)


async def test_a_renewal_answers_with_what_the_worker_holds(
    database: Database, accept: Accept, new_job: MakeJob, new_worker: MakeWorker, model_id: int
) -> None:
    ours, theirs = await new_worker(), await new_worker()
    await accept(*(new_job() for _ in range(5)))
    mine = await claim(database, ours, model_id, Tier.DEFAULT, 3)
    await claim(database, theirs, model_id, Tier.DEFAULT, 3)
    await Finisher(database, lambda ended: None).finish(mine[0], Outcome(Status.COMPLETED, 200, b"{}"))
    assert await lease.renew(database, ours, 60, 3, False) == {job.id: job.lease_token for job in mine[1:]}


async def test_who_is_not_registered_any_more_is_told_so(database: Database) -> None:
    assert await lease.renew(database, uuid4(), 60, 3, False) is None


async def test_what_is_handed_back_waits_again_as_if_it_had_not_been_begun(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    [job_id] = await accept(new_job())
    [job] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert await lease.release(database, [(job.id, job.lease_token)]) == 1
    row = await job_row(database, job_id)
    assert (row.status, row.attempts, row.losses, row.worker_id, row.started_at) == ("queued", 0, 0, None, None)
    assert row.lease_token == job.lease_token  # it only grows: who handed it back can write nothing
    await assert_counters_are_true(database)
    [again] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert (again.attempts, again.lease_token) == (1, job.lease_token + 1)


async def test_only_what_is_still_ours_can_be_handed_back(
    database: Database, accept: Accept, new_job: MakeJob, new_worker: MakeWorker, model_id: int
) -> None:
    ours, theirs = await new_worker(), await new_worker()
    await accept(new_job())
    [job] = await claim(database, ours, model_id, Tier.DEFAULT, 1)
    await lease.orphan(database, ours)
    assert await lease.release(database, [(job.id, job.lease_token)]) == 0
    [again] = await claim(database, theirs, model_id, Tier.DEFAULT, 1)
    assert await lease.release(database, [(job.id, job.lease_token), (uuid4(), 1)]) == 0
    assert await lease.renew(database, theirs, 60, 1, False) == {job.id: again.lease_token}
    assert await lease.release(database, []) == 0
    await assert_counters_are_true(database)


async def test_a_lost_workers_jobs_wait_again_and_the_loss_counts(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    jobs = await accept(*(new_job(waited=waited) for waited in (True, False, True)))
    await claim(database, worker, model_id, Tier.DEFAULT, 3)
    assert await lease.orphan(database, worker) == lease.Orphaned(model_id, 3, [])
    for job_id in jobs:
        row = await job_row(database, job_id)
        assert (row.status, row.attempts, row.losses, row.worker_id) == ("queued", 1, 1, None)
    await assert_counters_are_true(database)
    assert await lease.orphan(database, worker) == lease.Orphaned(None, 0, [])


async def test_a_worker_that_lives_on_may_lose_single_jobs(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(*(new_job() for _ in range(3)))
    kept, lost, again = await claim(database, worker, model_id, Tier.DEFAULT, 3)
    earlier = {again.id: again.lease_token - 1}
    assert await lease.lose(database, worker, {lost.id: lost.lease_token} | earlier) == lease.Orphaned(model_id, 1, [])
    assert set(await lease.renew(database, worker, 60, 3, False) or ()) == {kept.id, again.id}
    row = await job_row(database, lost.id)
    assert (row.status, row.attempts, row.losses) == (Status.QUEUED, 1, 1)
    await assert_counters_are_true(database)


async def test_a_lost_workers_other_jobs_and_other_workers_jobs_stay(
    database: Database, accept: Accept, new_job: MakeJob, new_worker: MakeWorker, model_id: int
) -> None:
    lost, alive = await new_worker(), await new_worker()
    await accept(*(new_job() for _ in range(4)))
    done, gone = await claim(database, lost, model_id, Tier.DEFAULT, 2)
    kept = await claim(database, alive, model_id, Tier.DEFAULT, 1)
    await Finisher(database, lambda ended: None).finish(done, Outcome(Status.COMPLETED, 200, b"{}"))
    assert (await lease.orphan(database, lost)).requeued == 1
    assert await statuses(database, [done.id, gone.id, kept[0].id]) == [
        Status.COMPLETED,
        Status.QUEUED,
        Status.IN_PROGRESS,
    ]


async def lose(database: Database, worker: UUID, model_id: int, *, suspects: bool, times: int) -> lease.Orphaned:
    """Claim what there is and lose it, so many times."""
    lost = lease.Orphaned(None, 0, [])
    for _ in range(times):
        if suspects:
            assert await claim_suspects(database, worker, model_id)
        else:
            assert await claim(database, worker, model_id, Tier.DEFAULT, 100)
        lost = await lease.orphan(database, worker)
        await assert_counters_are_true(database)
    return lost


async def test_at_the_second_loss_a_job_becomes_a_suspect(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    jobs = await accept(*(new_job(waited=waited) for waited in (True, True, False)))
    assert (await lose(database, worker, model_id, suspects=False, times=2)).requeued == 3
    flows = await rows(database, "SELECT tier, waited, queued FROM flows WHERE queued > 0 ORDER BY waited")
    assert [tuple(flow) for flow in flows] == [(Tier.SUSPECT, False, 1), (Tier.SUSPECT, True, 2)]
    assert [(await job_row(database, job_id)).losses for job_id in jobs] == [2, 2, 2]


async def test_only_a_loss_alone_ends_a_job(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    jobs = set(await accept(*(new_job() for _ in range(3))))
    await lose(database, worker, model_id, suspects=False, times=2)
    assert (await lose(database, worker, model_id, suspects=True, times=1)).requeued == 3  # the third, in company
    for _ in range(3):
        lost = await lose(database, worker, model_id, suspects=True, times=1)
        assert lost.requeued == 0
        [ended] = lost.failed
        jobs.remove(ended)
        [result] = (await results(database, [ended])).values()
        assert (result.status, result.error_code, result.status_code) == (Status.FAILED, "worker_lost", None)
        assert result.error_message
    assert not jobs


async def test_the_tenth_loss_ends_a_job_wherever_it_was_lost(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    eighth, ninth = await accept(new_job(), new_job())
    await rows(database, "UPDATE jobs SET losses = CASE id WHEN %s THEN 8 ELSE 9 END", eighth)
    lost = await lose(database, worker, model_id, suspects=False, times=1)
    assert (lost.requeued, lost.failed) == (1, [ninth])


async def test_a_drain_is_no_loss_however_often(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    [job_id] = await accept(new_job())
    for _ in range(12):
        [job] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
        await lease.release(database, [(job.id, job.lease_token)])
    row = await job_row(database, job_id)
    assert (row.status, row.attempts, row.losses, row.lease_token) == ("queued", 0, 0, 12)


async def test_who_renewed_in_the_meantime_loses_nothing(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job())
    await claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert (await lease.orphan(database, worker, only_expired=True)).requeued == 0
    await run_out(database, worker)
    assert (await lease.orphan(database, worker, only_expired=True)).requeued == 1


async def test_a_renewal_waits_for_a_rescue_and_hears_of_it(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    for _ in range(20):
        await accept(new_job(), new_job())
        held = await claim(database, worker, model_id, Tier.DEFAULT, 2) + await claim_suspects(
            database, worker, model_id
        )
        await run_out(database, worker)
        renewed, orphaned = await asyncio.gather(
            lease.renew(database, worker, 60, 8, False), lease.orphan(database, worker, only_expired=True)
        )
        assert renewed is not None
        assert len(renewed) + orphaned.requeued + len(orphaned.failed) == len(held)
        await lease.orphan(database, worker)


async def test_a_lease_that_ran_out_is_noticed_once_the_database_is_older_than_a_lease(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job())
    await claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert await lease.expired(database, 0) == []
    await run_out(database, worker)
    assert await lease.expired(database, 0) == [worker]
    assert await lease.expired(database, LONG) == []
    assert await lease.expired(database, 0, watched=False) == []


async def test_a_lost_worker_without_jobs_is_nobodys_business(database: Database, worker: UUID) -> None:
    await run_out(database, worker)
    assert await lease.expired(database, 0) == []


@pytest.mark.parametrize("whole_folder", [False, True])
async def test_a_lease_that_somebody_ended_is_over_at_once(
    whole_folder: bool, database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job())
    await claim(database, worker, model_id, Tier.DEFAULT, 1)
    if whole_folder:
        assert await lease.end_home(database, "here", "/elsewhere") == 0
        assert await lease.end_home(database, "another", "/home/of/it") == 0
        assert await lease.expired(database, LONG, watched=False) == []
        assert await lease.end_home(database, "here", "/home/of/it") == 1
        assert await lease.end_home(database, "here", "/home/of/it") == 0
    else:
        await lease.end(database, uuid4())
        assert await lease.expired(database, LONG, watched=False) == []
        await lease.end(database, worker)
    assert await lease.expired(database, LONG, watched=False) == [worker]
    assert (await lease.orphan(database, worker, only_expired=True)).requeued == 1


async def test_who_leaves_cleanly_is_forgotten_and_who_holds_jobs_is_not(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job())
    [job] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
    await lease.leave(database, worker)
    assert await lease.renew(database, worker, 60, 1, False) == {job.id: job.lease_token}
    await lease.release(database, [(job.id, job.lease_token)])
    await lease.leave(database, worker)
    assert await lease.renew(database, worker, 60, 1, False) is None


async def test_a_rescue_and_late_results_end_each_job_once_and_never_deadlock(
    database: Database, database_url: str, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    other = Database(database_url, pool_size=2)
    finisher = Finisher(other, lambda ended: None)
    for _ in range(60):
        await accept(*(new_job(id=ids.new(), waited=number % 2 == 0) for number in range(24)))
        jobs = await claim(database, worker, model_id, Tier.DEFAULT, 24)
        jobs += await claim_suspects(database, worker, model_id)
        orphaned, finished = await asyncio.gather(
            lease.orphan(database, worker),
            asyncio.gather(*(finisher.finish(job, Outcome(Status.COMPLETED, 200, b"{}")) for job in jobs)),
        )
        assert orphaned.requeued + len(orphaned.failed) + finished.count(True) == len(jobs)
    await other.close()
    await assert_counters_are_true(database)
    assert await value(database, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
