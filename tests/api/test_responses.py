"""`/v1/responses` as a resource, beside a hand that plays the worker."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from jobs import ids, keys, payload, response_object
from jobs.database import Database
from jobs.records import ClaimedJob, Flags, Json, Outcome, Tier
from jobs.states import Status
from tests.api.conftest import Client, Worker, client_of, jobs_written
from tests.jobs import hooks
from tests.jobs.ledger import rows

RESPONSES = "/v1/responses"
NOBODY = ids.response_id(ids.new())
NOT_FOUND: Json = {
    "error": {
        "message": f"Response with id '{NOBODY}' not found.",
        "type": "invalid_request_error",
        "param": "id",
        "code": None,
    }
}


def asked(text: str = "hello", **more: Any) -> Json:
    return {"model": "org/tiny", "input": text, **more}


async def begun(client: Client, **more: Any) -> Json:
    """A response in the background."""
    answer = await client.post(RESPONSES, json=asked(background=True, **more))
    assert answer.status_code == 200, answer.text
    response: Json = answer.json()
    return response


async def shown(client: Client, response: Json, **query: Any) -> Json:
    answer = await client.get(f"{RESPONSES}/{response['id']}", params=query)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def outcome(job: ClaimedJob, **more: Any) -> Outcome:
    """What a worker makes of an engine's answer to this job."""
    message = {
        "type": "message",
        "id": f"msg_{job.id.hex}",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "hi", "annotations": []}],
    }
    answer = {"status": "completed", "model": "org/tiny", "output": [message], **more}
    body = response_object.answered(response_object.of_job(job), answer)
    return Outcome(Status.COMPLETED, 200, payload.write(body))


async def answered(worker: Worker, **more: Any) -> None:
    """Everything that waits is claimed and answered."""
    for job in await worker.claim_next():
        await worker.finish(job, outcome(job, **more))


async def completed(client: Client, worker: Worker, **more: Any) -> Json:
    response = await begun(client, **more)
    await answered(worker)
    return response


async def test_in_the_background_a_response_comes_back_at_once(client: Client, worker: Worker) -> None:
    response = await begun(client, temperature=0.5, metadata={"a": "b"})
    assert (response["status"], response["background"], response["output"]) == ("queued", True, [])
    assert (response["temperature"], response["metadata"], response["usage"]) == (0.5, {"a": "b"}, None)
    [job] = await worker.claim()
    assert response["id"] == f"resp_{job.id.hex}"
    assert job.flags == Flags.TELLS | Flags.RESPONSES | Flags.BACKGROUND
    assert not job.waited


async def test_its_fields_are_the_same_from_the_beginning_to_the_end(client: Client, worker: Worker) -> None:
    first = await begun(client)
    assert await shown(client, first) == first
    [job] = await worker.claim_next()
    assert await shown(client, first) == first | {"status": "in_progress"}
    await worker.finish(job, outcome(job))
    last = await shown(client, first)
    assert last.keys() == first.keys()
    assert (last["status"], last["background"], last["id"]) == ("completed", True, first["id"])
    assert {name for name in last if last[name] != first[name]} == {"status", "output", "completed_at"}


async def test_what_was_waited_for_is_kept_too(client: Client, worker: Worker, sdk: AsyncOpenAI) -> None:
    asking = asyncio.ensure_future(sdk.responses.create(model="tiny", input="hello"))
    await answered(worker)
    response = await asking
    assert await shown(client, {"id": response.id}) == response.to_dict()


@pytest.mark.parametrize("headers", [{"Prefer": "respond-async"}, {"Prefer": "respond-async, wait=1"}])
async def test_a_job_that_is_a_response_is_found_as_both(client: Client, headers: dict[str, str]) -> None:
    job = (await client.post(RESPONSES, json=asked(), headers=headers)).json()
    response = await shown(client, {"id": job["id"].replace("job_", "resp_")})
    assert (response["status"], response["background"]) == ("queued", False)


async def test_a_preference_gives_way_to_the_background(client: Client) -> None:
    answer = await client.post(RESPONSES, json=asked(background=True), headers={"Prefer": "respond-async"})
    assert (answer.status_code, answer.json()["object"]) == (200, "response")
    item = {"endpoint": RESPONSES, "body": asked(background=True)}
    job = (await client.post("/v1/jobs", json=item)).json()
    assert (await shown(client, {"id": job["id"].replace("job_", "resp_")}))["background"]


async def test_an_idempotency_key_finds_the_response_as_it_is(client: Client, worker: Worker) -> None:
    async def ask() -> Json:
        body = asked(background=True)
        response: Json = (await client.post(RESPONSES, json=body, headers={"Idempotency-Key": "k"})).json()
        return response

    first = await ask()
    await answered(worker)
    again = await ask()
    assert (again["id"], again["status"]) == (first["id"], "completed")


