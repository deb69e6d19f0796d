"""`/v1/jobs`: submit, look, wait, list, cancel, retry, delete."""

import asyncio
import json
from typing import Any

from fastapi import FastAPI

from jobs import ids, keys
from jobs.database import Database
from jobs.records import Json, Outcome, Tier, Usage
from jobs.states import Status
from tests.api.conftest import Client, Key, Worker, chat, client_of, jobs_written

CHAT = "/v1/chat/completions"
NOBODY = ids.job_id(ids.new())


def item(**more: Any) -> Json:
    return {"endpoint": CHAT, "body": chat(), **more}


async def submitted(client: Client, **more: Any) -> Json:
    response = await client.post("/v1/jobs", json=item(**more))
    assert response.status_code == 202, response.text
    job: Json = response.json()
    return job


async def test_a_job_is_submitted_and_found(client: Client) -> None:
    response = await client.post("/v1/jobs", json=item(metadata={"a": "b"}))
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    shown = (await client.get(response.headers["location"])).json()
    assert shown == job | {"created_at": shown["created_at"]}
    assert shown["queue"] == {"position": 1, "estimated_start_at": None}


async def test_the_object_of_a_completed_job_has_its_response_and_usage(client: Client, worker: Worker) -> None:
    job = await submitted(client)
    [claimed] = await worker.claim_next()
    running = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert (running["status"], running["attempts"], running["queue"]) == ("in_progress", 1, None)
    usage = Usage(input=7, cached=2, output=5, reasoning=1)
    await worker.finish(claimed, Outcome(Status.COMPLETED, 200, b'{"id": "x"}', usage))
    done = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert done["status"] == "completed"
    assert done["response"] == {
        "status_code": 200,
        "request_id": f"req_{claimed.id.hex}",
        "body": {"id": "x"},
    }
    assert done["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
    }
    assert done["error"] is None
    assert done["finished_at"] >= done["started_at"] >= done["created_at"]


async def test_a_failed_job_has_the_engines_response_and_an_error(client: Client, worker: Worker) -> None:
    job = await submitted(client)
    await worker.answer(400, {"error": {"message": "no"}})
    done = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert done["status"] == "failed"
    assert done["response"]["status_code"] == 400
    assert done["error"]["code"] == "request_failed"


async def test_a_job_without_a_response_says_why(client: Client, worker: Worker) -> None:
    job = await submitted(client)
    [claimed] = await worker.claim_next()
    outcome = Outcome(Status.FAILED, error_code="request_timeout", error_message="It ran too long.")
    await worker.finish(claimed, outcome)
    done = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert done["response"] is None
    assert done["error"] == {"code": "request_timeout", "message": "It ran too long."}


async def test_what_stands_beside_the_body_wins_over_it(client: Client, worker: Worker) -> None:
    body = chat(service_tier="flex", metadata={"from": "body"}, timeout=5)
    job = await submitted(client, body=body, service_tier="priority", metadata={"from": "item"}, expires_after=9)
    assert job["service_tier"] == "priority"
    assert job["metadata"] == {"from": "item"}
    assert job["expires_at"] == job["created_at"] + 9
    [claimed] = await worker.claim(Tier.PRIORITY)
    assert claimed.timeout_seconds == 5


async def test_an_array_is_submitted_at_once(client: Client, worker: Worker) -> None:
    response = await client.post("/v1/jobs", json=[item(body=chat(str(n))) for n in range(1000)])
    assert response.status_code == 202
    answer = response.json()
    assert answer["object"] == "list"
    assert len({job["id"] for job in answer["data"]}) == 1000
    claimed = await worker.claim(free=1000)
    assert [json.loads(job.body)["messages"][0]["content"] for job in claimed[:3]] == ["0", "1", "2"]
    assert [ids.job_id(job.id) for job in claimed] == [job["id"] for job in answer["data"]]


async def test_one_bad_item_refuses_all_with_an_error_for_each(client: Client, database: Database) -> None:
    items = [
        item(),
        item(body={"model": "tiny"}),
        item(endpoint="/v1/nothing"),
        item(foo=1),
        "x",
        item(body=3),
        {"endpoint": CHAT},
        item(webhook="https://example.com"),
        item(service_tier="gold"),
        item(body=chat(model="nobody")),
        item(idempotency_key=""),
        item(body=chat(metadata={"a": 1})),
    ]
    response = await client.post("/v1/jobs", json=items)
    assert response.status_code == 400
    answer = response.json()
    assert answer["error"]["param"] == "1.body.messages"
    assert [error["index"] for error in answer["errors"]] == list(range(1, len(items)))
    assert [error["param"] for error in answer["errors"]] == [
        "1.body.messages",
        "2.endpoint",
        "3.foo",
        "4",
        "5.body",
        "6.body",
        "7.webhook",
        "8.service_tier",
        "9.body.model",
        "10.idempotency_key",
        "11.body.metadata.a",
    ]
    assert await jobs_written(database) == 0


