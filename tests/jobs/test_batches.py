"""Batches as rows: made once, stopped at any point, and what their lines became."""

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from jobs import batches, claim, ids, lease
from jobs.database import Database
from jobs.errors import Conflict, NotFound, Unprocessable
from jobs.finish import Finisher
from jobs.records import Batch, IdempotencyKey, Tier, Usage
from jobs.states import BatchStatus, Status
from tests.jobs.batch_rows import DONE, FAULT, Started, finalise, new_batch, refuse, start
from tests.jobs.ledger import assert_counters_are_true, rows, statuses, value, waits_for_a_lock
from tests.until import until

BODIES = {"a": b'{"n":1}', "b": b'{"n":2}', "c": b'{"n":3}'}


@pytest.fixture
async def started(database: Database, worker: UUID, model_id: int) -> Started:
    """Three lines that wait."""
    return await start(database, worker, model_id, BODIES)


async def test_a_batch_is_as_it_was_asked_for(database: Database) -> None:
    asked = new_batch(
        metadata={"a": "b"}, output_expires_seconds=3600, retry_of=ids.new(), window="90m", window_seconds=5400
    )
    made = await batches.create(database, asked)
    assert made == await batches.get(database, 1, asked.id)
    assert (made.id, made.endpoint, made.input_file_id, made.window) == (
        asked.id,
        asked.endpoint,
        asked.input_file_id,
        "90m",
    )
    assert (made.metadata, made.output_expires_seconds, made.retry_of) == ({"a": "b"}, 3600, asked.retry_of)
    assert (made.expires_at - made.created_at).total_seconds() == 5400
    assert (made.status, made.ending, made.usage) == (BatchStatus.VALIDATING, BatchStatus.COMPLETED, None)
    assert (made.total, made.completed, made.failed, made.ended) == (0, 0, 0, 0)


async def test_a_key_makes_one_batch_however_often_it_comes(database: Database) -> None:
    key = IdempotencyKey("k", b"a" * 16)
    made = await asyncio.gather(*(batches.create(database, new_batch(key=key)) for _ in range(5)))
    assert len({batch.id for batch in made}) == 1
    with pytest.raises(Unprocessable):
        await batches.create(database, new_batch(key=IdempotencyKey("k", b"b" * 16)))
    assert await value(database, "SELECT count(*) FROM batches") == 1


async def test_a_key_is_its_tenants_own(database: Database) -> None:
    await rows(database, "INSERT INTO tenants (name) VALUES ('other')")
    key = IdempotencyKey("k", b"a" * 16)
    first, second = [await batches.create(database, new_batch(key=key, tenant_id=tenant)) for tenant in (1, 2)]
    assert first.id != second.id


async def test_another_tenants_batch_is_not_there(database: Database, started: Started) -> None:
    with pytest.raises(NotFound, match=f"No batch found with id '{ids.batch_id(started.batch.id)}'."):
        await batches.get(database, 2, started.batch.id)
    with pytest.raises(NotFound):
        await batches.cancel(database, 2, started.batch.id)
    assert await batches.page(database, 2, limit=9) == []
    assert (await started.now()).status is BatchStatus.IN_PROGRESS


async def test_a_page_goes_from_the_newest_on(database: Database) -> None:
    made = [(await batches.create(database, new_batch())).id for _ in range(3)]
    assert [batch.id for batch in await batches.page(database, 1, limit=2)] == [made[2], made[1]]
    assert [batch.id for batch in await batches.page(database, 1, limit=2, after=made[1])] == [made[0]]


async def test_ended_lines_are_counted_and_numbered_in_the_order_in_which_they_ended(
    database: Database, started: Started
) -> None:
    await started.end("b")
    await started.end("a", FAULT)
    now = await started.now()
    assert (now.status, now.total, now.completed, now.failed, now.ended) == (BatchStatus.IN_PROGRESS, 3, 1, 1, 2)
    found = await batches.lines(database, started.batch.id, after=0, limit=9)
    assert [(line.ended, line.custom_id, line.status) for line in found] == [
        (1, "b", Status.COMPLETED),
        (2, "a", Status.FAILED),
    ]
    assert (found[0].job_id, found[0].status_code, found[0].body, found[0].usage) == (
        started.jobs["b"],
        200,
        DONE.body,
        DONE.usage,
    )


async def test_the_last_line_hands_the_batch_to_be_finalised(started: Started) -> None:
    for custom_id in BODIES:
        await started.end(custom_id)
    now = await started.now()
    assert (now.status, now.ended) == (BatchStatus.FINALIZING, 3)
    assert now.finalizing_at is not None
    assert started.called == list(BODIES)[-1:]


