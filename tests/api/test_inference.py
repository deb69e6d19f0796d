"""One request from door to door, and everything that may happen while its client waits."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.server import Server
from jobs import cancel, ids, keys, repeats
from jobs.database import Database
from jobs.records import Outcome
from jobs.states import Status
from tests.api.conftest import (
    Client,
    Key,
    Worker,
    becomes,
    chat,
    client_of,
    jobs_written,
    running,
    served,
    url_of,
    value,
)
from tests.until import until

CHAT = "/v1/chat/completions"
FIRST = {"x-stainless-retry-count": "0"}


def again(count: int) -> dict[str, str]:
    return {"x-stainless-retry-count": str(count)}


@pytest.fixture
async def server(app: FastAPI, worker: Worker) -> AsyncIterator[Server]:
    async with served(app) as server:
        yield server


@pytest.fixture
async def sockets(server: Server, key: Key) -> AsyncIterator[Client]:
    """A client of real connections: it can go away."""
    async with speaking(server, key) as client:
        yield client


def speaking(server: Server, key: Key) -> Client:
    return httpx.AsyncClient(base_url=url_of(server), headers={"Authorization": f"Bearer {key}"})


async def went_away(client: Client, worker: Worker, headers: dict[str, str]) -> None:
    """Ask, and hang up once a worker runs the job."""
    asked = asyncio.create_task(client.post(CHAT, json=chat(), headers=headers, timeout=60))
    await worker.claim_next()
    asked.cancel()
    await asyncio.wait([asked])


async def test_a_request_waits_and_gets_the_engines_own_response(client: Client, worker: Worker) -> None:
    asked = asyncio.create_task(client.post(CHAT, json=chat()))
    await worker.answer(body={"id": "x", "choices": [1]})
    response = await asked
    assert response.status_code == 200
    assert response.content == b'{"id": "x", "choices": [1]}'
    assert response.headers["content-type"] == "application/json"
    assert response.headers["openai-version"] == "2020-10-01"
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert "x-should-retry" not in response.headers


async def test_the_request_id_is_that_of_the_job(client: Client, worker: Worker) -> None:
    asked = asyncio.create_task(client.post(CHAT, json=chat()))
    [job] = await worker.answer()
    assert (await asked).headers["x-request-id"] == f"req_{job.id.hex}"


async def test_an_error_of_the_engine_comes_back_with_its_status(client: Client, worker: Worker) -> None:
    asked = asyncio.create_task(client.post(CHAT, json=chat()))
    error = {"error": {"message": "too long", "type": "invalid_request_error", "param": None, "code": None}}
    await worker.answer(400, error)
    response = await asked
    assert (response.status_code, response.json()) == (400, error)


@pytest.mark.parametrize(
    ("outcome", "expected", "code"),
    [
        (Outcome(Status.FAILED, error_code="request_timeout", error_message="too long"), 504, "request_timeout"),
        (Outcome(Status.FAILED, error_code="worker_lost", error_message="lost"), 500, "worker_lost"),
        (Outcome(Status.FAILED, error_code="model_retired", error_message="gone"), 404, "model_not_found"),
    ],
)
async def test_a_job_without_a_response_is_an_error_that_is_not_repeated(
    client: Client, worker: Worker, outcome: Outcome, expected: int, code: str
) -> None:
    asked = asyncio.create_task(client.post(CHAT, json=chat()))
    [job] = await worker.claim_next()
    await worker.finish(job, outcome)
    response = await asked
    assert response.status_code == expected
    assert response.json()["error"]["code"] == code
    assert response.headers["x-should-retry"] == "false"


async def test_a_job_that_someone_cancels_is_a_conflict(client: Client, worker: Worker) -> None:
    asked = asyncio.create_task(client.post(CHAT, json=chat()))
    [job] = await worker.claim_next()
    await client.post(f"/v1/jobs/{ids.job_id(job.id)}/cancel")
    response = await asked
    assert response.status_code == 409
    assert response.headers["x-should-retry"] == "false"


async def test_a_job_that_expires_is_a_408(client: Client, worker: Worker, database: Database) -> None:
    asked = asyncio.create_task(client.post(CHAT, json=chat(expires_after=1)))
    ended: list[Any] = []

    async def expired() -> bool:
        ended.extend(await cancel.expire(database))
        return bool(ended)

    await until(expired)
    worker.announcer.announce(ended)
    response = await asked
    assert response.status_code == 408
    assert response.headers["x-should-retry"] == "false"


async def test_a_request_that_prefers_so_gets_its_job_at_once(client: Client, database: Database) -> None:
    response = await client.post(CHAT, json=chat(), headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    job = response.json()
    assert job["status"] == "queued"
    assert job["queue"] == {"position": 1, "estimated_start_at": None}
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["x-queue-position"] == "1"
    assert "x-estimated-start-at" not in response.headers
    assert await jobs_written(database) == 1


async def test_the_position_grows_with_every_submit(client: Client) -> None:
    positions = []
    for _ in range(3):
        response = await client.post(CHAT, json=chat(), headers={"Prefer": "respond-async"})
        positions.append(int(response.headers["x-queue-position"]))
    assert positions == [1, 2, 3]


async def test_when_it_may_start_is_said_too(client: Client, database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO lanes (model_id, tier, tokens_per_second) SELECT id, 1, 0.1 FROM models")
    for _ in range(2):
        response = await client.post(CHAT, json=chat(), headers={"Prefer": "respond-async"})
        told = response.json()["queue"]["estimated_start_at"]
        assert response.headers["x-estimated-start-at"] == str(told)
    assert told > response.json()["created_at"]


async def test_a_preference_to_wait_gets_the_response_in_time(client: Client, worker: Worker) -> None:
    asked = asyncio.create_task(client.post(CHAT, json=chat(), headers={"Prefer": "respond-async, wait=60"}))
    await worker.answer(body={"done": True})
    response = await asked
    assert (response.status_code, response.json()) == (200, {"done": True})
    assert response.headers["preference-applied"] == "respond-async, wait=60"


async def test_a_preference_to_wait_gets_the_job_when_time_is_up(client: Client) -> None:
    response = await client.post(CHAT, json=chat(), headers={"Prefer": "respond-async, wait=1"})
    assert response.status_code == 202
    assert response.json()["status"] == "queued"


async def test_a_client_that_goes_away_cancels_its_job(sockets: Client, worker: Worker, database: Database) -> None:
    await went_away(sockets, worker, {})
    await becomes(database, "SELECT status FROM jobs", "cancelled")


async def test_a_key_whose_job_a_disconnect_cancelled_is_free_again(
    sockets: Client, worker: Worker, database: Database
) -> None:
    await went_away(sockets, worker, {"Idempotency-Key": "k"})
    await becomes(database, "SELECT count(*) FROM idempotency", 0)


async def test_a_client_that_goes_away_during_a_preferred_wait_cancels_nothing(
    sockets: Client, worker: Worker, database: Database
) -> None:
    await went_away(sockets, worker, {"Prefer": "respond-async, wait=60"})
    response = await sockets.get("/v1/jobs")
    assert [job["status"] for job in response.json()["data"]] == ["in_progress"]


async def test_a_client_that_comes_back_finds_its_job(sockets: Client, worker: Worker, database: Database) -> None:
    await went_away(sockets, worker, FIRST)
    [job] = worker.held
    asked = asyncio.create_task(sockets.post(CHAT, json=chat(), headers=again(1), timeout=60))
    await becomes(database, "SELECT taken FROM repeats", 1)
    await worker.finish(job, Outcome(Status.COMPLETED, 200, b'{"once": true}'))
    assert (await asked).json() == {"once": True}
    assert await jobs_written(database) == 1


async def test_a_client_that_comes_back_finds_its_result(sockets: Client, worker: Worker, database: Database) -> None:
    await went_away(sockets, worker, FIRST)
    await becomes(database, "SELECT count(abandoned_at) FROM repeats", 1)
    await worker.finish(worker.held[0], Outcome(Status.COMPLETED, 200, b"{}"))
    assert (await sockets.post(CHAT, json=chat(), headers=again(1))).json() == {}
    assert await jobs_written(database) == 1


async def test_a_repeat_does_not_find_another_tenants_job(
    sockets: Client, worker: Worker, database: Database, server: Server
) -> None:
    await went_away(sockets, worker, FIRST)
    other = {"Authorization": f"Bearer {await keys.create(database, 'other', 'x')}"}
    asked = asyncio.create_task(sockets.post(CHAT, json=chat(), headers=again(1) | other, timeout=60))
    await worker.answer()
    assert (await asked).status_code == 200
    assert await jobs_written(database) == 2


async def test_a_repeat_with_a_key_finds_the_job_of_its_key(
    sockets: Client, worker: Worker, database: Database
) -> None:
    await went_away(sockets, worker, FIRST)
    mine = {"Idempotency-Key": "k"}
    asked = asyncio.create_task(sockets.post(CHAT, json=chat(), headers=again(1) | mine, timeout=60))
    await worker.answer(body={"mine": True})
    assert (await asked).json() == {"mine": True}
    assert (await sockets.post(CHAT, json=chat(), headers=again(2) | mine)).json() == {"mine": True}
    assert await jobs_written(database) == 2


async def test_a_first_request_never_takes_over_another_ones_job(
    sockets: Client, worker: Worker, database: Database
) -> None:
    await went_away(sockets, worker, FIRST)
    asked = asyncio.create_task(sockets.post(CHAT, json=chat(), headers=FIRST, timeout=60))
    await worker.answer()
    assert (await asked).status_code == 200
    assert await jobs_written(database) == 2


async def test_the_same_key_is_the_same_job(client: Client, worker: Worker, database: Database) -> None:
    headers = {"Idempotency-Key": "k", "Prefer": "respond-async"}
    first = await client.post(CHAT, json=chat(), headers=headers)
    asked = asyncio.create_task(client.post(CHAT, json=chat(), headers={"Idempotency-Key": "k"}))
    second = await client.post(CHAT, json=chat(), headers=headers)
    assert first.json()["id"] == second.json()["id"]
    await worker.answer(body={"once": True})
    assert (await asked).json() == {"once": True}
    assert await jobs_written(database) == 1


async def test_the_same_key_with_another_body_is_refused(client: Client) -> None:
    headers = {"Idempotency-Key": "k", "Prefer": "respond-async"}
    await client.post(CHAT, json=chat(), headers=headers)
    response = await client.post(CHAT, json=chat("other"), headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "idempotency_key_reused"


async def test_a_key_has_1_to_255_characters(client: Client) -> None:
    for name in ("", "x" * 256):
        response = await client.post(CHAT, json=chat(), headers={"Idempotency-Key": name})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "Idempotency-Key"


async def test_a_server_that_stops_sends_waiters_away_and_keeps_their_jobs(
    app: FastAPI, worker: Worker, database: Database, key: Key
) -> None:
    async with served(app) as server, speaking(server, key) as client:
        asked = asyncio.create_task(client.post(CHAT, json=chat(), headers=FIRST, timeout=60))
        [job] = await worker.claim_next()
        server.should_exit = True
        response = await asked
    assert response.status_code == 503
    assert response.headers["x-should-retry"] == "true"
    assert int(response.headers["retry-after"]) >= 1
    assert await value(database, "SELECT status FROM jobs") == "in_progress"
    assert await repeats.overdue(database, 0) == [job.id]


async def test_a_repeat_finds_its_job_at_another_process(
    app: FastAPI, worker: Worker, database: Database, key: Key
) -> None:
    async with served(app) as first, speaking(first, key) as client:
        asked = asyncio.create_task(client.post(CHAT, json=chat(), headers=FIRST, timeout=60))
        [job] = await worker.claim_next()
        first.should_exit = True
        await asked
    settings = app.state.parts.settings
    async with running(settings) as second, client_of(second, key) as client:
        repeat = asyncio.create_task(client.post(CHAT, json=chat(), headers=again(1)))
        await worker.finish(job, Outcome(Status.COMPLETED, 200, b'{"once": true}'))
        assert (await repeat).json() == {"once": True}
    assert await jobs_written(database) == 1


async def test_a_response_that_is_no_json_is_handed_back_as_it_is(client: Client, worker: Worker) -> None:
    asked = asyncio.create_task(client.post(CHAT, json=chat()))
    [job] = await worker.claim_next()
    await worker.finish(job, Outcome(Status.COMPLETED, 200, b"\xff not json"))
    assert (await asked).content == b"\xff not json"
    shown = (await client.get(f"/v1/jobs/{ids.job_id(job.id)}")).json()
    assert "not json" in shown["response"]["body"]


async def test_lone_surrogates_travel_both_ways(client: Client, worker: Worker) -> None:
    content = json.dumps(chat("\ud800")).encode()
    asked = asyncio.create_task(client.post(CHAT, content=content, headers={"Content-Type": "application/json"}))
    [job] = await worker.answer(body={"text": "\udfff"})
    assert job.body == content
    assert (await asked).content == b'{"text": "\\udfff"}'
    shown = await client.get(f"/v1/jobs/{ids.job_id(job.id)}")
    assert b"\\udfff" in shown.content