async def test_an_array_has_1_to_1000_items(client: Client, database: Database) -> None:
    for count in (0, 1001):
        response = await client.post("/v1/jobs", json=[{}] * count)
        assert response.status_code == 400
        assert f"but got {count}" in response.json()["error"]["message"]
    assert await jobs_written(database) == 0


async def test_an_endpoint_is_one_of_the_list(client: Client) -> None:
    wrong: list[Any] = ["/v1/sleep", "v1/completions", 3, None, [], "/v1/audio/transcriptions"]
    for endpoint in wrong:
        response = await client.post("/v1/jobs", json=item(endpoint=endpoint))
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "endpoint"


async def test_the_same_key_is_the_same_job_whatever_its_way(client: Client, database: Database) -> None:
    first = await submitted(client, idempotency_key="k")
    response = await client.post("/v1/jobs", json=item(), headers={"Idempotency-Key": "k"})
    array = (await client.post("/v1/jobs", json=[item(idempotency_key="k"), item()])).json()["data"]
    assert response.json()["id"] == array[0]["id"] == first["id"]
    assert array[1]["id"] != first["id"]
    other = await client.post("/v1/jobs", json=item(idempotency_key="k", service_tier="flex"))
    assert other.status_code == 422
    assert await jobs_written(database) == 2


async def test_a_keys_header_cannot_stand_for_an_array(client: Client, database: Database) -> None:
    response = await client.post("/v1/jobs", json=[item()], headers={"Idempotency-Key": "k"})
    assert response.status_code == 400
    assert await jobs_written(database) == 0


async def test_a_long_poll_ends_with_the_job(client: Client, worker: Worker) -> None:
    job = await submitted(client)
    polled = asyncio.create_task(client.get(f"/v1/jobs/{job['id']}?wait=60"))
    await worker.answer()
    assert (await polled).json()["status"] == "completed"
    assert (await client.get(f"/v1/jobs/{job['id']}?wait=60")).json()["status"] == "completed"


async def test_a_long_poll_ends_with_its_time(client: Client) -> None:
    job = await submitted(client)
    assert (await client.get(f"/v1/jobs/{job['id']}?wait=0.1")).json()["status"] == "queued"


async def test_a_long_poll_ends_with_the_server(client: Client, app: FastAPI) -> None:
    job = await submitted(client)
    polled = asyncio.create_task(client.get(f"/v1/jobs/{job['id']}?wait=60"))
    await asyncio.sleep(0)
    app.state.stopping.set()
    assert (await polled).json()["status"] == "queued"


async def test_a_bad_wait_is_refused_by_name(client: Client) -> None:
    for wait in ("x", "-1", "nan"):
        response = await client.get(f"/v1/jobs/{NOBODY}?wait={wait}")
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "wait"


