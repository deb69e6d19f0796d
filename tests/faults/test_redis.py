"""Redis ill in other ways than being gone: connections half open, frozen, no memory left, rubbish in its lists."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError
from sqlalchemy import text

from jobs.settings import Settings
from jobs.tickets import Publisher
from tests import journal
from tests.faults import invariants
from tests.faults.test_worker import all_have_status, submit
from tests.frozen import link
from tests.processes import Deployment, deployed, eventually

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
NOTICED_SECONDS = 31
"""A connection that is half open has been replaced by then."""


async def chat(client: httpx.AsyncClient) -> str:
    """The hex id of the job of a plain request, which was answered."""
    response = await client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 200, response.text
    return response.headers["x-request-id"].removeprefix("req_")


async def worker_takes_tickets(deployment: Deployment, within: float) -> None:
    """Its consumer takes what is put into its queue."""
    async with deployment.database.engine.connect() as connection:
        queue = (await connection.execute(text("SELECT queue FROM models"))).scalar_one()
    publisher = Publisher(Settings(database_url=deployment.postgres.url, redis_url=deployment.redis.url))
    publisher.start()
    publisher.publish(queue, 100, 100)
    await asyncio.to_thread(publisher.stop)
    with Redis.from_url(deployment.redis.url) as redis:

        async def taken() -> bool:
            return bool(await asyncio.to_thread(redis.llen, f"{{longhaul}}:{queue}") == 0)

        await eventually(taken, within, "the tickets are taken")


async def all_completed_once(deployment: Deployment, accepted: list[str]) -> None:
    await all_have_status(deployment, "completed", len(accepted))
    await invariants.check_completed_once(deployment.database, accepted, journal.read(deployment.journal))
    assert set((await invariants.attempts(deployment.database)).values()) == {1}


async def test_half_open_connections_are_noticed_and_lose_nothing(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment, link(deployment.redis.url) as frozen:
        deployment.environment["REDIS_URL"] = frozen.url
        await deployment.start_api()
        await deployment.start_worker()
        async with deployment.client() as client:
            accepted = [await chat(client)]
            assert frozen.freeze() >= 4
            accepted += [*await submit(client, 40), await chat(client)]
            await all_have_status(deployment, "completed", len(accepted))
            await worker_takes_tickets(deployment, within=2 * NOTICED_SECONDS)
            accepted += [*await submit(client, 40), await chat(client)]
            await all_completed_once(deployment, accepted)


async def test_a_redis_that_stands_still_holds_up_no_job(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        async with deployment.client() as client:
            accepted = [await chat(client)]
            with Redis.from_url(deployment.redis.url) as redis:
                process = int(redis.info("server")["process_id"])
            os.kill(process, signal.SIGSTOP)
            try:
                accepted += [*await submit(client, 40), await chat(client)]
                await all_have_status(deployment, "completed", len(accepted))
            finally:
                os.kill(process, signal.SIGCONT)
            await worker_takes_tickets(deployment, within=NOTICED_SECONDS)
            accepted += [await chat(client)]
            await all_completed_once(deployment, accepted)


async def test_a_redis_without_memory_holds_up_no_job(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        worker, _ = await deployment.start_worker()
        async with deployment.client() as client:
            accepted = [await chat(client)]
            with Redis.from_url(deployment.redis.url) as redis:
                redis.config_set("maxmemory", 1)
                with pytest.raises(OutOfMemoryError):
                    redis.set("key", "value")
                accepted += [*await submit(client, 40), await chat(client)]
                await all_have_status(deployment, "completed", len(accepted))
                redis.config_set("maxmemory", 0)
            await worker_takes_tickets(deployment, within=NOTICED_SECONDS)
            assert worker.code is None
            accepted += [await chat(client)]
            await all_completed_once(deployment, accepted)


async def test_rubbish_among_the_tickets_is_passed_over(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        worker, _ = await deployment.start_worker()
        async with deployment.client() as client, deployment.database.engine.connect() as connection:
            queue = (await connection.execute(text("SELECT queue FROM models"))).scalar_one()
            with Redis.from_url(deployment.redis.url) as redis:
                for rubbish in (b"", b"{}", b"\xff\x00", b'{"body": "e30=", "headers": {"task": "no.such.task"}}'):
                    redis.lpush(f"{{longhaul}}:{queue}", rubbish)
            accepted = [*await submit(client, 100), await chat(client)]
            await all_completed_once(deployment, accepted)
            await worker_takes_tickets(deployment, within=NOTICED_SECONDS)
            assert worker.code is None