async def test_lines_that_share_a_job_end_with_it(database: Database, worker: UUID, model_id: int) -> None:
    started = await start(database, worker, model_id, BODIES, copies=[("a2", "a"), ("a3", "a")])
    await started.end("a")
    assert (await started.now()).ended == 3
    found = await batches.lines(database, started.batch.id, after=0, limit=9)
    assert [(line.custom_id, line.copy_of, line.ended, line.body) for line in found] == [
        ("a", None, 1, DONE.body),
        ("a2", "a", 2, DONE.body),
        ("a3", "a", 3, DONE.body),
    ]


async def test_ended_lines_can_be_narrowed_and_read_on(database: Database, started: Started) -> None:
    await refuse(started, "r", b'{"n":0}', b'{"error":{}}')
    await started.end("a")
    await started.end("b", FAULT)
    identity = started.batch.id

    async def found(after: int = 0, limit: int = 9, status: Status | None = None, custom_id: str | None = None) -> str:
        lines = await batches.lines(
            database, identity, after=after, limit=limit, status=status, custom_id=custom_id, with_request=True
        )
        assert all(line.request == {"r": b'{"n":0}', **BODIES}[line.custom_id] for line in lines)
        return "".join(line.custom_id for line in lines)

    assert await found() == "rab"
    assert await found(after=1) == "ab"
    assert await found(limit=1) == "r"
    assert await found(after=3) == ""
    assert await found(status=Status.FAILED) == "rb"
    assert await found(status=Status.EXPIRED) == ""
    assert await found(custom_id="b") == "b"
    assert await found(custom_id="b", status=Status.COMPLETED) == ""
    [line] = await batches.lines(database, identity, after=0, limit=1)
    assert line.request is None


async def test_a_cancel_ends_what_waits_and_leaves_what_runs(database: Database, started: Started) -> None:
    [running] = await claim.claim(database, started.worker, started.model_id, Tier.BATCH, 1)
    batch, ended = await batches.cancel(database, 1, started.batch.id)
    assert batch.status is BatchStatus.CANCELLING
    assert batch.cancelling_at is not None
    waited = set(started.jobs.values()) - {running.id}
    assert set(ended) == waited
    assert set(await statuses(database, waited)) == {Status.CANCELLED}
    assert (batch.total, batch.completed, batch.failed, batch.ended) == (3, 0, 0, 2)
    await assert_counters_are_true(database)
    again, nothing = await batches.cancel(database, 1, batch.id)
    assert (again, nothing) == (batch, [])
    assert await Finisher(database, lambda ended: None).finish(running, DONE)
    now = await started.now()
    assert (now.status, now.completed, now.ended) == (BatchStatus.CANCELLING, 1, 3)
    await finalise(started)
    assert (await started.now()).usage is not None
    cancelled, nothing = await batches.cancel(database, 1, batch.id)
    assert (cancelled.status, nothing) == (BatchStatus.CANCELLED, [])


async def test_a_batch_is_cancelled_before_it_is_read_and_after_its_last_line(
    database: Database, started: Started
) -> None:
    unread = await batches.create(database, new_batch())
    batch, ended = await batches.cancel(database, 1, unread.id)
    assert (batch.status, ended) == (BatchStatus.CANCELLING, [])
    for custom_id in BODIES:
        await started.end(custom_id)
    batch, ended = await batches.cancel(database, 1, started.batch.id)
    assert (batch.status, batch.ending, ended) == (BatchStatus.CANCELLING, BatchStatus.CANCELLED, [])


@pytest.mark.parametrize("status", ["completed", "failed", "expired"])
async def test_what_has_ended_otherwise_cannot_be_cancelled(status: str, database: Database) -> None:
    made = await batches.create(database, new_batch())
    await rows(database, "UPDATE batches SET status = %s WHERE id = %s", status, made.id)
    with pytest.raises(Conflict, match=f"Cannot cancel a batch with status '{status}'."):
        await batches.cancel(database, 1, made.id)


async def test_a_cancel_ends_no_other_batchs_lines(
    database: Database, started: Started, worker: UUID, model_id: int
) -> None:
    other = await start(database, worker, model_id, BODIES)
    await batches.cancel(database, 1, started.batch.id)
    assert set(await statuses(database, other.jobs.values())) == {Status.QUEUED}
    await assert_counters_are_true(database)


async def test_at_the_end_of_its_window_what_waits_expires_and_what_runs_may_end(
    database: Database, started: Started
) -> None:
    assert await batches.expire(database) == []
    [running] = await claim.claim(database, started.worker, started.model_id, Tier.BATCH, 1)
    unread = await batches.create(database, new_batch())
    await rows(database, "UPDATE batches SET expires_at = now()")
    assert set(await batches.expire(database)) == set(started.jobs.values()) - {running.id}
    assert await batches.expire(database) == []
    now = await started.now()
    assert (now.status, now.ending, now.ended) == (BatchStatus.IN_PROGRESS, BatchStatus.EXPIRED, 2)
    assert (await batches.get(database, 1, unread.id)).status is BatchStatus.FINALIZING
    assert await Finisher(database, lambda ended: None).finish(running, DONE)
    now = await started.now()
    assert (now.status, now.completed, now.failed) == (BatchStatus.FINALIZING, 1, 0)
    await assert_counters_are_true(database)


