"""`/v1/models`: every name that a request may ask for."""

import dataclasses

from jobs import catalog
from jobs.database import Database
from tests.api.conftest import REGISTRATION, Client, register


async def test_every_name_is_listed(client: Client) -> None:
    answer = (await client.get("/v1/models")).json()
    assert answer["object"] == "list"
    assert [(model["id"], model["root"], model["parent"]) for model in answer["data"]] == [
        ("org/tiny", "org/tiny", None),
        ("tiny", "org/tiny", None),
        ("tiny-lora", "tiny-lora", "org/tiny"),
    ]
    for model in answer["data"]:
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert model["owned_by"] == "longhaul"
        assert model["max_model_len"] == 2048
        assert model["workers"] == 1


async def test_a_model_is_found_by_any_spelling_of_its_path(client: Client, database: Database) -> None:
    folder = dataclasses.replace(REGISTRATION, model="/models/llama", aliases=(), adapters=())
    await register(database, folder)
    for path, name in [
        ("org/tiny", "org/tiny"),
        ("org%2Ftiny", "org/tiny"),
        ("tiny-lora", "tiny-lora"),
        ("/models/llama", "/models/llama"),
        ("%2Fmodels%2Fllama", "/models/llama"),
    ]:
        response = await client.get(f"/v1/models/{path}")
        assert (response.status_code, response.json().get("id")) == (200, name)


async def test_an_unknown_model_is_a_404_that_lists_what_exists(client: Client) -> None:
    response = await client.get("/v1/models/gpt-4o")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "'org/tiny'" in response.json()["error"]["message"]


async def test_a_model_stays_known_without_workers_until_it_is_retired(client: Client, database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM workers")
    known = (await client.get("/v1/models")).json()["data"]
    assert {model["workers"] for model in known} == {0}
    await catalog.retire(database, "tiny")
