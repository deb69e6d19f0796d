"""Deliveries as tenants see them and have them made again."""

from datetime import UTC, datetime
from uuid import RFC_4122, UUID

import pytest

from jobs import deliveries, ids, outbox, read, webhooks
from jobs.claim import claim as claim_jobs
from jobs.database import Database
from jobs.deliveries import DeliveryStatus
from jobs.errors import Conflict, NotFound
from jobs.finish import Finisher
from jobs.outbox import Mark
from jobs.records import Flags, Outcome, Tier
from jobs.states import Status
from jobs.webhooks import Changes
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.hooks import VAULT, claim, endpoint, own
from tests.jobs.ledger import rows, value


async def test_an_endpoints_deliveries_come_newest_first_with_their_attempts(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    sent = [await deliveries.test(database, 1, made.id, "job.completed") for _ in range(3)]
    [last] = [due for due in await claim(database) if due.id == sent[2]]
    await outbox.mark(database, [Mark(last, DeliveryStatus.SUCCEEDED, 0, datetime.now(UTC), 7, 204)])
    page = await deliveries.of_endpoint(database, 1, made.id, limit=2)
    assert [each.id for each in page] == [sent[2], sent[1]]
    assert [attempt.status_code for attempt in page[0].attempts] == [204]
    assert page[0].status is DeliveryStatus.SUCCEEDED and page[0].next_at is None
    assert page[1].attempts == () and page[1].next_at is not None
    rest = await deliveries.of_endpoint(database, 1, made.id, limit=2, after=page[-1].id)
    assert [each.id for each in rest] == [sent[0]]


async def test_another_tenants_deliveries_do_not_exist(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    identity = await deliveries.test(database, 1, made.id, "job.completed")
    found = await deliveries.get(database, 1, identity)
    assert await deliveries.of_subject(database, 2, found.subject_id, limit=9) == []
    for attempt in (
        deliveries.of_endpoint(database, 2, made.id, limit=9),
        deliveries.get(database, 2, identity),
        deliveries.redeliver(database, 2, identity),
        deliveries.test(database, 2, made.id, "job.completed"),
    ):
        with pytest.raises(NotFound):
            await attempt


@pytest.mark.parametrize("type", ["batch.completed", "response.failed", "job.started"])
async def test_a_test_looks_like_the_event(database: Database, type: str) -> None:
    made, _ = await endpoint(database, "job.completed")
    found = await deliveries.get(database, 1, await deliveries.test(database, 1, made.id, type))
    assert found.test and found.type == type
    body = await value(database, "SELECT convert_from(body, 'UTF8')::json FROM deliveries")
    prefix = {"batch": "batch_", "response": "resp_", "job": "job_"}[type.partition(".")[0]]
    assert body["id"] == found.event_id and body["data"] == {"id": f"{prefix}{found.subject_id.hex}"}


async def test_what_was_delivered_can_be_delivered_again(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    identity = await deliveries.test(database, 1, made.id, "job.completed")
    [first] = await claim(database)
    await outbox.mark(database, [Mark(first, DeliveryStatus.FAILED, 0, datetime.now(UTC), 7, 500)])
    again = await deliveries.redeliver(database, 1, identity)
    assert again.status is DeliveryStatus.PENDING and len(again.attempts) == 1
    [second] = await claim(database)
    assert (second.webhook_id, second.body, second.attempts) == (first.webhook_id, first.body, 0)


async def test_what_nobody_would_take_cannot(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    identity = await deliveries.test(database, 1, made.id, "job.completed")
    await webhooks.update(database, VAULT, 1, made.id, Changes(disabled=True))
    with pytest.raises(Conflict, match="disabled \\(by its owner\\)"):
        await deliveries.redeliver(database, 1, identity)
    await webhooks.delete(database, 1, made.id)
    with pytest.raises(Conflict, match="was deleted"):
        await deliveries.redeliver(database, 1, identity)


async def test_a_deleted_jobs_result_goes_from_its_deliveries(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    webhook = own("job.completed", includes_result=True)
    [job] = await accept(new_job(flags=Flags.TELLS | Flags.WEBHOOK, webhook=webhook))
    [claimed] = await claim_jobs(database, worker, model_id, Tier.DEFAULT, 1)
    await Finisher(database, lambda ended: None).finish(claimed, Outcome(Status.COMPLETED, 200, b'{"a":1}'))
    thin = await value(database, "SELECT body FROM deliveries")
    [due] = await claim(database)
    assert await outbox.include_result(database, due) is not None
    assert await value(database, "SELECT body FROM deliveries") != thin
    await read.delete(database, 1, job)
    assert await value(database, "SELECT body FROM deliveries") == thin
    [left] = await deliveries.of_subject(database, 1, job, limit=9)
    assert left.endpoint_id is None and left.type == "job.completed"


async def test_ids_are_spelled_as_the_receiver_sees_them(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    identity = await deliveries.test(database, 1, made.id, "job.completed")
    assert ids.delivery_id(identity) == f"wh_{identity.hex}"
    assert ids.endpoint_id(made.id) == f"whe_{made.id.hex}"
    newest = await rows(database, "SELECT new_id() AS id FROM generate_series(1, 3)")
    assert all(row.id.version == 7 and abs(ids.seconds(row.id) - ids.seconds(made.id)) < 60 for row in newest)


async def test_the_databases_ids_sort_in_the_order_in_which_they_were_made(database: Database) -> None:
    microseconds = "(SELECT count(*) FROM generate_series(n, n + 100))"
    made = await rows(database, f"SELECT n, new_id() AS id, {microseconds} FROM generate_series(1, 2000) n")
    assert [row.n for row in sorted(made, key=lambda row: row.id)] == list(range(1, 2001))
    assert {row.id.version for row in made} == {7} and {row.id.variant for row in made} == {RFC_4122}
