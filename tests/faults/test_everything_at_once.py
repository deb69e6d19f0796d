"""Two thousand jobs while a worker is killed twice, the API once, Redis loses its data and PostgreSQL crashes."""

import asyncio
import contextlib
import random
from pathlib import Path
from uuid import uuid4

import httpx
from sqlalchemy.exc import DBAPIError

from tests import journal
from tests.faults import invariants
from tests.processes import Deployment, deployed, eventually

JOBS = 2000
RECOVERY_SECONDS = 90


async def test_every_accepted_job_completes_once_whatever_is_killed(tmp_path: Path) -> None:
    async with deployed(tmp_path, LONGHAUL_TEST_SLOTS="64") as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        victims = [await deployment.start_worker("one"), await deployment.start_worker("two")]
        accepted: set[str] = set()
        submitting = asyncio.create_task(submit(deployment, accepted))
        in_flight: set[str] = set()

        for number, (process, worker) in enumerate(victims):
            await completed(deployment, 150 + 300 * number)
            process.kill()
            in_flight |= await invariants.held(deployment.database, worker)
            await deployment.start_worker(f"successor {number}")
        deployment.parts["api"].kill()
        await deployment.start_api()
        await completed(deployment, 800)
        await asyncio.to_thread(deployment.redis.stop, immediate=True)
        deployment.redis.clear()
        await asyncio.to_thread(deployment.redis.start)
        await completed(deployment, 1100)
        await asyncio.to_thread(deployment.postgres.stop, immediate=True)
        await asyncio.sleep(5)
        await asyncio.to_thread(deployment.postgres.start)

        await submitting
        assert len(accepted) == JOBS
        await completed(deployment, JOBS, RECOVERY_SECONDS)
        entries = journal.read(deployment.journal)
        await invariants.check_completed_once(deployment.database, accepted, entries)
        await invariants.check_order_is_clean(deployment.database)
        again = {job for job, starts in journal.starts(entries).items() if starts > 1}
        assert again <= in_flight, "only what was in flight at a kill is run again"
        assert max(journal.starts(entries).values()) <= 1 + len(victims)


async def completed(deployment: Deployment, jobs: int, seconds: float = 60) -> None:
    """Return when so many jobs are completed."""

    async def enough() -> bool:
        with contextlib.suppress(DBAPIError):  # our own connection died with the server
            return (await invariants.statuses(deployment.database)).get("completed", 0) >= jobs
        return False

    await eventually(enough, seconds, f"{jobs} jobs completed")


async def submit(deployment: Deployment, accepted: set[str]) -> None:
    """As a careful client does: each job with a key of its own, repeated until it was answered 202."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    gate = asyncio.Semaphore(16)
    async with deployment.client() as client, asyncio.TaskGroup() as group:
        for number in range(JOBS):
            await gate.acquire()
            group.create_task(submit_one(client, gate, accepted, number, rng.uniform(0.05, 0.6)))


async def submit_one(
    client: httpx.AsyncClient, gate: asyncio.Semaphore, accepted: set[str], number: int, delay: float
) -> None:
    body = {
        "model": "scripted",
        "messages": [{"role": "user", "content": f"job {number}"}],
        "max_tokens": 8,
        "script": {"delay": delay},
    }
    headers = {"Prefer": "respond-async", "Idempotency-Key": str(uuid4())}
    while True:
        try:
            response = await client.post("/v1/chat/completions", json=body, headers=headers)
            if response.status_code == 202:
                break
            assert response.status_code == 503, response.text
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    accepted.add(response.json()["id"].removeprefix("job_"))
    gate.release()