async def test_what_is_not_stored_is_not_found(client: Client, worker: Worker, database: Database) -> None:
    job = (await client.post(RESPONSES, json=asked(store=False), headers={"Prefer": "respond-async"})).json()
    name = job["id"].replace("job_", "resp_")
    assert (await client.get(f"{RESPONSES}/{name}")).status_code == 404
    assert (await client.get(f"/v1/jobs/{job['id']}")).status_code == 200


async def test_the_background_needs_the_store(client: Client, database: Database) -> None:
    answer = await client.post(RESPONSES, json=asked(background=True, store=False))
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == ("background", "invalid_value")
    assert await jobs_written(database) == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", "/cancel"), ("DELETE", ""), ("GET", "/input_items")],
)
async def test_another_tenants_response_does_not_exist(
    method: str, path: str, client: Client, worker: Worker, app: FastAPI, database: Database
) -> None:
    response = await completed(client, worker)
    assert (await client.request(method, f"{RESPONSES}/{NOBODY}{path}")).json() == NOT_FOUND
    assert (await client.request(method, f"{RESPONSES}/resp_1{path}")).status_code == 404
    async with client_of(app, await keys.create(database, "other", "test")) as other:
        answer = await other.request(method, f"{RESPONSES}/{response['id']}{path}")
        assert answer.status_code == 404
        continuing = await other.post(RESPONSES, json=asked(previous_response_id=response["id"]))
        assert continuing.json()["error"]["code"] == "previous_response_not_found"
    assert (await shown(client, response))["status"] == "completed"


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_response_is_cancelled_wherever_it_is_and_twice(claimed: bool, client: Client, worker: Worker) -> None:
    response = await begun(client)
    if claimed:
        await worker.claim_next()
    path = f"{RESPONSES}/{response['id']}/cancel"
    answer = await client.post(path)
    assert answer.status_code == 200
    assert answer.json() == response | {"status": "cancelled"}
    assert (await client.post(path)).json() == answer.json() == await shown(client, response)


async def test_a_response_that_has_ended_stays_as_it_is(client: Client, worker: Worker) -> None:
    response = await completed(client, worker)
    answer = await client.post(f"{RESPONSES}/{response['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")


async def test_a_synchronous_response_is_not_cancelled(client: Client, worker: Worker) -> None:
    job = (await client.post(RESPONSES, json=asked(), headers={"Prefer": "respond-async"})).json()
    answer = await client.post(f"{RESPONSES}/{job['id'].replace('job_', 'resp_')}/cancel")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["message"], error["param"]) == ("Cannot cancel a synchronous response.", "response_id")


async def test_a_deleted_response_is_gone(client: Client, worker: Worker) -> None:
    response = await completed(client, worker)
    answer = await client.delete(f"{RESPONSES}/{response['id']}")
    assert answer.json() == {"id": response["id"], "object": "response", "deleted": True}
    for again in (client.get, client.delete):
        assert (await again(f"{RESPONSES}/{response['id']}")).status_code == 404
    continuing = await client.post(RESPONSES, json=asked(previous_response_id=response["id"]))
    assert continuing.status_code == 400
    assert continuing.json()["error"] == {
        "message": f"Previous response with id '{response['id']}' not found.",
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": "previous_response_not_found",
    }


async def test_a_response_that_runs_is_not_deleted(client: Client) -> None:
    answer = await client.delete(f"{RESPONSES}/{(await begun(client))['id']}")
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"


async def test_a_response_continues_another(client: Client, worker: Worker) -> None:
    first = await completed(client, worker, instructions="shout")
    second = await begun(client, previous_response_id=first["id"])
    assert (second["previous_response_id"], second["instructions"]) == (first["id"], None)
    [job] = await worker.claim_next()
    assert job.previous is not None and ids.response_id(job.previous) == first["id"]
    await worker.finish(job, outcome(job))
    assert (await shown(client, second))["previous_response_id"] == first["id"]


async def test_what_has_no_answer_yet_is_not_continued(client: Client, database: Database) -> None:
    first = await begun(client)
    answer = await client.post(RESPONSES, json=asked(previous_response_id=first["id"]))
    assert answer.status_code == 400
    assert "with status 'queued': wait until it has been answered" in answer.json()["error"]["message"]
    assert await jobs_written(database) == 1


async def test_a_conversation_costs_what_its_turns_have_bytes(client: Client, worker: Worker) -> None:
    first = await completed(client, worker, metadata={"a": "x" * 500})
    await begun(client)
    await begun(client, previous_response_id=first["id"])
    alone, continuing = await worker.claim()
    assert continuing.cost > alone.cost + 100


