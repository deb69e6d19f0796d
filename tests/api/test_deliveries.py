"""Deliveries of an endpoint, a job, a batch: listed with every attempt, found by their tenant alone, sent again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from openai import OpenAI

from control.deliver import Courier
from control.egress import Egress
from jobs import ids, keys
from jobs.database import Database
from jobs.secrets import Vault
from jobs.settings import Settings
from tests.api.batch_calls import created
from tests.api.conftest import Client, Worker, chat, client_of
from tests.jobs.hooks import KEY, SECRET
from tests.receiver import Receiver, Reply, receiving
from tests.until import until

CHAT = "/v1/chat/completions"
NOBODY = ids.delivery_id(ids.new())


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a key to store secrets with, and this machine within reach."""
    return settings.model_copy(update={"secret_key": KEY, "webhook_allow": "127.0.0.1"})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as it:
        yield it


@pytest.fixture(autouse=True)
async def courier(database: Database, settings: Settings) -> AsyncIterator[Courier]:
    """Control's sender at work."""
    async with Egress(settings.webhook_reach) as egress:
        it = Courier(database, Vault(settings.secret_key), egress, jitter=0)
        task = asyncio.create_task(it.run())
        yield it
        task.cancel()
        await asyncio.wait([task])


async def told(client: Client, path: str, status: str = "succeeded", attempts: int = 1) -> dict[str, Any]:
    """The only delivery that is listed at a path, once it has this status and so many attempts."""
    found: list[dict[str, Any]] = []

    async def so() -> bool:
        found[:] = (await client.get(f"{path}/deliveries")).json()["data"]
        return [(one["status"], len(one["attempts"])) for one in found] == [(status, attempts)]

    await until(so)
    return found[0]


async def ended(client: Client, worker: Worker, receiver: Receiver, **webhook: Any) -> str:
    """The path of a job that brought a webhook and has ended."""
    asked = chat(webhook={"url": receiver.url("/own"), "secret": SECRET, **webhook})
    job = (await client.post(CHAT, json=asked)).json()
    await worker.answer()
    return f"/v1/jobs/{job['id']}"


async def finish(database: Database, batch: str) -> None:
    """End a batch of no lines as control does."""
    tokens = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"), 0)
    identity = ids.parse("batch_", batch, "")
    assert await database.run("batch_finish", id=identity, output=None, errors=None, **tokens)


async def listening(client: Client, receiver: Receiver, *event_types: str) -> str:
    """The path of a new endpoint."""
    fields = {"name": "ci", "url": receiver.url("/endpoint"), "event_types": event_types}
    return f"/v1/webhook_endpoints/{(await client.post('/v1/webhook_endpoints', json=fields)).json()['id']}"


async def test_a_jobs_delivery_is_listed_with_its_attempt(client: Client, worker: Worker, receiver: Receiver) -> None:
    receiver.answer = lambda hit: Reply(201, body=b"thanks")
    path = await ended(client, worker, receiver)
    delivery = await told(client, path)
    [hit] = receiver.hits
    event = OpenAI(api_key="x").webhooks.unwrap(hit.body, hit.headers, secret=SECRET)
    assert delivery["id"] == hit.headers["webhook-id"]
    assert delivery["event"] == {
        "id": event.id,
        "type": "job.completed",
        "data": {"id": path.removeprefix("/v1/jobs/")},
    }
    assert delivery["event"]["data"] == hit.event["data"]
    assert (delivery["object"], delivery["webhook_endpoint_id"], delivery["test"]) == ("webhook_delivery", None, False)
    assert delivery["next_attempt_at"] is None
    [attempt] = delivery["attempts"]
    assert (attempt["status_code"], attempt["error"], attempt["response_body"]) == (201, None, "thanks")
    assert attempt["latency_ms"] >= 0 and attempt["attempted_at"] >= delivery["created_at"]


async def test_an_event_carries_the_result_where_that_was_asked_for(
    client: Client, worker: Worker, receiver: Receiver
) -> None:
    path = await ended(client, worker, receiver, include="result")
    await told(client, path)
    job = (await client.get(path)).json()
    data = receiver.hits[0].event["data"]
    assert (data["status"], data["response"]["body"]) == ("completed", job["response"]["body"])


async def test_a_failed_attempt_says_why_and_when_the_next_is(
    client: Client, worker: Worker, receiver: Receiver
) -> None:
    receiver.answer = lambda hit: Reply(500, body=b"\xff not today")
    delivery = await told(client, await ended(client, worker, receiver), "pending")
    assert delivery["attempts"][0]["status_code"] == 500
    assert delivery["attempts"][0]["response_body"] == "\ufffd not today"
    assert delivery["next_attempt_at"] >= delivery["created_at"]


