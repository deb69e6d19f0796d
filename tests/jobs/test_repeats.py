"""A repeat finds its job; nobody's job waits for ever for a client that does not come back."""

import asyncio
import functools
from uuid import UUID

import pytest

from jobs import ids, repeats
from jobs.cancel import cancel
from jobs.claim import claim
from jobs.database import Database, fetch
from jobs.finish import Finisher
from jobs.records import Outcome, Tier
from jobs.states import Status
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import rows, value, waits_for_a_lock
from tests.until import until

SAME = b"s" * 16
DONE = Outcome(Status.COMPLETED, 200, b"{}")


@pytest.fixture
def awaited(accept: Accept, new_job: MakeJob) -> Accept:
    """`await awaited(2)`: so many equal jobs that clients wait for who repeat by habit, in order."""

    async def accept_them(count: int) -> list[UUID]:
        made = sorted(ids.new() for _ in range(count))
        return await accept(*(new_job(id=job_id, repeat_hash=SAME) for job_id in made))

    return accept_them


async def test_a_repeat_takes_over_the_job_that_its_client_left(database: Database, awaited: Accept) -> None:
    [job] = await awaited(1)
    assert await repeats.abandon(database, job, 0)
    assert await repeats.attach(database, 1, SAME, 1) == job
    assert await repeats.overdue(database, 0) == []


async def test_a_repeat_that_is_faster_than_the_disconnect_finds_it_too(database: Database, awaited: Accept) -> None:
    [job] = await awaited(1)
    assert await repeats.attach(database, 1, SAME, 1) == job
    assert not await repeats.abandon(database, job, 0)  # the first connection's end is noticed only now
    assert await repeats.overdue(database, 0) == []
    assert await repeats.abandon(database, job, 1)


async def test_a_repeat_that_meets_the_disconnect_in_the_database_finds_it_too(
    database: Database, awaited: Accept
) -> None:
    [job] = await awaited(1)
    async with database.transaction() as noticing:
        await fetch(noticing, "repeat_abandon", job=job, repeat=0)
        repeating = asyncio.create_task(repeats.attach(database, 1, SAME, 1))
        await until(functools.partial(waits_for_a_lock, database))
    assert await repeating == job


async def test_only_the_same_request_of_the_same_tenant_is_a_repeat(database: Database, awaited: Accept) -> None:
    await awaited(1)
    assert await repeats.attach(database, 2, SAME, 1) is None
    assert await repeats.attach(database, 1, b"o" * 16, 1) is None


async def test_an_abandoned_job_comes_before_those_that_others_wait_for(database: Database, awaited: Accept) -> None:
    first, second, third = await awaited(3)
    await repeats.abandon(database, second, 0)
    assert await repeats.attach(database, 1, SAME, 1) == second
    assert await repeats.attach(database, 1, SAME, 1) == first
    assert await repeats.attach(database, 1, SAME, 1) == third
    assert await repeats.attach(database, 1, SAME, 1) is None


async def test_each_repeat_number_takes_a_job_once(database: Database, awaited: Accept) -> None:
    [job] = await awaited(1)
    assert [await repeats.attach(database, 1, SAME, number) for number in (1, 1, 2, 2, 1, 3)] == [
        job,
        None,
        job,
        None,
        None,
        job,
    ]


async def test_equal_requests_that_repeat_at_once_find_different_jobs(database: Database, awaited: Accept) -> None:
    jobs = await awaited(6)
    for job in jobs:
        await repeats.abandon(database, job, 0)
    found = await asyncio.gather(*(repeats.attach(database, 1, SAME, 1) for _ in jobs))
    taken = [job for job in found if job]
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(jobs)


async def test_a_job_that_ended_while_nobody_waited_is_found_too(
    database: Database, awaited: Accept, worker: UUID, model_id: int
) -> None:
    [job] = await awaited(1)
    await repeats.abandon(database, job, 0)
    [claimed] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
    await Finisher(database, lambda ended: None).finish(claimed, DONE)
    assert await repeats.attach(database, 1, SAME, 1) == job


