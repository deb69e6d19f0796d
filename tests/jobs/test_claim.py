"""Claiming: which jobs a free slot gets."""

from collections import Counter
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from jobs import ids
from jobs.claim import Waiting, claim, claim_suspects, hold_suspects, waiting, yield_suspects
from jobs.database import Database
from jobs.lease import end, leave, orphan, release
from jobs.records import ClaimedJob, Flags, Tier
from jobs.states import Status
from tests.jobs.conftest import Accept, MakeJob, MakeWorker
from tests.jobs.ledger import assert_counters_are_true, job_row, rows, statuses, value


def in_order(count: int) -> list[UUID]:
    """So many ids, in the order in which they would have been made."""
    return sorted(ids.new() for _ in range(count))


def of(jobs: list[ClaimedJob]) -> list[UUID]:
    return [job.id for job in jobs]


async def test_a_claimed_job_carries_what_a_run_needs(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    job = new_job(body=b'{"a": "\xff"}', cost=5, service_tier="auto", timeout_seconds=9, flags=Flags.STREAMS)
    job = replace(job, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    await accept(job)
    [claimed] = await claim(database, worker, model_id, Tier.DEFAULT, 4)
    assert (claimed.id, claimed.tenant_id, claimed.tier, claimed.cost) == (job.id, 1, Tier.DEFAULT, 5)
    assert (claimed.endpoint, claimed.body, claimed.service_tier) == (job.endpoint, job.body, "auto")
    assert (claimed.timeout_seconds, claimed.flags) == (9, Flags.STREAMS)
    assert claimed.traceparent == job.traceparent
    assert (claimed.lease_token, claimed.attempts, claimed.weight) == (1, 1, 1)
    row = await job_row(database, job.id)
    assert (row.status, row.worker_id, row.lease_token, row.flow_id) == ("in_progress", worker, 1, claimed.flow_id)
    assert row.started_at is not None


async def test_inside_a_flow_jobs_go_as_they_came(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    order = in_order(10)
    await accept(*(new_job(id=job_id) for job_id in reversed(order)))
    assert of(await claim(database, worker, model_id, Tier.DEFAULT, 4)) == order[:4]
    assert of(await claim(database, worker, model_id, Tier.DEFAULT, 100)) == order[4:]
    assert await claim(database, worker, model_id, Tier.DEFAULT, 1) == []
    await assert_counters_are_true(database)


async def test_a_job_whose_id_was_made_before_the_last_one_served_is_not_passed_over(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    early, late = in_order(2)
    await accept(new_job(id=late))
    assert of(await claim(database, worker, model_id, Tier.DEFAULT, 1)) == [late]
    await accept(new_job(id=early))
    assert of(await claim(database, worker, model_id, Tier.DEFAULT, 1)) == [early]


async def test_a_job_that_was_handed_back_comes_first_again(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    order = in_order(4)
    await accept(*(new_job(id=job_id) for job_id in order))
    first, second = await claim(database, worker, model_id, Tier.DEFAULT, 2)
    await release(database, [(first.id, first.lease_token), (second.id, second.lease_token)])
    assert of(await claim(database, worker, model_id, Tier.DEFAULT, 3)) == order[:3]


async def test_a_flows_turn_comes_by_what_it_was_served_so_far(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await rows(database, "INSERT INTO tenants (name) VALUES ('other')")
    await accept(*(new_job(cost=30) for _ in range(4)), *(new_job(tenant_id=2, cost=10) for _ in range(12)))
    served = {1: 0, 2: 0}
    for _ in range(16):
        [job] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
        served[job.tenant_id] += job.cost
        assert abs(served[1] - served[2]) <= 30
    assert served == {1: 120, 2: 120}


async def test_one_claim_serves_flows_as_many_small_ones_would(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await rows(database, "INSERT INTO tenants (name, weight) VALUES ('two', 1), ('three', 2)")
    for tenant in (1, 2, 3):
        await accept(*(new_job(id=job_id, tenant_id=tenant, cost=10) for job_id in in_order(12)))
    together = await claim(database, worker, model_id, Tier.DEFAULT, 16)
    assert [sum(job.tenant_id == tenant for job in together) for tenant in (1, 2, 3)] == [4, 4, 8]


async def test_a_heavy_tenant_among_many_gets_its_whole_share_in_one_claim(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await rows(database, "UPDATE tenants SET weight = 100 WHERE id = 1")
    await rows(database, "INSERT INTO tenants (name) SELECT 'light ' || n FROM generate_series(2, 21) n")
    await accept(*(new_job(tenant_id=tenant, cost=1) for tenant in range(1, 22) for _ in range(30)))
    first = await claim(database, worker, model_id, Tier.DEFAULT, 40)
    assert Counter(job.tenant_id for job in first) == {1: 20} | dict.fromkeys(range(2, 22), 1)
    await assert_counters_are_true(database)


async def test_a_chat_does_not_wait_behind_its_own_tenants_asynchronous_jobs(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(*(new_job(id=job_id) for job_id in in_order(100)))
    await claim(database, worker, model_id, Tier.DEFAULT, 20)
    [chat] = await accept(new_job(waited=True))
    assert chat in of(await claim(database, worker, model_id, Tier.DEFAULT, 2))


async def test_a_lane_is_one_models_one_tier(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    other = await value(database, "INSERT INTO models (name, queue, registration) VALUES ('n', 'n', '{}') RETURNING id")
    [ours] = await accept(new_job(tier=Tier.FLEX))
    await accept(new_job(tier=Tier.BATCH), new_job(tier=Tier.FLEX, model_id=other))
    assert of(await claim(database, worker, model_id, Tier.FLEX, 10)) == [ours]


@pytest.mark.parametrize("table", ["tenants", "flows"])
async def test_what_is_paused_waits_and_goes_on(
    table: str, database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    jobs = await accept(new_job(), new_job())
    await rows(database, f"UPDATE {table} SET paused = true")
    assert await claim(database, worker, model_id, Tier.DEFAULT, 10) == []
    assert (await waiting(database, model_id, 8))[Tier.DEFAULT].jobs == 0
    await rows(database, f"UPDATE {table} SET paused = false")
    assert sorted(of(await claim(database, worker, model_id, Tier.DEFAULT, 10))) == sorted(jobs)


async def test_a_paused_flow_holds_up_nobody_else(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await rows(database, "INSERT INTO tenants (name, paused) VALUES ('paused', true)")
    await accept(new_job(tenant_id=2), new_job(tenant_id=2))
    [ours] = await accept(new_job())
    assert of(await claim(database, worker, model_id, Tier.DEFAULT, 1)) == [ours]


@pytest.mark.parametrize("tier", [Tier.DEFAULT, Tier.SUSPECT])
async def test_a_job_whose_time_has_run_out_is_not_begun(
    tier: Tier, database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    gone, good = in_order(2)
    await accept(new_job(id=gone, tier=tier, expires_seconds=0), new_job(id=good, tier=tier, expires_seconds=60))
    if tier == Tier.SUSPECT:
        claimed = await claim_suspects(database, worker, model_id)
    else:
        claimed = await claim(database, worker, model_id, tier, 10)
    assert of(claimed) == [good]
    assert await statuses(database, [gone]) == [Status.QUEUED]
    await assert_counters_are_true(database)


async def test_a_job_that_waits_for_another_is_not_claimed(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    first, second = await accept(*(new_job(id=job_id) for job_id in in_order(2)))
    await rows(database, "UPDATE jobs SET blocked_on = %s WHERE id = %s", first, second)
    await rows(database, "UPDATE flows SET queued = 1")
    assert of(await claim(database, worker, model_id, Tier.DEFAULT, 10)) == [first]
    await assert_counters_are_true(database)


async def test_what_waits_is_told_by_tier_up_to_what_was_asked(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    assert await waiting(database, model_id, 8) == {}
    await accept(*(new_job() for _ in range(3)), *(new_job(tier=Tier.BATCH, waited=w) for w in (True, False) * 10))
    assert await waiting(database, model_id, 8) == {
        Tier.DEFAULT: Waiting(3, served=False),
        Tier.BATCH: Waiting(8, served=False),
    }
    await claim(database, worker, model_id, Tier.DEFAULT, 8)
    assert (await waiting(database, model_id, 8))[Tier.DEFAULT] == Waiting(0, served=True)
    await rows(database, "UPDATE lanes SET served_at = now() - interval '2 minutes'")
    assert (await waiting(database, model_id, 8))[Tier.DEFAULT] == Waiting(0, served=False)


async def suspects(database: Database, accept: Accept, new_job: MakeJob, losses: list[int]) -> list[UUID]:
    """Jobs that were lost so many times, in their model's suspect lane."""
    jobs = await accept(*(new_job(id=job_id, tier=Tier.SUSPECT) for job_id in in_order(len(losses))))
    for job_id, count in zip(jobs, losses, strict=True):
        await rows(database, "UPDATE jobs SET losses = %s WHERE id = %s", count, job_id)
    return jobs


async def test_suspects_run_eight_together(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    jobs = await suspects(database, accept, new_job, [2] * 11)
    assert of(await claim_suspects(database, worker, model_id)) == jobs[:8]
    assert of(await claim_suspects(database, worker, model_id)) == jobs[8:]
    assert await claim_suspects(database, worker, model_id) == []
    await assert_counters_are_true(database)


async def test_a_suspect_that_was_lost_a_third_time_runs_alone_and_after_the_others(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    jobs = await suspects(database, accept, new_job, [3, 2, 3, 2])
    turns = [of(await claim_suspects(database, worker, model_id)) for _ in range(4)]
    assert turns == [[jobs[1], jobs[3]], [jobs[0]], [jobs[2]], []]


async def test_suspects_of_many_tenants_are_still_eight_together(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    for tenant in range(2, 14):
        await rows(database, "INSERT INTO tenants (name) VALUES (%s)", str(tenant))
        await accept(new_job(tier=Tier.SUSPECT, tenant_id=tenant))
    assert len(await claim_suspects(database, worker, model_id)) == 8
    assert len(await claim_suspects(database, worker, model_id)) == 4


async def test_nobody_holds_the_suspect_lane_while_it_is_empty(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    assert not await hold_suspects(database, worker, model_id)
    await suspects(database, accept, new_job, [2])
    await rows(database, "UPDATE tenants SET paused = true")
    assert not await hold_suspects(database, worker, model_id)


async def test_one_worker_serves_the_suspects_until_it_is_gone(
    database: Database, accept: Accept, new_job: MakeJob, new_worker: MakeWorker, model_id: int
) -> None:
    one, two, three = [await new_worker() for _ in range(3)]
    await suspects(database, accept, new_job, [2] * 20)
    assert await hold_suspects(database, one, model_id)
    assert await hold_suspects(database, one, model_id)
    assert not await hold_suspects(database, two, model_id)
    await end(database, one)
    assert await hold_suspects(database, two, model_id)
    assert not await hold_suspects(database, one, model_id)
    await leave(database, two)
    assert await hold_suspects(database, three, model_id)


async def test_a_job_reaches_the_suspect_lane_and_keeps_the_tier_that_was_asked_for(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    [job] = await accept(new_job(tier=Tier.FLEX))
    for _ in range(2):
        assert of(await claim(database, worker, model_id, Tier.FLEX, 1)) == [job]
        await orphan(database, worker)
    assert await claim(database, worker, model_id, Tier.FLEX, 1) == []
    [claimed] = await claim_suspects(database, worker, model_id)
    assert (claimed.id, claimed.tier, claimed.attempts, claimed.lease_token) == (job, Tier.FLEX, 3, 3)


async def test_a_worker_without_a_row_claims_nothing(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int
) -> None:
    await accept(new_job())
    assert await claim(database, uuid4(), model_id, Tier.DEFAULT, 1) == []


async def test_suspects_can_be_left_to_another_worker(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, new_worker: MakeWorker, model_id: int
) -> None:
    await accept(new_job())
    for _ in range(2):
        await claim(database, worker, model_id, Tier.DEFAULT, 1)
        await orphan(database, worker)
    other = await new_worker()
    assert await hold_suspects(database, worker, model_id)
    assert not await hold_suspects(database, other, model_id)
    await yield_suspects(database, worker, model_id)
    assert await hold_suspects(database, other, model_id)
