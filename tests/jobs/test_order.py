"""Who goes next: shares of the slots, cost, fairness between flows, and a storm that leaves no job behind."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from jobs import ids, lease
from jobs.accept import Acceptor
from jobs.cancel import cancel
from jobs.claim import claim
from jobs.database import Database
from jobs.finish import Finisher, Settlement
from jobs.order import Shares, allocate, estimate
from jobs.records import ClaimedJob, Model, NewJob, Outcome, Tier, Usage
from jobs.states import Status
from tests.jobs.conftest import Accept, MakeJob, MakeWorker
from tests.jobs.ledger import assert_counters_are_true, rows, value
from tests.until import until

SHARES = {Tier.PRIORITY: 0.4, Tier.DEFAULT: 0.3, Tier.FLEX: 0.1, Tier.BATCH: 0.2}
PLENTY = dict.fromkeys(SHARES, 1000)
STORM_SECONDS = 14
LANES = (Tier.DEFAULT, Tier.BATCH)


def shared(
    free: int,
    *,
    slots: int | None = None,
    running: Mapping[Tier, int] | None = None,
    waiting: Mapping[Tier, int] = PLENTY,
    recently: bool = False,
    shares: Mapping[Tier, float] = SHARES,
    ceiling: float = 0.75,
) -> dict[Tier, int]:
    return dict(allocate(free, slots or free, running or {}, waiting, recently, Shares(shares, ceiling)))


def test_where_all_tiers_wait_each_gets_its_share() -> None:
    assert shared(100) == {Tier.PRIORITY: 40, Tier.DEFAULT: 30, Tier.FLEX: 10, Tier.BATCH: 20}


def test_shares_are_of_all_slots_and_held_against_what_runs() -> None:
    running = {Tier.PRIORITY: 40, Tier.DEFAULT: 30, Tier.FLEX: 0, Tier.BATCH: 10}
    assert shared(20, slots=100, running=running) == {Tier.FLEX: 10, Tier.BATCH: 10}


def test_the_tier_furthest_below_its_share_goes_first() -> None:
    running = {Tier.PRIORITY: 30, Tier.DEFAULT: 30, Tier.FLEX: 9, Tier.BATCH: 15}
    assert shared(1, slots=100, running=running) == {Tier.PRIORITY: 1}


def test_shares_need_not_add_up_to_one() -> None:
    shares = {Tier.PRIORITY: 3, Tier.DEFAULT: 0, Tier.FLEX: 0, Tier.BATCH: 2}
    assert shared(10, shares=shares) == {Tier.PRIORITY: 6, Tier.BATCH: 4}


def test_what_a_tier_leaves_free_the_others_use() -> None:
    assert shared(100, waiting={Tier.DEFAULT: 1000}) == {Tier.DEFAULT: 100}
    assert shared(100, waiting={Tier.BATCH: 1000}) == {Tier.BATCH: 100}
    assert shared(100, waiting={Tier.PRIORITY: 5, Tier.BATCH: 7}) == {Tier.PRIORITY: 5, Tier.BATCH: 7}


def test_no_slot_stays_free_while_anyone_interactive_waits() -> None:
    running = {Tier.PRIORITY: 90}
    assert shared(10, slots=100, running=running, waiting={Tier.PRIORITY: 1000}) == {Tier.PRIORITY: 10}


def test_bulk_stays_below_three_quarters_while_anyone_interactive_was_served_lately() -> None:
    assert shared(100, waiting={Tier.BATCH: 1000}, recently=True) == {Tier.BATCH: 75}
    assert shared(100, waiting={Tier.FLEX: 1000, Tier.BATCH: 1000}, recently=True) == {Tier.FLEX: 33, Tier.BATCH: 42}
    assert shared(30, slots=100, running={Tier.BATCH: 70}, waiting={Tier.BATCH: 1000}, recently=True) == {Tier.BATCH: 5}


def test_a_setting_says_how_much_that_is() -> None:
    assert shared(100, waiting={Tier.BATCH: 1000}, recently=True, ceiling=0.9) == {Tier.BATCH: 90}


def test_bulk_that_took_all_slots_before_gets_none_until_it_is_below_its_ceiling_again() -> None:
    assert shared(10, slots=100, running={Tier.BATCH: 90}, waiting={Tier.BATCH: 1000}, recently=True) == {}


def test_bulk_never_gets_less_than_its_reserve() -> None:
    bulky = {Tier.PRIORITY: 0.1, Tier.DEFAULT: 0, Tier.FLEX: 0, Tier.BATCH: 0.9}
    assert shared(100, waiting={Tier.BATCH: 1000}, recently=True, shares=bulky) == {Tier.BATCH: 90}


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_a_small_engine_still_serves_bulk(slots: int) -> None:
    assert shared(slots, waiting={Tier.BATCH: 1000}, recently=True)[Tier.BATCH] >= 1


def test_suspects_have_no_share() -> None:
    assert shared(8, waiting={Tier.SUSPECT: 5, Tier.FLEX: 1}) == {Tier.FLEX: 1}


def test_nothing_free_or_nobody_waiting_is_nothing() -> None:
    assert shared(0, slots=8) == {}
    assert shared(8, waiting={}) == {}
    assert shared(8, waiting={Tier.BATCH: 0}) == {}


@pytest.mark.parametrize("seed", range(20))
def test_never_more_than_is_free_or_waits_and_best_tier_first(seed: int) -> None:
    chance = random.Random(seed)
    slots = chance.randint(1, 64)
    running = {tier: chance.randint(0, slots // 4) for tier in SHARES}
    free = slots - sum(running.values())
    waiting = {tier: chance.choice([0, 1, 5, 100]) for tier in SHARES}
    given = allocate(free, slots, running, waiting, chance.random() < 0.5, Shares(SHARES, 0.75))
    assert [tier for tier, _ in given] == sorted(tier for tier, _ in given)
    assert sum(count for _, count in given) <= free
    assert all(0 < count <= waiting[tier] for tier, count in given)
    interactive = waiting[Tier.PRIORITY] + waiting[Tier.DEFAULT]
    assert sum(count for _, count in given) >= min(free, interactive)


def model(bytes_per_token: float = 4.0, mean_output: Mapping[Tier, float] | None = None) -> Model:
    return Model(
        id=1,
        name="m",
        aliases=(),
        adapters=(),
        queue="q",
        endpoints={},
        context_length=None,
        created_at=datetime.now(UTC),
        workers=0,
        slots=0,
        bytes_per_token=bytes_per_token,
        mean_output=dict(mean_output or {}),
    )


def test_cost_is_the_prompts_tokens_and_what_may_come_out() -> None:
    known = model(bytes_per_token=5, mean_output={Tier.DEFAULT: 200.0, Tier.BATCH: 10.0})
    assert estimate(500, 50, 1, known, Tier.DEFAULT) == 100 + 50
    assert estimate(500, 900, 1, known, Tier.DEFAULT) == 100 + 200
    assert estimate(500, None, 1, known, Tier.DEFAULT) == 100 + 200
    assert estimate(500, None, 1, known, Tier.BATCH) == 100 + 10
    assert estimate(500, 50, 3, known, Tier.DEFAULT) == 100 + 150


def test_a_lane_that_never_answered_is_given_a_guess() -> None:
    assert estimate(0, None, 1, model(), Tier.FLEX) == 128


def test_a_cost_is_at_least_one_and_fits_its_column() -> None:
    assert estimate(0, 0, 1, model(), Tier.DEFAULT) == 1
    assert estimate(2**60, None, 2**40, model(), Tier.DEFAULT) < 2**31


async def backlog(database: Database, model_id: int, tenant: int, flows: int, jobs: int, chance: random.Random) -> None:
    """Queue so many jobs of random cost in each of so many flows (batches) of one tenant."""
    for _ in range(flows):
        flow = await value(
            database,
            "INSERT INTO flows (model_id, tier, tenant_id, waited, batch_id, queued, open)"
            " VALUES (%s, 3, %s, false, %s, %s, true) RETURNING id",
            model_id,
            tenant,
            uuid4(),
            jobs,
        )
        new = sorted(ids.new() for _ in range(jobs))
        await rows(
            database,
            "INSERT INTO jobs (id, flow_id, tenant_id, cost, tier, timeout_s, place)"
            " SELECT id, %s, %s, cost, 3, 60, uuid_send(id) FROM unnest(%s::uuid[], %s::int[]) AS j (id, cost)",
            flow,
            tenant,
            new,
            [chance.randint(1, 400) for _ in new],
        )
        await rows(
            database,
            "INSERT INTO requests (job_id, endpoint, model, body) SELECT unnest(%s::uuid[]), '/v1/score', 'm', ''",
            new,
        )


async def served(database: Database, worker: UUID, model_id: int, rounds: Sequence[int]) -> Counter[int]:
    """Claim in rounds of these sizes; the cost that each tenant was served."""
    cost: Counter[int] = Counter()
    for free in rounds:
        for job in await claim(database, worker, model_id, Tier.BATCH, free):
            cost[job.tenant_id] += job.cost
    return cost


async def test_tenants_are_served_by_weight_however_many_flows_they_have(
    database: Database, model_id: int, worker: UUID
) -> None:
    chance = random.Random(11)
    await rows(database, "INSERT INTO lanes (model_id, tier) VALUES (%s, 3)", model_id)
    await rows(database, "INSERT INTO tenants (name, weight) VALUES ('two', 1), ('three', 3)")
    for tenant, flows, jobs in ((1, 8, 100), (2, 1, 800), (3, 1, 1600)):
        await backlog(database, model_id, tenant, flows, jobs, chance)
    cost = await served(database, worker, model_id, [chance.randint(1, 32) for _ in range(100)])
    whole = sum(cost.values())
    assert {tenant: round(cost[tenant] / whole, 2) for tenant in cost} == {
        tenant: pytest.approx(share, abs=0.02) for tenant, share in ((1, 0.2), (2, 0.2), (3, 0.6))
    }


async def test_a_flow_that_wakes_starts_at_the_floor_and_makes_no_claim_on_the_past(
    database: Database, model_id: int, worker: UUID, accept: Accept, new_job: MakeJob
) -> None:
    chance = random.Random(12)

    def jobs(tenant: int) -> list[NewJob]:
        return [new_job(tenant_id=tenant, tier=Tier.BATCH, cost=chance.randint(1, 400)) for _ in range(1000)]

    await rows(database, "INSERT INTO tenants (name) VALUES ('late')")
    await accept(*jobs(1))
    await served(database, worker, model_id, [16] * 25)
    await accept(*jobs(2))
    cost = await served(database, worker, model_id, [16] * 30)
    assert cost[1] / cost[2] == pytest.approx(1, abs=0.1)


@dataclass
class Book:
    """What the storm's parts were told, independent of the database."""

    accepted: list[UUID] = field(default_factory=list)
    ends: dict[UUID, list[Status]] = field(default_factory=dict)
    handed_back: int = 0

    def end(self, job: UUID, status: Status) -> None:
        self.ends.setdefault(job, []).append(status)


