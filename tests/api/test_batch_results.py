"""`GET /v1/batches/{id}/results`: lines as they end, page by page, and on until their batch has ended."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from jobs import batches, ids
from jobs.database import Database
from jobs.records import Json
from tests.api.batch_calls import started_for_acme
from tests.api.conftest import Client, Key, Worker, chat, served, url_of, value
from tests.jobs.batch_rows import DONE, FAULT, Started, finalise, refuse
from tests.until import until


@pytest.fixture
async def started(client: Client, worker: Worker, database: Database) -> Started:
    """Acme's batch of three lines and a copy of the first, all waiting."""
    return await started_for_acme(database, worker, copies=[("a2", "a")])


def path(started: Started, query: str = "") -> str:
    return f"/v1/batches/{ids.batch_id(started.batch.id)}/results?{query}"


def parsed(content: bytes) -> list[Json]:
    assert content.endswith(b"\n") or not content
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


async def read(client: Client, started: Started, query: str = "") -> list[Json]:
    response = await client.get(path(started, query))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/jsonl"
    return parsed(response.content)


async def names(client: Client, started: Started, query: str) -> list[str]:
    return [line["custom_id"] for line in await read(client, started, query)]


@asynccontextmanager
async def following(app: FastAPI, key: Key, started: Started, query: str = "") -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream that follows, over a socket, as they come."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        served(app) as server,
        httpx.AsyncClient(base_url=url_of(server), headers=headers, timeout=20) as client,
        client.stream("GET", path(started, f"follow=true&{query}")) as response,
    ):
        assert response.status_code == 200
        yield response.aiter_lines()


async def test_lines_come_in_the_order_in_which_they_ended_with_their_numbers(client: Client, started: Started) -> None:
    assert await read(client, started) == []
    await started.end("b", FAULT)
    await started.end("a")
    found = await read(client, started)
    assert [(line["custom_id"], line["number"]) for line in found] == [("b", 1), ("a", 2), ("a2", 3)]
    assert all(set(line) == {"id", "custom_id", "response", "error", "number"} for line in found)
    assert found[0]["response"]["status_code"] == 400
    assert found[1]["response"]["body"] == json.loads(DONE.body or b"")
    assert found[2]["response"]["copy_of"] == "a"


async def test_one_reads_on_from_any_number(client: Client, started: Started) -> None:
    await started.end("b")
    await started.end("a")
    assert await names(client, started, "after=1") == ["a", "a2"]
    assert await names(client, started, "after=3") == []
    assert await names(client, started, "limit=2") == ["b", "a"]
    assert await names(client, started, "after=2&limit=2") == ["a2"]


async def test_lines_can_be_narrowed(client: Client, started: Started) -> None:
    await started.end("a")
    await started.end("b", FAULT)
    await client.post(f"/v1/batches/{ids.batch_id(started.batch.id)}/cancel")
    await started.end("c")
    assert await names(client, started, "status=completed") == ["a", "a2", "c"]
    assert await names(client, started, "status=failed") == ["b"]
    assert await names(client, started, "status=expired") == []
    assert await names(client, started, "custom_id=a2") == ["a2"]
    assert await names(client, started, "custom_id=a2&status=failed") == []
    assert await names(client, started, "custom_id=nobody") == []


async def test_lines_that_never_ran_say_so(client: Client, started: Started) -> None:
    await client.post(f"/v1/batches/{ids.batch_id(started.batch.id)}/cancel")
    found = await read(client, started, "status=cancelled&include=input")
    assert [line["custom_id"] for line in found] == ["a", "b", "c", "a2"]
    assert {line["error"]["code"] for line in found} == {"batch_cancelled"}
    assert [line["input"] for line in found] == [chat(name) for name in "abca"]


async def test_the_input_stands_beside_the_result_if_asked_for(
    client: Client, started: Started, database: Database
) -> None:
    await refuse(started, "r", b'{"messages":3}', b'{"error":{}}')
    await started.end("a")
    for query in ("include=input", "include[]=input", "include[]=input&include[]=input"):
        found = await read(client, started, query)
        assert [line["input"] for line in found] == [{"messages": 3}, chat("a"), chat("a")]
    await value(database, f"DELETE FROM requests WHERE job_id = '{started.jobs['a']}' RETURNING 1")
    assert [line["input"] for line in await read(client, started, "include=input&after=1")] == [None, None]


