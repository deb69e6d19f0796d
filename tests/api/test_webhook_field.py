"""The field `webhook` on whatever may bring one: accepted, answered at once, stored out of sight, kept by a retry."""

import json
from typing import Any

import pytest

from jobs import events, ids, webhooks
from jobs.database import Database
from jobs.records import Flags
from jobs.secrets import Vault, new_key
from jobs.settings import Settings
from tests.api.batch_calls import asked, created
from tests.api.conftest import Client, Worker, chat
from tests.jobs.ledger import rows

CHAT = "/v1/chat/completions"
HOOK = {"url": "https://example.com/hook", "secret": "whsec_YWJj", "headers": {"X-A": "b"}}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a key, so that webhooks can be stored."""
    return settings.model_copy(update={"secret_key": new_key()})


async def flags(database: Database) -> list[Flags]:
    return [Flags(row.flags) for row in await rows(database, "SELECT flags FROM jobs ORDER BY id")]


async def test_a_request_with_a_webhook_is_answered_at_once(client: Client, database: Database, worker: Worker) -> None:
    answer = await client.post(CHAT, json=chat(webhook=HOOK))
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers
    [job] = await worker.claim()
    assert answer.headers["location"] == f"/v1/jobs/{ids.job_id(job.id)}"
    assert b"webhook" not in job.body and b"example.com" not in job.body
    assert job.flags == Flags.TELLS | Flags.WEBHOOK
    webhook = await webhooks.own(database, job.id)
    assert webhook is not None and webhook.event_types == events.JOB


async def test_what_is_submitted_for_later_may_be_told_of_and_what_is_waited_for_is_not(
    client: Client, database: Database
) -> None:
    await client.post(CHAT, json=chat(), headers={"Prefer": "respond-async"})
    await client.post("/v1/responses", json={"model": "tiny", "input": "x"}, headers={"Prefer": "respond-async"})
    assert await flags(database) == [Flags.TELLS, Flags.TELLS | Flags.RESPONSES]


async def test_a_jobs_item_brings_one_too_and_its_own_wins(client: Client, database: Database) -> None:
    inside = {"url": "https://inside.example", "secret": "x", "events": ["job.failed"]}
    item = {"endpoint": CHAT, "body": chat(webhook=inside), "webhook": {**HOOK, "events": ["job.completed"]}}
    answer = await client.post("/v1/jobs", json=[item, {**item, "webhook": None}])
    assert answer.status_code == 202
    found = [await webhooks.own(database, ids.parse_job_id(job["id"])) for job in answer.json()["data"]]
    assert [webhook and webhook.event_types for webhook in found] == [("job.completed",), ("job.failed",)]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"webhook": {**HOOK, "headers": {"Host": "x"}}}, "webhook.headers.Host"),
        ({"webhook": "https://example.com"}, "webhook.secret"),
        ({"body": chat(webhook="http://x.example")}, "body.webhook"),
        ({"body": chat(webhook="https://example.com")}, "body.webhook.secret"),
    ],
)
async def test_an_items_fault_is_named_where_it_stands(client: Client, fields: dict[str, Any], param: str) -> None:
    answer = await client.post("/v1/jobs", json={"endpoint": CHAT, "body": chat(), **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_retry_keeps_the_webhook(client: Client, database: Database, worker: Worker) -> None:
    first = (await client.post(CHAT, json=chat(webhook=HOOK))).json()
    await worker.answer()
    again = (await client.post(f"/v1/jobs/{first['id']}/retry")).json()
    before, after = [await webhooks.own(database, ids.parse_job_id(job["id"])) for job in (first, again)]
    assert before is not None and before == after
    assert await flags(database) == [Flags.TELLS | Flags.WEBHOOK] * 2


async def test_a_key_that_comes_again_finds_its_job_only_with_the_same_webhook(
    client: Client, database: Database
) -> None:
    elsewhere = {**HOOK, "url": "https://elsewhere.example/"}
    key = {"Idempotency-Key": "k"}
    item = {"endpoint": CHAT, "body": chat(), "idempotency_key": "of an item"}
    first = (await client.post(CHAT, json=chat(webhook=HOOK), headers=key)).json()
    assert (await client.post(CHAT, json=chat(webhook=HOOK), headers=key)).json()["id"] == first["id"]
    assert (await client.post(CHAT, json=chat(webhook=elsewhere), headers=key)).status_code == 422
    assert (await client.post(CHAT, json=chat(), headers=key)).status_code == 422
    array = (await client.post("/v1/jobs", json=[{**item, "webhook": HOOK}] * 2)).json()["data"]
    assert array[0]["id"] == array[1]["id"]
    assert (await client.post("/v1/jobs", json=[{**item, "webhook": elsewhere}])).status_code == 422
    stored = await rows(database, "SELECT subject_id FROM own_webhooks ORDER BY subject_id")
    assert [ids.job_id(row.subject_id) for row in stored] == [first["id"], array[0]["id"]]


@pytest.mark.parametrize("name", ["webhook", "callback_url"])
async def test_a_batch_brings_one_by_either_name(client: Client, database: Database, name: str) -> None:
    made = await created(client, asked(**{name: HOOK}))
    batch = ids.parse("batch_", made["id"], "")
    webhook = await webhooks.own(database, batch)
    assert webhook is not None
    assert webhook.event_types == ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")


async def test_a_callback_url_is_a_url_where_the_tenant_has_a_secret(
    client: Client, database: Database, settings: Settings
) -> None:
    url = "https://example.com/done"
    answer = await client.post("/v1/batches", json=asked(callback_url=url))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "callback_url.secret")
    vault = Vault(settings.secret_key)
    await webhooks.rotate_default(database, vault, "acme")
    made = await created(client, asked(callback_url=url))
    webhook = await webhooks.own(database, ids.parse("batch_", made["id"], ""))
    assert webhook is not None
    assert json.loads(vault.open(webhook.target)) == {"url": url, "secret": None, "headers": {}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"webhook": HOOK, "callback_url": HOOK}, "callback_url"),
        ({"callback_url": {**HOOK, "include": "result"}}, "callback_url.include"),
        ({"webhook": {**HOOK, "events": ["job.failed"]}}, "webhook.events[0]"),
        ({"webhook": "ftp://example.com"}, "webhook"),
    ],
)
async def test_a_batchs_fault_is_named(client: Client, fields: dict[str, Any], param: str) -> None:
    answer = await client.post("/v1/batches", json=asked(**fields))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
