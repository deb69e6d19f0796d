"""What is refused at the door, and that nothing is written then; what is accepted, and what of it is stored."""

import dataclasses
import json
from typing import Any

import httpx
import pytest

from jobs.database import Database
from jobs.records import Json, Tier
from jobs.settings import Settings
from tests.api.conftest import (
    REGISTRATION,
    Client,
    Key,
    Worker,
    chat,
    client_of,
    jobs_written,
    register,
    running,
)

CHAT = "/v1/chat/completions"
ASYNC = {"Prefer": "respond-async"}
JSON = {"Content-Type": "application/json"}


async def refused(client: Client, database: Database, response: httpx.Response, status: int) -> Json:
    """The error of a refusal, after which nothing may have been written."""
    assert response.status_code == status, response.text
    assert await jobs_written(database) == 0
    error: Json = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


HOOK = "https://example.com"
BAD: list[tuple[Any, int, str | None, str]] = [
    (chat(model="nobody"), 404, "model", "model_not_found"),
    (chat(model=3), 400, "model", "invalid_type"),
    (chat(model="a\0"), 400, "model", "invalid_value"),
    (chat(model="a\ud800"), 400, "model", "invalid_value"),
    (chat(3), 400, "messages.0.content", "invalid_type"),
    (chat(temperature="8"), 400, "temperature", "invalid_type"),
    (chat(foo=1), 400, "foo", "unknown_parameter"),
    (chat(priority=1), 400, "priority", "unsupported_parameter"),
    (chat(stream_options={"include_usage": True}), 400, "stream_options", "invalid_value"),
    (chat(stream=True, stream_options={"foo": 1}), 400, "stream_options.foo", "unknown_parameter"),
    (chat(webhook=HOOK), 400, "webhook", "secret_key_missing"),
    (chat(webhook="http://example.com"), 400, "webhook", "invalid_url"),
    (chat(webhook={"url": HOOK, "events": ["batch.failed"]}), 400, "webhook.events[0]", "invalid_value"),
    (chat(webhook={"url": HOOK, "events": ["response.failed"]}), 400, "webhook.events", "invalid_value"),
    (chat(functions=[]), 400, "functions", "unsupported_parameter"),
    (chat(service_tier="gold"), 400, "service_tier", "invalid_value"),
    (chat(metadata=["x"]), 400, "metadata", "invalid_type"),
    (chat(metadata={"tags": ["x"]}), 400, "metadata.tags", "invalid_type"),
    (chat(metadata={"a": "\0"}), 400, "metadata.a", "invalid_value"),
    (chat(metadata={"a": "\ud800"}), 400, "metadata.a", "invalid_value"),
    (chat(metadata={"a" * 65: "x"}), 400, f"metadata.{'a' * 65}", "string_above_max_length"),
    (chat(metadata={"a": "x" * 513}), 400, "metadata.a", "string_above_max_length"),
    (chat(metadata={str(n): "x" for n in range(17)}), 400, "metadata", "object_above_max_properties"),
    (chat(expires_after=0), 400, "expires_after", "integer_below_min_value"),
    (chat(expires_after=10**9), 400, "expires_after", "integer_above_max_value"),
    (chat(expires_after=1.5), 400, "expires_after", "invalid_type"),
    (chat(expires_after=True), 400, "expires_after", "invalid_type"),
    (chat(timeout="60"), 400, "timeout", "invalid_type"),
    (chat(timeout=-1), 400, "timeout", "integer_below_min_value"),
    ([chat()], 400, None, "invalid_type"),
    ("x", 400, None, "invalid_type"),
]


async def test_a_bad_body_is_refused_and_nothing_is_queued(client: Client, database: Database) -> None:
    for body, status, param, code in BAD:
        response = await client.post(CHAT, content=json.dumps(body), headers=JSON)
        error = await refused(client, database, response, status)
        assert (error["code"], error["type"]) == (code, "invalid_request_error"), body
        assert error["param"] == param, body