async def test_many_lines_come_page_by_page(client: Client, worker: Worker, database: Database) -> None:
    started = await started_for_acme(database, worker, [str(number) for number in range(350)])
    await batches.cancel(database, started.batch.tenant_id, started.batch.id)
    assert [line["number"] for line in await read(client, started)] == list(range(1, 351))
    assert [line["number"] for line in await read(client, started, "after=3&limit=201")] == list(range(4, 205))


async def test_bad_parameters_are_refused_by_name(client: Client, started: Started) -> None:
    for query, param in [
        ("after=x", "after"),
        ("after=-1", "after"),
        ("after=99999999999", "after"),
        ("limit=0", "limit"),
        ("follow=maybe", "follow"),
        ("status=done", "status"),
        ("status=queued", "status"),
        ("status=in_progress", "status"),
        ("custom_id=%00", "custom_id"),
        ("include=output", "include"),
        ("include[]=input&include[]=", "include"),
    ]:
        response = await client.get(path(started, query))
        assert response.status_code == 400, query
        assert response.json()["error"]["param"] == param


async def test_who_follows_hears_of_each_line_until_the_batch_has_ended(
    app: FastAPI, key: Key, started: Started
) -> None:
    await started.end("b")
    async with following(app, key, started) as lines:
        assert json.loads(await anext(lines))["custom_id"] == "b"
        await started.end("c", FAULT)
        assert json.loads(await anext(lines))["custom_id"] == "c"
        await started.end("a")
        assert [json.loads(await anext(lines))["custom_id"] for _ in range(2)] == ["a", "a2"]
        await finalise(started)
        assert [line async for line in lines] == []


async def test_who_follows_a_batch_that_has_ended_gets_all_at_once(client: Client, started: Started) -> None:
    for custom_id in "abc":
        await started.end(custom_id)
    await finalise(started)
    assert len(await read(client, started, "follow=true")) == 4


async def test_who_follows_one_line_or_some_gets_them_alone(app: FastAPI, key: Key, started: Started) -> None:
    async with following(app, key, started, "custom_id=c") as lines:
        await started.end("a")
        await started.end("c")
        assert [json.loads(line)["custom_id"] async for line in lines] == ["c"]


async def test_what_did_not_match_is_passed_over_and_what_does_is_not(app: FastAPI, key: Key, started: Started) -> None:
    async with following(app, key, started, "status=failed&limit=2") as lines:
        await started.end("a")
        await started.end("b", FAULT)
        assert json.loads(await anext(lines))["custom_id"] == "b"
        await started.end("c", FAULT)
        assert [json.loads(line)["custom_id"] async for line in lines] == ["c"]


async def test_a_follower_goes_home_with_the_server(app: FastAPI, key: Key, started: Started) -> None:
    await started.end("b")
    async with following(app, key, started) as lines:
        assert json.loads(await anext(lines))["custom_id"] == "b"
        app.state.stopping.set()
        assert [line async for line in lines] == []


async def test_a_follower_who_goes_away_is_let_go(app: FastAPI, key: Key, started: Started) -> None:
    await started.end("b")
    headers = {"Authorization": f"Bearer {key}"}
    async with served(app) as server:
        before = asyncio.all_tasks()
        async with (
            httpx.AsyncClient(base_url=url_of(server), headers=headers) as client,
            client.stream("GET", path(started, "follow=true")) as response,
        ):
            assert json.loads(await anext(response.aiter_lines()))["custom_id"] == "b"
            assert asyncio.all_tasks() > before
        await until(lambda: asyncio.all_tasks() <= before)


async def test_followers_hold_no_connection_between_two_looks(
    client: Client, started: Started, database: Database, app: FastAPI
) -> None:
    """More of them than the pool has connections, and others are still answered."""
    many = [asyncio.create_task(client.get(path(started, "follow=true"))) for _ in range(20)]
    for _ in range(5):
        assert (await client.get("/v1/batches")).status_code == 200
    for custom_id in "abc":
        await started.end(custom_id)
    await finalise(started)
    assert {len(parsed((await each).content)) for each in many} == {4}