async def test_a_job_is_cancelled_once(client: Client) -> None:
    job = await submitted(client)
    for _ in range(2):
        response = await client.post(f"/v1/jobs/{job['id']}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
        assert response.json()["error"]["code"] == "cancelled"


async def test_a_job_that_ended_cannot_be_cancelled(client: Client, worker: Worker) -> None:
    job = await submitted(client)
    await worker.answer()
    response = await client.post(f"/v1/jobs/{job['id']}/cancel")
    assert response.status_code == 409
    assert response.json()["error"]["message"] == "Cannot cancel a job with status 'completed'."
    assert response.headers["x-should-retry"] == "false"


async def test_a_retry_is_a_new_job_that_names_the_old(client: Client, worker: Worker) -> None:
    job = await submitted(client, service_tier="flex", metadata={"a": "b"}, timeout=9)
    [first] = await worker.answer(tier=Tier.FLEX)
    response = await client.post(f"/v1/jobs/{job['id']}/retry")
    assert response.status_code == 202
    again = response.json()
    assert again["retry_of"] == job["id"] != again["id"]
    assert again["metadata"] == {"a": "b"}
    [second] = await worker.claim(Tier.FLEX)
    assert (second.body, second.timeout_seconds) == (first.body, 9)


async def test_a_retry_with_a_key_happens_once(client: Client, worker: Worker, database: Database) -> None:
    old, other = await submitted(client), await submitted(client)
    await worker.answer()
    key = {"Idempotency-Key": "k"}
    first, second = [(await client.post(f"/v1/jobs/{old['id']}/retry", headers=key)).json() for _ in range(2)]
    assert first["id"] == second["id"] != old["id"]
    assert second["retry_of"] == old["id"]
    assert await jobs_written(database) == 3
    refused = await client.post(f"/v1/jobs/{other['id']}/retry", headers=key)
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "idempotency_key_reused"
    assert (await client.post(f"/v1/jobs/{old['id']}/retry")).json()["id"] != first["id"]


async def test_a_job_that_has_not_ended_cannot_be_run_again_or_deleted(client: Client) -> None:
    job = await submitted(client)
    assert (await client.post(f"/v1/jobs/{job['id']}/retry")).status_code == 409
    assert (await client.delete(f"/v1/jobs/{job['id']}")).status_code == 409


async def test_a_deleted_job_does_not_exist(client: Client, worker: Worker) -> None:
    job = await submitted(client)
    await worker.answer()
    response = await client.delete(f"/v1/jobs/{job['id']}")
    assert response.json() == {"id": job["id"], "object": "job", "deleted": True}
    assert (await client.get(f"/v1/jobs/{job['id']}")).status_code == 404


async def test_a_list_goes_page_by_page_newest_first(client: Client) -> None:
    made = [(await submitted(client))["id"] for _ in range(5)]
    first = (await client.get("/v1/jobs?limit=3")).json()
    assert [job["id"] for job in first["data"]] == made[:1:-1]
    assert (first["object"], first["first_id"], first["last_id"], first["has_more"]) == ("list", made[4], made[2], True)
    second = (await client.get(f"/v1/jobs?limit=3&after={first['last_id']}")).json()
    assert [job["id"] for job in second["data"]] == made[1::-1]
    assert second["has_more"] is False
    oldest = (await client.get("/v1/jobs?order=asc&limit=1")).json()
    assert [job["id"] for job in oldest["data"]] == made[:1]


async def test_an_empty_list_has_no_ends(client: Client) -> None:
    empty = (await client.get("/v1/jobs")).json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_a_list_can_be_narrowed(client: Client, worker: Worker) -> None:
    done = await submitted(client, metadata={"team": "a", "x": "1"})
    await worker.answer()
    waits = await submitted(client, metadata={"team": "a"}, body=chat(model="tiny-lora"))
    for query, expected in [
        ("status=completed", [done]),
        ("status=queued", [waits]),
        ("model=tiny-lora", [waits]),
        ("metadata[team]=a", [waits, done]),
        ("metadata[team]=a&metadata[x]=1", [done]),
        ("metadata[team]=b", []),
        ("batch=batch_" + "0" * 32, []),
        ("status=completed&model=tiny-lora", []),
    ]:
        found = (await client.get(f"/v1/jobs?{query}")).json()["data"]
        assert [job["id"] for job in found] == [job["id"] for job in expected], query


async def test_lists_leave_out_the_bodies_of_responses(client: Client, worker: Worker) -> None:
    await submitted(client)
    [claimed] = await worker.answer()
    [job] = (await client.get("/v1/jobs")).json()["data"]
    assert job["response"] == {"status_code": 200, "request_id": f"req_{claimed.id.hex}"}


async def test_bad_filters_are_refused_by_name(client: Client) -> None:
    for query, param in [
        ("status=done", "status"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("order=up", "order"),
        ("after=x", "after"),
        ("model=%00", "model"),
        ("metadata[a]=%00", "metadata"),
    ]:
        response = await client.get(f"/v1/jobs?{query}")
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param


async def test_another_tenants_job_does_not_exist(client: Client, app: FastAPI, database: Database) -> None:
    job = await submitted(client)
    stranger: Key = await keys.create(database, "other", "x")
    async with client_of(app, stranger) as other:
        for method, path in [
            ("GET", ""),
            ("GET", "?wait=5"),
            ("POST", "/cancel"),
            ("POST", "/retry"),
            ("DELETE", ""),
        ]:
            response = await other.request(method, f"/v1/jobs/{job['id']}{path}")
            assert response.status_code == 404
            assert response.json()["error"]["message"] == f"No job found with id '{job['id']}'."
        assert (await other.get("/v1/jobs")).json()["data"] == []
    assert (await client.get(f"/v1/jobs/{job['id']}")).json()["status"] == "queued"


async def test_what_is_no_job_id_is_no_job(client: Client) -> None:
    for job_id in (NOBODY, "job_x", "x", "job_" + "z" * 32, "batch_" + "0" * 32):
        for response in (await client.get(f"/v1/jobs/{job_id}"), await client.post(f"/v1/jobs/{job_id}/cancel")):
            assert response.status_code == 404
            assert response.json()["error"]["message"] == f"No job found with id '{job_id}'."
