"""`/v1/batches`: look, list and cancel; how a batch shows its jobs, and they it; the official SDK."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID

import openai
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI
from redis.asyncio import Redis

from jobs import ids, keys
from jobs.database import Database
from jobs.settings import Settings
from tests.api.batch_calls import asked, created, started_for_acme
from tests.api.conftest import Client, Key, Worker, becomes, chat, client_of, served, url_of, value
from tests.jobs.batch_rows import CHAT, FAULT, Started, finalise
from tests.until import until

NOBODY = ids.batch_id(ids.new())


@pytest.fixture
async def started(client: Client, worker: Worker, database: Database) -> Started:
    """Acme's batch of three lines that wait."""
    return await started_for_acme(database, worker)


@pytest.fixture
async def sdk(app: FastAPI, worker: Worker, key: Key) -> AsyncIterator[AsyncOpenAI]:
    async with (
        served(app) as server,
        AsyncOpenAI(base_url=f"{url_of(server)}/v1", api_key=key, _strict_response_validation=True) as sdk,
    ):
        yield sdk


async def test_control_is_woken_for_what_it_has_to_do(client: Client, started: Started, settings: Settings) -> None:
    assert settings.redis_url
    async with Redis.from_url(settings.redis_url) as redis:

        async def rang() -> bool:
            return await redis.llen("{longhaul}:control") == 1

        asks = ["/v1/batches", f"/v1/batches/{ids.batch_id(started.batch.id)}/cancel"]
        for path in asks:
            assert (await client.post(path, json=asked())).status_code == 200
            await until(rang)
            await redis.flushall()


async def test_a_list_goes_page_by_page_newest_first(client: Client) -> None:
    empty = (await client.get("/v1/batches")).json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    made = [await created(client) for _ in range(3)]
    first = (await client.get("/v1/batches?limit=2")).json()
    assert (first["data"], first["has_more"]) == ([made[2], made[1]], True)
    assert (first["first_id"], first["last_id"]) == (made[2]["id"], made[1]["id"])
    second = (await client.get(f"/v1/batches?limit=2&after={first['last_id']}")).json()
    assert (second["data"], second["has_more"]) == ([made[0]], False)
    for query, param in [("limit=0", "limit"), ("limit=101", "limit"), ("after=x", "after")]:
        response = await client.get(f"/v1/batches?{query}")
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_batch_under_way_says_when_it_will_be_done(
    client: Client, started: Started, database: Database
) -> None:
    path = f"/v1/batches/{ids.batch_id(started.batch.id)}"
    assert (await client.get(path)).json()["estimated_completion_at"] is None
    await started.end("a")
    await started.end("b", FAULT)
    begun = "UPDATE batches SET in_progress_at = date_trunc('second', now()) - interval '1000 s' RETURNING 1"
    await value(database, begun)
    batch = (await client.get(path)).json()
    assert batch["request_counts"] == {"total": 3, "completed": 1, "failed": 1}
    assert batch["model"] == "m"
    left = batch["estimated_completion_at"] - batch["in_progress_at"] - 1000
    assert 500 <= left <= 600
    await started.end("c")
    assert (await client.get(path)).json()["estimated_completion_at"] is None


async def test_an_ended_batch_shows_its_files_usage_and_times(
    client: Client, started: Started, database: Database
) -> None:
    for custom_id in "abc":
        await started.end(custom_id)
    await finalise(started)
    output, errors = ids.new(), ids.new()
    done = (
        f"UPDATE batches SET completed_at = now(), output_file_id = '{output}', error_file_id = '{errors}' RETURNING 1"
    )
    await value(database, done)
    batch = (await client.get(f"/v1/batches/{ids.batch_id(started.batch.id)}")).json()
    assert (batch["status"], batch["output_file_id"], batch["error_file_id"]) == (
        "completed",
        ids.file_id(output),
        ids.file_id(errors),
    )
    assert batch["created_at"] <= batch["in_progress_at"] <= batch["finalizing_at"] <= batch["completed_at"]
    assert batch["usage"] == {
        "input_tokens": 6,
        "input_tokens_details": {"cached_tokens": 1},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 10,
    }


async def test_a_failed_batch_lists_its_errors(client: Client, database: Database) -> None:
    batch = await created(client)
    fault = {"code": "invalid_url", "message": "no", "param": "url", "line": 3}
    await value(
        database,
        f"UPDATE batches SET status = 'failed', failed_at = now(), errors = '[{json.dumps(fault)}]' RETURNING 1",
    )
    shown = (await client.get(f"/v1/batches/{batch['id']}")).json()
    assert shown["errors"] == {"object": "list", "data": [fault]}
    assert shown["usage"] is None


