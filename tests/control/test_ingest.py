"""From an input file to jobs: what a line becomes, what fails a file, and what a crash leaves."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import TypeAlias
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from control.ingest import Ingest
from jobs import batch_retry, batches, catalog, claim, files, ids
from jobs.blobs import Blobs
from jobs.catalog import Catalog
from jobs.database import Database
from jobs.records import Batch, Json, Model, NewBatch, NewJob, Registration, Tier
from jobs.settings import Settings
from jobs.states import BatchStatus
from tests.api import schemas
from tests.control.batches import CHAT, MakeBatch, chat
from tests.jobs.conftest import Accept
from tests.jobs.ledger import assert_counters_are_true, rows, value

Errors: TypeAlias = list[tuple[str, str | None, int | None]]


def errors(batch: Batch) -> Errors:
    return [(error["code"], error["param"], error["line"]) for error in batch.errors or []]


async def test_every_line_becomes_a_job_of_the_batch_lane(
    database: Database, ingest: Ingest, new_batch: MakeBatch, published: list[tuple[int, int]]
) -> None:
    batch = await new_batch([chat(str(number), f"text {number}") for number in range(2500)])
    assert await ingest.run() == 1
    batch = await batches.get(database, 1, batch.id)
    assert (batch.status, batch.total, batch.failed, batch.model) == (BatchStatus.IN_PROGRESS, 2500, 0, "tiny")
    assert batch.in_progress_at
    assert [jobs for _, jobs in published] == [2500]
    await assert_counters_are_true(database)
    assert await value(database, "SELECT count(DISTINCT custom_id) FROM lines JOIN requests USING (job_id)") == 2500
    assert await value(database, "SELECT count(*) FROM jobs WHERE tier = 3 AND flags = 2") == 2500


async def test_a_batch_is_read_once(database: Database, ingest: Ingest, new_batch: MakeBatch) -> None:
    await new_batch([chat("a")])
    assert [await ingest.run(), await ingest.run()] == [1, 0]
    assert await value(database, "SELECT count(*) FROM jobs") == 1


BAD: list[tuple[Json | str, str, str | None]] = [
    ("{", "invalid_json_line", None),
    ("[]", "invalid_json_line", None),
    ("\ufeff" + json.dumps(chat("b")), "invalid_json_line", None),
    ({"method": "POST", "url": CHAT, "body": {}}, "missing_required_parameter", "custom_id"),
    ({"custom_id": "b", "url": CHAT, "body": {}}, "missing_required_parameter", "method"),
    ({"custom_id": "b", "method": "POST", "body": {}}, "missing_required_parameter", "url"),
    ({"custom_id": "b", "method": "POST", "url": CHAT}, "missing_required_parameter", "body"),
    (chat("a"), "duplicate_custom_id", "custom_id"),
    (chat("b") | {"custom_id": 7}, "invalid_value", "custom_id"),
    (chat("b") | {"custom_id": "\0"}, "invalid_value", "custom_id"),
    (chat("b") | {"method": "GET"}, "invalid_method", "method"),
    (chat("b") | {"url": "/v1/completions"}, "invalid_url", "url"),
    (chat("b") | {"body": []}, "invalid_type", "body"),
    (chat("b", stream=True), "streaming_unsupported", "body.stream"),
    (chat("b", messages=None), "invalid_request", "body.messages"),
    (chat("b", model="nobody"), "model_not_found", "body.model"),
    (chat("b", model=7), "invalid_request", "body.model"),
    (chat("b", model="org/tiny"), "mismatched_model", "body.model"),
    (chat("b", model="a\0b"), "invalid_value", "body.model"),
    (chat("b", model="\ud800"), "invalid_value", "body.model"),
    (chat("b") | {"custom_id": "\ud800"}, "invalid_value", "custom_id"),
    (chat("b") | {"method": "\0\ud800"}, "invalid_method", "method"),
    (chat("b") | {"url": "\0\ud800"}, "invalid_url", "url"),
    (chat("b") | {"\0\ud800": 1, "body": {"\0\ud800": 1}}, "invalid_request", "body.messages"),
]


@pytest.mark.parametrize(
    ("line", "code", "param"), BAD, ids=[f"{number} {code} {param}" for number, (_, code, param) in enumerate(BAD)]
)
async def test_a_line_that_is_none_fails_the_batch(
    line: Json | str, code: str, param: str | None, database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    batch = await new_batch([chat("a"), line, chat("c")])
    await ingest.run()
    batch = await batches.get(database, 1, batch.id)
    assert batch.status == BatchStatus.FAILED
    assert errors(batch) == [(code, param, 2)]
    assert (batch.total, batch.completed, batch.failed) == (0, 0, 0)
    for table in ("jobs", "lines", "requests"):
        assert await value(database, f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize("ingest", [{"body_limit_bytes": 2048}], indirect=True)
async def test_a_line_longer_than_a_request_may_be_is_told_unread(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    batch = await new_batch([chat("a"), "[" * 30_000, chat("b")])
    await ingest.run()
    batch = await batches.get(database, 1, batch.id)
    assert errors(batch) == [("request_too_large", None, 2)]
    assert batch.errors and "2048 bytes" in batch.errors[0]["message"]


@pytest.mark.parametrize("ingest", [{"body_limit_bytes": 2048}], indirect=True)
async def test_a_body_just_over_the_limit_is_one_failed_line(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    batch = await new_batch([chat("a" * 512, "x" * 1900), chat("b", "x" * 2048)])
    await ingest.run()
    [line] = await batches.lines(database, batch.id, after=0, limit=10)
    assert (line.custom_id, line.status_code) == ("b", 413)


async def test_every_bad_line_is_reported(database: Database, ingest: Ingest, new_batch: MakeBatch) -> None:
    batch = await new_batch(["{", chat("a"), chat("a"), chat("b", stream=True)])
    await ingest.run()
    found = errors(await batches.get(database, 1, batch.id))
    assert found == [
        ("invalid_json_line", None, 1),
        ("duplicate_custom_id", "custom_id", 3),
        ("streaming_unsupported", "body.stream", 4),
    ]


async def test_an_empty_file_fails(database: Database, ingest: Ingest, new_batch: MakeBatch) -> None:
    batch = await new_batch(["", "  "])
    await ingest.run()
    assert errors(await batches.get(database, 1, batch.id)) == [("empty_file", None, None)]


@pytest.mark.parametrize("ingest", [{"batch_line_limit": 2}], indirect=True)
async def test_more_lines_than_the_limit_fail(database: Database, ingest: Ingest, new_batch: MakeBatch) -> None:
    batch = await new_batch([chat(str(number)) for number in range(3)])
    await ingest.run()
    assert errors(await batches.get(database, 1, batch.id)) == [("too_many_tasks", None, None)]


async def test_a_file_that_is_not_there_fails_the_batch(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    batch = await batches.create(database, NewBatch(ids.new(), 1, CHAT, ids.new(), "24h", 86_400))
    await ingest.run()
    assert errors(await batches.get(database, 1, batch.id)) == [("invalid_request", "file_id", None)]


async def test_a_file_that_is_deleted_once_its_batch_exists_is_still_read(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    batch = await new_batch([chat("a")])
    await files.delete(database, 1, batch.input_file_id)
    await ingest.run()
    assert (await batches.get(database, 1, batch.id)).status == BatchStatus.IN_PROGRESS


async def test_what_admission_refuses_is_one_failed_line_with_its_error(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    batch = await new_batch([chat("a"), chat("cold", temperature=-1), chat("c")])
    await ingest.run()
    batch = await batches.get(database, 1, batch.id)
    assert (batch.status, batch.total, batch.failed, batch.ended) == (BatchStatus.IN_PROGRESS, 3, 1, 1)
    [line] = await batches.lines(database, batch.id, after=0, limit=10, with_request=True)
    assert (line.custom_id, line.line, line.ended, line.status_code) == ("cold", 2, 1, 400)
    assert json.loads(line.body or b"")["error"]["param"] == "temperature"
    assert json.loads(line.request or b"")["temperature"] == -1


async def test_a_retry_gives_back_what_each_line_said_of_its_time(
    database: Database, ingest: Ingest, new_batch: MakeBatch, settings: Settings
) -> None:
    lines = [
        chat("plain"),
        chat("both", timeout=7, expires_after=90),
        chat("one", expires_after=100_000),
        chat("refused", timeout=5, temperature=-1),
    ]
    batch = await new_batch(lines)
    await ingest.run()
    await batches.cancel(database, 1, batch.id)
    written = b"".join([page async for page in batch_retry.lines(database, batch, settings.timeout_seconds)])
    assert [json.loads(line) for line in written.splitlines()] == lines


async def test_a_line_continues_a_response_and_asks_for_no_background(
    database: Database, ingest: Ingest, new_batch: MakeBatch, accept: Accept, model: Model
) -> None:
    asked = NewJob(
        id=ids.new(),
        tenant_id=1,
        model_id=model.id,
        model="tiny",
        endpoint="/v1/responses",
        body=b'{"input": "one"}',
        tier=Tier.DEFAULT,
        waited=False,
        cost=1,
        timeout_seconds=60,
    )
    [first] = await accept(asked)
    await rows(database, "UPDATE jobs SET status = 'completed', finished_at = now()")
    said: list[Json] = [{"previous_response_id": ids.response_id(first)}, {"background": True}]
    lines = [{"custom_id": str(number), "method": "POST", "url": "/v1/responses"} for number in range(2)]
    bodies = [{"model": "tiny", "input": "two", **more} for more in said]
    batch = await new_batch([{**line, "body": body} for line, body in zip(lines, bodies, strict=True)])
    await rows(database, "UPDATE batches SET endpoint = '/v1/responses'")
    await ingest.run()
    assert await value(database, "SELECT previous_id FROM requests JOIN lines USING (job_id) WHERE line = 1") == first
    [refused] = await batches.lines(database, batch.id, after=0, limit=10)
    assert json.loads(refused.body or b"")["error"]["param"] == "background"


async def test_a_file_of_refused_lines_alone_is_ready_to_be_finalised(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    batch = await new_batch([chat("a", temperature=-1)])
    await ingest.run()
    assert (await batches.get(database, 1, batch.id)).status == BatchStatus.FINALIZING


async def test_identical_deterministic_lines_share_one_job(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    same = [chat(str(number), temperature=0) for number in range(3)]
    await new_batch([*same, chat("other", "else", temperature=0), chat("d"), chat("e")])
    await ingest.run()
    found = await rows(database, "SELECT custom_id, job_id, copy_of FROM lines ORDER BY line")
    assert [line.copy_of for line in found] == [None, 1, 1, None, None, None]
    assert len({line.job_id for line in found}) == 4
    assert await value(database, "SELECT count(*) FROM jobs") == 4


@pytest.mark.parametrize("ingest", [{"batch_deduplicate": False}], indirect=True)
async def test_a_setting_has_every_line_run(database: Database, ingest: Ingest, new_batch: MakeBatch) -> None:
    await new_batch([chat(str(number), temperature=0) for number in range(3)])
    await ingest.run()
    assert await value(database, "SELECT count(*) FROM jobs") == 3


@pytest.mark.parametrize("ingest", [{"batch_mixed_models": True}], indirect=True)
async def test_a_setting_allows_several_models(
    database: Database, ingest: Ingest, new_batch: MakeBatch, published: list[tuple[int, int]]
) -> None:
    await catalog.register(
        database,
        uuid4(),
        Registration("other", (), (), schemas.ENDPOINTS, context_length=9, slots=1),
        host="",
        pid=1,
        home=None,
    )
    batch = await new_batch([chat("a"), chat("b", model="other"), chat("c", model="other")])
    await ingest.run()
    assert (await batches.get(database, 1, batch.id)).status == BatchStatus.IN_PROGRESS
    assert sorted(jobs for _, jobs in published) == [1, 2]
    await assert_counters_are_true(database)


async def test_lines_that_share_a_beginning_are_claimed_together(
    database: Database, ingest: Ingest, new_batch: MakeBatch, model: Model, worker_of_model: UUID
) -> None:
    documents = [f"document {number} " + "x" * 600 for number in range(10)]
    lines = [chat(f"{d} {q}", f"{text} question {q}") for q in range(5) for d, text in enumerate(documents)]
    await new_batch(lines)
    await ingest.run()
    claimed = await claim.claim(database, worker_of_model, model.id, Tier.BATCH, 50)
    order = [json.loads(job.body)["messages"][0]["content"].split()[1] for job in claimed]
    changes = sum(before != after for before, after in pairwise(order))
    assert (len(order), changes) == (50, 9)


async def test_a_batch_that_is_cancelled_while_it_is_read_leaves_no_job(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    batch = await new_batch([chat(str(number)) for number in range(5000)])
    reading = asyncio.create_task(ingest.run())
    await asyncio.sleep(0)
    await batches.cancel(database, 1, batch.id)
    await reading
    batch = await batches.get(database, 1, batch.id)
    assert (batch.status, batch.ended) == (BatchStatus.CANCELLING, batch.total)
    assert await value(database, "SELECT count(*) FROM jobs WHERE status = 'queued'") == 0


async def test_a_crash_in_the_middle_leaves_nothing_and_another_starts_over(
    database: Database, ingest: Ingest, new_batch: MakeBatch, blobs: Blobs, settings: Settings
) -> None:
    class Broken(Blobs):
        async def read(self, key: str, start: int = 0) -> AsyncIterator[bytes]:
            async for chunk in super().read(key, start):
                yield chunk[: len(chunk) // 2]
                raise RuntimeError("lost")

    batch = await new_batch([chat(str(number)) for number in range(5000)])
    broken = Ingest(database, Broken(settings.blob_store), Catalog(database), settings, lambda model, jobs: None)
    with pytest.raises(RuntimeError, match="lost"):
        await broken.run()
    assert await value(database, "SELECT count(*) FROM lines") == 0
    assert await ingest.run() == 1
    assert (await batches.get(database, 1, batch.id)).total == 5000
    assert await value(database, "SELECT count(*) FROM lines") == 5000


async def test_a_batch_that_cannot_be_read_holds_up_no_other_and_is_told(
    database: Database, model: Model, new_batch: MakeBatch, settings: Settings
) -> None:
    class Broken(Blobs):
        async def read(self, key: str, start: int = 0) -> AsyncIterator[bytes]:
            if key == f"files/{bad.input_file_id.hex}":
                raise RuntimeError("unreadable")
            async for chunk in super().read(key, start):
                yield chunk

    bad, good = await new_batch([chat("a")]), await new_batch([chat("a longer one")])
    ingest = Ingest(database, Broken(settings.blob_store), Catalog(database), settings, lambda model, jobs: None)
    with capture_logs() as logs, pytest.raises(RuntimeError, match="unreadable"):
        await ingest.run()
    told = [(log["batch_id"], log["error"]) for log in logs if log["log_level"] == "warning"]
    assert told == [(ids.batch_id(bad.id), "unreadable")]
    found = [(await batches.get(database, 1, batch.id)).status for batch in (bad, good)]
    assert found == [BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS]


async def test_two_processes_do_not_read_the_same_batch(
    database: Database, ingest: Ingest, new_batch: MakeBatch
) -> None:
    await new_batch([chat(str(number)) for number in range(2000)])
    both = await asyncio.gather(ingest.run(), ingest.run())
    assert sorted(both) == [0, 1]
    assert await value(database, "SELECT count(*) FROM lines") == 2000


async def test_a_job_of_another_tenant_is_not_held_up_by_a_long_batch(
    database: Database, ingest: Ingest, new_batch: MakeBatch, model: Model, worker_of_model: UUID
) -> None:
    await rows(database, "INSERT INTO tenants (name) VALUES ('small')")
    await new_batch([chat(str(number), f"text {number}") for number in range(3000)])
    await ingest.run()
    for _ in range(3):
        await claim.claim(database, worker_of_model, model.id, Tier.BATCH, 64)
    small = await new_batch([chat("alone")])
    await rows(database, "UPDATE batches SET tenant_id = 2 WHERE id = %s", small.id)
    await rows(database, "UPDATE files SET tenant_id = 2 WHERE id = %s", small.input_file_id)
    await ingest.run()
    claimed = await claim.claim(database, worker_of_model, model.id, Tier.BATCH, 8)
    assert 2 in {job.tenant_id for job in claimed}


async def test_batches_of_tenants_are_served_by_their_weights(
    database: Database, ingest: Ingest, new_batch: MakeBatch, model: Model, worker_of_model: UUID
) -> None:
    await rows(database, "INSERT INTO tenants (name, weight) VALUES ('heavy', 3)")
    lines = [chat(str(number), f"text {number:04}") for number in range(1500)]
    await new_batch(lines)
    heavy = await new_batch(lines)
    await rows(database, "UPDATE batches SET tenant_id = 2 WHERE id = %s", heavy.id)
    await rows(database, "UPDATE files SET tenant_id = 2 WHERE id = %s", heavy.input_file_id)
    await ingest.run()
    cost = {1: 0, 2: 0}
    for _ in range(25):
        for job in await claim.claim(database, worker_of_model, model.id, Tier.BATCH, 64):
            cost[job.tenant_id] += job.cost
    assert cost[2] / cost[1] == pytest.approx(3, rel=0.05)
