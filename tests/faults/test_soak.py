"""Faults at random, of every kind at once, for as long as SOAK_SECONDS says: `make soak` does so for ten minutes.

What goes wrong derives from a seed, which is printed; SOAK_SEED repeats it.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests import journal
from tests.faults import invariants
from tests.faults.test_everything_at_once import submit_one
from tests.processes import Deployment, deployed, eventually

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
SEED = int(os.environ.get("SOAK_SEED", random.randrange(2**32)))
RECOVERY_SECONDS = 90
WORKERS = [f"worker {number}" for number in range(4)]
TICK_SECONDS = 0.25
PAUSE_SECONDS = 0.03
"""Between two submits: twenty thousand in ten minutes."""
FROZEN_SECONDS = 3.0
"""A lease is two."""


@pytest.mark.timeout(SECONDS + 300)
async def test_everything_accepted_ends_once_whatever_goes_wrong(tmp_path: Path) -> None:
    print(f"SOAK_SEED={SEED}")
    async with deployed(tmp_path, LONGHAUL_TEST_SLOTS="16") as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        for name in WORKERS:
            deployment.spawn("worker", name)
        await deployment.until_served()
        accepted: set[str] = set()
        deadline = time.monotonic() + SECONDS
        submitting = asyncio.create_task(submit(deployment, accepted, deadline))
        await havoc(deployment, deadline)
        await submitting

        await eventually(lambda: settled(deployment, len(accepted)), RECOVERY_SECONDS, f"{len(accepted)} jobs ended")
        entries = journal.read(deployment.journal)
        given_up = await failed(deployment)
        starts = journal.starts(entries)
        assert all(starts[job] > 3 for job in given_up), "only what one worker after another was lost with is given up"
        await invariants.check_completed_once(deployment.database, accepted - given_up, entries)
        await invariants.check_order_is_clean(deployment.database)


async def havoc(deployment: Deployment, deadline: float) -> None:
    """Break something now and then. Who is killed is started again at once, as a supervisor would."""
    chance = random.Random(SEED)
    thaws: set[asyncio.Task[None]] = set()
    while time.monotonic() < deadline:
        await asyncio.sleep(TICK_SECONDS)
        fault, worker = chance.random(), chance.choice(WORKERS)
        if fault < 0.08:
            deployment.parts[worker].kill()
            deployment.spawn("worker", worker)
        elif fault < 0.13:
            thaws.add(asyncio.create_task(frozen(deployment, worker)))
        elif fault < 0.15:
            await asyncio.to_thread(deployment.redis.stop, immediate=True)
            if chance.random() < 0.5:
                deployment.redis.clear()
            await asyncio.to_thread(deployment.redis.start)
        elif fault < 0.17:
            await asyncio.to_thread(deployment.postgres.stop, immediate=True)
            await asyncio.to_thread(deployment.postgres.start)
    await asyncio.gather(*thaws)


async def frozen(deployment: Deployment, worker: str) -> None:
    """Stop a worker for longer than its lease."""
    process = deployment.parts[worker]
    process.send(signal.SIGSTOP)
    await asyncio.sleep(FROZEN_SECONDS)
    process.send(signal.SIGCONT)


async def submit(deployment: Deployment, accepted: set[str], deadline: float) -> None:
    """One job after the other, each repeated until it was accepted."""
    chance = random.Random(SEED + 1)
    gate = asyncio.Semaphore(64)
    async with deployment.client() as client, asyncio.TaskGroup() as group:
        number = 0
        while time.monotonic() < deadline:
            await gate.acquire()
            group.create_task(submit_one(client, gate, accepted, number, chance.uniform(0.05, 0.6)))
            number += 1
            await asyncio.sleep(PAUSE_SECONDS)


async def settled(deployment: Deployment, jobs: int) -> bool:
    with contextlib.suppress(DBAPIError):  # our own connection died with the server
        statuses = await invariants.statuses(deployment.database)
        return statuses.get("completed", 0) + statuses.get("failed", 0) >= jobs
    return False


async def failed(deployment: Deployment) -> set[str]:
    """The jobs that were given up, by their hex ids."""
    async with deployment.database.engine.connect() as connection:
        return {row.id.hex for row in await connection.execute(text("SELECT id FROM jobs WHERE status = 'failed'"))}
