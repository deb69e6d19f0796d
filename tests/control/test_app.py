"""Control as a process: its chores with and without Redis, its tickets, its end."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias
from uuid import uuid4

import httpx
import pytest
import redis.asyncio
from prometheus_client.parser import text_string_to_metric_families

from jobs import catalog, deliveries
from jobs.broker import CONTROL_QUEUE, DELIVER_QUEUE, queue_name
from jobs.database import Database
from jobs.records import Registration
from jobs.settings import Settings
from jobs.tickets import Publisher
from longhaul.embedded import free_port
from tests.jobs import hooks
from tests.jobs.conftest import Accept, MakeJob, Outage
from tests.jobs.ledger import rows
from tests.receiver import receiving
from tests.until import until

Running: TypeAlias = Callable[..., AbstractAsyncContextManager[asyncio.subprocess.Process]]
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def control(settings: Settings) -> Running:
    """`async with control(LONGHAUL_CHORES="0.1"):` a control process that must end by SIGTERM with exit code 0."""

    @asynccontextmanager
    async def running(**variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
        ours = {"DATABASE_URL": settings.database_url or "", "REDIS_URL": settings.redis_url or ""}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "longhaul", "control"),
            env={**os.environ, **ours, "LONGHAUL_LOG_FORMAT": "text", **variables},
        )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    return running


@pytest.fixture
async def model_id(database: Database) -> int:
    """A model as a worker registers it: control reads the catalog."""
    engine = Registration("meta/llama", (), (), {}, None, slots=4)
    return (await catalog.register(database, uuid4(), engine, host="here", pid=1, home=None)).id


async def all_expired(database: Database) -> bool:
    return await rows(database, "SELECT id FROM jobs WHERE status <> 'expired'") == []


async def test_its_metrics_show_the_whole_deployment_and_how_many_workers_it_wants(
    control: Running, accept: Accept, new_job: MakeJob
) -> None:
    await accept(new_job(), new_job())
    port = free_port()
    wanted = {
        'longhaul_queued{model="meta/llama",tier="default"} 2.0',
        'longhaul_workers{model="meta/llama",state="serving"} 1.0',
        'longhaul_workers_wanted{model="meta/llama"} 1.0',
        'longhaul_chores_total{chore="measure",end="done"}',
        "longhaul_broker_up 1.0",
    }
    async with control(LONGHAUL_CHORES="0.1", LONGHAUL_METRICS_PORT=str(port)), httpx.AsyncClient() as client:

        async def shown() -> bool:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.get(f"http://127.0.0.1:{port}/metrics")
                return all(line in answer.text for line in wanted)
            return False

        await until(shown)


async def test_a_lost_ticket_is_published_again(
    control: Running, database: Database, accept: Accept, new_job: MakeJob, redis_url: str
) -> None:
    await accept(new_job())
    queue = queue_name("meta/llama")
    async with control(LONGHAUL_CHORES="0.1"), redis.asyncio.Redis.from_url(redis_url) as client:

        async def ticket() -> bool:
            return bool(await client.llen(f"{{longhaul}}:{queue}"))

        await until(ticket)


async def test_without_redis_the_chores_go_on(
    control: Running, database: Database, accept: Accept, new_job: MakeJob
) -> None:
    async with control(REDIS_URL=NOWHERE, LONGHAUL_CHORES="0.1") as process:
        for _ in range(2):
            await accept(new_job(expires_seconds=60))
            await rows(database, "UPDATE jobs SET expires_at = now() WHERE status = 'queued'")
            await until(lambda: all_expired(database))
        assert process.returncode is None


async def test_tickets_have_control_look_for_batches_and_do_nothing_else_before_its_time(
    control: Running, settings: Settings
) -> None:
    publisher = Publisher(settings)
    publisher.start()
    port = free_port()
    async with (
        control(LONGHAUL_CHORES="3600", LONGHAUL_METRICS_PORT=str(port)) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        began = time.monotonic()

        async def looked_more_often_than_each_second() -> bool:
            assert process.returncode is None
            publisher.publish(CONTROL_QUEUE, 1, 1)
            with contextlib.suppress(httpx.TransportError):
                rounds = await done(client)
                most = 10 + 2 * (time.monotonic() - began)
                return rounds.get("ingest", 0) > most and rounds.get("finalise", 0) > most
            return False

        await until(looked_more_often_than_each_second)
        rounds = await done(client)
    publisher.stop()
    assert all(rounds.get(chore, 0) <= 1 for chore in ("purge", "sweep", "measure"))


async def done(client: httpx.AsyncClient) -> dict[str, float]:
    """How many rounds of each chore were done."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    return {
        sample.labels["chore"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "longhaul_chores_total" and sample.labels["end"] == "done"
    }


async def test_a_ticket_has_webhooks_sent(
    control: Running, settings: Settings, database: Database, redis_url: str
) -> None:
    ours = {"LONGHAUL_SECRET_KEY": hooks.KEY, "WEBHOOK_ALLOW": "127.0.0.1"}
    async with receiving() as receiver, redis.asyncio.Redis.from_url(redis_url) as client, control(**ours):
        endpoint, _ = await hooks.endpoint(database, "job.completed", url=receiver.url())
        await deliveries.test(database, 1, endpoint.id, "job.completed")
        publisher = Publisher(settings)
        publisher.start()
        publisher.publish(DELIVER_QUEUE, 1, 1)
        publisher.stop()
        await until(lambda: len(receiver.hits) == 1)

        async def taken() -> bool:
            return await client.llen(f"{{longhaul}}:{DELIVER_QUEUE}") == 0

        await until(taken)


async def test_it_outlives_an_outage_of_the_database(
    control: Running, database: Database, accept: Accept, new_job: MakeJob, outage: Outage
) -> None:
    await accept(new_job(expires_seconds=60))
    async with control(LONGHAUL_CHORES="0.1"):
        async with outage():
            await asyncio.sleep(0.5)
        await database.close()  # its connections are dead, and this is not the one that is tested
        await rows(database, "UPDATE jobs SET expires_at = now()")
        await until(lambda: all_expired(database))
