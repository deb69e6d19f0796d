"""One request from door to door, without and with `Prefer`."""

import asyncio

from jobs.database import Database
from tests.api.conftest import Client, Worker, chat, jobs_written


async def test_a_request_waits_and_gets_the_engines_own_response(client: Client, worker: Worker) -> None:
    asked = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
    await worker.answer(body={"id": "x", "choices": [1]})
    response = await asked
    assert response.status_code == 200
    assert response.json() == {"id": "x", "choices": [1]}
    assert response.headers["content-type"] == "application/json"


async def test_a_request_that_prefers_so_gets_its_job_at_once(client: Client, database: Database) -> None:
    response = await client.post("/v1/chat/completions", json=chat(), headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    job = response.json()
    assert job["status"] == "queued"
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["x-queue-position"] == "1"
    assert await jobs_written(database) == 1
