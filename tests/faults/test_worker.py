"""One worker's ends: TERM with time enough, TERM with too little, a second TERM, KILL, and jobs that kill it."""

import asyncio
import signal
import time
from pathlib import Path
from uuid import UUID

import httpx

from jobs import ids
from tests import journal
from tests.faults import invariants
from tests.processes import Deployment, deployed, eventually


async def submit(client: httpx.AsyncClient, count: int, **script: object) -> list[str]:
    """The hex ids of `count` jobs with the same script."""
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "script": script}
    jobs = [{"endpoint": "/v1/chat/completions", "body": body} for _ in range(count)]
    response = await client.post("/v1/jobs", json=jobs)
    assert response.status_code == 202, response.text
    return [job["id"].removeprefix("job_") for job in response.json()["data"]]


async def all_have_status(deployment: Deployment, status: str, count: int, seconds: float = 60) -> None:
    async def reached() -> bool:
        return (await invariants.statuses(deployment.database)).get(status, 0) == count

    await eventually(reached, seconds, f"{count} jobs {status}")


async def running(deployment: Deployment, count: int) -> None:
    """Return when so many runs are in the engines."""

    async def begun() -> bool:
        return len(journal.unfinished(journal.read(deployment.journal))) == count

    await eventually(begun, 30, f"{count} runs")


async def test_term_lets_running_jobs_finish(tmp_path: Path) -> None:
    async with deployed(tmp_path, LONGHAUL_TEST_SLOTS="16") as deployment:
        await deployment.start_api()
        worker, _ = await deployment.start_worker()
        async with deployment.client() as client:
            accepted = await submit(client, 40, delay=1.0)
            await running(deployment, 16)
            worker.send(signal.SIGTERM)
            assert await worker.ended(20) == 0
        assert await invariants.statuses(deployment.database) == {"completed": 16, "queued": 24}
        await deployment.start_worker("next")
        await all_have_status(deployment, "completed", 40)
        assert set((await invariants.attempts(deployment.database)).values()) == {1}
        await invariants.check_completed_once(deployment.database, accepted, journal.read(deployment.journal))


async def test_term_hands_back_what_does_not_finish_and_counts_no_attempt(tmp_path: Path) -> None:
    async with deployed(tmp_path, LONGHAUL_TEST_SLOTS="16") as deployment:
        await deployment.start_api()
        worker, _ = await deployment.start_worker(LONGHAUL_DRAIN="1")
        async with deployment.client() as client:
            await submit(client, 8, delay=30.0)
            await submit(client, 8, delay=0.5)
            await running(deployment, 16)
            worker.send(signal.SIGTERM)
            assert await worker.ended(11) == 0
        assert await invariants.statuses(deployment.database) == {"completed": 8, "queued": 8}
        counted = await invariants.attempts(deployment.database)
        assert sorted(counted.values()) == [0] * 8 + [1] * 8


