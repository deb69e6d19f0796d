"""Finishing: the outcome is stored once, by who holds the job, however long that takes."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from jobs.claim import claim
from jobs.database import Database
from jobs.finish import Finisher, Settlement
from jobs.lease import orphan, release
from jobs.read import results
from jobs.records import ClaimedJob, Outcome, Result, Tier, Usage
from jobs.states import Status
from tests.jobs.conftest import Accept, MakeJob, MakeWorker, Outage
from tests.jobs.ledger import assert_counters_are_true, job_row, rows, statuses, value
from tests.until import until

DONE = Outcome(Status.COMPLETED, 200, b'{"ok": "\xff"}', Usage(input=5, cached=2, output=7, reasoning=3))


@pytest.fixture
def announced() -> list[UUID | Result]:
    return []


@pytest.fixture
def finisher(database: Database, announced: list[UUID | Result]) -> Finisher:
    return Finisher(database, announced.extend)


@pytest.fixture
async def held(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> Sequence[ClaimedJob]:
    """Thirty jobs that the worker holds."""
    await accept(*(new_job(cost=10) for _ in range(30)))
    return await claim(database, worker, model_id, Tier.DEFAULT, 30)


async def test_an_outcome_becomes_a_terminal_row_with_its_result(
    finisher: Finisher, database: Database, held: Sequence[ClaimedJob], announced: list[UUID | Result]
) -> None:
    job = held[0]
    assert await finisher.finish(job, DONE)
    row = await job_row(database, job.id)
    assert (row.status, row.worker_id, row.lease_token) == ("completed", None, job.lease_token)
    assert row.finished_at >= row.started_at
    [result] = await rows(database, "SELECT * FROM results")
    assert (result.job_id, result.status_code, result.body) == (job.id, 200, DONE.body)
    used = (result.input_tokens, result.cached_tokens, result.output_tokens, result.reasoning_tokens)
    assert used == (5, 2, 7, 3)
    assert announced == [job.id]


async def test_a_failure_keeps_its_response_or_its_reason(
    finisher: Finisher, database: Database, held: Sequence[ClaimedJob]
) -> None:
    answered = Outcome(Status.FAILED, 400, b'{"error": {}}')
    late = Outcome(Status.FAILED, error_code="request_timeout", error_message="It took too long.")
    await asyncio.gather(finisher.finish(held[0], answered), finisher.finish(held[1], late))
    assert await results(database, [job.id for job in held]) == {
        held[0].id: Result(held[0].id, Status.FAILED, 400, b'{"error": {}}', None, None),
        held[1].id: Result(held[1].id, Status.FAILED, None, None, "request_timeout", "It took too long."),
    }


async def test_results_travel_in_company(
    finisher: Finisher, database: Database, held: Sequence[ClaimedJob], announced: list[UUID | Result]
) -> None:
    assert all(await asyncio.gather(*(finisher.finish(job, DONE) for job in held)))
    assert await value(database, "SELECT count(DISTINCT xmin::text) FROM jobs") == 1
    assert {ended for ended in announced if isinstance(ended, UUID)} == {job.id for job in held}
    await assert_counters_are_true(database)


async def test_who_lost_the_job_writes_nothing(
    finisher: Finisher,
    database: Database,
    held: Sequence[ClaimedJob],
    new_worker: MakeWorker,
    worker: UUID,
    model_id: int,
) -> None:
    await orphan(database, worker)
    assert not await finisher.finish(held[0], DONE)
    again = {job.id: job for job in await claim(database, await new_worker(), model_id, Tier.DEFAULT, 30)}
    assert not await finisher.finish(held[0], DONE)
    assert await results(database, [held[0].id]) == {}
    right = Outcome(Status.COMPLETED, 200, b"right")
    assert await finisher.finish(again[held[0].id], right)
    assert not await finisher.finish(held[0], DONE)
    assert (await results(database, [held[0].id]))[held[0].id].body == b"right"


async def test_who_handed_the_job_back_writes_nothing(
    finisher: Finisher, database: Database, held: Sequence[ClaimedJob]
) -> None:
    await release(database, [(job.id, job.lease_token) for job in held])
    assert not await finisher.finish(held[0], DONE)
    assert await statuses(database, [held[0].id]) == [Status.QUEUED]


async def test_a_result_is_stored_once_even_if_it_is_sent_again(
    finisher: Finisher, database: Database, held: Sequence[ClaimedJob], announced: list[UUID | Result]
) -> None:
    """The answer of a commit can be lost; waiters hear of the job all the same."""
    assert await finisher.finish(held[0], DONE)
    assert not await finisher.finish(held[0], Outcome(Status.FAILED, 500, b"another"))
    [result] = (await results(database, [held[0].id])).values()
    assert (result.status, result.body) == (Status.COMPLETED, DONE.body)
    assert announced == [held[0].id] * 2


async def test_what_a_client_waits_for_is_announced_with_its_result(
    finisher: Finisher, held: Sequence[ClaimedJob], announced: list[UUID | Result]
) -> None:
    job = replace(held[0], waited=True)
    assert await finisher.finish(job, DONE)
    assert not await finisher.finish(job, Outcome(Status.FAILED, 500, b"another"))
    assert announced == [Result(job.id, Status.COMPLETED, 200, DONE.body, None, None), job.id]


async def test_of_two_runs_of_one_job_the_one_that_counts_is_announced(
    finisher: Finisher, held: Sequence[ClaimedJob], announced: list[UUID | Result]
) -> None:
    job = replace(held[0], waited=True)
    lost = replace(job, lease_token=job.lease_token - 1)
    stale = Outcome(Status.COMPLETED, 200, b"stale")
    await asyncio.gather(finisher.finish(job, DONE), finisher.finish(lost, stale))
    assert {ended.body for ended in announced if isinstance(ended, Result)} == {DONE.body}


async def test_one_company_tells_what_was_ours_from_what_was_not(
    finisher: Finisher, database: Database, held: Sequence[ClaimedJob]
) -> None:
    gone = held[::3]
    await release(database, [(job.id, job.lease_token) for job in gone])
    answers = await asyncio.gather(*(finisher.finish(job, DONE) for job in held))
    assert answers == [job not in gone for job in held]
    await assert_counters_are_true(database)


async def test_results_are_kept_while_the_database_is_away(
    finisher: Finisher, database: Database, held: Sequence[ClaimedJob], outage: Outage, announced: list[UUID | Result]
) -> None:
    async with outage():
        first = asyncio.create_task(finisher.finish(held[0], DONE))
        with pytest.raises(OperationalError):  # by when the first was refused, too
            await value(database, "SELECT 1")
        rest = [asyncio.create_task(finisher.finish(job, DONE)) for job in held[1:]]
        await until(lambda: finisher.waiting == len(rest))
        draining = asyncio.create_task(finisher.drain())
        assert not first.done() and not draining.done() and not announced
    await draining
    assert await first and all(await asyncio.gather(*rest))
    assert await statuses(database, [job.id for job in held]) == [Status.COMPLETED] * len(held)


UNSTORABLE = {
    "NUL in a message": {"error_message": "a\x00b"},
    "a lone surrogate in a message": {"error_message": "\ud800"},
    "NUL in a code": {"error_code": "\x00"},
    "a status code beyond its column": {"status_code": 2**20},
    "tokens beyond their column": {"usage": Usage(output=2**40)},
}


@pytest.mark.parametrize("fields", UNSTORABLE.values(), ids=UNSTORABLE.keys())
async def test_what_cannot_be_stored_ends_its_own_job_as_failed(
    fields: dict[str, object], finisher: Finisher, database: Database, held: Sequence[ClaimedJob]
) -> None:
    bad = random.Random(1).choice(held)
    spoilt = Outcome(Status.COMPLETED, **{"status_code": 200, "body": b"{}", **fields})  # type: ignore[arg-type]
    assert all(await asyncio.gather(*(finisher.finish(job, spoilt if job is bad else DONE) for job in held)))
    found = await results(database, [job.id for job in held])
    failed = found.pop(bad.id)
    assert (failed.status, failed.body, failed.error_code) == (Status.FAILED, None, "server_error")
    assert {result.status for result in found.values()} == {Status.COMPLETED}


async def test_a_body_may_hold_any_byte(finisher: Finisher, database: Database, held: Sequence[ClaimedJob]) -> None:
    body = bytes(range(256)) * 100
    await finisher.finish(held[0], Outcome(Status.COMPLETED, 200, body))
    assert (await results(database, [held[0].id]))[held[0].id].body == body


async def vtime(database: Database) -> float:
    return float(await value(database, "SELECT vtime FROM flows"))


async def test_a_flow_pays_what_its_jobs_did_cost(
    database: Database, held: Sequence[ClaimedJob], model_id: int
) -> None:
    settlement = Settlement(database, model_id)
    assert await vtime(database) == 300  # as estimated
    settlement.note(held[0], Outcome(Status.COMPLETED, 200, b"", Usage(input=15, output=10)))
    settlement.note(held[1], Outcome(Status.COMPLETED, 200, b"", Usage(input=1, output=2)))
    settlement.note(held[2], Outcome(Status.FAILED, 400, b""))
    settlement.note(held[3], None)
    await settlement.flush()
    assert await vtime(database) == 300 + (25 - 10) + (3 - 10) + (1 - 10) + (0 - 10)
    await settlement.flush()
    assert await vtime(database) == 289


async def test_a_heavy_tenant_pays_less_for_the_same(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await rows(database, "UPDATE tenants SET weight = 4")
    await accept(new_job(cost=100))
    [job] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
    settlement = Settlement(database, model_id)
    settlement.note(job, Outcome(Status.COMPLETED, 200, b"", Usage(input=100, output=100)))
    await settlement.flush()
    assert await vtime(database) == 200 / 4


async def test_what_ran_teaches_the_next_estimates(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    for tier in (Tier.BATCH, Tier.DEFAULT):
        await accept(*(new_job(tier=tier, body=b"x" * 200) for _ in range(200)))
    jobs = await claim(database, worker, model_id, Tier.DEFAULT, 200)
    settlement = Settlement(database, model_id)
    for _ in range(40):
        for job in jobs:
            settlement.note(job, Outcome(Status.COMPLETED, 200, b"", Usage(input=100, output=20)))
        await settlement.flush()
    assert await value(database, "SELECT mean_output FROM lanes WHERE tier = 1") == pytest.approx(20, abs=0.1)
    assert await value(database, "SELECT bytes_per_token FROM models") == pytest.approx(2.0, abs=0.05)
    assert await value(database, "SELECT mean_output FROM lanes WHERE tier = 3") == 128


async def test_a_lanes_speed_is_that_of_all_its_workers_while_jobs_wait(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(*(new_job() for _ in range(3)))
    [job, _] = await claim(database, worker, model_id, Tier.DEFAULT, 2)
    workers = [Settlement(database, model_id) for _ in range(2)]

    async def measured(seconds: float) -> float:
        """The lane's speed after so many seconds in which each of two workers ran 100 tokens."""
        await rows(database, "UPDATE lanes SET measured_from = measured_from - make_interval(secs => %s)", seconds)
        for each in workers:
            each.note(job, Outcome(Status.COMPLETED, 200, b"", Usage(input=90, output=10)))
            await each.flush()
        return float(await value(database, "SELECT tokens_per_second FROM lanes WHERE tier = 1"))

    assert await measured(0) == 0, "nothing is known when one begins to look"
    assert await measured(10) == pytest.approx(20, rel=0.1), "what the second told the last time, and the first now"
    assert await measured(1000) == pytest.approx(0.2, rel=0.1), "long jobs end seldom"
    await claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert await measured(10) == pytest.approx(0.2, rel=0.1), "nothing waits: it might have been faster"
    await accept(new_job())
    assert await measured(10) == pytest.approx(0.2, rel=0.1), "nor is the time before counted"
    assert await measured(10) > 10


async def test_workers_that_learn_the_same_lanes_at_once_do_not_deadlock(
    database: Database, database_url: str, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    tiers = [Tier.PRIORITY, Tier.DEFAULT, Tier.FLEX, Tier.BATCH]
    await accept(*(new_job(tier=tier) for tier in tiers))
    jobs = [job for tier in tiers for job in await claim(database, worker, model_id, tier, 1)]
    others = [Database(database_url, pool_size=2) for _ in range(2)]
    for _ in range(50):
        settlements = [Settlement(each, model_id) for each in others]
        for settlement, order in zip(settlements, (jobs, jobs[::-1]), strict=True):
            for job in order:
                settlement.note(job, DONE)
        await asyncio.gather(*(settlement.flush() for settlement in settlements))
    for each in others:
        await each.close()
