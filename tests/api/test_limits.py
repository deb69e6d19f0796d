"""`flex` is served when there is room: a setting says how many may wait, and the rest is told to come back later."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobs.database import Database
from jobs.settings import Settings
from tests.api.conftest import Client, Key, chat, client_of, jobs_written, running

CHAT = "/v1/chat/completions"
LATER = {"Prefer": "respond-async"}


@pytest.fixture
async def narrow(settings: Settings, key: Key, model: object) -> AsyncIterator[Client]:
    """Of an API where two flex jobs of a model may wait."""
    async with running(settings.model_copy(update={"flex_queue_limit": 2})) as app, client_of(app, key) as client:
        yield client


async def submit(client: Client, tier: str) -> Any:
    return await client.post(CHAT, json=chat(service_tier=tier), headers=LATER)


async def test_flex_is_refused_while_too_much_of_it_waits(narrow: Client, database: Database) -> None:
    assert [(await submit(narrow, "flex")).status_code for _ in range(2)] == [202, 202]
    refused = await submit(narrow, "flex")
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (
        "resource_unavailable",
        "service_tier",
        "rate_limit_error",
    )
    assert refused.headers["retry-after"] == "1"
    assert await jobs_written(database) == 2


async def test_other_tiers_are_not_refused(narrow: Client) -> None:
    for _ in range(2):
        await submit(narrow, "flex")
    assert [(await submit(narrow, tier)).status_code for tier in ("auto", "default", "priority")] == [202] * 3


async def test_neither_jobs_nor_their_retries_are_a_way_around(
    client: Client, settings: Settings, key: Key, database: Database
) -> None:
    old = (await submit(client, "flex")).json()["id"]
    await client.post(f"/v1/jobs/{old}/cancel")
    item = {"endpoint": CHAT, "body": chat(), "service_tier": "flex"}
    async with running(settings.model_copy(update={"flex_queue_limit": 0})) as app, client_of(app, key) as closed:
        assert (await closed.post("/v1/jobs", json=item)).status_code == 429
        assert (await closed.post("/v1/jobs", json=[item | {"service_tier": "default"}, item])).status_code == 429
        assert (await closed.post(f"/v1/jobs/{old}/retry")).status_code == 429
    assert await jobs_written(database) == 1


async def test_without_the_setting_any_number_waits(client: Client) -> None:
    assert {(await submit(client, "flex")).status_code for _ in range(5)} == {202}