async def submit(database: Database, book: Book, new_job: MakeJob, chance: random.Random, until: float) -> None:
    acceptor = Acceptor(database, lambda model, count: None)

    async def one() -> None:
        job = new_job(
            tenant_id=chance.randint(1, 4),
            tier=chance.choice(LANES),
            waited=chance.random() < 0.5,
            cost=chance.randint(1, 500),
        )
        if chance.random() < 0.2:  # made now, committed later: a place behind the cursor
            await asyncio.sleep(chance.uniform(0, 0.05))
        await acceptor.accept(job)
        book.accepted.append(job.id)

    while time.monotonic() < until:
        await asyncio.gather(*(one() for _ in range(chance.randint(1, 32))))
        await asyncio.sleep(chance.choice((0, 0, 0.02)))


async def serve(
    database: Database,
    worker: UUID,
    model_id: int,
    book: Book,
    chance: random.Random,
    others: "asyncio.Future[None]",
) -> None:
    finisher, settlement = Finisher(database, lambda ended: None), Settlement(database, model_id)

    async def end(job: ClaimedJob) -> None:
        status = chance.choice((Status.COMPLETED, Status.FAILED))
        outcome = Outcome(status, 200, b"{}", Usage(input=chance.randint(1, 300), output=chance.randint(1, 300)))
        if await finisher.finish(job, outcome):
            book.end(job.id, status)
        settlement.note(job, outcome)

    async def hand_back(jobs: list[ClaimedJob]) -> None:
        book.handed_back += await lease.release(database, [(job.id, job.lease_token) for job in jobs])
        for job in jobs:
            settlement.note(job, None)

    emptied: set[Tier] = set()
    while emptied != set(LANES):
        over, tier = others.done(), chance.choice(LANES)
        jobs = await claim(database, worker, model_id, tier, chance.randint(1, 32))
        if jobs:
            emptied.clear()
        elif over:
            emptied.add(tier)
        back = [job for job in jobs if chance.random() < 0.2]
        await asyncio.gather(hand_back(back), *(end(job) for job in jobs if job not in back))
        if chance.random() < 0.1:
            await settlement.flush()


