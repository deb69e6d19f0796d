"""Turns over HTTP: whatever way a request comes, it joins its conversation, and a retry is the next turn."""

import json

import pytest
from redis.asyncio import Redis

from jobs.database import Database
from jobs.records import Flags, Model
from tests.api.conftest import REGISTRATION, Client, Worker, chat, register, value
from tests.until import until
from worker.dialect import extended

CHAT = "/v1/chat/completions"
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
async def model(database: Database) -> Model:
    """Its worker knows conversations."""
    return await register(database, extended(REGISTRATION))


async def submit(client: Client, name: object = "c") -> str:
    response = await client.post(CHAT, json=chat(conversation_id=name), headers=ASYNC)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def test_turns_are_claimed_one_after_another(client: Client, worker: Worker) -> None:
    first, second = await submit(client), await submit(client)
    [claimed] = await worker.answer()
    assert f"job_{claimed.id.hex}" == first
    assert claimed.flags & Flags.DIALECT
    [claimed] = await worker.answer()
    assert f"job_{claimed.id.hex}" == second


async def test_a_turn_is_told_at_once_how_many_are_ahead_of_it(client: Client) -> None:
    told = [(await client.post(CHAT, json=chat(conversation_id="c"), headers=ASYNC)).json() for _ in range(3)]
    assert [job["queue"]["position"] for job in told] == [1, 2, 3]


async def test_a_worker_is_told_of_the_turn_that_a_cancel_frees(client: Client, redis_url: str, model: Model) -> None:
    first, second = await submit(client), await submit(client)
    async with Redis.from_url(redis_url) as redis:
        bell = f"{{longhaul}}:bell:{model.queue}"

        async def told() -> bool:
            return await redis.llen(bell) > 0

        await until(told)
        await redis.delete(bell)
        await client.post(f"/v1/jobs/{first}/cancel")
        await until(told)
    assert (await client.get(f"/v1/jobs/{second}")).json()["queue"]["position"] == 1


async def test_a_number_names_the_same_conversation_as_its_digits(client: Client, database: Database) -> None:
    await submit(client, 5)
    await submit(client, "5")
    assert await value(database, "SELECT count(*) FROM jobs WHERE blocked_on IS NOT NULL") == 1


async def test_an_array_holds_turns_in_its_order(client: Client, worker: Worker) -> None:
    items = [{"endpoint": CHAT, "body": chat(conversation_id="c")} for _ in range(3)]
    jobs = (await client.post("/v1/jobs", json=items)).json()["data"]
    for job in jobs:
        [claimed] = await worker.answer()
        assert f"job_{claimed.id.hex}" == job["id"]


async def test_a_retry_is_the_next_turn(client: Client, worker: Worker, database: Database) -> None:
    first = await submit(client)
    await worker.answer()
    await submit(client)
    assert (await client.post(f"/v1/jobs/{first}/retry")).status_code == 202
    assert await value(database, "SELECT max(turn) FROM turns") == 3
    assert await value(database, "SELECT count(*) FROM jobs WHERE blocked_on IS NOT NULL") == 1


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0", "\ud800", True, 1.5, ["a"], 2**64])
async def test_a_name_that_is_none_is_refused(client: Client, database: Database, name: object) -> None:
    content = json.dumps({"endpoint": CHAT, "body": chat(conversation_id=name)})  # httpx takes no surrogates
    response = await client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "body.conversation_id")
    assert await value(database, "SELECT count(*) FROM turns") == 0
