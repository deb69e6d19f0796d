"""Alive, ready, degraded; and what every response carries."""

from fastapi import FastAPI

from jobs.database import Database
from jobs.settings import Settings
from tests.api.conftest import Client, Key, chat, client_of, running
from tests.until import until

NOWHERE = "127.0.0.1:1"


async def test_a_process_with_its_stores_is_ready(app: FastAPI) -> None:
    await until(lambda: app.state.parts.waiters.subscribed)
    async with client_of(app) as nobody:
        assert (await nobody.get("/livez")).status_code == 200
        for path in ("/readyz", "/health"):
            response = await nobody.get(path)
            assert response.status_code == 200
            assert response.json() == {"status": "ok", "missing": [], "degraded": []}


async def test_without_redis_it_is_degraded_but_ready(settings: Settings, key: Key) -> None:
    lame = settings.model_copy(update={"redis_url": f"redis://{NOWHERE}/0"})
    async with running(lame) as app, client_of(app, key) as client:
        response = await client.get("/readyz")
        assert response.status_code == 200
        assert response.json()["degraded"] == ["redis"]


async def test_without_its_database_it_is_alive_and_says_what_is_missing(settings: Settings, key: Key) -> None:
    lost = settings.model_copy(update={"database_url": f"postgresql+psycopg://x:y@{NOWHERE}/z"})
    async with running(lost) as app, client_of(app, key) as client:
        assert (await client.get("/livez")).status_code == 200
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["missing"] == ["database"]
        for refused in (await client.post("/v1/chat/completions", json=chat()), await client.get("/v1/jobs")):
            assert refused.status_code == 503
            assert refused.json()["error"]["type"] == "service_unavailable_error"
            assert int(refused.headers["retry-after"]) >= 1


async def test_a_job_is_accepted_and_found_without_redis(
    settings: Settings, database: Database, client: Client, key: Key
) -> None:
    lame = settings.model_copy(update={"redis_url": f"redis://{NOWHERE}/0"})
    async with running(lame) as app, client_of(app, key) as client:
        accepted = await client.post("/v1/chat/completions", json=chat(), headers={"Prefer": "respond-async"})
        assert accepted.status_code == 202
        assert (await client.get(accepted.headers["location"])).json()["status"] == "queued"


async def test_metrics_are_counted(client: Client) -> None:
    await client.get("/v1/models")
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'longhaul_http_requests_total{method="GET",status="200"}' in response.text


async def test_every_response_has_a_request_id(client: Client) -> None:
    seen = set()
    for path in ("/livez", "/v1/models", "/v1/nothing", "/v1/jobs/x", "/v1/jobs?limit=x"):
        response = await client.get(path)
        assert response.headers["x-request-id"].startswith("req_")
        assert response.headers["openai-version"] == "2020-10-01"
        seen.add(response.headers["x-request-id"])
    assert len(seen) == 5
