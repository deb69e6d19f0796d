"""Batches and their windows."""

import asyncio
from uuid import UUID

from control import deadlines, finalise
from control.ingest import Ingest
from jobs import batches, claim
from jobs.blobs import Blobs
from jobs.database import Database
from jobs.records import Model, Tier
from jobs.states import BatchStatus
from tests.control.batches import MakeBatch, chat, content
from tests.control.conftest import Ears
from tests.jobs.ledger import assert_counters_are_true, rows, value, waits_for_a_lock
from tests.until import until


async def test_a_batch_that_is_over_keeps_what_was_done_and_expires(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, ears: Ears
) -> None:
    batch = await new_batch([chat(str(number)) for number in range(5)])
    await ingest.run()
    assert await deadlines.run(database, ears.announce, ears.abort) == 0
    await rows(database, "UPDATE batches SET expires_at = now()")
    assert await deadlines.run(database, ears.announce, ears.abort) == 5
    assert len(ears.announced) == 5
    await assert_counters_are_true(database)
    await finalise.run(database, blobs)
    batch = await batches.get(database, 1, batch.id)
    assert (batch.status, batch.completed, batch.failed, batch.ended) == (BatchStatus.EXPIRED, 0, 0, 5)
    assert batch.expired_at and batch.error_file_id and batch.output_file_id is None


async def test_a_batch_that_is_over_before_it_was_read_expires(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, ears: Ears
) -> None:
    batch = await new_batch([chat("a")])
    await rows(database, "UPDATE batches SET expires_at = now()")
    await deadlines.run(database, ears.announce, ears.abort)
    await ingest.run()
    await finalise.run(database, blobs)
    assert (await batches.get(database, 1, batch.id)).status == BatchStatus.EXPIRED


async def test_what_still_runs_ten_minutes_later_is_aborted(
    database: Database,
    ingest: Ingest,
    new_batch: MakeBatch,
    blobs: Blobs,
    ears: Ears,
    worker_of_model: UUID,
    model: Model,
) -> None:
    batch = await new_batch([chat("a"), chat("b")])
    await ingest.run()
    [running] = await claim.claim(database, worker_of_model, model.id, Tier.BATCH, 1)
    await batches.cancel(database, 1, batch.id)
    assert await deadlines.run(database, ears.announce, ears.abort) == 0
    await rows(database, "UPDATE batches SET cancelling_at = now() - interval '11 minutes'")
    assert await deadlines.run(database, ears.announce, ears.abort) == 1
    assert ears.aborted == [running.id]
    assert await finalise.run(database, blobs) == 1
    assert (await batches.get(database, 1, batch.id)).status == BatchStatus.CANCELLED


async def test_what_still_ran_long_after_its_window_is_told_as_expired(
    database: Database,
    ingest: Ingest,
    new_batch: MakeBatch,
    blobs: Blobs,
    ears: Ears,
    worker_of_model: UUID,
    model: Model,
) -> None:
    batch = await new_batch([chat("ran"), chat("waited")])
    await ingest.run()
    await claim.claim(database, worker_of_model, model.id, Tier.BATCH, 1)
    await rows(database, "UPDATE batches SET expires_at = now() - interval '11 minutes'")
    assert await deadlines.run(database, ears.announce, ears.abort) == 2
    await finalise.run(database, blobs)
    batch = await batches.get(database, 1, batch.id)
    assert batch.status == BatchStatus.EXPIRED
    assert [line["error"]["code"] for line in await content(database, blobs, batch.error_file_id)] == [
        "batch_expired",
        "batch_expired",
    ]


async def test_a_batch_close_to_its_window_rises_in_tier(
    database: Database, ingest: Ingest, new_batch: MakeBatch, ears: Ears, worker_of_model: UUID, model: Model
) -> None:
    await new_batch([chat("a"), chat("b")])
    await ingest.run()
    await deadlines.run(database, ears.announce, ears.abort)
    assert await value(database, "SELECT tier FROM flows") == Tier.BATCH
    await rows(
        database, "UPDATE batches SET created_at = now() - '23 h'::interval, expires_at = now() + '1 h'::interval"
    )
    assert await deadlines.run(database, ears.announce, ears.abort) == 1
    claimed = await claim.claim(database, worker_of_model, model.id, Tier.DEFAULT, 10)
    assert [job.tier for job in claimed] == [Tier.DEFAULT] * 2
    await assert_counters_are_true(database)


async def test_batches_rise_in_the_order_in_which_everybody_locks_flows(
    database: Database, ingest: Ingest, new_batch: MakeBatch, ears: Ears
) -> None:
    for _ in range(3):
        await new_batch([chat("a")])
    await ingest.run()
    flows = await rows(database, "SELECT id, batch_id FROM flows ORDER BY id")
    late = "created_at = now() - interval '23 h', expires_at = now() + interval '1 h'"
    for flow in reversed(flows):  # so that the batches are found the other way around
        await rows(database, "UPDATE batches SET status = 'finalizing' WHERE id = %s", flow.batch_id)
        await rows(database, f"UPDATE batches SET status = 'in_progress', {late} WHERE id = %s", flow.batch_id)
    async with database.transaction() as connection:
        await connection.execute("SELECT FROM flows WHERE id = %s FOR UPDATE", [flows[0].id])
        rising = asyncio.create_task(deadlines.run(database, ears.announce, ears.abort))
        await until(lambda: waits_for_a_lock(database))
        await connection.execute("SELECT FROM flows WHERE id = %s FOR UPDATE NOWAIT", [flows[-1].id])
    assert await rising == 3