async def test_a_second_term_hands_back_at_once(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        worker, _ = await deployment.start_worker(LONGHAUL_DRAIN="120")
        async with deployment.client() as client:
            await submit(client, 8, delay=100.0)
            await running(deployment, 8)
        worker.send(signal.SIGTERM)
        await asyncio.sleep(0.5)
        worker.send(signal.SIGTERM)
        assert await worker.ended(10) == 0
        assert await invariants.statuses(deployment.database) == {"queued": 8}
        assert set((await invariants.attempts(deployment.database)).values()) == {0}
        assert "NotImplementedError" not in worker.log.read_text()


async def test_a_job_that_kills_its_workers_ends_alone_and_its_neighbours_complete(tmp_path: Path) -> None:
    async with deployed(tmp_path, LONGHAUL_TEST_SLOTS="8") as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        async with deployment.client() as client:
            [poison] = await submit_without_worker(deployment, client)
            neighbours = await submit(client, 20, delay=0.3)
            starts = 0

            async def over() -> bool:
                nonlocal starts
                process = deployment.parts.get("worker")
                if process is None or process.code is not None:
                    starts += 1
                    deployment.spawn("worker")
                found = await invariants.statuses(deployment.database)
                return found == {"completed": len(neighbours), "failed": 1}

            await eventually(over, 90, "the poison job alone fails")
            shown = (await client.get(f"/v1/jobs/job_{poison}")).json()
        assert shown["error"]["code"] == "worker_lost"
        assert shown["attempts"] == journal.starts(journal.read(deployment.journal))[poison]
        assert starts >= 2


async def submit_without_worker(deployment: Deployment, client: httpx.AsyncClient) -> list[str]:
    """A poison job; a first worker has to make the model known, and is then gone."""
    worker, _ = await deployment.start_worker("first")
    worker.send(signal.SIGTERM)
    assert await worker.ended(20) == 0
    return await submit(client, 1, exit=True, delay=0.2)


async def test_a_frozen_workers_results_are_refused_and_its_jobs_run_elsewhere(tmp_path: Path) -> None:
    async with deployed(tmp_path, LONGHAUL_TEST_SLOTS="8") as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        frozen, _ = await deployment.start_worker("frozen")
        async with deployment.client() as client:
            accepted = await submit(client, 8, delay=2.0)
        await running(deployment, 8)
        frozen.send(signal.SIGSTOP)
        try:
            await deployment.start_worker("other")
            await all_have_status(deployment, "completed", 8)
        finally:
            frozen.send(signal.SIGCONT)
        tokens = await lease_tokens(deployment)
        assert set(tokens.values()) == {2}
        frozen.send(signal.SIGTERM)
        assert await frozen.ended(20) == 0
        assert await lease_tokens(deployment) == tokens
        await invariants.check_completed_once(deployment.database, accepted, journal.read(deployment.journal))


async def lease_tokens(deployment: Deployment) -> dict[UUID, int]:
    async with deployment.database.transaction() as connection:
        cursor = await connection.execute("SELECT id, lease_token FROM jobs WHERE status = 'completed'")
        return dict(await cursor.fetchall())


async def test_cancelling_a_running_job_frees_its_slot(tmp_path: Path) -> None:
    async with deployed(tmp_path, LONGHAUL_TEST_SLOTS="1", LONGHAUL_LEASE="60") as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        async with deployment.client() as client:
            [job] = await submit(client, 1, hang=True)
            await running(deployment, 1)
            cancelled = await client.post(f"/v1/jobs/job_{job}/cancel")
            assert cancelled.json()["status"] == "cancelled"
            await submit(client, 1)
            await all_have_status(deployment, "completed", 1, seconds=10)
        assert {entry.event for entry in journal.read(deployment.journal) if entry.job == job} == {"start", "abort"}
        assert ids.parse_job_id(f"job_{job}").hex == job


async def test_jobs_run_while_redis_is_away(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        await asyncio.to_thread(deployment.redis.stop, immediate=True)
        async with deployment.client() as client:
            accepted = await submit(client, 50)
            response = await client.post(
                "/v1/chat/completions",
                json={"model": "scripted", "messages": [{"role": "user", "content": "hello"}]},
            )
            assert response.status_code == 200
            assert (await client.get("/readyz")).json()["degraded"] == ["redis"]
        await all_have_status(deployment, "completed", len(accepted) + 1, seconds=30)


async def test_a_job_beyond_its_time_limit_ends_and_frees_its_slot(tmp_path: Path) -> None:
    async with deployed(tmp_path, LONGHAUL_TEST_SLOTS="1") as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}], "script": {"hang": True}}
        async with deployment.client() as client:
            began = time.monotonic()
            response = await client.post("/v1/chat/completions", json={**body, "timeout": 1})
            assert response.status_code == 504
            assert response.json()["error"]["code"] == "request_timeout"
            assert response.headers["x-should-retry"] == "false"
            assert time.monotonic() - began >= 1
            await submit(client, 1)
            await all_have_status(deployment, "completed", 1, seconds=10)
