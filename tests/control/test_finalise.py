"""The files of a batch whose lines have all ended."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from control import finalise
from control.ingest import Ingest
from jobs import batches, cancel, claim, ids
from jobs.blobs import Blobs
from jobs.database import Database
from jobs.finish import Finisher
from jobs.records import Batch, Json, Model, Outcome, Tier, Usage
from jobs.states import BatchStatus, Status
from tests.control.batches import MakeBatch, chat, content
from tests.jobs.ledger import rows, value


class Hand:
    """Plays the worker of a batch."""

    def __init__(self, database: Database, worker: UUID, model: Model) -> None:
        self._database, self._worker, self._model = database, worker, model

    async def answer(self, most: int = 1000, status: int = 200) -> int:
        """Claim and end up to `most` jobs; how many there were."""
        claimed = await claim.claim(self._database, self._worker, self._model.id, Tier.BATCH, most)
        finisher = Finisher(self._database, lambda ids: None)
        for job in claimed:
            text = json.loads(job.body)["messages"][0]["content"]
            body = json.dumps(
                {"text": text, "usage": {"prompt_tokens": 3, "details": {"cached": 1}}}, indent=1
            ).encode()
            end = Status.COMPLETED if status == 200 else Status.FAILED
            await finisher.finish(job, Outcome(end, status, body, Usage(3, 1, 2, 0)))
        return len(claimed)


@pytest.fixture
def hand(database: Database, worker_of_model: UUID, model: Model) -> Hand:
    return Hand(database, worker_of_model, model)


async def started(database: Database, ingest: Ingest, new_batch: MakeBatch, lines: Sequence[Json | str]) -> Batch:
    batch = await new_batch(lines)
    await ingest.run()
    return batch


async def test_results_are_written_in_the_order_of_the_input(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, hand: Hand
) -> None:
    lines = [chat(f"line {number}", f"text {number}") for number in range(450)]
    batch = await started(database, ingest, new_batch, lines)
    while await hand.answer(100):
        assert await finalise.run(database, blobs) in (0, 1)
    batch = await batches.get(database, 1, batch.id)
    assert (batch.status, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 450, 0)
    assert batch.completed_at and batch.finalizing_at and batch.error_file_id is None
    assert batch.usage == Usage(450 * 3, 450, 450 * 2, 0)
    found = await content(database, blobs, batch.output_file_id)
    assert [line["custom_id"] for line in found] == [line["custom_id"] for line in lines]
    assert [line["response"]["body"]["text"] for line in found] == [f"text {number}" for number in range(450)]
    assert all(set(line) == {"id", "custom_id", "response", "error"} for line in found)
    assert len({line["id"] for line in found}) == 450


async def test_failures_go_to_the_error_file_and_refusals_too(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, hand: Hand
) -> None:
    lines = [chat("bad"), chat("refused", temperature=-1)]
    batch = await started(database, ingest, new_batch, lines)
    await hand.answer(status=400)
    await finalise.run(database, blobs)
    batch = await batches.get(database, 1, batch.id)
    assert (batch.status, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 0, 2)
    assert batch.output_file_id is None
    found = await content(database, blobs, batch.error_file_id)
    assert [(line["custom_id"], line["response"]["status_code"], line["error"]) for line in found] == [
        ("bad", 400, None),
        ("refused", 400, None),
    ]
    assert found[1]["response"]["body"]["error"]["param"] == "temperature"


async def test_a_cancelled_batch_keeps_what_was_done(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, hand: Hand
) -> None:
    batch = await started(database, ingest, new_batch, [chat(str(number)) for number in range(8)])
    await hand.answer(4)
    _, ended = await batches.cancel(database, 1, batch.id)
    assert len(ended) == 4
    assert await finalise.run(database, blobs) == 1
    batch = await batches.get(database, 1, batch.id)
    assert (batch.status, batch.total, batch.completed, batch.failed) == (BatchStatus.CANCELLED, 8, 4, 0)
    assert batch.cancelling_at and batch.cancelled_at
    assert len(await content(database, blobs, batch.output_file_id)) == 4
    errors = await content(database, blobs, batch.error_file_id)
    assert [line["error"]["code"] for line in errors] == ["batch_cancelled"] * 4
    assert [line["response"] for line in errors] == [None] * 4


async def test_a_line_whose_job_was_cancelled_alone_does_not_blame_the_batch(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs
) -> None:
    batch = await started(database, ingest, new_batch, [chat("a")])
    await cancel.cancel(database, [row.id for row in await rows(database, "SELECT id FROM jobs")])
    await finalise.run(database, blobs)
    batch = await batches.get(database, 1, batch.id)
    assert batch.status == BatchStatus.COMPLETED
    [line] = await content(database, blobs, batch.error_file_id)
    assert line["error"] == {"code": "cancelled", "message": "This request was cancelled."}


async def test_what_runs_when_a_batch_is_cancelled_may_finish(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, worker_of_model: UUID, model: Model
) -> None:
    batch = await started(database, ingest, new_batch, [chat("a"), chat("b")])
    [running] = await claim.claim(database, worker_of_model, model.id, Tier.BATCH, 1)
    await batches.cancel(database, 1, batch.id)
    assert await finalise.run(database, blobs) == 0
    await Finisher(database, lambda ids: None).finish(running, Outcome(Status.COMPLETED, 200, b"{}"))
    assert await finalise.run(database, blobs) == 1
    batch = await batches.get(database, 1, batch.id)
    assert (batch.status, batch.completed) == (BatchStatus.CANCELLED, 1)


async def test_copies_bill_nothing_and_name_their_origin(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, hand: Hand
) -> None:
    batch = await started(database, ingest, new_batch, [chat("first", seed=1), chat("second", seed=1)])
    assert await hand.answer() == 1
    await finalise.run(database, blobs)
    batch = await batches.get(database, 1, batch.id)
    assert (batch.completed, batch.usage) == (2, Usage(3, 1, 2, 0))
    first, second = await content(database, blobs, batch.output_file_id)
    assert "copy_of" not in first["response"]
    assert second["response"]["copy_of"] == "first"
    assert second["response"]["request_id"] == first["response"]["request_id"]
    assert second["response"]["body"]["usage"] == {"prompt_tokens": 0, "details": {"cached": 0}}
    assert first["id"] != second["id"]


async def test_whoever_starts_over_writes_the_same_files(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(Blobs):
        async def put(self, key: str, chunks: Any) -> int:
            await super().put(key, chunks)
            raise RuntimeError("lost after the blob, before the row")

    batch = await started(database, ingest, new_batch, [chat("a")])
    await hand.answer()
    with pytest.raises(RuntimeError, match="lost"):
        await finalise.run(database, Full(str(blobs._folder)))
    assert (await batches.get(database, 1, batch.id)).status == BatchStatus.FINALIZING
    assert await value(database, "SELECT count(*) FROM files") == 1
    assert await finalise.run(database, blobs) == 1
    batch = await batches.get(database, 1, batch.id)
    assert len(await content(database, blobs, batch.output_file_id)) == 1


async def test_a_batch_that_cannot_be_written_holds_up_no_other_and_is_told(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, hand: Hand
) -> None:
    class Broken(Blobs):
        async def put(self, key: str, chunks: Any) -> int:
            if key == f"files/{UUID(int=bad.id.int ^ 1).hex}":
                raise RuntimeError("full")
            return await super().put(key, chunks)

    bad, good = [await started(database, ingest, new_batch, [chat("a")]) for _ in range(2)]
    await hand.answer()
    with capture_logs() as logs, pytest.raises(RuntimeError, match="full"):
        await finalise.run(database, Broken(str(blobs._folder)))
    told = [(log["batch_id"], log["error"]) for log in logs if log["log_level"] == "warning"]
    assert told == [(ids.batch_id(bad.id), "full")]
    assert (await batches.get(database, 1, good.id)).status == BatchStatus.COMPLETED
