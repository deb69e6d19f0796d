"""`/v1/webhook_endpoints`, as OpenAI's SDK drives it: made, changed, given new secrets, tested, deleted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import openai
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from control.deliver import Courier
from control.egress import Egress
from jobs import events, ids, keys
from jobs.database import Database
from jobs.secrets import Vault
from jobs.settings import Settings
from longhaul.embedded import free_port
from tests.api.conftest import Client, Key, client_of, running, served, url_of
from tests.jobs.hooks import KEY, send
from tests.receiver import Receiver, Reply, receiving
from tests.until import until

PATH: Final = "/v1/webhook_endpoints"
NOBODY: Final = ids.endpoint_id(ids.new())
FIELDS: Final = {"name": "ci", "url": "https://example.com/hook", "event_types": ["batch.completed"]}
EXTRA: Final = {"header_names", "disabled", "disabled_at", "disabled_reason", "failing_since"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a key to store secrets with, and this machine within reach."""
    return settings.model_copy(update={"secret_key": KEY, "webhook_allow": "127.0.0.1"})


@pytest.fixture
async def sdk(app: FastAPI, key: Key) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's SDK, which here refuses what is not exactly of its types."""
    async with (
        served(app) as server,
        AsyncOpenAI(base_url=f"{url_of(server)}/v1", api_key=key, _strict_response_validation=True) as sdk,
    ):
        yield sdk


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as it:
        yield it


@pytest.fixture
async def courier(database: Database, settings: Settings) -> AsyncIterator[Courier]:
    """Control's sender at work."""
    async with Egress(settings.webhook_reach) as egress:
        it = Courier(database, Vault(settings.secret_key), egress, jitter=0)
        task = asyncio.create_task(it.run())
        yield it
        task.cancel()
        await asyncio.wait([task])


