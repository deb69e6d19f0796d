"""Batches of many lines while control and workers are killed, while they are cancelled, and while they expire."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
from sqlalchemy import text

from tests import journal
from tests.faults import invariants
from tests.processes import Deployment, deployed, eventually

LINES: Final = 20_000
CHAT: Final = "/v1/chat/completions"
SECONDS: Final = 90
"""In which a deployment recovers from whatever was killed; a batch of this size runs in half of it."""


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Deployment, httpx.AsyncClient]]:
    environment = {"LONGHAUL_TEST_SLOTS": "128", "LONGHAUL_TEST_DELAY": "0.02"}
    async with deployed(folder, **environment) as deployment, deployment.client() as client:
        deployment.spawn("control")
        await deployment.start_api()
        yield deployment, client


async def submit(client: httpx.AsyncClient) -> str:
    """Upload a file and make a batch of it; the batch's id."""
    lines = (
        {
            "custom_id": f"line {number}",
            "method": "POST",
            "url": CHAT,
            "body": {"model": "scripted", "messages": [{"role": "user", "content": f"job {number}"}], "max_tokens": 8},
        }
        for number in range(LINES)
    )
    content = "\n".join(map(json.dumps, lines))
    uploaded = await client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)})
    assert uploaded.status_code == 200, uploaded.text
    asked = {"input_file_id": uploaded.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
    made = await client.post("/v1/batches", json=asked)
    assert made.status_code == 200, made.text
    identity: str = made.json()["id"]
    return identity


async def until(client: httpx.AsyncClient, batch: str, *statuses: str, done: int = 0, seconds: float = SECONDS) -> Any:
    """The batch object, once it has one of these statuses and so many lines."""

    async def look() -> Any:
        found = (await client.get(f"/v1/batches/{batch}")).json()
        return found if found["status"] in statuses and found["request_counts"]["completed"] >= done else None

    return await eventually(look, seconds, f"{statuses} with {done} lines")


async def kill_at_work(
    deployment: Deployment, client: httpx.AsyncClient, batch: str, status: str, seconds: Iterable[float]
) -> None:
    """Kill one control after another, each so many seconds after it took the batch, and before it let go of it."""
    killed: set[int] = set()
    for after in seconds:
        killed.add(await eventually(lambda: holder(deployment, batch, killed), SECONDS, f"a control at the {status}"))
        await asyncio.sleep(after)
        deployment.parts["control"].kill()
        assert (await client.get(f"/v1/batches/{batch}")).json()["status"] == status, "it was killed too late"
        deployment.spawn("control")


async def holder(deployment: Deployment, batch: str, others: set[int]) -> int | None:
    """The connection of the control that reads or writes a batch, if it is none of these: it holds the batch's lock."""
    held = text(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND (classid::bigint << 32) | objid::bigint = hashtextextended(:id, 1)"
    )
    async with deployment.database.engine.connect() as connection:
        pid = await connection.scalar(held, {"id": str(UUID(batch.removeprefix("batch_")))})
    return None if pid in others else pid


async def check_files(client: httpx.AsyncClient, batch: Any) -> None:
    """Every line stands once in one of the files, and the counts are those of the files."""
    found: dict[str, list[Any]] = {}
    for name in ("output_file_id", "error_file_id"):
        found[name] = []
        if batch[name]:
            content = (await client.get(f"/v1/files/{batch[name]}/content")).content
            found[name] = [json.loads(line) for line in content.splitlines()]
    outputs, errors = found.values()
    numbers = [int(line["custom_id"].removeprefix("line ")) for line in (*outputs, *errors)]
    assert sorted(numbers) == list(range(LINES))
    assert [line["response"]["status_code"] for line in outputs] == [200] * len(outputs)
    assert batch["request_counts"] == {"total": LINES, "completed": len(outputs), "failed": 0}


async def check_runs(deployment: Deployment, in_flight: set[str]) -> None:
    """Only what was in flight at a kill ran again; every stored result is one that the engine gave."""
    entries = journal.read(deployment.journal)
    assert {job for job, starts in journal.starts(entries).items() if starts > 1} <= in_flight
    async with deployment.database.engine.connect() as connection:
        stored = await connection.execute(text("SELECT job_id FROM results WHERE status_code = 200"))
        assert {row.job_id.hex for row in stored} <= set(journal.ends(entries))
    await invariants.check_order_is_clean(deployment.database)


async def test_a_batch_completes_once_whatever_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    in_flight: set[str] = set()
    async with running(tmp_path) as (deployment, client):
        process, worker = await deployment.start_worker("worker 0")
        batch = await submit(client)
        await kill_at_work(deployment, client, batch, "validating", (rng.uniform(0, 0.3) for _ in range(2)))
        for number in range(1, 4):
            done = (await until(client, batch, "in_progress", done=rng.randrange(1, 1000)))["request_counts"]
            await until(client, batch, "in_progress", done=done["completed"] + rng.randrange(1000))
            process.kill()
            deployment.parts["control"].kill()
            in_flight |= await invariants.held(deployment.database, worker)
            deployment.spawn("control")
            process, worker = await deployment.start_worker(f"worker {number}")
        await kill_at_work(deployment, client, batch, "finalizing", (rng.uniform(0, 0.1) for _ in range(3)))
        ended = await until(client, batch, "completed")
        await check_files(client, ended)
        await check_runs(deployment, in_flight)


async def test_a_batch_that_is_cancelled_keeps_what_was_done(tmp_path: Path) -> None:
    async with running(tmp_path) as (deployment, client):
        await deployment.start_worker()
        batch = await submit(client)
        await until(client, batch, "in_progress", done=random.randrange(1, LINES // 4))
        cancelled = (await client.post(f"/v1/batches/{batch}/cancel")).json()
        assert cancelled["status"] == "cancelling"
        ended = await until(client, batch, "cancelled")
        assert ended["request_counts"]["completed"] < LINES
        await check_files(client, ended)
        await check_runs(deployment, set())


async def test_a_batch_that_expires_keeps_what_was_done(tmp_path: Path) -> None:
    async with running(tmp_path) as (deployment, client):
        await deployment.start_worker()
        batch = await submit(client)
        await until(client, batch, "in_progress", done=random.randrange(1, LINES // 4))
        async with deployment.database.transaction() as connection:
            await connection.execute("UPDATE batches SET expires_at = now()")
        ended = await until(client, batch, "expired")
        assert ended["expired_at"]
        await check_files(client, ended)
        await check_runs(deployment, set())
