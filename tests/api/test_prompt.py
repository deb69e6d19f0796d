"""`POST /`: a prompt and its history in, the answer's text out, as many self-hosted demos have it."""

import asyncio
import dataclasses
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobs.database import Database
from jobs.records import ClaimedJob, Json
from jobs.settings import Settings
from tests.api.conftest import REGISTRATION, Client, Worker, client_of, jobs_written, register, running

SAID: Json = {"choices": [{"message": {"role": "assistant", "content": "Hi!"}}]}


@pytest.fixture
async def anybody(settings: Settings, worker: Worker) -> AsyncIterator[Client]:
    """Speaks without a key, as the demos do, to an API that asks for none."""
    async with running(settings.model_copy(update={"auth": "none"})) as app, client_of(app) as client:
        yield client


async def ask(client: Client, worker: Worker, fields: Json, status: int = 200, body: Any = None) -> tuple[Any, Json]:
    """The response to these fields, and the chat that a worker got and answered so."""
    asked = asyncio.create_task(client.post("/", json=fields))
    claimed: list[ClaimedJob] = await worker.answer(status, SAID if body is None else body)
    return await asked, json.loads(claimed[0].body)


async def test_no_key_and_no_model_are_needed(anybody: Client, worker: Worker) -> None:
    response, chat = await ask(anybody, worker, {"prompt": "Hello", "history": []})
    assert response.status_code == 200
    answer = response.json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", answer.pop("time"))
    assert answer == {"response": "Hi!", "status": 200}
    assert chat == {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 512, "model": "org/tiny"}


async def test_the_history_comes_first(anybody: Client, worker: Worker) -> None:
    history = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    _, chat = await ask(anybody, worker, {"prompt": "three", "history": history})
    assert chat["messages"] == [*history, {"role": "user", "content": "three"}]


async def test_a_key_is_asked_for_where_keys_are(client: Client, worker: Worker) -> None:
    assert (await client.post("/", json={"prompt": "x"}, headers={"Authorization": ""})).status_code == 401
    response, _ = await ask(client, worker, {"prompt": "Hello"})
    assert response.json()["response"] == "Hi!"


async def test_what_the_engine_refuses_is_its_own_answer(anybody: Client, worker: Worker) -> None:
    error = {"error": {"message": "too long", "type": "invalid_request_error", "param": None, "code": None}}
    response, _ = await ask(anybody, worker, {"prompt": "Hello"}, 400, error)
    assert (response.status_code, response.json()) == (400, error)


async def test_among_several_models_none_is_meant(anybody: Client, database: Database) -> None:
    await register(database, dataclasses.replace(REGISTRATION, model="other", aliases=(), adapters=()))
    response = await anybody.post("/", json={"prompt": "Hello"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "missing_model")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x", "history": "y"}, "history"),
        ({"prompt": "x", "history": [["a", "b"]]}, "history.0"),
        (
            {"prompt": "x", "history": [{"role": "user", "content": "a"}, {"role": "nobody", "content": "b"}]},
            "history.1",
        ),
        ({"prompt": "x", "temperature": 1}, "temperature"),
    ],
)
async def test_what_is_wrong_is_named(anybody: Client, database: Database, fields: Json, param: str) -> None:
    response = await anybody.post("/", json=fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert await jobs_written(database) == 0