async def made(client: Client, **fields: Any) -> dict[str, Any]:
    """A new endpoint, with its secret."""
    answer = await client.post(PATH, json={**FIELDS, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_the_sdk_drives_an_endpoints_whole_life(sdk: AsyncOpenAI) -> None:
    new = await sdk.webhooks.create(name="ci", url="https://example.com/hook", event_types=["batch.completed"])
    assert new.id.startswith("whe_")
    assert new.signing_secret.startswith("whsec_")
    assert new.signing_secret_hint == f"whsec_****{new.signing_secret[-4:]}"

    changed = await sdk.webhooks.update(new.id, name="prod", event_types=["batch.failed", "response.completed"])
    assert (changed.name, changed.url, changed.event_types) == ("prod", new.url, ["batch.failed", "response.completed"])
    assert await sdk.webhooks.retrieve(new.id) == changed
    assert [endpoint async for endpoint in sdk.webhooks.list(limit=1)] == [changed]

    rotated = await sdk.webhooks.rotate_secret(new.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret not in ("", new.signing_secret)
    assert (await sdk.webhooks.rotate_secret(new.id)).signing_secret != rotated.signing_secret

    deleted = await sdk.webhooks.delete(new.id)
    assert deleted.to_dict() == {"id": new.id, "object": "webhook_endpoint.deleted", "deleted": True}
    with pytest.raises(openai.NotFoundError):
        await sdk.webhooks.retrieve(new.id)


async def test_the_sdk_lists_the_types_of_events(sdk: AsyncOpenAI) -> None:
    assert (await sdk.webhooks.event_types.list()).data == list(events.TYPES)


async def test_an_endpoint_has_openais_fields_and_ours(client: Client) -> None:
    endpoint = await made(client, headers={"Authorization": "Bearer gate"})
    assert endpoint.pop("signing_secret")
    theirs = {"id", "object", "created_at", "updated_at", "name", "url", "event_types", "signing_secret_hint"}
    assert endpoint.keys() == theirs | EXTRA
    assert (endpoint["header_names"], endpoint["disabled"]) == (["Authorization"], False)
    assert (await client.get(f"{PATH}/{endpoint['id']}")).json() == endpoint


async def test_secrets_and_headers_are_shown_to_nobody_again(client: Client) -> None:
    endpoint = await made(client, headers={"Authorization": "Bearer hidden"})
    path = f"{PATH}/{endpoint['id']}"
    for answer in (await client.get(PATH), await client.get(path), await client.post(path, json={"name": "x"})):
        assert endpoint["signing_secret"] not in answer.text
        assert "hidden" not in answer.text


async def test_a_list_goes_page_by_page_newest_first(client: Client) -> None:
    ids_made = [(await made(client))["id"] for _ in range(3)]
    first = (await client.get(f"{PATH}?limit=2")).json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == ([ids_made[2], ids_made[1]], True)
    second = (await client.get(f"{PATH}?limit=2&after={first['last_id']}")).json()
    assert ([one["id"] for one in second["data"]], second["has_more"]) == ([ids_made[0]], False)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"name": None}, "name", "missing_required_parameter"),
        ({"url": None}, "url", "missing_required_parameter"),
        ({"url": "http://example.com"}, "url", "invalid_url"),
        ({"url": "https://10.0.0.1/"}, "url", "invalid_url"),
        ({"event_types": None}, "event_types", "missing_required_parameter"),
        ({"event_types": []}, "event_types", "empty_array"),
        ({"event_types": ["batch.completed", "video.completed"]}, "event_types[1]", "invalid_value"),
        ({"headers": {"webhook-id": "x"}}, "headers.webhook-id", "unsupported_parameter"),
        ({"secret": "x"}, "secret", "unknown_parameter"),
    ],
)
async def test_a_fault_is_named(client: Client, fields: dict[str, Any], param: str, code: str) -> None:
    answer = await client.post(PATH, json={**FIELDS, **fields})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("", {"url": "ftp://x"}, "url"),
        ("", {"event_types": "all"}, "event_types"),
        ("", {"disabled": 1}, "disabled"),
        ("", {"id": "x"}, "id"),
        ("/rotate_secret", {"keep_old_secret_active_for_24_hours": "yes"}, "keep_old_secret_active_for_24_hours"),
        ("/test", {}, "event_type"),
        ("/test", {"event_type": "video.completed"}, "event_type"),
    ],
)
async def test_a_fault_of_a_change_is_named(client: Client, path: str, fields: dict[str, Any], param: str) -> None:
    endpoint = await made(client)
    answer = await client.post(f"{PATH}/{endpoint['id']}{path}", json=fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_headers_are_replaced_and_taken_away(client: Client) -> None:
    path = f"{PATH}/{(await made(client, headers={'X-A': '1', 'X-B': '2'}))['id']}"
    assert (await client.post(path, json={"headers": {"X-C": "3"}})).json()["header_names"] == ["X-C"]
    assert (await client.post(path, json={"headers": None})).json()["header_names"] == []


async def test_an_endpoint_is_disabled_and_enabled_by_its_owner(client: Client) -> None:
    path = f"{PATH}/{(await made(client))['id']}"
    off = (await client.post(path, json={"disabled": True})).json()
    assert (off["disabled"], off["disabled_reason"]) == (True, "by its owner")
    on = (await client.post(path, json={"disabled": False})).json()
    assert (on["disabled"], on["disabled_at"], on["disabled_reason"]) == (False, None, None)


async def test_a_secret_is_rotated_without_a_body(client: Client) -> None:
    endpoint = await made(client)
    answer = await client.post(f"{PATH}/{endpoint['id']}/rotate_secret")
    assert answer.json()["signing_secret"] != endpoint["signing_secret"]


@pytest.mark.parametrize("identity", [NOBODY, "whe_1", "job_" + "0" * 32], ids=["unknown", "no id", "a job's"])
async def test_what_does_not_exist_is_not_found(client: Client, identity: str) -> None:
    test = {"event_type": "batch.completed"}
    for method, path, body in (
        ("GET", "", None),
        ("POST", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/rotate_secret", {}),
        ("POST", "/test", test),
    ):
        answer = await client.request(method, f"{PATH}/{identity}{path}", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "id")
        assert identity in answer.json()["error"]["message"]


async def test_another_tenants_endpoint_does_not_exist(client: Client, app: FastAPI, database: Database) -> None:
    endpoint = await made(client)
    async with client_of(app, await keys.create(database, "other", "test")) as other:
        assert (await other.get(f"{PATH}/{endpoint['id']}")).status_code == 404
        assert (await other.post(f"{PATH}/{endpoint['id']}/rotate_secret")).status_code == 404
        assert (await other.delete(f"{PATH}/{endpoint['id']}")).status_code == 404
        assert (await other.get(PATH)).json()["data"] == []


async def test_without_a_key_on_the_server_secrets_are_refused_by_name(settings: Settings, key: Key) -> None:
    async with running(settings.model_copy(update={"secret_key": ""})) as app, client_of(app, key) as client:
        answer = await client.post(PATH, json=FIELDS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "secret_key_missing")
    assert "LONGHAUL_SECRET_KEY" in answer.json()["error"]["message"]


@pytest.mark.usefixtures("courier")
async def test_a_test_arrives_at_once_and_the_receivers_answer_comes_back(sdk: AsyncOpenAI, receiver: Receiver) -> None:
    receiver.answer = lambda hit: Reply(418)
    endpoint = await sdk.webhooks.create(name="ci", url=receiver.url(), event_types=["batch.completed"])
    result = await sdk.webhooks.test(endpoint.id, event_type="response.failed")
    assert result.to_dict() == {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": endpoint.id,
        "event_type": "response.failed",
        "status_code": 418,
        "success": True,
    }
    [hit] = receiver.hits
    event = sdk.webhooks.unwrap(hit.body, hit.headers, secret=endpoint.signing_secret)
    assert event.type == "response.failed"
    assert (await sdk.webhooks.retrieve(endpoint.id)).updated_at == endpoint.updated_at


@pytest.mark.usefixtures("courier")
async def test_both_secrets_of_a_rotation_verify_for_a_day(sdk: AsyncOpenAI, receiver: Receiver) -> None:
    endpoint = await sdk.webhooks.create(name="ci", url=receiver.url(), event_types=["batch.completed"])
    rotated = await sdk.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
    await sdk.webhooks.test(endpoint.id, event_type="batch.completed")
    [hit] = receiver.hits
    for secret in (endpoint.signing_secret, rotated.signing_secret):
        assert sdk.webhooks.unwrap(hit.body, hit.headers, secret=secret).type == "batch.completed"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        sdk.webhooks.unwrap(hit.body, hit.headers, secret="whsec_" + "A" * 44)


@pytest.mark.usefixtures("courier")
async def test_a_test_that_reaches_nobody_says_why(client: Client, receiver: Receiver) -> None:
    endpoint = await made(client, url=f"http://127.0.0.1:{free_port()}/")
    answer = await client.post(f"{PATH}/{endpoint['id']}/test", json={"event_type": "job.completed"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "url", "webhook_not_delivered")
    assert "connect" in error["message"]


@pytest.mark.usefixtures("courier")
async def test_a_receiver_that_is_left_alone_is_tested_all_the_same(
    client: Client, database: Database, receiver: Receiver
) -> None:
    """Who has mended it wants to know now, not when its circuit breaker closes."""
    receiver.answer = lambda hit: Reply(503)
    endpoint = await made(client, url=receiver.url())
    await send(database, ids.parse("whe_", endpoint["id"], ""), 8)
    await until(lambda: len(receiver.hits) >= 4)
    receiver.answer = lambda hit: Reply(200)
    answer = await client.post(f"{PATH}/{endpoint['id']}/test", json={"event_type": "job.completed"})
    assert answer.json()["status_code"] == 200


async def test_a_test_that_nobody_sends_is_kept_and_not_repeated_by_the_sdk(app: FastAPI, client: Client) -> None:
    path = f"{PATH}/{(await made(client))['id']}"
    test = asyncio.create_task(client.post(f"{path}/test", json={"event_type": "job.completed"}))

    async def waits() -> bool:
        deliveries = (await client.get(f"{path}/deliveries")).json()["data"]
        return [delivery["status"] for delivery in deliveries] == ["pending"]

    await until(waits)
    app.state.stopping.set()
    answer = await test
    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