async def test_a_retry_continues_the_same_conversation(client: Client, worker: Worker) -> None:
    first = await completed(client, worker)
    second = await completed(client, worker, previous_response_id=first["id"])
    await client.post(f"/v1/jobs/{second['id'].replace('resp_', 'job_')}/retry")
    [job] = await worker.claim_next()
    assert job.previous is not None and ids.response_id(job.previous) == first["id"]
    assert Flags.BACKGROUND in job.flags


async def test_what_the_engine_refused_has_failed(client: Client, worker: Worker) -> None:
    response = await begun(client)
    await worker.answer(400, {"error": {"message": "too long", "type": "x", "param": None, "code": None}})
    failed = await shown(client, response)
    assert failed == response | {"status": "failed", "error": {"code": "invalid_prompt", "message": "too long"}}


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (Outcome(Status.FAILED, error_code="request_timeout", error_message="It ran too long."), "It ran too long."),
        (Outcome(Status.FAILED, 500, b"oops"), "The engine answered with status 500."),
    ],
)
async def test_what_was_lost_has_failed_with_a_servers_error(
    end: Outcome, message: str, client: Client, worker: Worker
) -> None:
    response = await begun(client)
    [job] = await worker.claim_next()
    await worker.finish(job, end)
    assert (await shown(client, response))["error"] == {"code": "server_error", "message": message}


async def test_a_response_that_was_cut_short_is_incomplete(client: Client, worker: Worker) -> None:
    response = await begun(client)
    details = {"reason": "max_output_tokens"}
    await answered(worker, status="incomplete", incomplete_details=details)
    cut = await shown(client, response)
    assert (cut["status"], cut["incomplete_details"], cut["completed_at"]) == ("incomplete", details, None)


@pytest.mark.parametrize(
    ("status", "told"), [("completed", "response.completed"), ("incomplete", "response.incomplete")]
)
async def test_the_end_of_a_background_response_is_told_and_of_no_other(
    status: str, told: str, client: Client, worker: Worker, database: Database
) -> None:
    [tenant] = await rows(database, "SELECT id FROM tenants WHERE name = 'acme'")
    await hooks.endpoint(database, "response.completed", "response.incomplete", tenant=tenant.id)
    response = await begun(client)
    await answered(worker, status=status)
    assert await hooks.told(database) == [(told, ids.parse_response_id(response["id"]))]


async def test_the_items_of_a_conversation_come_page_by_page_newest_first(client: Client, worker: Worker) -> None:
    first = await completed(client, worker)
    second = await begun(client, previous_response_id=first["id"])
    path = f"{RESPONSES}/{second['id']}/input_items"
    whole = (await client.get(path, params={"order": "asc"})).json()
    assert [item["role"] for item in whole["data"]] == ["user", "assistant", "user"]
    assert (whole["first_id"], whole["last_id"]) == (whole["data"][0]["id"], whole["data"][2]["id"])
    page = (await client.get(path, params={"limit": 2})).json()
    assert page["data"] == whole["data"][:0:-1] and page["has_more"]
    rest = (await client.get(path, params={"limit": 2, "after": page["last_id"]})).json()
    assert rest["data"] == whole["data"][:1] and not rest["has_more"]
    wrong = await client.get(path, params={"after": "msg_1"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")


async def test_what_may_be_included_is_there_already(client: Client) -> None:
    response = await begun(client)
    assert await shown(client, response, **{"include[]": "message.output_text.logprobs"}) == response
    for path in ("", "/input_items"):
        wrong = await client.get(f"{RESPONSES}/{response['id']}{path}", params={"include[]": ["x"]})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "include")


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("POST", "/v1/responses/compact", "/v1/responses/compact is not supported"),
        ("GET", "/v1/responses", "not served over WebSocket"),
    ],
)
async def test_what_there_is_not_is_refused_by_name(method: str, path: str, words: str, client: Client) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


async def test_who_asks_for_a_websocket_is_told_that_there_is_none(sdk: AsyncOpenAI) -> None:
    with pytest.raises(Exception, match="HTTP 400"):
        async with sdk.responses.connect():
            pass


async def test_only_who_has_a_key_is_told_anything(app: FastAPI) -> None:
    async with client_of(app) as nobody:
        for method, path in (("GET", ""), ("POST", "/compact"), ("GET", f"/{NOBODY}"), ("DELETE", f"/{NOBODY}")):
            assert (await nobody.request(method, f"{RESPONSES}{path}")).status_code == 401


async def test_a_tier_is_echoed_as_it_is_used(client: Client, worker: Worker) -> None:
    response = await begun(client, service_tier="flex")
    assert response["service_tier"] == "flex"
    assert len(await worker.claim(Tier.FLEX)) == 1
