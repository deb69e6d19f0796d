"""Accepting: committed or refused, once, whoever else submits at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from jobs import ids
from jobs.accept import Acceptor
from jobs.claim import claim
from jobs.database import Database
from jobs.errors import BadRequest, Unavailable, Unprocessable
from jobs.records import Accepted, IdempotencyKey, NewJob, Tier
from jobs.states import Status
from tests.jobs.conftest import Accept, MakeJob, Outage
from tests.jobs.ledger import assert_counters_are_true, job_row, rows, statuses, value

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Tickets:
    """Hears what is published after each commit."""

    def __init__(self) -> None:
        self.published: list[tuple[int, int]] = []

    def __call__(self, model_id: int, count: int) -> None:
        self.published.append((model_id, count))


@pytest.fixture
def tickets() -> Tickets:
    return Tickets()


@pytest.fixture
def acceptor(database: Database, tickets: Tickets) -> Acceptor:
    return Acceptor(database, tickets, patience_seconds=0.5)


def key(name: str = "k", body: bytes = b"a" * 16) -> IdempotencyKey:
    return IdempotencyKey(name, body)


async def count(database: Database) -> int:
    counted = await value(database, "SELECT count(*) FROM jobs")
    assert isinstance(counted, int)
    return counted


async def test_an_accepted_job_is_committed_with_everything_that_was_said(
    acceptor: Acceptor, database: Database, new_job: MakeJob
) -> None:
    job = new_job(
        body=b'{"prompt": "\x00\xff"}',
        tier=Tier.FLEX,
        waited=True,
        cost=77,
        expires_seconds=60,
        service_tier="flex",
        metadata={"a": "ü"},
        retry_of=ids.new(),
        traceparent=TRACEPARENT,
    )
    assert await acceptor.accept(job) == Accepted(job.id, existed=False)
    row = await job_row(database, job.id)
    assert (row.status, row.tenant_id, row.tier, row.cost, row.timeout_s) == ("queued", 1, Tier.FLEX, 77, 60)
    assert (row.expires_at - row.created_at).total_seconds() == 60
    [request] = await rows(database, "SELECT * FROM requests")
    assert (request.job_id, request.endpoint, request.model, request.body) == (job.id, job.endpoint, "m", job.body)
    [detail] = await rows(database, "SELECT * FROM details")
    assert (detail.metadata, detail.service_tier, detail.retry_of) == (job.metadata, "flex", job.retry_of)
    assert detail.traceparent == TRACEPARENT
    [flow] = await rows(database, "SELECT * FROM flows")
    assert (flow.tier, flow.tenant_id, flow.waited, flow.queued, flow.open) == (Tier.FLEX, 1, True, 1, True)


async def test_a_plain_job_leaves_no_row_in_the_cold_tables(
    acceptor: Acceptor, database: Database, new_job: MakeJob
) -> None:
    await acceptor.accept(new_job())
    for table in ("details", "repeats", "idempotency"):
        assert await value(database, f"SELECT count(*) FROM {table}") == 0


async def test_many_submits_travel_in_company(
    acceptor: Acceptor, database: Database, new_job: MakeJob, tickets: Tickets, model_id: int
) -> None:
    jobs = [new_job(waited=number % 2 == 0, tier=Tier(number % 4)) for number in range(100)]
    answers = await asyncio.gather(*(acceptor.accept(job) for job in jobs))
    assert [answer.id for answer in answers] == [job.id for job in jobs]
    assert tickets.published == [(model_id, 100)]
    assert await value(database, "SELECT count(DISTINCT xmin::text) FROM jobs") == 1
    await assert_counters_are_true(database)


async def test_tickets_are_published_after_the_commit_for_each_model(
    acceptor: Acceptor, database: Database, new_job: MakeJob, tickets: Tickets, model_id: int
) -> None:
    other = await value(database, "INSERT INTO models (name, queue, registration) VALUES ('n', 'n', '{}') RETURNING id")
    await acceptor.accept_all([new_job(), new_job(model_id=other), new_job()])
    assert sorted(tickets.published) == [(model_id, 2), (other, 1)]


async def test_the_same_key_is_the_same_job(
    acceptor: Acceptor, database: Database, new_job: MakeJob, tickets: Tickets
) -> None:
    first, again = new_job(key=key()), new_job(key=key())
    assert await acceptor.accept(first) == Accepted(first.id, existed=False)
    assert await acceptor.accept(again) == Accepted(first.id, existed=True)
    assert await count(database) == 1
    assert len(tickets.published) == 1


async def test_the_same_key_with_another_body_is_refused(
    acceptor: Acceptor, database: Database, new_job: MakeJob
) -> None:
    await acceptor.accept(new_job(key=key()))
    with pytest.raises(Unprocessable) as caught:
        await acceptor.accept(new_job(key=key(body=b"b" * 16)))
    assert caught.value.code == "idempotency_key_reused"
    assert await count(database) == 1


async def test_another_tenants_key_is_another_key(acceptor: Acceptor, database: Database, new_job: MakeJob) -> None:
    await rows(database, "INSERT INTO tenants (name) VALUES ('other')")
    await acceptor.accept(new_job(key=key()))
    assert not (await acceptor.accept(new_job(tenant_id=2, key=key(body=b"b" * 16)))).existed


async def test_a_key_twice_in_one_company_is_one_job(acceptor: Acceptor, database: Database, new_job: MakeJob) -> None:
    answers = await asyncio.gather(*(acceptor.accept(new_job(key=key())) for _ in range(20)))
    assert len({answer.id for answer in answers}) == 1
    assert [answer.existed for answer in answers].count(False) == 1
    assert await count(database) == 1


async def test_a_key_with_two_bodies_in_one_company_refuses_only_the_second(
    acceptor: Acceptor, database: Database, new_job: MakeJob
) -> None:
    first, second, bystander = await asyncio.gather(
        acceptor.accept(new_job(key=key())),
        acceptor.accept(new_job(key=key(body=b"b" * 16))),
        acceptor.accept(new_job()),
        return_exceptions=True,
    )
    assert isinstance(first, Accepted)
    assert isinstance(second, Unprocessable)
    assert isinstance(bystander, Accepted)
    assert await count(database) == 2


async def test_processes_that_race_for_a_key_agree_on_one_job(
    database: Database, database_url: str, new_job: MakeJob
) -> None:
    others = [Database(database_url, pool_size=2) for _ in range(4)]
    acceptors = [Acceptor(each, lambda model, count: None) for each in others]
    for turn in range(20):
        names = [f"{turn} {number}" for number in range(3)]
        answers = await asyncio.gather(
            *(each.accept(new_job(key=key(name))) for name in names for each in acceptors),
            *(each.accept_all([new_job(key=key(name)) for name in reversed(names)]) for each in acceptors),
        )
        agreed = {answer.id for answer in answers if isinstance(answer, Accepted)}
        assert len(agreed) == 3
        assert agreed == {one.id for answer in answers if isinstance(answer, list) for one in answer}
    assert await count(database) == 60
    await assert_counters_are_true(database)
    for each in others:
        await each.close()


async def test_processes_that_make_the_same_flows_at_once_share_them(
    database: Database, database_url: str, new_job: MakeJob
) -> None:
    others = [Database(database_url, pool_size=2) for _ in range(4)]
    jobs = [[new_job(tier=Tier(number % 4), waited=number % 3 == 0) for number in range(24)] for _ in others]
    await asyncio.gather(
        *(Acceptor(each, lambda *_: None).accept_all(mine) for each, mine in zip(others, jobs, strict=True))
    )
    assert await value(database, "SELECT count(*) FROM flows") == 8
    await assert_counters_are_true(database)
    for each in others:
        await each.close()


async def test_an_array_with_one_key_that_is_spoilt_is_refused_whole(
    acceptor: Acceptor, database: Database, new_job: MakeJob
) -> None:
    await acceptor.accept(new_job(key=key("spoilt")))
    with pytest.raises(Unprocessable):
        await acceptor.accept_all([new_job(), new_job(key=key("fresh")), new_job(key=key("spoilt", b"b" * 16))])
    assert await count(database) == 1
    assert not (await acceptor.accept(new_job(key=key("fresh", b"c" * 16)))).existed


async def test_an_array_may_repeat_a_job_and_bring_new_ones(
    acceptor: Acceptor, database: Database, new_job: MakeJob
) -> None:
    known, new, twice = new_job(key=key("known")), new_job(), new_job(key=key("new"))
    await acceptor.accept(known)
    answers = await acceptor.accept_all([new_job(key=key("known")), new, twice, new_job(key=key("new"))])
    assert answers == [
        Accepted(known.id, existed=True),
        Accepted(new.id, existed=False),
        Accepted(twice.id, existed=False),
        Accepted(twice.id, existed=True),
    ]
    assert await count(database) == 3


async def test_no_jobs_are_no_jobs(acceptor: Acceptor) -> None:
    assert await acceptor.accept_all([]) == []


UNSTORABLE = {
    "NUL in a model": {"model": "a\x00b"},
    "a lone surrogate in a model": {"model": "\ud800"},
    "NUL in metadata": {"metadata": {"a": "\x00"}},
    "a lone surrogate in metadata": {"metadata": {"a": "\ud800"}},
    "a lone surrogate in a key": {"key": IdempotencyKey("\ud800", b"a" * 16)},
    "NUL in a key": {"key": IdempotencyKey("\x00", b"a" * 16)},
    "a timeout beyond its column": {"timeout_seconds": 2**40},
    "a cost of nothing": {"cost": 0},
}


@pytest.mark.parametrize("fields", UNSTORABLE.values(), ids=UNSTORABLE.keys())
async def test_what_cannot_be_stored_is_refused_and_refuses_nobody_else(
    fields: dict[str, object], acceptor: Acceptor, database: Database, new_job: MakeJob
) -> None:
    good = [new_job(), new_job(key=key())]
    answers = await asyncio.gather(
        acceptor.accept(good[0]),
        acceptor.accept(new_job(**fields)),
        acceptor.accept(good[1]),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Accepted, BadRequest, Accepted]
    assert await statuses(database, [job.id for job in good]) == [Status.QUEUED] * 2
    with pytest.raises(BadRequest):
        await acceptor.accept_all([new_job(), new_job(**fields)])
    assert await count(database) == 2
    await assert_counters_are_true(database)


async def remove_flows(database: Database) -> None:
    await rows(database, "DELETE FROM jobs")
    await rows(database, "DELETE FROM flows")


@pytest.mark.parametrize("with_key", [False, True])
async def test_flows_that_were_removed_are_made_again(
    with_key: bool, acceptor: Acceptor, database: Database, new_job: MakeJob
) -> None:
    await acceptor.accept_all([new_job(), new_job(tier=Tier.BATCH)])
    await remove_flows(database)
    job = new_job(key=key() if with_key else None)
    assert not (await acceptor.accept(job)).existed
    assert await statuses(database, [job.id]) == [Status.QUEUED]
    assert await value(database, "SELECT count(*) FROM flows") == 1


async def test_flows_may_be_removed_again_and_again_while_many_submit(
    database: Database, acceptor: Acceptor, new_job: MakeJob
) -> None:
    """What a purge does: a flow without jobs goes."""
    over = False

    async def purge() -> None:
        while not over:
            await rows(database, "DELETE FROM flows f WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.flow_id = f.id)")

    async def submit(number: int) -> None:
        for turn in range(10):
            jobs = [new_job(tier=Tier(turn % 4), key=key(f"{number} {turn}") if number % 2 else None) for _ in range(2)]
            try:
                await acceptor.accept_all(jobs)
            except Unavailable:  # twice in a row: it says so, and nothing was written
                continue

    purging = asyncio.create_task(purge())
    try:
        await asyncio.gather(*(submit(number) for number in range(12)))
    finally:
        over = True
        await purging
    assert not await rows(database, "SELECT FROM jobs j WHERE NOT EXISTS (SELECT FROM flows f WHERE f.id = j.flow_id)")
    await assert_counters_are_true(database)


@pytest.mark.parametrize("with_key", [False, True])
async def test_a_flush_that_is_sent_twice_inserts_once(
    with_key: bool, acceptor: Acceptor, database: Database, new_job: MakeJob
) -> None:
    """The answer of a commit can be lost; the same jobs are then sent again."""
    jobs = [new_job(key=key() if with_key else None, repeat_hash=b"r" * 16), new_job(metadata={"a": "b"})]
    for _ in range(2):
        assert await acceptor.accept_all(jobs) == [Accepted(job.id, existed=False) for job in jobs]
    assert await count(database) == 2
    await assert_counters_are_true(database)


async def test_a_flush_that_is_sent_again_after_a_claim_leaves_the_claim_alone(
    acceptor: Acceptor, database: Database, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    job = new_job()
    await acceptor.accept(job)
    assert await claim(database, worker, model_id, Tier.DEFAULT, 1)
    await acceptor.accept(job)
    assert await statuses(database, [job.id]) == [Status.IN_PROGRESS]
    await assert_counters_are_true(database)


async def test_an_outage_shorter_than_its_patience_goes_unnoticed(
    database: Database, new_job: MakeJob, outage: Outage
) -> None:
    acceptor = Acceptor(database, lambda model, count: None, patience_seconds=30)
    await acceptor.accept(new_job())
    async with outage():
        submitting = asyncio.create_task(acceptor.accept(new_job(key=key())))
        with pytest.raises(Unavailable):
            await Acceptor(database, lambda model, count: None, patience_seconds=0).accept(new_job())
        assert not submitting.done()
    assert not (await submitting).existed
    assert await count(database) == 2


SUBMITS: dict[str, Callable[[Acceptor, NewJob], Awaitable[object]]] = {
    "one": lambda acceptor, job: acceptor.accept(job),
    "array": lambda acceptor, job: acceptor.accept_all([job]),
}


@pytest.mark.parametrize("submit", SUBMITS.values(), ids=SUBMITS.keys())
async def test_without_a_database_a_submit_is_refused_and_the_next_works(
    submit: Callable[[Acceptor, NewJob], Awaitable[object]],
    acceptor: Acceptor,
    database: Database,
    new_job: MakeJob,
    outage: Outage,
    tickets: Tickets,
) -> None:
    await acceptor.accept(new_job())
    async with outage():
        with pytest.raises(Unavailable):
            await submit(acceptor, new_job())
    await submit(acceptor, new_job())
    assert await count(database) == 2
    assert len(tickets.published) == 2


async def test_arrays_with_keys_do_not_starve_one_another_of_connections(
    database_url: str, new_job: MakeJob, accept: Accept
) -> None:
    few = Database(database_url, pool_size=2)
    acceptor = Acceptor(few, lambda model, count: None)
    async with asyncio.timeout(20):
        await asyncio.gather(
            *(acceptor.accept_all([new_job(key=key(str(number)), tier=Tier(number % 4))]) for number in range(8))
        )
    await few.close()
