"""Whose request is it?"""

from fastapi import FastAPI

from jobs import keys
from jobs.database import Database
from jobs.records import Model
from jobs.settings import Settings
from tests.api.conftest import Client, Key, chat, client_of, running, value

CHAT = "/v1/chat/completions"
ASYNC = {"Prefer": "respond-async"}


async def test_every_resource_wants_a_key(app: FastAPI, model: Model) -> None:
    async with client_of(app) as nobody:
        for method, path in [
            ("POST", CHAT),
            ("POST", "/v1/audio/transcriptions"),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/tiny"),
            ("GET", "/v1/jobs"),
            ("POST", "/v1/jobs"),
            ("GET", "/v1/jobs/x"),
        ]:
            response = await nobody.request(method, path)
            assert response.status_code == 401, path
            error = response.json()["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", None)
            assert "LONGHAUL_AUTH=none" in error["message"]


async def test_a_wrong_key_is_refused_and_not_repeated_back(app: FastAPI) -> None:
    for wrong in ("sk-lh-" + "x" * 43, "EMPTY", "\u00e9", "Bearer"):
        async with client_of(app) as nobody:
            headers = {b"Authorization": f"Bearer {wrong}".encode()}
            response = await nobody.get("/v1/models", headers=headers)
        assert response.status_code == 401
        error = response.json()["error"]
        assert error["code"] == "invalid_api_key"
        assert "LONGHAUL_AUTH=none" in error["message"]
        assert wrong not in error["message"].removeprefix("Incorrect").partition(". ")[0]


async def test_anthropics_header_carries_a_key_too(app: FastAPI, key: Key, model: Model) -> None:
    async with client_of(app) as client:
        assert (await client.get("/v1/models", headers={"x-api-key": key})).status_code == 200


async def test_a_revoked_key_ends_within_seconds(client: Client, database: Database) -> None:
    assert (await client.get("/v1/models")).status_code == 200
    [made] = await keys.list_keys(database)
    await keys.revoke(database, made.id)
    while (await client.get("/v1/models")).status_code == 200:
        pass


async def test_a_job_belongs_to_its_keys_tenant(client: Client, database: Database) -> None:
    await client.post(CHAT, json=chat(), headers=ASYNC)
    name = await value(database, "SELECT name FROM tenants JOIN jobs ON jobs.tenant_id = tenants.id")
    assert name == "acme"


async def test_without_keys_everybody_is_the_default_tenant(
    settings: Settings, database: Database, model: Model
) -> None:
    async with running(settings.model_copy(update={"auth": "none"})) as app:
        for key in (None, "EMPTY", "sk-whatever"):
            async with client_of(app, key) as client:
                assert (await client.post(CHAT, json=chat(), headers=ASYNC)).status_code == 202
    assert await value(database, "SELECT count(*) FROM jobs WHERE tenant_id = 1") == 3