async def test_what_runs_or_was_handed_back_in_a_batch_that_was_stopped_is_overdue_some_time(
    database: Database, started: Started
) -> None:
    first, second, _ = await claim.claim(database, started.worker, started.model_id, Tier.BATCH, 3)
    await batches.cancel(database, 1, started.batch.id)
    await lease.release(database, [(first.id, first.lease_token)])
    await Finisher(database, lambda ended: None).finish(second, DONE)
    assert await database.run("batches_overdue", seconds=60) == []
    overdue = {row.id for row in await database.run("batches_overdue", seconds=0)}
    assert overdue == set(started.jobs.values()) - {second.id}


async def test_the_usage_of_an_ended_batch_is_that_of_its_row(database: Database, started: Started) -> None:
    for custom_id in BODIES:
        await started.end(custom_id)
    await finalise(started)
    usage = (await started.now()).usage
    assert usage is not None
    assert (usage.input, usage.cached, usage.output, usage.reasoning) == (6, 1, 4, 2)


async def test_the_usage_so_far_is_shown_while_a_batch_runs(database: Database, worker: UUID, model_id: int) -> None:
    started = await start(database, worker, model_id, BODIES, copies=[("a2", "a")])
    assert (await started.now()).usage == Usage()
    await started.end("a", replace(DONE, usage=Usage(input=3, cached=1, output=2, reasoning=1)))
    await started.end("b", replace(FAULT, usage=Usage(input=5)))
    assert (await started.now()).usage == Usage(input=8, cached=1, output=2, reasoning=1)
    await batches.cancel(database, 1, started.batch.id)
    assert (await started.now()).usage == Usage(input=8, cached=1, output=2, reasoning=1)


@pytest.mark.parametrize("end", ["cancel", "expire"])
async def test_lines_that_were_being_read_when_their_batch_was_stopped_are_stopped_too(
    end: str, database: Database, started: Started
) -> None:
    """Its reading commits between the look at the flows and the mark on the batch."""
    flows = await rows(database, "UPDATE flows SET batch_id = NULL RETURNING id")
    await rows(database, "UPDATE batches SET status = 'validating', expires_at = now()")
    async with database.transaction() as reading:
        await reading.execute("UPDATE flows SET batch_id = %s WHERE id = %s", (started.batch.id, flows[0].id))
        await reading.execute("UPDATE batches SET status = 'in_progress'")
        if end == "cancel":
            stopping = asyncio.create_task(batches.cancel(database, 1, started.batch.id))
        else:
            stopping = asyncio.create_task(_expired(database, started))
        await until(lambda: waits_for_a_lock(database))
    _, ended = await stopping
    assert set(ended) == set(started.jobs.values())
    assert (await started.now()).ended == 3
    await assert_counters_are_true(database)


async def _expired(database: Database, started: Started) -> tuple[Batch, list[UUID]]:
    ended = await batches.expire(database)
    return await started.now(), ended


@pytest.mark.parametrize("seed", range(3))
async def test_racing_with_results_every_line_ends_once_and_has_its_own_number(
    seed: int, database: Database, database_url: str, worker: UUID, model_id: int
) -> None:
    started = await start(
        database, worker, model_id, {f"{n}": b"{}" for n in range(40)}, copies=[("x", "0"), ("y", "1")]
    )
    running = await claim.claim(database, worker, model_id, Tier.BATCH, 30)
    finisher = Finisher(database, lambda ended: None)

    async def finish() -> None:
        for job in running:
            await asyncio.sleep(0)
            await finisher.finish(job, DONE if job.id.int % 2 else FAULT)

    other = Database(database_url, pool_size=2)

    async def stop() -> None:
        for _ in range(seed * 40):
            await asyncio.sleep(0)
        await batches.cancel(other, 1, started.batch.id)

    await asyncio.gather(finish(), stop())
    await other.close()
    now = await started.now()
    assert (now.status, now.ended, now.total) == (BatchStatus.CANCELLING, 42, 42)
    found = await batches.lines(database, started.batch.id, after=0, limit=99)
    assert [line.ended for line in found] == list(range(1, 43))
    assert now.completed == sum(line.status is Status.COMPLETED for line in found)
    assert now.failed == sum(line.status is Status.FAILED for line in found)
    await assert_counters_are_true(database)
