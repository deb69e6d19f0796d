"""What goes, what stays, and that there is room for the days to come."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from control import finalise, purge
from control.ingest import Ingest
from jobs import batches, cancel, claim, deliveries, files, ids, lease
from jobs.blobs import Blobs
from jobs.database import Database
from jobs.finish import Finisher
from jobs.migrate import BODIES, DAYS_AHEAD
from jobs.records import IdempotencyKey, Model, NewBatch, Outcome, Tier
from jobs.states import Status
from tests.control.batches import CHAT, MakeBatch, chat
from tests.jobs import hooks
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import rows, value

NOW = datetime.now(UTC)
HASH = b"sixteen bytes..."


def made(days_ago: float) -> UUID:
    """The id of a job that was made so many days ago."""
    return UUID(int=ids.floor((NOW - timedelta(days=days_ago)).timestamp()).int | ids.new().int & (1 << 60) - 1)


async def partitions(database: Database) -> set[str]:
    return {row.day for row in await database.run("partitions")}


@pytest.fixture
async def old_days(database: Database) -> list[str]:
    """The days, 41 and 40 days ago, whose partitions there are."""
    days = [(NOW - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0) for days in (41, 40)]
    for day in days:
        lower, upper = ids.floor(day.timestamp()), ids.floor((day + timedelta(days=1)).timestamp())
        for table in BODIES:
            await rows(
                database,
                f"CREATE TABLE {table}_{day:%Y%m%d} PARTITION OF {table} FOR VALUES FROM ('{lower}') TO ('{upper}')",
            )
    return [f"{day:%Y%m%d}" for day in days]


async def test_there_are_partitions_for_the_days_to_come(database: Database) -> None:
    later = NOW + timedelta(days=10)
    await purge.run(database, 30, later)
    assert f"{later + timedelta(days=DAYS_AHEAD):%Y%m%d}" in await partitions(database)
    before = await partitions(database)
    await purge.run(database, 30, later)
    assert await partitions(database) == before


async def test_a_day_whose_rows_lie_in_the_default_partition_holds_up_no_other(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    much_later = NOW + timedelta(days=60)
    await accept(new_job(id=ids.floor(much_later.timestamp())))
    await purge.run(database, 365, much_later)
    found = await partitions(database)
    assert f"{much_later:%Y%m%d}" not in found
    assert f"{much_later + timedelta(days=1):%Y%m%d}" in found


async def test_a_day_that_one_table_lacks_is_made_whole_or_dropped(database: Database, old_days: list[str]) -> None:
    tomorrow = f"{NOW + timedelta(days=1):%Y%m%d}"
    await rows(database, f"DROP TABLE results_{tomorrow}")
    await rows(database, f"DROP TABLE requests_{old_days[0]}")
    await purge.run(database, 30)
    found = {row.day: row.whole for row in await database.run("partitions")}
    assert found[tomorrow]
    assert not set(old_days) & set(found)


async def test_a_day_that_somebody_reads_holds_up_neither_them_nor_the_rest(
    database: Database, accept: Accept, new_job: MakeJob, old_days: list[str]
) -> None:
    await accept(new_job(key=IdempotencyKey("old", HASH)))
    await rows(database, "UPDATE idempotency SET created_at = now() - interval '25 hours'")
    read, unread = old_days
    async with database.transaction() as reader:
        await reader.execute(f"LOCK TABLE results_{read} IN ACCESS SHARE MODE".encode())
        async with asyncio.timeout(20):  # less than the statement timeout
            assert await purge.run(database, 30) == 1
    found = {row.day: row.whole for row in await database.run("partitions")}
    assert found[read]
    assert unread not in found


async def test_a_day_is_made_for_all_tables_or_none(database: Database) -> None:
    much_later = NOW + timedelta(days=60)
    await rows(database, "INSERT INTO results (job_id) VALUES (%s)", ids.floor(much_later.timestamp()))
    await purge.run(database, 365, much_later)
    assert f"{much_later:%Y%m%d}" not in await partitions(database)


async def test_a_day_that_is_over_goes_with_its_partitions(
    database: Database, accept: Accept, new_job: MakeJob, old_days: list[str]
) -> None:
    old = await accept(*(new_job(id=made(40.5), metadata={"a": "b"}) for _ in range(3)))
    [young] = await accept(new_job(id=made(20), metadata={"a": "b"}))
    await cancel.cancel(database, [*old, young])
    assert await purge.run(database, 30) == 3
    assert not set(old_days) & await partitions(database)
    for table, column in (("jobs", "id"), ("requests", "job_id"), ("details", "job_id")):
        assert await value(database, f"SELECT array_agg({column}) FROM {table}") == [young]


async def test_a_day_with_an_unfinished_job_keeps_what_that_needs(
    database: Database, accept: Accept, new_job: MakeJob, old_days: list[str]
) -> None:
    first, second = made(40.2), made(40.2)
    await accept(new_job(id=first), new_job(id=second))
    await cancel.cancel(database, [first])
    assert await purge.run(database, 30) == 1
    assert len(set(old_days) & await partitions(database)) == 1
    assert await value(database, "SELECT array_agg(job_id) FROM requests") == [second]
    assert await value(database, "SELECT array_agg(id) FROM jobs") == [second]


async def test_old_jobs_outside_any_day_go_too(database: Database, accept: Accept, new_job: MakeJob) -> None:
    [job] = await accept(new_job(id=made(100)))
    await cancel.cancel(database, [job])
    assert await purge.run(database, 30) == 1
    assert await value(database, "SELECT count(*) FROM requests") == 0


async def test_idempotency_keys_are_kept_a_day(database: Database, accept: Accept, new_job: MakeJob) -> None:
    await accept(*(new_job(key=IdempotencyKey(key, HASH)) for key in ("old", "new")))
    await rows(database, "UPDATE idempotency SET created_at = now() - interval '25 hours' WHERE key = 'old'")
    assert await purge.run(database, 30) == 1
    assert await value(database, "SELECT array_agg(key) FROM idempotency") == ["new"]


async def test_a_batchs_key_is_kept_until_a_day_after_its_end(database: Database) -> None:
    for name in ("running", "over", "just over"):
        key = IdempotencyKey(name, HASH)
        await batches.create(database, NewBatch(ids.new(), 1, CHAT, ids.new(), "720h", 2_592_000, key=key))
    over = (
        "UPDATE batches SET status = 'completed', completed_at = now() - CAST(%s AS interval)"
        " WHERE id = (SELECT object_id FROM idempotency WHERE key = %s)"
    )
    await rows(database, over, "25 hours", "over")
    await rows(database, over, "23 hours", "just over")
    await rows(database, "UPDATE idempotency SET created_at = now() - interval '25 hours'")
    assert await purge.run(database, 30) == 1
    assert await value(database, "SELECT array_agg(key ORDER BY key) FROM idempotency") == ["just over", "running"]


async def test_a_files_key_is_kept_with_the_file(database: Database) -> None:
    for name in ("deleted", "expired", "kept"):
        file = files.NewFile(ids.new(), 1, "batch", "in.jsonl", 1, name, expires_seconds=2_592_000)
        await files.create(database, file, IdempotencyKey(name, HASH))
    await rows(database, "UPDATE files SET deleted_at = now() WHERE blob = 'deleted'")
    await rows(database, "UPDATE files SET expires_at = now() WHERE blob = 'expired'")
    await rows(database, "UPDATE idempotency SET created_at = now() - interval '25 hours'")
    assert await purge.run(database, 30) == 2
    assert await value(database, "SELECT array_agg(key) FROM idempotency") == ["kept"]


async def test_workers_that_went_long_ago_are_forgotten(database: Database, worker: UUID) -> None:
    assert await purge.run(database, 30) == 0
    await lease.end(database, worker)
    assert await purge.run(database, 30) == 1


async def test_batches_go_with_their_lines_and_flows_once_they_have_ended(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs
) -> None:
    ended, running = await new_batch([chat("a")]), await new_batch([chat("b")])
    await ingest.run()
    await batches.cancel(database, 1, ended.id)
    await finalise.run(database, blobs)
    await purge.run(database, 30, NOW + timedelta(days=40))
    assert [row.id for row in await rows(database, "SELECT id FROM batches")] == [running.id]
    assert [row.batch_id for row in await rows(database, "SELECT batch_id FROM lines")] == [running.id]
    assert [row.batch_id for row in await rows(database, "SELECT batch_id FROM flows")] == [running.id]


async def test_what_a_batch_under_way_has_done_stays_until_it_has_ended(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, worker_of_model: UUID, model: Model
) -> None:
    batch = await new_batch([chat("refused", temperature=-1), chat("done"), chat("waits")])
    await ingest.run()
    [job] = await claim.claim(database, worker_of_model, model.id, Tier.BATCH, 1)
    await Finisher(database, lambda ended: None).finish(job, Outcome(Status.COMPLETED, 200, b'{"a":1}'))
    later = NOW + timedelta(days=40)
    assert await purge.run(database, 30, later) == 0
    assert await value(database, "SELECT count(*) FROM jobs") == 2
    found = await batches.lines(database, batch.id, after=0, limit=9, with_request=True)
    assert [(line.custom_id, line.status_code, line.request is None) for line in found] == [
        ("refused", 400, False),
        ("done", 200, False),
    ]
    await batches.cancel(database, 1, batch.id)
    await finalise.run(database, blobs)
    assert await purge.run(database, 30, later) == 3 + 1 + 2
    for table in ("jobs", "requests", "results"):
        assert await value(database, f"SELECT count(*) FROM {table}") == 0


async def test_what_nobody_wants_goes_from_behind_all_that_a_batch_wants(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    await new_batch([chat(str(number)) for number in range(5100)])
    await ingest.run()
    await rows(database, "UPDATE jobs SET status = 'completed', finished_at = now()")
    await rows(database, "DELETE FROM lines WHERE line = 5100")
    assert await purge.run(database, 30, NOW + timedelta(days=40)) == 1
    assert await value(database, "SELECT count(*) FROM jobs JOIN lines ON job_id = id") == 5099


async def test_events_go_with_their_time_unless_they_wait(database: Database) -> None:
    endpoint, _ = await hooks.endpoint(database, "job.completed")
    old, waiting, new = [await deliveries.test(database, 1, endpoint.id, "job.completed") for _ in range(3)]
    ended = "UPDATE deliveries SET status = 'failed', pending_since = NULL, next_at = NULL WHERE id <> %s"
    await rows(database, ended, waiting)
    for identity in (old, waiting):
        await rows(database, "UPDATE deliveries SET id = %s WHERE id = %s", made(40), identity)
    attempted = "INSERT INTO delivery_attempts (delivery_id, lease_token, at) SELECT id, 1, now() FROM deliveries"
    await rows(database, attempted)
    await purge.run(database, 30)
    assert await value(database, "SELECT count(*) FROM deliveries WHERE status = 'pending'") == 1
    assert await value(database, "SELECT id FROM deliveries WHERE status = 'failed'") == new
    assert await value(database, "SELECT count(*) FROM delivery_attempts") == 2


async def test_a_webhook_of_ones_own_stays_as_long_as_its_job(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    kept, gone = made(40), made(40)
    await accept(new_job(id=kept, webhook=hooks.own("job.failed")), new_job(id=gone, webhook=hooks.own("job.failed")))
    await cancel.cancel(database, [gone])
    await purge.run(database, 30)
    assert await value(database, "SELECT subject_id FROM own_webhooks") == kept


async def test_what_has_waited_for_five_days_is_given_up(database: Database) -> None:
    endpoint, _ = await hooks.endpoint(database, "job.completed")
    old, new = [await deliveries.test(database, 1, endpoint.id, "job.completed") for _ in range(2)]
    await rows(database, "UPDATE deliveries SET pending_since = now() - interval '5 days' WHERE id = %s", old)
    await purge.run(database, 30)
    assert await value(database, "SELECT id FROM deliveries WHERE status = 'failed'") == old
    assert await value(database, "SELECT id FROM deliveries WHERE status = 'pending'") == new