async def test_an_endpoint_lists_what_it_was_told(client: Client, worker: Worker, receiver: Receiver) -> None:
    path = await listening(client, receiver, "job.failed", "response.completed")
    await client.post(CHAT, json=chat(), headers={"Prefer": "respond-async"})
    await worker.answer()
    body = {"model": "tiny", "input": "x"}
    job = (await client.post("/v1/responses", json=body, headers={"Prefer": "respond-async"})).json()
    await worker.answer()
    delivery = await told(client, path)
    assert delivery["webhook_endpoint_id"] == path.removeprefix("/v1/webhook_endpoints/")
    assert delivery["event"]["type"] == "response.completed"
    assert delivery["event"]["data"] == receiver.hits[0].event["data"] == {"id": job["id"].replace("job_", "resp_")}
    assert (await told(client, f"/v1/jobs/{job['id']}"))["id"] == delivery["id"]


async def test_a_batch_lists_what_was_told_of_it(client: Client, receiver: Receiver, database: Database) -> None:
    endpoint = await listening(client, receiver, "batch.cancelled")
    batch = (await created(client))["id"]
    path = f"/v1/batches/{batch}"
    await client.post(f"{path}/cancel")
    await finish(database, batch)
    delivery = await told(client, path)
    assert (await told(client, endpoint)) == delivery
    assert delivery["event"]["type"] == "batch.cancelled"
    assert delivery["event"]["data"] == receiver.hits[0].event["data"] == {"id": batch}
    assert (await client.post(f"{path}/deliveries/{delivery['id']}/redeliver")).status_code == 200
    await told(client, path, attempts=2)


async def test_deliveries_go_page_by_page_newest_first(client: Client, worker: Worker, receiver: Receiver) -> None:
    path = await listening(client, receiver, "job.completed")
    for _ in range(3):
        await client.post(CHAT, json=chat(), headers={"Prefer": "respond-async"})
        await worker.answer()
    first = (await client.get(f"{path}/deliveries?limit=2")).json()
    second = (await client.get(f"{path}/deliveries?limit=2&after={first['last_id']}")).json()
    found = [delivery["id"] for delivery in (*first["data"], *second["data"])]
    assert len(found) == 3 and found == sorted(found, reverse=True)
    assert (first["has_more"], second["has_more"]) == (True, False)
    refused = await client.get(f"{path}/deliveries?after=x")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")


async def test_what_arrived_is_sent_again_under_the_same_id(client: Client, worker: Worker, receiver: Receiver) -> None:
    path = await ended(client, worker, receiver)
    delivery = await told(client, path)
    again = await client.post(f"{path}/deliveries/{delivery['id']}/redeliver")
    assert (again.status_code, again.json()["status"]) == (200, "pending")
    await told(client, path, attempts=2)
    first, second = receiver.hits
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


async def test_what_a_disabled_endpoint_missed_is_sent_again_once_it_is_enabled(
    client: Client, worker: Worker, receiver: Receiver
) -> None:
    receiver.answer = lambda hit: Reply(410)
    path = await listening(client, receiver, "job.completed")
    await client.post(CHAT, json=chat(), headers={"Prefer": "respond-async"})
    await worker.answer()
    delivery = await told(client, path, "failed")
    refused = await client.post(f"{path}/deliveries/{delivery['id']}/redeliver")
    assert refused.status_code == 409
    assert "410 Gone" in refused.json()["error"]["message"]
    assert (await client.get(path)).json()["disabled_reason"] == "its receiver answered 410 Gone"
    receiver.answer = lambda hit: Reply(200)
    await client.post(path, json={"disabled": False})
    assert (await client.post(f"{path}/deliveries/{delivery['id']}/redeliver")).status_code == 200
    await told(client, path, attempts=2)


async def test_a_delivery_is_found_where_it_belongs_only(
    client: Client, worker: Worker, receiver: Receiver, app: FastAPI, database: Database
) -> None:
    path = await ended(client, worker, receiver)
    delivery = (await told(client, path))["id"]
    endpoint = await listening(client, receiver, "job.failed")
    other = await ended(client, worker, receiver)
    for missing in (
        f"{endpoint}/deliveries/{delivery}",
        f"{other}/deliveries/{delivery}",
        f"{path}/deliveries/{NOBODY}",
    ):
        answer = await client.post(f"{missing}/redeliver")
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "id")
    async with client_of(app, await keys.create(database, "other", "test")) as stranger:
        for strange in (path, endpoint):
            assert (await stranger.get(f"{strange}/deliveries")).status_code == 404
        assert (await stranger.post(f"{path}/deliveries/{delivery}/redeliver")).status_code == 404


@pytest.mark.parametrize("path", ["/v1/jobs/job_1", f"/v1/batches/batch_{'0' * 32}", "/v1/webhook_endpoints/x"])
async def test_what_does_not_exist_has_no_deliveries(client: Client, path: str) -> None:
    assert (await client.get(f"{path}/deliveries")).status_code == 404
