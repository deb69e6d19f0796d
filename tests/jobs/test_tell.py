"""Who is told of an end, and of a beginning: in the transaction that brings it about, and once."""

from uuid import UUID

import pytest

from jobs import batches, cancel, claim
from jobs.database import Database, fetch
from jobs.finish import Finisher
from jobs.records import ClaimedJob, Flags, Outcome, Tier
from jobs.states import Status
from tests.jobs import batch_rows
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.hooks import endpoint, own, told
from tests.jobs.ledger import rows, value

DONE = Outcome(Status.COMPLETED, 200, b"{}")
FAULT = Outcome(Status.FAILED, 400, b"{}")
JOB = ("job.completed", "job.failed", "job.cancelled", "job.expired")
RESPONSE = Flags.TELLS | Flags.RESPONSES


async def claimed(database: Database, worker: UUID, model_id: int) -> ClaimedJob:
    [job] = await claim.claim(database, worker, model_id, Tier.DEFAULT, 8)
    return job


async def finish(database: Database, job: ClaimedJob, outcome: Outcome = DONE) -> int:
    """End a job; how often somebody was asked to deliver."""
    tickets: list[None] = []
    assert await Finisher(database, lambda ended: None, lambda: tickets.append(None)).finish(job, outcome)
    return len(tickets)


