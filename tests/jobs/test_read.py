"""Reading: one job, a page of them, the place in the queue; never another tenant's."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from jobs import ids, read
from jobs.cancel import cancel, expire
from jobs.claim import claim
from jobs.database import Database
from jobs.errors import Conflict, NotFound
from jobs.finish import Finisher
from jobs.records import Flags, IdempotencyKey, NewJob, Outcome, Tier, Usage
from jobs.states import Status
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import rows, value

DONE = Outcome(Status.COMPLETED, 200, b'{"a": "\xff"}', Usage(1, 2, 3, 4))


async def run_next(database: Database, worker: UUID, model_id: int, outcome: Outcome = DONE) -> UUID:
    [job] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert await Finisher(database, lambda ended: None).finish(job, outcome)
    return job.id


async def test_a_job_shows_what_was_asked_and_what_came_of_it(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    old = ids.new()
    [job_id] = await accept(
        new_job(metadata={"a": "b"}, service_tier="auto", retry_of=old, expires_seconds=60, endpoint="/v1/score")
    )
    view = await read.job(database, 1, job_id)
    assert (view.id, view.status, view.tier, view.endpoint, view.model) == (
        job_id,
        Status.QUEUED,
        Tier.DEFAULT,
        "/v1/score",
        "m",
    )
    assert (view.metadata, view.service_tier, view.retry_of) == ({"a": "b"}, "auto", old)
    assert (view.started_at, view.finished_at, view.usage, view.body) == (None, None, None, None)
    assert view.expires_at is not None and (view.expires_at - view.created_at).total_seconds() == 60
    await run_next(database, worker, model_id)
    view = await read.job(database, 1, job_id)
    assert (view.status, view.attempts, view.status_code, view.body) == (Status.COMPLETED, 1, 200, DONE.body)
    assert view.usage == DONE.usage
    assert view.started_at and view.finished_at and view.created_at <= view.started_at <= view.finished_at


OF_ONE_JOB: dict[str, Callable[[Database, int, UUID], Awaitable[object]]] = {
    "job": read.job,
    "request": read.request,
    "delete": read.delete,
}


@pytest.mark.parametrize("ask", OF_ONE_JOB.values(), ids=OF_ONE_JOB.keys())
async def test_another_tenants_job_does_not_exist(
    ask: Callable[[Database, int, UUID], Awaitable[object]], database: Database, accept: Accept, new_job: MakeJob
) -> None:
    [job_id] = await accept(new_job())
    await cancel(database, [job_id])
    messages = set()
    for tenant, asked in ((2, job_id), (1, uuid4())):
        with pytest.raises(NotFound) as caught:
            await ask(database, tenant, asked)
        messages.add(caught.value.message.replace(ids.job_id(asked), "ID"))
    assert len(messages) == 1
    assert await read.page(database, 2, limit=10) == []
    await ask(database, 1, job_id)


async def numbered(accept: Accept, new_job: MakeJob, count: int) -> list[UUID]:
    """Jobs whose ids are in the order in which they were made."""
    return await accept(*(new_job(id=job_id) for job_id in sorted(ids.new() for _ in range(count))))


@pytest.mark.parametrize("ascending", [False, True])
async def test_pages_follow_one_another_both_ways_and_miss_nothing(
    ascending: bool, database: Database, accept: Accept, new_job: MakeJob
) -> None:
    jobs = await numbered(accept, new_job, 10)
    expected = jobs if ascending else jobs[::-1]
    seen: list[UUID] = []
    while page := await read.page(database, 1, limit=3, ascending=ascending, after=seen[-1] if seen else None):
        assert len(page) <= 3
        seen += [view.id for view in page]
        await accept(new_job(id=ids.floor(0) if ascending else ids.new()))  # beyond the cursor's back: not seen
    assert seen == expected


async def test_a_page_holds_no_response_bodies(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job())
    await run_next(database, worker, model_id)
    [view] = await read.page(database, 1, limit=10)
    assert (view.status_code, view.usage, view.body) == (200, DONE.usage, None)


async def test_pages_hold_what_was_asked_for(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    a, b, c, d = sorted(ids.new() for _ in range(4))
    await accept(
        new_job(id=a, metadata={"team": "x", "run": "1"}),
        new_job(id=b, metadata={"team": "x", "run": "2"}),
        new_job(id=c, model="adapter"),
        new_job(id=d, metadata={"team": "y"}),
    )
    await cancel(database, [b, d])

    async def found(**asked: object) -> list[UUID]:
        return [view.id for view in await read.page(database, 1, limit=10, ascending=True, **asked)]  # type: ignore[arg-type]

    assert await found() == [a, b, c, d]
    assert await found(status=Status.CANCELLED) == [b, d]
    assert await found(model="adapter") == [c]
    assert await found(model="unknown") == []
    assert await found(metadata={"team": "x"}) == [a, b]
    assert await found(metadata={"team": "x", "run": "2"}) == [b]
    assert await found(metadata={"team": "x"}, status=Status.QUEUED) == [a]
    assert await found(batch_id=uuid4()) == []
    assert await found(metadata={"team": "x"}, after=a) == [b]


async def test_results_are_of_those_that_ended(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    jobs = await numbered(accept, new_job, 3)
    [expired] = await accept(new_job(expires_seconds=0))
    await run_next(database, worker, model_id)
    await cancel(database, [jobs[1]])
    await expire(database)
    found = await read.results(database, [*jobs, expired, uuid4()])
    assert {job: result.status for job, result in found.items()} == {
        jobs[0]: Status.COMPLETED,
        jobs[1]: Status.CANCELLED,
        expired: Status.EXPIRED,
    }
    assert found[jobs[0]].body == DONE.body
    assert found[jobs[1]].body is None
    assert await read.results(database, []) == {}


async def test_what_was_asked_can_be_asked_again(database: Database, accept: Accept, new_job: MakeJob) -> None:
    said = {"tier": Tier.FLEX, "service_tier": "flex", "metadata": {"a": "b"}, "timeout_seconds": 5}
    job: NewJob = new_job(body=b"\x00\xff", flags=Flags.UNSTORED, previous=ids.new(), **said)
    await accept(job)
    assert await read.request(database, 1, job.id) == read.StoredRequest(
        job.endpoint, "m", job.body, Tier.FLEX, "flex", {"a": "b"}, 5, Status.QUEUED, job.flags, job.previous, None
    )


async def test_a_job_can_be_deleted_once_it_has_ended(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    keyed = {"metadata": {"a": "b"}, "key": IdempotencyKey("k", b"a" * 16)}
    [job_id] = await accept(new_job(**keyed))
    with pytest.raises(Conflict):
        await read.delete(database, 1, job_id)
    await run_next(database, worker, model_id)
    await read.delete(database, 1, job_id)
    for table in ("jobs", "requests", "results", "details", "idempotency"):
        assert await value(database, f"SELECT count(*) FROM {table}") == 0
    with pytest.raises(NotFound):
        await read.delete(database, 1, job_id)
    [again] = await accept(new_job(**keyed))
    assert again != job_id


async def test_of_two_deletes_at_once_one_finds_it_gone(database: Database, accept: Accept, new_job: MakeJob) -> None:
    [job_id] = await accept(new_job())
    await cancel(database, [job_id])
    outcomes = await asyncio.gather(*(read.delete(database, 1, job_id) for _ in range(2)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "NotFound"]


async def place(database: Database, job_id: UUID) -> int:
    position = await read.position(database, job_id)
    assert position is not None
    return position.place


async def test_only_a_queued_job_has_a_position(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    running, queued = await numbered(accept, new_job, 2)
    await claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert await read.position(database, running) is None
    assert await read.position(database, uuid4()) is None
    assert await read.position(database, queued) == read.Position(0, 0, 0.0)


async def test_the_position_says_what_is_served_before(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    """Three tenants of different weights: the jobs then come in just the order that their positions told."""
    chance = random.Random(5)
    await rows(database, "INSERT INTO tenants (name, weight) VALUES ('two', 3), ('three', 0.5)")
    jobs = [new_job(tenant_id=chance.randint(1, 3), cost=chance.randint(1, 400)) for _ in range(60)]
    await accept(*jobs, new_job(tier=Tier.BATCH))
    await rows(database, "UPDATE flows SET vtime = vtime + 0.1 * id")  # no two of them start alike
    told = {job.id: await read.position(database, job.id) for job in jobs}
    costs = {job.id: job.cost for job in jobs}
    served: list[UUID] = []
    while claimed := await claim(database, worker, model_id, Tier.DEFAULT, 1):
        served.append(claimed[0].id)
    for number, job_id in enumerate(served):
        tokens = sum(costs[before] for before in served[:number])
        assert told[job_id] == read.Position(number, tokens, 0.0)


async def test_a_position_counts_no_one_who_cannot_be_served(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await rows(database, "INSERT INTO tenants (name, paused) VALUES ('paused', true)")
    await accept(*(new_job(tenant_id=2) for _ in range(5)))
    first, cancelled, last = await numbered(accept, new_job, 3)
    await rows(database, "UPDATE flows SET vtime = 1 WHERE tenant_id = 1")
    await cancel(database, [cancelled])
    assert (await place(database, first), await place(database, last)) == (0, 1)


async def test_the_position_comes_with_the_lanes_measured_speed(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    _, second = await accept(*(new_job(id=job_id, cost=70) for job_id in sorted(ids.new() for _ in range(2))))
    await rows(database, "UPDATE lanes SET tokens_per_second = 35")
    assert await read.position(database, second) == read.Position(1, 70, 35.0)


async def test_a_position_is_exact_to_a_thousand_and_about_right_beyond(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    """Four jobs a second, and another tenant who has as many of twice the cost."""
    await rows(database, "INSERT INTO tenants (name) VALUES ('other')")
    moments = [1_700_000_000 + number / 4 for number in range(4000)]
    jobs = await accept(*(new_job(id=ids.floor(moment), cost=10) for moment in moments))
    await accept(*(new_job(id=UUID(int=ids.floor(moment).int + 1), tenant_id=2, cost=20) for moment in moments))
    await rows(database, "UPDATE flows SET vtime = 1e6 WHERE tenant_id = 2")
    assert [await place(database, jobs[number]) for number in (0, 1, 999, 1000)] == [0, 1, 999, 1000]
    for number in (1500, 3000, 3999):
        told = await place(database, jobs[number])
        assert told % 100 == 0
        assert told == pytest.approx(number, rel=0.05)
    await rows(database, "UPDATE flows SET vtime = 0")
    position = await read.position(database, jobs[3000])
    assert position is not None
    assert position.place == pytest.approx(3000 + 1500, rel=0.05)
    assert position.tokens_ahead == pytest.approx(30_000 + 30_000, rel=0.05)
