"""Webhooks while control is killed again and again, Redis loses its data and PostgreSQL crashes: none is lost, and no
receiver sees two ids for one event."""

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobs import webhooks
from jobs.secrets import Vault, new_key
from tests.processes import Deployment, deployed, eventually
from tests.receiver import Hit, Receiver, Reply, receiving

ENDPOINTS: Final = 10
JOBS: Final = 500
DELIVERIES: Final = ENDPOINTS * JOBS
SECONDS: Final = 90
"""In which everything is delivered after the last fault: a claim of who was killed runs out after half a minute."""


@asynccontextmanager
async def running(folder: Path, receiver: Receiver, endpoints: int) -> AsyncIterator[Deployment]:
    """Everything up, with so many endpoints that hear of every job's end."""
    key = new_key()
    async with deployed(folder, LONGHAUL_SECRET_KEY=key, WEBHOOK_ALLOW="127.0.0.1") as deployment:
        for number in range(endpoints):
            await webhooks.create(
                deployment.database,
                Vault(key),
                1,
                name=f"endpoint {number}",
                url=receiver.url(f"/{number}"),
                event_types=["job.completed"],
            )
        deployment.spawn("control")
        await deployment.start_api()
        await deployment.start_worker()
        yield deployment


async def submit(deployment: Deployment, jobs: int) -> set[str]:
    """Submit so many jobs for later; their ids."""
    item = {"endpoint": "/v1/completions", "body": {"model": "scripted", "prompt": "hi", "max_tokens": 2}}
    async with deployment.client() as client:
        answer = await client.post("/v1/jobs", json=[item] * jobs)
    assert answer.status_code == 202, answer.text
    return {job["id"] for job in answer.json()["data"]}


async def pending(deployment: Deployment) -> int | None:
    """How many deliveries still wait; None while the database is away."""
    with contextlib.suppress(DBAPIError):
        async with deployment.database.engine.connect() as connection:
            rows = await connection.execute(text("SELECT count(*) FROM deliveries WHERE status = 'pending'"))
            return int(rows.scalar_one())
    return None


async def until_hits(receiver: Receiver, count: int) -> None:
    async def enough() -> bool:
        return len(receiver.hits) >= count

    await eventually(enough, SECONDS, f"{count} deliveries")


def kill_control(deployment: Deployment) -> None:
    deployment.parts["control"].kill()
    deployment.spawn("control")


async def all_delivered(deployment: Deployment, receiver: Receiver, jobs: set[str], endpoints: int) -> None:
    """Wait until nothing is pending; then everything was received, each under one id and with one body."""

    async def done() -> bool:
        return len({(hit.path, hit.headers["webhook-id"]) for hit in receiver.hits}) >= len(jobs) * endpoints and (
            await pending(deployment) == 0
        )

    await eventually(done, SECONDS, "every delivery")
    seen: defaultdict[tuple[str, str], set[tuple[str, bytes]]] = defaultdict(set)
    for hit in receiver.hits:
        assert hit.event["type"] == "job.completed"
        seen[hit.path, hit.event["data"]["id"]].add((hit.headers["webhook-id"], hit.body))
    assert set(seen) == {(f"/{number}", job) for number in range(endpoints) for job in jobs}
    assert all(len(forms) == 1 for forms in seen.values()), "two ids, or two bodies, for one event"
    assert Counter(len(forms) for forms in seen.values()) == {1: len(jobs) * endpoints}


@pytest.mark.timeout(300)
async def test_every_event_arrives_whatever_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    refused: set[str] = set()

    def refuse_some_once(hit: Hit) -> Reply:
        identity = hit.headers["webhook-id"]
        fails = identity not in refused and rng.random() < 0.01  # the third attempt would be minutes later
        refused.update([identity] if fails else [])
        return Reply(503 if fails else 200, seconds=rng.uniform(0, 0.02))

    async with receiving() as receiver, running(tmp_path, receiver, ENDPOINTS) as deployment:
        receiver.answer = refuse_some_once
        jobs = await submit(deployment, JOBS)
        for share in (0.1, 0.25, 0.4, 0.55):
            await until_hits(receiver, round(DELIVERIES * share))
            kill_control(deployment)
        await until_hits(receiver, round(DELIVERIES * 0.7))
        await asyncio.to_thread(deployment.redis.stop, immediate=True)
        deployment.redis.clear()
        await asyncio.to_thread(deployment.redis.start)
        await until_hits(receiver, round(DELIVERIES * 0.8))
        await asyncio.to_thread(deployment.postgres.stop, immediate=True)
        await asyncio.sleep(2)
        await asyncio.to_thread(deployment.postgres.start)
        await all_delivered(deployment, receiver, jobs, ENDPOINTS)


async def test_a_crash_between_sending_and_marking_sends_again_under_the_same_id(tmp_path: Path) -> None:
    got = asyncio.Event()

    def hold(hit: Hit) -> Reply:
        got.set()
        return Reply(never=True)

    async with receiving() as receiver, running(tmp_path, receiver, 1) as deployment:
        receiver.answer = hold
        jobs = await submit(deployment, 1)
        await asyncio.wait_for(got.wait(), 30)
        kill_control(deployment)
        receiver.answer = lambda hit: Reply()
        await asyncio.sleep(1)  # a signature's time is in whole seconds
        async with deployment.database.transaction() as connection:  # the claim runs out
            await connection.execute("UPDATE deliveries SET next_at = now()")
        await all_delivered(deployment, receiver, jobs, 1)
        first, *_, last = receiver.hits
        assert first.headers["webhook-id"] == last.headers["webhook-id"]
        assert first.headers["webhook-timestamp"] != last.headers["webhook-timestamp"]