@pytest.mark.parametrize(("outcome", "type"), [(DONE, "job.completed"), (FAULT, "job.failed")])
async def test_an_end_is_told_to_the_endpoints_that_listen(
    outcome: Outcome, type: str, database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await endpoint(database, *JOB)
    await endpoint(database, type)
    await endpoint(database, "batch.completed")
    [job] = await accept(new_job(flags=Flags.TELLS))
    assert await finish(database, await claimed(database, worker, model_id), outcome) == 1
    assert await told(database) == [(type, job)] * 2


async def test_the_event_is_what_openai_sends(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await endpoint(database, "job.completed")
    await endpoint(database, "job.completed")
    [job] = await accept(new_job(flags=Flags.TELLS))
    await finish(database, await claimed(database, worker, model_id))
    found = await rows(
        database,
        "SELECT convert_from(body, 'UTF8')::json AS body, event_id(subject_id, type) AS event,"
        " floor(extract(epoch FROM j.finished_at)) AS ended"
        " FROM deliveries JOIN jobs j ON j.id = subject_id",
    )
    assert [row.body for row in found] == [
        {
            "id": found[0].event,
            "object": "event",
            "created_at": int(found[0].ended),
            "type": "job.completed",
            "data": {"id": f"job_{job.hex}"},
        }
    ] * 2
    assert found[0].event.startswith("evt_") and len(found[0].event) == 36


async def test_nobody_is_told_of_jobs_that_are_waited_for(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await endpoint(database, *JOB)
    await accept(new_job(waited=True))
    assert await finish(database, await claimed(database, worker, model_id)) == 0
    assert await told(database) == []


async def test_where_nobody_listens_nothing_is_written(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job(flags=Flags.TELLS))
    assert await finish(database, await claimed(database, worker, model_id)) == 0
    assert await told(database) == []


async def test_another_tenants_endpoint_hears_nothing(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    other = await value(database, "INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    await endpoint(database, *JOB, tenant=other)
    await accept(new_job(flags=Flags.TELLS))
    await finish(database, await claimed(database, worker, model_id))
    assert await told(database) == []


async def test_a_disabled_endpoint_hears_nothing(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await endpoint(database, *JOB)
    await rows(database, "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'why not'")
    await accept(new_job(flags=Flags.TELLS))
    await finish(database, await claimed(database, worker, model_id))
    assert await told(database) == []


async def test_a_jobs_own_webhook_is_told_what_it_asked_for(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    flags = Flags.TELLS | Flags.WEBHOOK
    [failing, completing] = await accept(*(new_job(flags=flags, webhook=own("job.failed")) for _ in range(2)))
    jobs = {job.id: job for job in await claim.claim(database, worker, model_id, Tier.DEFAULT, 8)}
    assert await finish(database, jobs[completing]) == 0
    assert await finish(database, jobs[failing], FAULT) == 1
    assert await told(database) == [("job.failed", failing)]


async def test_a_beginning_is_told_once_to_who_asks_for_it(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await endpoint(database, "job.started")
    await endpoint(database, *JOB)
    [job] = await accept(new_job(flags=Flags.TELLS))
    first = await claimed(database, worker, model_id)
    async with database.transaction() as connection:
        await fetch(connection, "release", ids=[job], lease_tokens=[first.lease_token], locked=[first.flow_id])
    await claimed(database, worker, model_id)
    assert await told(database) == [("job.started", job)]


@pytest.mark.parametrize(
    ("outcome", "types"),
    [
        (DONE, ["job.completed", "response.completed"]),
        (FAULT, ["job.failed", "response.failed"]),
        (Outcome(Status.COMPLETED, 200, b'{"status":"incomplete"}'), ["job.completed", "response.incomplete"]),
    ],
)
async def test_a_response_has_openais_events_too(
    outcome: Outcome,
    types: list[str],
    database: Database,
    accept: Accept,
    new_job: MakeJob,
    worker: UUID,
    model_id: int,
) -> None:
    await endpoint(database, *JOB, "response.completed", "response.failed", "response.incomplete")
    [job] = await accept(new_job(flags=RESPONSE))
    await finish(database, await claimed(database, worker, model_id), outcome)
    assert await told(database) == [(type, job) for type in types]
    [body] = await rows(
        database, "SELECT convert_from(body, 'UTF8')::json AS body FROM deliveries WHERE type LIKE 'response.%%'"
    )
    assert body.body["data"] == {"id": f"resp_{job.hex}"}


async def test_every_other_end_is_told_too(database: Database, accept: Accept, new_job: MakeJob) -> None:
    await endpoint(database, *JOB, "response.cancelled", "response.failed")
    cancelled, expired = await accept(new_job(flags=RESPONSE), new_job(flags=RESPONSE, expires_seconds=60))
    await cancel.cancel(database, [cancelled])
    await rows(database, "UPDATE jobs SET expires_at = now() WHERE id = %s", expired)
    await cancel.expire(database)
    await cancel.cancel(database, [cancelled, expired])
    assert sorted(await told(database)) == [
        ("job.cancelled", cancelled),
        ("job.expired", expired),
        ("response.cancelled", cancelled),
        ("response.failed", expired),
    ]


async def test_what_is_rolled_back_was_not_told(database: Database, accept: Accept, new_job: MakeJob) -> None:
    await endpoint(database, *JOB)
    [job] = await accept(new_job(flags=Flags.TELLS))
    with pytest.raises(RuntimeError):
        async with database.transaction() as connection:
            locked = await fetch(connection, "flows_lock", ids=[job])
            assert await fetch(connection, "cancel", ids=[job], locked=[flow.id for flow in locked])
            raise RuntimeError
    assert await told(database) == []


async def test_a_batch_tells_of_its_end_and_not_of_its_lines(database: Database, worker: UUID, model_id: int) -> None:
    await endpoint(database, *JOB, "batch.completed")
    started = await batch_rows.start(
        database, worker, model_id, {"a": b"{}"}, webhook=own("batch.completed", "batch.failed")
    )
    await started.end("a")
    assert await told(database) == []
    tokens = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"), 0)
    await database.run("batch_finish", id=started.batch.id, output=None, errors=None, **tokens)
    assert await told(database) == [("batch.completed", started.batch.id)] * 2


async def test_a_batch_that_fails_its_validation_tells_so(database: Database) -> None:
    await endpoint(database, "batch.failed")
    batch = await batches.create(database, batch_rows.new_batch())
    await database.run("batch_failed", id=batch.id, errors="[]", model=None)
    assert await told(database) == [("batch.failed", batch.id)]