async def test_a_batch_is_cancelled_once(client: Client, started: Started) -> None:
    path = f"/v1/batches/{ids.batch_id(started.batch.id)}/cancel"
    first = await client.post(path, headers={"Content-Type": "application/json"})
    assert (first.status_code, first.json()["status"]) == (200, "cancelling")
    assert first.json()["request_counts"] == {"total": 3, "completed": 0, "failed": 0}
    again = await client.post(path)
    assert (again.status_code, again.json()) == (200, first.json())
    jobs = (await client.get("/v1/jobs")).json()["data"]
    assert {job["status"] for job in jobs} == {"cancelled"}


async def test_who_waits_for_a_line_hears_of_the_cancel(client: Client, started: Started) -> None:
    polled = asyncio.create_task(client.get(f"/v1/jobs/{ids.job_id(started.jobs['a'])}?wait=60"))
    await asyncio.sleep(0)
    await client.post(f"/v1/batches/{ids.batch_id(started.batch.id)}/cancel")
    assert (await polled).json()["status"] == "cancelled"


@pytest.mark.parametrize("status", ["completed", "failed", "expired"])
async def test_what_has_ended_otherwise_cannot_be_cancelled(client: Client, database: Database, status: str) -> None:
    batch = await created(client)
    await value(database, f"UPDATE batches SET status = '{status}' RETURNING 1")
    response = await client.post(f"/v1/batches/{batch['id']}/cancel")
    assert response.status_code == 409
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"] == {
        "message": f"Cannot cancel a batch with status '{status}'.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


async def test_another_tenants_batch_does_not_exist(
    client: Client, app: FastAPI, started: Started, database: Database
) -> None:
    stranger: Key = await keys.create(database, "other", "x")
    batch_id = ids.batch_id(started.batch.id)
    async with client_of(app, stranger) as other:
        assert (await other.get("/v1/batches")).json()["data"] == []
        assert (await other.get(f"/v1/jobs?batch={batch_id}")).json()["data"] == []
        for missing in (batch_id, NOBODY, "batch_x", "x"):
            for method, path in [("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/results")]:
                response = await other.request(method, f"/v1/batches/{missing}{path}")
                assert response.status_code == 404
                assert response.json()["error"] == {
                    "message": f"No batch found with id '{missing}'.",
                    "type": "invalid_request_error",
                    "param": "id",
                    "code": None,
                }
    assert (await client.get(f"/v1/batches/{batch_id}")).json()["status"] == "in_progress"


async def test_a_batchs_jobs_are_listed_and_name_it(client: Client, started: Started) -> None:
    alone = (await client.post("/v1/jobs", json={"endpoint": CHAT, "body": chat()})).json()
    batch_id = ids.batch_id(started.batch.id)
    found = (await client.get(f"/v1/jobs?batch={batch_id}&order=asc")).json()["data"]
    assert [(job["id"], job["custom_id"]) for job in found] == [
        (ids.job_id(job_id), custom_id) for custom_id, job_id in started.jobs.items()
    ]
    assert {(job["batch_id"], job["service_tier"]) for job in found} == {(batch_id, "batch")}
    one = (await client.get(f"/v1/jobs/{found[0]['id']}")).json()
    assert (one["batch_id"], one["custom_id"]) == (batch_id, "a")
    await started.end("b")
    done = (await client.get(f"/v1/jobs?batch={batch_id}&status=completed")).json()["data"]
    assert [job["custom_id"] for job in done] == ["b"]
    everything = (await client.get("/v1/jobs")).json()["data"]
    assert (everything[0]["id"], everything[0]["batch_id"]) == (alone["id"], None)
    assert len(everything) == 4


async def test_the_sdk_creates_finds_lists_and_cancels(sdk: AsyncOpenAI, database: Database) -> None:
    file = await sdk.files.create(file=("in.jsonl", b'{"custom_id":"a"}\n'), purpose="batch")
    made = await sdk.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"a": "b"},
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (made.status, made.input_file_id, made.metadata) == ("validating", file.id, {"a": "b"})
    assert made.request_counts and made.request_counts.total == 0
    other = await sdk.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    assert (await sdk.batches.retrieve(made.id)).id == made.id
    assert [batch.id async for batch in sdk.batches.list(limit=1)] == [other.id, made.id]
    assert (await sdk.batches.cancel(made.id)).status == "cancelling"
    await becomes(database, "SELECT count(*) FROM batches WHERE status = 'cancelling'", 1)
    with pytest.raises(openai.NotFoundError) as unknown:
        await sdk.batches.retrieve(NOBODY)
    assert unknown.value.body == {
        "message": f"No batch found with id '{NOBODY}'.",
        "type": "invalid_request_error",
        "param": "id",
        "code": None,
    }
    await value(database, f"UPDATE batches SET status = 'completed' WHERE id = '{UUID(other.id[6:])}' RETURNING 1")
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'completed'"):
        await sdk.batches.cancel(other.id)
    with pytest.raises(openai.BadRequestError) as bad:
        await sdk.batches.create(input_file_id=file.id, endpoint="/v1/videos", completion_window="24h")
    assert (bad.value.code, bad.value.param) == ("invalid_value", "endpoint")