async def test_what_is_no_json_is_refused(client: Client, database: Database) -> None:
    for content in [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b"\xff\xfe{}",
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b'{"a": ' + b"1" * 10_000 + b"}",
    ]:
        error = await refused(client, database, await client.post(CHAT, content=content, headers=JSON), 400)
        assert error["code"] == "invalid_json"


async def test_another_content_type_is_refused(client: Client, database: Database) -> None:
    for headers in [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ]:
        response = await client.post(CHAT, content=json.dumps(chat()), headers=headers)
        await refused(client, database, response, 415)


async def test_a_charset_beside_the_content_type_is_no_fault(client: Client) -> None:
    headers = ASYNC | {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await client.post(CHAT, content=json.dumps(chat()), headers=headers)).status_code == 202


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(
    settings: Settings, database: Database, key: Key, chunked: bool
) -> None:
    async def chunks() -> Any:
        for _ in range(100):
            yield b" " * 1024

    small = settings.model_copy(update={"body_limit_bytes": 4096})
    async with running(small) as app, client_of(app, key) as client:
        content = chunks() if chunked else b" " * 4097
        error = await refused(client, database, await client.post(CHAT, content=content, headers=JSON), 413)
    assert "4096 bytes" in error["message"]


async def test_a_body_of_too_many_values_is_refused_unread(client: Client, database: Database) -> None:
    for crowd in (b"1," * 600_000 + b"{" * 400_001, b"[" * 1_000_001, b"{" * 1_000_001):
        for path in (CHAT, "/v1/jobs"):
            error = await refused(client, database, await client.post(path, content=crowd, headers=JSON), 413)
            assert error["code"] == "request_too_large"


async def test_an_unknown_model_is_refused_with_what_exists(client: Client, database: Database) -> None:
    error = await refused(client, database, await client.post(CHAT, json=chat(model="gpt-4o")), 404)
    assert "'gpt-4o'" in error["message"]
    assert "'org/tiny', 'tiny', 'tiny-lora'" in error["message"]


async def test_an_endpoint_that_the_model_does_not_serve_is_refused_with_those_it_serves(
    client: Client, database: Database
) -> None:
    response = await client.post("/v1/embeddings", json={"model": "tiny", "input": "x"})
    error = await refused(client, database, response, 404)
    assert error["param"] == "model"
    assert "/v1/chat/completions" in error["message"]


async def test_what_is_not_on_the_list_does_not_exist(client: Client, database: Database) -> None:
    for path in [
        "/v1/nothing",
        "/inference/v1/abort_requests",
        "/invocations",
        "/sleep",
        "/v1/chat/completions/render",
    ]:
        error = await refused(client, database, await client.post(path, json=chat()), 404)
        assert error["code"] == "unknown_url"


async def test_multipart_endpoints_are_refused_by_name(client: Client, database: Database) -> None:
    for path in ["/v1/audio/transcriptions", "/v1/audio/translations"]:
        error = await refused(client, database, await client.post(path, files={"file": b"x"}), 400)
        assert path in error["message"]


async def test_a_get_is_not_allowed(client: Client) -> None:
    response = await client.get(CHAT)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json()["error"]["code"] == "method_not_supported"


async def test_every_name_of_a_model_is_accepted_and_shown(client: Client) -> None:
    for name in ["org/tiny", "tiny", "tiny-lora"]:
        response = await client.post(CHAT, json=chat(model=name), headers=ASYNC)
        assert response.json()["model"] == name


async def test_without_a_model_the_only_one_is_meant(client: Client, worker: Worker) -> None:
    response = await client.post(CHAT, json={"messages": chat()["messages"]}, headers=ASYNC)
    assert response.json()["model"] == "org/tiny"
    [job] = await worker.claim()
    assert json.loads(job.body)["model"] == "org/tiny"


async def test_without_a_model_two_are_one_too_many(client: Client, database: Database) -> None:
    await register(database, dataclasses.replace(REGISTRATION, model="other", aliases=(), adapters=("lora",)))
    response = await client.post(CHAT, json={"messages": chat()["messages"]})
    error = await refused(client, database, response, 400)
    assert error["param"] == "model"


