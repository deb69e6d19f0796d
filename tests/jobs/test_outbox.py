"""Deliveries from their claim to their mark: leased, fenced, and judged for their endpoint."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from jobs import claim as claims
from jobs import deliveries, outbox, webhooks
from jobs.database import Database
from jobs.deliveries import DeliveryStatus
from jobs.finish import Finisher
from jobs.outbox import Due, Mark
from jobs.records import Flags, Outcome, Tier
from jobs.secrets import Vault
from jobs.states import Status
from jobs.webhooks import Changes
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.hooks import SECRET, URL, VAULT, claim, endpoint, own, send
from tests.jobs.ledger import rows, value

PENDING, SUCCEEDED, FAILED = DeliveryStatus


def answered(due: Due, status: DeliveryStatus, code: int | None = 200, delay: float = 0, **fields: Any) -> Mark:
    return Mark(due, status, delay, datetime.now(UTC), 12, code, **fields)


async def due_again(database: Database) -> None:
    await rows(database, "UPDATE deliveries SET next_at = now() WHERE status = 'pending'")


async def test_what_is_due_is_claimed_with_all_that_sending_needs(database: Database) -> None:
    made, secret = await endpoint(database, "job.completed", headers={"X-A": "1"})
    identity = await deliveries.test(database, 1, made.id, "job.completed")
    [due] = await claim(database)
    assert (due.id, due.attempts, due.type) == (identity, 0, "job.completed")
    assert due.webhook_id == f"wh_{identity.hex}"
    assert due.receiver == outbox.Receiver(URL, {"X-A": "1"}, (secret,))
    assert await claim(database) == []


async def test_what_is_not_marked_is_due_again_when_its_claim_is_over(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await send(database, made.id)
    [first] = await claim(database)
    seconds = await value(database, "SELECT extract(epoch FROM next_at - now())::float8 FROM deliveries")
    assert outbox.LEASE_SECONDS - 5 < seconds <= outbox.LEASE_SECONDS
    await due_again(database)
    [second] = await claim(database)
    assert replace(second, lease_token=first.lease_token) == first
    await outbox.mark(database, [answered(first, SUCCEEDED)])
    assert (await deliveries.get(database, 1, first.id)).status is PENDING
    await outbox.mark(database, [answered(second, SUCCEEDED)])
    assert (await deliveries.get(database, 1, first.id)).status is SUCCEEDED


async def test_a_backlog_for_one_receiver_hides_no_other(database: Database) -> None:
    first, _ = await endpoint(database, "job.completed")
    second, _ = await endpoint(database, "job.completed")
    await send(database, first.id, 30)
    await send(database, second.id)
    found = await claim(database)
    lanes = [due.lane for due in found]
    one, other = webhooks.lane(first.id.hex), webhooks.lane(second.id.hex)
    assert (lanes.count(one), lanes.count(other)) == (outbox.FEW, 1)
    assert await claim(database, full=[one]) == []
    quick = await outbox.claim(database, VAULT, (), [one], (), 100)
    assert len(quick) == 30 - outbox.FEW


async def test_nothing_is_claimed_of_a_tenant_of_whom_enough_is_under_way(database: Database) -> None:
    other = await value(database, "INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    for tenant in (1, other, 1):
        made, _ = await endpoint(database, "job.completed", tenant=tenant)
        await send(database, made.id)
    found = await outbox.claim(database, VAULT, (), (), [1], 100)
    assert [due.tenant_id for due in found] == [other]
    assert [due.tenant_id for due in await claim(database)] == [1, 1]


async def test_a_claim_takes_no_more_than_it_was_asked_for(database: Database) -> None:
    for _ in range(3):
        made, _ = await endpoint(database, "job.completed")
        await send(database, made.id, 2)
    assert len(await claim(database, most=5)) == 5
    assert len(await claim(database)) == 1


async def test_an_attempt_is_kept_to_be_seen(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await send(database, made.id)
    [due] = await claim(database)
    await outbox.mark(database, [answered(due, PENDING, 500, delay=5, answer=b"oh no")])
    seen = await deliveries.get(database, 1, due.id)
    [attempt] = seen.attempts
    assert (attempt.status_code, attempt.latency_ms, attempt.answer, attempt.error) == (500, 12, b"oh no", None)
    assert seen.next_at is not None and 3 < (seen.next_at - datetime.now(UTC)).total_seconds() <= 5
    await due_again(database)
    [due] = await claim(database)
    assert due.attempts == 1


async def test_marks_of_every_kind_are_written_together(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await send(database, made.id, 4)
    first, second, third, fourth = await claim(database)
    marks = [
        answered(first, SUCCEEDED),
        answered(second, PENDING, 503, delay=5.25, answer=b"\x00\xff"),
        answered(third, FAILED, None, error="no answer"),
        Mark(fourth, PENDING, 10),
    ]
    await outbox.mark(database, marks)
    found = await deliveries.of_endpoint(database, 1, made.id, limit=9)
    assert {each.id: (each.status, len(each.attempts)) for each in found} == {
        first.id: (SUCCEEDED, 1),
        second.id: (PENDING, 1),
        third.id: (FAILED, 1),
        fourth.id: (PENDING, 0),
    }


async def test_what_was_only_put_off_is_no_attempt(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await send(database, made.id)
    [due] = await claim(database)
    await outbox.mark(database, [Mark(due, PENDING)])
    [again] = await claim(database)
    assert again.attempts == 0
    assert (await deliveries.get(database, 1, due.id)).attempts == ()


async def test_410_disables_and_what_waits_then_fails(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await send(database, made.id, 2)
    first, second = await claim(database)
    disabled = await outbox.mark(database, [answered(first, FAILED, 410)])
    assert disabled == {made.id: "its receiver answered 410 Gone"}
    await outbox.mark(database, [Mark(second, PENDING)])
    [waiting] = await claim(database)
    assert waiting.receiver is None and waiting.final
    assert waiting.reason == "its endpoint is disabled: its receiver answered 410 Gone"


async def test_five_days_of_nothing_but_failures_disable(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await send(database, made.id)

    async def fail() -> dict[UUID, str]:
        await due_again(database)
        [due] = await claim(database)
        return await outbox.mark(database, [answered(due, PENDING, 500)])

    assert await fail() == {}
    since = (await webhooks.get(database, 1, made.id)).failing_since
    assert since is not None
    await rows(database, "UPDATE webhook_endpoints SET failing_since = now() - interval '4 days 23 hours'")
    assert await fail() == {}
    await rows(database, "UPDATE webhook_endpoints SET failing_since = now() - interval '5 days'")
    assert await fail() == {made.id: "nothing but failures for five days"}
    seen = await webhooks.get(database, 1, made.id)
    assert seen.disabled_at is not None and seen.disabled_reason == "nothing but failures for five days"


async def test_a_success_in_between_ends_the_record_of_failures(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await send(database, made.id, 2)
    first, second = await claim(database)
    await outbox.mark(database, [answered(first, PENDING, None, error="no answer")])
    assert (await webhooks.get(database, 1, made.id)).failing_since is not None
    await outbox.mark(database, [answered(second, SUCCEEDED)])
    assert (await webhooks.get(database, 1, made.id)).failing_since is None


async def test_a_test_says_nothing_about_its_endpoint(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await deliveries.test(database, 1, made.id, "job.completed")
    [due] = await claim(database)
    assert due.test
    await outbox.mark(database, [answered(due, FAILED, 410)])
    assert (await webhooks.get(database, 1, made.id)).disabled_at is None


async def test_what_waits_is_signed_with_the_secrets_of_now(database: Database) -> None:
    made, first = await endpoint(database, "job.completed")
    await send(database, made.id)
    await claim(database)
    _, second = await webhooks.rotate(database, VAULT, 1, made.id, keep_old=True)
    await due_again(database)
    [due] = await claim(database)
    assert due.receiver is not None and set(due.receiver.secrets) == {first, second}


async def test_a_deleted_endpoint_gets_nothing_more(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await send(database, made.id)
    await webhooks.delete(database, 1, made.id)
    [due] = await claim(database)
    assert (due.receiver, due.reason, due.final) == (None, "its webhook was deleted", True)


async def test_without_the_key_a_delivery_waits_for_it(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await send(database, made.id)
    [due] = await outbox.claim(database, Vault(""), (), (), (), 10)
    assert due.receiver is None and not due.final
    assert due.reason == "its secrets cannot be read: LONGHAUL_SECRET_KEY is not set"


@pytest.fixture
async def ended(database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int) -> UUID:
    """A job that completed, with a webhook of its own that wants the result."""
    flags = Flags.TELLS | Flags.WEBHOOK
    [job] = await accept(new_job(flags=flags, webhook=own("job.completed", includes_result=True)))
    [claimed] = await claims.claim(database, worker, model_id, Tier.DEFAULT, 1)
    outcome = Outcome(Status.COMPLETED, 200, b'{"text":"\\ud800 done"}')
    assert await Finisher(database, lambda ids: None).finish(claimed, outcome)
    return job


async def test_a_result_goes_into_the_event_once(database: Database, ended: UUID) -> None:
    [due] = await claim(database)
    assert due.includes_result and due.receiver == outbox.Receiver(URL, {}, (SECRET,))
    included = await outbox.include_result(database, due)
    assert included is not None
    event = json.loads(included.body)
    assert event["type"] == "job.completed"
    assert event["data"] == {
        "id": f"job_{ended.hex}",
        "status": "completed",
        "response": {"status_code": 200, "body": {"text": "\ud800 done"}},
        "error": None,
    }
    assert await outbox.include_result(database, due) is None
    await due_again(database)
    [again] = await claim(database)
    assert (again.includes_result, again.body) == (False, included.body)


async def test_a_large_result_stays_out(database: Database, ended: UUID) -> None:
    await rows(database, "UPDATE results SET body = convert_to(repeat('x', 300000), 'UTF8')")
    [due] = await claim(database)
    included = await outbox.include_result(database, due)
    assert included is not None and json.loads(included.body)["data"] == {"id": f"job_{ended.hex}"}


async def test_the_tenants_default_secret_signs_where_a_webhook_brings_none(database: Database, ended: UUID) -> None:
    secret = await webhooks.rotate_default(database, VAULT, "default")
    await rows(database, "UPDATE own_webhooks SET target = %s", own("job.completed", secret=None).target)
    [due] = await claim(database)
    assert due.receiver is not None and due.receiver.secrets == (secret,)


async def test_an_endpoint_that_is_disabled_still_takes_a_test(database: Database) -> None:
    made, _ = await endpoint(database, "job.completed")
    await webhooks.update(database, VAULT, 1, made.id, Changes(disabled=True))
    await deliveries.test(database, 1, made.id, "job.completed")
    [due] = await claim(database)
    assert due.receiver is not None