async def test_an_answered_job_is_nobodys_repeat(
    database: Database, awaited: Accept, worker: UUID, model_id: int
) -> None:
    """Its client has the answer: an equal request that comes later is a new one."""
    await awaited(1)
    [claimed] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
    await Finisher(database, lambda ended: None).finish(claimed, DONE)
    assert await repeats.attach(database, 1, SAME, 1) is None


async def test_a_cancelled_job_is_nobodys_repeat(database: Database, awaited: Accept) -> None:
    [job] = await awaited(1)
    await repeats.abandon(database, job, 0)
    await cancel(database, [job])
    assert await repeats.attach(database, 1, SAME, 1) is None


async def test_after_its_grace_a_job_is_given_up_once(database: Database, awaited: Accept) -> None:
    waited_for, left = await awaited(2)
    await repeats.abandon(database, left, 0)
    assert await repeats.overdue(database, 60) == []
    await rows(database, "UPDATE repeats SET abandoned_at = abandoned_at - interval '1 minute'")
    assert await repeats.overdue(database, 60) == [left]
    assert await repeats.overdue(database, 60) == []
    assert await repeats.attach(database, 1, SAME, 1) == waited_for


async def test_a_repeat_and_the_end_of_the_grace_never_both_have_the_job(database: Database, awaited: Accept) -> None:
    for number in range(20):
        [job] = await awaited(1)
        await repeats.abandon(database, job, 0)
        found, given_up = await asyncio.gather(
            repeats.attach(database, 1, SAME, number + 1), repeats.overdue(database, 0)
        )
        assert (found == job) != (job in given_up)
        await rows(database, "DELETE FROM repeats")


async def test_a_client_that_left_for_good_leaves_nothing_to_find(database: Database, awaited: Accept) -> None:
    [job] = await awaited(1)
    assert await repeats.end(database, job, 0)
    assert await repeats.attach(database, 1, SAME, 1) is None
    assert await repeats.overdue(database, 0) == []
    assert not await repeats.end(database, job, 0)


async def test_a_job_that_a_repeat_took_over_does_not_end_with_its_first_client(
    database: Database, awaited: Accept
) -> None:
    for _ in range(20):
        [job] = await awaited(1)
        found, ended = await asyncio.gather(repeats.attach(database, 1, SAME, 1), repeats.end(database, job, 0))
        assert (found == job) != ended
        await rows(database, "DELETE FROM repeats")


async def test_a_job_that_was_found_by_its_key_is_not_given_up(database: Database, awaited: Accept) -> None:
    [job] = await awaited(1)
    await repeats.keep(database, job)
    assert not await repeats.abandon(database, job, 0)
    assert await repeats.overdue(database, 0) == []


async def test_answered_jobs_are_forgotten_a_minute_later(
    database: Database, awaited: Accept, worker: UUID, model_id: int
) -> None:
    running, answered, abandoned = await awaited(3)
    await repeats.abandon(database, abandoned, 0)
    for job in await claim(database, worker, model_id, Tier.DEFAULT, 3):
        if job.id != running:
            await Finisher(database, lambda ended: None).finish(job, DONE)
    assert await repeats.forget(database) == 0
    await rows(database, "UPDATE jobs SET finished_at = finished_at - interval '1 minute'")
    assert await repeats.forget(database) == 1
    kept = {row.job_id for row in await rows(database, "SELECT job_id FROM repeats")}
    assert kept == {running, abandoned}
    await rows(database, "DELETE FROM jobs WHERE id = %s", running)
    assert await repeats.forget(database) == 1
    assert await value(database, "SELECT job_id FROM repeats") == abandoned
    assert answered not in kept


async def test_a_job_of_a_client_that_does_not_repeat_is_not_kept_here(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    [job] = await accept(new_job())
    assert not await repeats.abandon(database, job, 0)
    assert await value(database, "SELECT count(*) FROM repeats") == 0