async def take_away(database: Database, book: Book, chance: random.Random, submitters: "asyncio.Future[None]") -> None:
    while not submitters.done():
        recent = book.accepted[-400:]
        for job in await cancel(database, chance.sample(recent, min(len(recent), chance.randint(1, 20)))):
            book.end(job, Status.CANCELLED)
        await asyncio.sleep(chance.uniform(0, 0.05))


async def deadlocks(database_url: str) -> int:
    """How many the server has seen in this database; every other session has to be over."""
    async with await psycopg.AsyncConnection.connect(
        database_url.replace("+psycopg", ""), autocommit=True
    ) as connection:

        async def alone() -> bool:
            found = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return await found.fetchone() == (0,)

        await until(alone)
        found = await connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        row = await found.fetchone()
        assert row is not None
        return int(row[0])


async def test_a_storm_leaves_no_job_behind(
    database: Database, database_url: str, model_id: int, new_job: MakeJob, new_worker: MakeWorker
) -> None:
    """Three submitters, two claimers that hand 20 % back, one canceller, each with connections of its own."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    await rows(database, "INSERT INTO tenants (name, weight) VALUES ('two', 1), ('three', 3), ('four', 0.5)")
    workers = [await new_worker() for _ in range(2)]
    book, until_then = Book(), time.monotonic() + STORM_SECONDS
    own = [Database(database_url, pool_size=3) for _ in range(6)]

    async def all_submitters() -> None:
        await asyncio.gather(*(submit(each, book, new_job, chance, until_then) for each in own[:3]))

    try:
        async with asyncio.TaskGroup() as parts:
            submitters = parts.create_task(all_submitters())
            canceller = parts.create_task(take_away(own[5], book, chance, submitters))
            for each, worker in zip(own[3:5], workers, strict=True):
                parts.create_task(serve(each, worker, model_id, book, chance, canceller))
    finally:
        for each in own:
            await each.close()

    print(f"{len(book.accepted)} jobs, {book.handed_back} handed back")
    found = {row.id: Status(row.status) for row in await rows(database, "SELECT id, status FROM jobs")}
    unfinished = [job for job, status in found.items() if not status.terminal]
    assert not unfinished, f"{len(unfinished)} of {len(found)} jobs are stuck"
    assert {job: [status] for job, status in found.items()} == book.ends
    assert found.keys() == set(book.accepted)
    await assert_counters_are_true(database)
    await database.close()
    assert await deadlocks(database_url) == 0
