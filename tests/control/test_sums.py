"""Limits on what the lines of a batch add up to."""

import asyncio
from uuid import UUID

import pytest

from control.ingest import Ingest
from jobs import batches, claim
from jobs.database import Database
from jobs.records import Model, Tier
from jobs.states import BatchStatus
from tests.control.batches import MakeBatch, chat
from tests.jobs.ledger import rows, value
from tests.until import until

EMBEDDINGS = "/v1/embeddings"


@pytest.mark.parametrize("ingest", [{"batch_embedding_inputs": 6}], indirect=True)
@pytest.mark.parametrize(("more", "code"), [([], None), (["seventh"], "too_many_inputs")])
async def test_more_texts_to_embed_than_the_limit_fail(
    more: list[str], code: str | None, database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    inputs: list[object] = ["a text", [1, 2, 3], ["two", "texts"], [[1, 2], [3]], *more]
    lines = [{"custom_id": str(number), "method": "POST", "url": EMBEDDINGS} for number in range(len(inputs))]
    bodies = [{"model": "tiny", "input": asked} for asked in inputs]
    batch = await new_batch([{**line, "body": body} for line, body in zip(lines, bodies, strict=True)])
    await rows(database, "UPDATE batches SET endpoint = %s", EMBEDDINGS)
    await ingest.run()
    faults = (await batches.get(database, 1, batch.id)).errors or []
    assert [fault["code"] for fault in faults] == ([code] if code else [])


@pytest.mark.parametrize("ingest", [{"batch_enqueued_tokens": 1000}], indirect=True)
async def test_a_tenant_has_so_many_tokens_in_its_batches_that_wait(
    database: Database, ingest: Ingest, new_batch: MakeBatch, model: Model, worker_of_model: UUID
) -> None:
    lines = [chat(str(number), max_tokens=100) for number in range(6)]
    first, second = [await new_batch(lines) for _ in range(2)]
    await ingest.run()
    assert (await batches.get(database, 1, first.id)).status == BatchStatus.IN_PROGRESS
    [fault] = (await batches.get(database, 1, second.id)).errors or []
    assert fault == {
        "code": "token_limit_exceeded",
        "message": "Enqueued token limit reached for tiny in organization default. Limit: 1,000 enqueued tokens. "
        "Please try again once some in_progress batches have been completed.",
        "param": None,
        "line": None,
    }
    await claim.claim(database, worker_of_model, model.id, Tier.BATCH, 6)
    third = await new_batch(lines)
    await ingest.run()
    assert (await batches.get(database, 1, third.id)).status == BatchStatus.IN_PROGRESS


@pytest.mark.parametrize("ingest", [{"batch_enqueued_tokens": 1000, "batch_mixed_models": True}], indirect=True)
async def test_a_models_names_share_its_tokens(database: Database, ingest: Ingest, new_batch: MakeBatch) -> None:
    lines = [chat(f"{number}", model=("tiny", "org/tiny")[number % 2], max_tokens=100) for number in range(12)]
    batch = await new_batch(lines)
    await ingest.run()
    faults = (await batches.get(database, 1, batch.id)).errors or []
    assert [fault["code"] for fault in faults] == ["token_limit_exceeded"]


@pytest.mark.parametrize("ingest", [{"batch_enqueued_tokens": 1000}], indirect=True)
async def test_of_two_that_are_read_at_once_only_what_fits_is_begun(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    made = [await new_batch([chat(str(number), max_tokens=100) for number in range(6)]) for _ in range(2)]

    async def both_are_read() -> bool:
        waits = "datname = current_database() AND wait_event_type = 'Lock'"
        return bool(await value(database, f"SELECT count(*) = 2 FROM pg_stat_activity WHERE {waits}"))

    async with database.transaction() as connection:
        await connection.execute("UPDATE tenants SET weight = weight")
        both = asyncio.gather(ingest.run(), ingest.run())
        await until(both_are_read)
    await both
    found = sorted([(await batches.get(database, 1, batch.id)).status for batch in made])
    assert found == [BatchStatus.FAILED, BatchStatus.IN_PROGRESS]