async def test_the_clients_own_bytes_are_stored(client: Client, worker: Worker) -> None:
    content = b'{ "model":"tiny",\n "messages":[{"role":"user", "content":"\\u0000 \\ud800 \xc3\xa9"}], "top_k": 1e0 }'
    response = await client.post(CHAT, content=content, headers=ASYNC | JSON)
    assert response.status_code == 202
    [job] = await worker.claim()
    assert job.body == content


async def test_our_own_fields_are_taken_out_of_what_is_stored(client: Client, worker: Worker) -> None:
    body = chat("h\u00e9 \ud800", expires_after=60, timeout=7, webhook=None, service_tier=None, metadata={"a": "b"})
    await client.post(CHAT, content=json.dumps(body), headers=ASYNC | JSON)
    [job] = await worker.claim()
    assert json.loads(job.body) == chat("h\u00e9 \ud800", metadata={"a": "b"})
    assert job.timeout_seconds == 7


async def test_terms_become_the_jobs_own(client: Client) -> None:
    body = chat(service_tier="fast", metadata={"a": "b"}, expires_after=60)
    job = (await client.post(CHAT, json=body, headers=ASYNC)).json()
    assert job["service_tier"] == "priority"
    assert job["metadata"] == {"a": "b"}
    assert job["expires_at"] == job["created_at"] + 60
    shown = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert {name: shown[name] for name in ("service_tier", "metadata", "model", "endpoint", "status")} == {
        name: job[name] for name in ("service_tier", "metadata", "model", "endpoint", "status")
    }


@pytest.mark.parametrize(
    ("service_tier", "tier"), [("flex", Tier.FLEX), ("priority", Tier.PRIORITY), ("auto", Tier.DEFAULT)]
)
async def test_a_service_tier_chooses_the_lane(client: Client, worker: Worker, service_tier: str, tier: Tier) -> None:
    await client.post(CHAT, json=chat(service_tier=service_tier), headers=ASYNC)
    [job] = await worker.claim(tier)
    assert (job.tier, job.service_tier) == (tier, service_tier)


async def test_a_job_costs_what_it_may_produce(client: Client, worker: Worker) -> None:
    for more in ({"max_tokens": 1}, {"max_tokens": 1, "n": 5}, {"max_completion_tokens": 100}):
        await client.post(CHAT, json=chat(**more), headers=ASYNC)
    body = {"model": "tiny", "prompt": ["a", "b", "c"], "max_tokens": 7}
    await client.post("/v1/completions", json=body, headers=ASYNC)
    costs = [job.cost - int(len(job.body) / 4) for job in await worker.claim()]
    assert costs == pytest.approx([1, 5, 100, 21], abs=1)


async def test_urls_of_media_are_closed(client: Client, database: Database) -> None:
    for url in ("http://169.254.169.254/", " data:x", "file:///etc/passwd"):
        content = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": url}}]
        error = await refused(client, database, await client.post(CHAT, json=chat(content)), 400)
        assert error["code"] == "unsupported_media_url"
        assert error["param"] == "messages.0.content.1.image_url.url"


async def test_data_urls_pass(client: Client) -> None:
    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    assert (await client.post(CHAT, json=chat(content), headers=ASYNC)).status_code == 202


async def test_a_setting_opens_the_urls_of_media(settings: Settings, client: Client, key: Key) -> None:
    content = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    async with running(settings.model_copy(update={"media_urls": True})) as app, client_of(app, key) as client:
        assert (await client.post(CHAT, json=chat(content), headers=ASYNC)).status_code == 202


async def test_no_live_worker_is_no_reason_to_refuse(client: Client, worker: Worker, database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM workers")
    assert (await client.post(CHAT, json=chat(), headers=ASYNC)).status_code == 202


async def test_the_messages_endpoint_speaks_anthropics_errors(client: Client) -> None:
    response = await client.post("/v1/messages", json={"model": "tiny", "messages": []})
    assert response.status_code == 400
    assert response.json()["type"] == "error"
    assert response.json()["error"]["type"] == "invalid_request_error"
