"""Deliveries as receivers see them: signed, once where all goes well, and never late because of another receiver."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias
from uuid import UUID

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from standardwebhooks import Webhook

from control import deliver
from control.deliver import Courier
from control.egress import Egress
from control.lanes import AT_ONCE
from jobs import deliveries, webhooks
from jobs.database import Database
from jobs.deliveries import Delivery, DeliveryStatus
from jobs.traces import Traces
from jobs.webhook_url import Reach
from tests.jobs.conftest import Outage
from tests.jobs.hooks import SECRET, VAULT, endpoint, own, send
from tests.jobs.ledger import rows, value
from tests.receiver import Hit, Receiver, Reply, receiving
from tests.until import until

Running: TypeAlias = Callable[[], AbstractAsyncContextManager[Courier]]


@pytest.fixture
def courier(database: Database) -> Running:
    """`async with courier() as it:` a courier at work, which may reach this machine."""

    @asynccontextmanager
    async def running() -> AsyncIterator[Courier]:
        async with Egress(Reach.of("127.0.0.1", "443")) as egress:
            it = Courier(database, VAULT, egress, jitter=0)
            task = asyncio.create_task(it.run())
            yield it
            task.cancel()
            await asyncio.wait([task])

    return running


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as it:
        yield it


async def becomes(database: Database, delivery: UUID, status: DeliveryStatus, attempts: int = 1) -> Delivery:
    """The delivery, once it has this status and so many attempts."""
    found: list[Delivery] = []

    async def so() -> bool:
        found[:] = [await deliveries.get(database, 1, delivery)]
        return found[0].status is status and len(found[0].attempts) == attempts

    await until(so)
    return found[0]


async def due_again(database: Database, courier: Courier) -> None:
    """Time passes."""
    await rows(database, "UPDATE deliveries SET next_at = now() WHERE status = 'pending'")
    courier.wake()


async def test_a_delivery_arrives_as_standard_webhooks_has_it(
    database: Database, courier: Running, receiver: Receiver
) -> None:
    made, secret = await endpoint(
        database, "job.completed", url=receiver.url("/hook?a=b"), headers={"Authorization": "Bearer gate"}
    )
    async with courier():
        [identity] = await send(database, made.id)
        seen = await becomes(database, identity, DeliveryStatus.SUCCEEDED)
    [hit] = receiver.hits
    assert hit.path == "/hook?a=b"
    assert hit.headers["content-type"] == "application/json"
    assert hit.headers["authorization"] == "Bearer gate"
    assert hit.headers["webhook-id"] == f"wh_{identity.hex}"
    assert hit.headers["user-agent"].startswith("Longhaul/")
    assert Webhook(secret).verify(hit.body.decode(), hit.headers)["id"] == seen.event_id
    [attempt] = seen.attempts
    assert (attempt.status_code, attempt.error, attempt.answer) == (200, None, b"{}")


async def test_an_attempt_goes_on_with_the_trace_of_the_request(database: Database, receiver: Receiver) -> None:
    made, _ = await endpoint(database, "job.completed", url=receiver.url())
    exporter = InMemorySpanExporter()
    traces = Traces("control", exporter)
    [traced, other] = await send(database, made.id, 2)
    await rows(
        database,
        "INSERT INTO details (job_id, traceparent) SELECT subject_id, %s FROM deliveries WHERE id = %s",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        traced,
    )
    async with Egress(Reach.of("127.0.0.1", "443")) as egress:
        task = asyncio.create_task(Courier(database, VAULT, egress, 0, traces).run())
        for identity in (traced, other):
            await becomes(database, identity, DeliveryStatus.SUCCEEDED)
        task.cancel()
        await asyncio.wait([task])
    traces.close()
    [span] = exporter.get_finished_spans()
    told = {hit.headers["webhook-id"]: hit.headers.get("traceparent") for hit in receiver.hits}
    assert told[f"wh_{traced.hex}"] == f"00-0af7651916cd43dd8448eb211c80319c-{span.context.span_id:016x}-01"
    assert told[f"wh_{other.hex}"] is None
    assert span.parent is not None and f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert dict(span.attributes or {})["http.response.status_code"] == 200


async def test_a_failure_is_tried_again_with_the_same_id_and_body_and_a_new_signature(
    database: Database, courier: Running, receiver: Receiver
) -> None:
    made, secret = await endpoint(database, "job.completed", url=receiver.url())
    receiver.answer = lambda hit: Reply(500, body=b"not today")
    async with courier() as it:
        [identity] = await send(database, made.id)
        seen = await becomes(database, identity, DeliveryStatus.PENDING)
        assert seen.attempts[0].answer == b"not today"
        left = await value(database, "SELECT extract(epoch FROM next_at - now())::float8 FROM deliveries")
        assert 3 < left <= 5
        receiver.answer = lambda hit: Reply()
        await asyncio.sleep(1)  # a signature's time is in whole seconds
        await due_again(database, it)
        await becomes(database, identity, DeliveryStatus.SUCCEEDED, attempts=2)
    first, second = receiver.hits
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    for hit in (first, second):
        Webhook(secret).verify(hit.body.decode(), hit.headers)


async def test_what_nobody_takes_fails_after_ten_attempts(
    database: Database, courier: Running, receiver: Receiver
) -> None:
    made, _ = await endpoint(database, "job.completed", url=receiver.url())
    receiver.answer = lambda hit: Reply(404)
    async with courier() as it:
        [identity] = await send(database, made.id)
        for attempts in range(1, 10):
            await becomes(database, identity, DeliveryStatus.PENDING, attempts)
            await due_again(database, it)
        await becomes(database, identity, DeliveryStatus.FAILED, attempts=10)
    assert len({(hit.headers["webhook-id"], hit.body) for hit in receiver.hits}) == 1


async def test_both_secrets_of_a_rotation_sign_what_waited(
    database: Database, courier: Running, receiver: Receiver
) -> None:
    made, old = await endpoint(database, "job.completed", url=receiver.url())
    receiver.answer = lambda hit: Reply(503)
    async with courier() as it:
        [identity] = await send(database, made.id)
        await becomes(database, identity, DeliveryStatus.PENDING)
        _, new = await webhooks.rotate(database, VAULT, 1, made.id, keep_old=True)
        receiver.answer = lambda hit: Reply()
        await due_again(database, it)
        await becomes(database, identity, DeliveryStatus.SUCCEEDED, attempts=2)
    for secret in (old, new):
        Webhook(secret).verify(receiver.hits[1].body.decode(), receiver.hits[1].headers)


async def test_a_receiver_that_is_gone_is_disabled(database: Database, courier: Running, receiver: Receiver) -> None:
    made, _ = await endpoint(database, "job.completed", url=receiver.url())
    receiver.answer = lambda hit: Reply(410)
    async with courier() as it:
        [first] = await send(database, made.id)
        await becomes(database, first, DeliveryStatus.FAILED)
        [second] = await send(database, made.id)
        it.wake()
        seen = await becomes(database, second, DeliveryStatus.FAILED)
    assert len(receiver.hits) == 1
    assert seen.attempts[0].error == "its endpoint is disabled: its receiver answered 410 Gone"
    assert seen.attempts[0].latency_ms is None


async def test_a_redirect_is_a_failure_and_not_followed(
    database: Database, courier: Running, receiver: Receiver
) -> None:
    made, _ = await endpoint(database, "job.completed", url=receiver.url("/first"))
    receiver.answer = lambda hit: Reply(307, {"location": receiver.url("/second")})
    async with courier():
        [identity] = await send(database, made.id)
        seen = await becomes(database, identity, DeliveryStatus.PENDING)
    assert [hit.path for hit in receiver.hits] == ["/first"]
    assert seen.attempts[0].error == "a redirect is not followed"


async def test_an_address_that_may_not_be_reached_fails_with_the_reason(database: Database, courier: Running) -> None:
    made, _ = await endpoint(database, "job.completed", url="https://10.0.0.1/")
    async with courier():
        [identity] = await send(database, made.id)
        seen = await becomes(database, identity, DeliveryStatus.PENDING)
    [attempt] = seen.attempts
    assert attempt.status_code is None
    assert attempt.error is not None and "not a public address" in attempt.error


async def test_a_jobs_own_webhook_is_signed_with_its_own_secret(
    database: Database, courier: Running, receiver: Receiver
) -> None:
    webhook = own("job.completed", url=receiver.url(), headers={"X-Gate": "open"})
    made, _ = await endpoint(database, "job.completed", url="https://example.com")
    [identity] = await send(database, made.id)
    await rows(database, "UPDATE deliveries SET endpoint_id = NULL, lane = %s", webhook.lane)
    await rows(
        database,
        "INSERT INTO own_webhooks SELECT subject_id, %s, '{job.completed}', false, %s FROM deliveries",
        webhook.lane,
        webhook.target,
    )
    async with courier():
        await becomes(database, identity, DeliveryStatus.SUCCEEDED)
    [hit] = receiver.hits
    assert hit.headers["x-gate"] == "open"
    Webhook(SECRET).verify(hit.body.decode(), hit.headers)


async def test_no_more_than_four_go_to_one_receiver_at_once(
    database: Database, courier: Running, receiver: Receiver
) -> None:
    made, _ = await endpoint(database, "job.completed", url=receiver.url())
    receiver.answer = lambda hit: Reply(seconds=0.02)
    async with courier() as it:
        sent = await send(database, made.id, 50)
        it.wake()
        await until(lambda: len(receiver.hits) == 50)
        await becomes(database, sent[-1], DeliveryStatus.SUCCEEDED)
    assert receiver.most_at_once == AT_ONCE
    assert len({hit.headers["webhook-id"] for hit in receiver.hits}) == 50


async def test_two_couriers_share_the_work(database: Database, courier: Running, receiver: Receiver) -> None:
    made = [(await endpoint(database, "job.completed", url=receiver.url(f"/{number}")))[0] for number in range(10)]
    async with courier() as one, courier() as other:
        for each in made:
            await send(database, each.id, 50)
        one.wake()
        other.wake()

        async def nothing_waits() -> bool:
            return bool(await value(database, "SELECT count(*) = 0 FROM deliveries WHERE status = 'pending'"))

        await until(nothing_waits)
    assert len(receiver.hits) == len({hit.headers["webhook-id"] for hit in receiver.hits}) == 500


async def test_a_dead_receiver_delays_nobody(database: Database, courier: Running, receiver: Receiver) -> None:
    dead = [(await endpoint(database, "job.completed", url=receiver.url(f"/dead/{n}")))[0] for n in range(20)]
    well, _ = await endpoint(database, "job.completed", url=receiver.url("/well"))
    receiver.answer = lambda hit: Reply(never=hit.path.startswith("/dead"))
    async with courier() as it:
        for each in dead:
            await send(database, each.id, 10)
        it.wake()
        await until(lambda: len(receiver.hits) == 20 * AT_ONCE)
        began = time.monotonic()
        [identity] = await send(database, well.id)
        it.wake()
        await becomes(database, identity, DeliveryStatus.SUCCEEDED)
        assert time.monotonic() - began < 1
    assert receiver.most_at_once <= 20 * AT_ONCE + 1


async def test_a_tenants_dead_receivers_delay_no_other_tenant(
    database: Database, courier: Running, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "_MOST_IN_HAND", 40)
    monkeypatch.setattr(deliver, "_COMPANY", 8)
    other = await value(database, "INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    well, _ = await endpoint(database, "job.completed", tenant=other, url=receiver.url("/well"))
    receiver.answer = lambda hit: Reply(never=hit.path != "/well")
    async with courier() as it:
        for number in range(100):
            dead, _ = await endpoint(database, "job.completed", url=receiver.url(f"/dead/{number}"))
            await send(database, dead.id)
        it.wake()
        await until(lambda: len(receiver.hits) > 20)
        it.wake()
        await asyncio.sleep(0.3)
        assert len(receiver.hits) < 40
        [identity] = await send(database, well.id)
        it.wake()
        await until(lambda: any(hit.path == "/well" for hit in receiver.hits), 5)
    assert (await deliveries.get(database, other, identity)).status is DeliveryStatus.SUCCEEDED


async def test_a_receiver_in_trouble_is_left_alone(database: Database, courier: Running, receiver: Receiver) -> None:
    made, _ = await endpoint(database, "job.completed", url=receiver.url())
    receiver.answer = lambda hit: Reply(503)
    async with courier() as it:
        await send(database, made.id, 30)
        it.wake()

        async def all_put_off() -> bool:
            return bool(
                await value(database, "SELECT count(*) FROM deliveries WHERE lease_token > 0 AND next_at > now()") >= 8
            )

        await until(all_put_off)
        await asyncio.sleep(0.3)
        it.wake()
    assert len(receiver.hits) <= 2 * AT_ONCE


async def test_a_courier_that_ends_gives_back_what_it_did_not_send(
    database: Database, courier: Running, receiver: Receiver
) -> None:
    made, _ = await endpoint(database, "job.completed", url=receiver.url())
    receiver.answer = lambda hit: Reply(seconds=0.5)
    async with courier() as it:
        await send(database, made.id, 8)
        it.wake()
        await until(lambda: len(receiver.hits) == AT_ONCE)
    states = await rows(database, "SELECT status::text, next_at <= now() AS due FROM deliveries")
    assert sorted((row.status, row.due) for row in states) == [("pending", True)] * 4 + [("succeeded", None)] * 4


async def test_it_outlives_an_outage_of_the_database(
    database: Database, courier: Running, receiver: Receiver, outage: Outage
) -> None:
    made, _ = await endpoint(database, "job.completed", url=receiver.url())
    release = asyncio.Event()

    def slowly(hit: Hit) -> Reply:
        release.set()
        return Reply(seconds=0.3)

    receiver.answer = slowly
    async with courier() as it:
        [identity] = await send(database, made.id)
        it.wake()
        await release.wait()
        async with outage():
            await asyncio.sleep(0.6)
        await becomes(database, identity, DeliveryStatus.SUCCEEDED)
        [second] = await send(database, made.id)
        await becomes(database, second, DeliveryStatus.SUCCEEDED)
    assert len(receiver.hits) == 2


async def test_a_delivery_can_be_made_again(database: Database, courier: Running, receiver: Receiver) -> None:
    made, _ = await endpoint(database, "job.completed", url=receiver.url())
    async with courier() as it:
        [identity] = await send(database, made.id)
        await becomes(database, identity, DeliveryStatus.SUCCEEDED)
        await deliveries.redeliver(database, 1, identity)
        it.wake()
        await becomes(database, identity, DeliveryStatus.SUCCEEDED, attempts=2)
    first, second = receiver.hits
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
