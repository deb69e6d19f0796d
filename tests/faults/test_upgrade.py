"""A rolling upgrade: the release before this one and this one on one queue, each part replaced while jobs run."""

import asyncio
import re
import signal
import subprocess
import tarfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from jobs import migrate
from jobs.database import Database
from tests import journal
from tests.faults import invariants
from tests.faults.test_everything_at_once import completed, submit_one
from tests.processes import ROOT, Deployment, Process

BEFORE = "HEAD~1"
STEP = 20


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the commit before this one. It runs on the packages that this one runs on."""
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip(f"there is no {BEFORE} here: {archive.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


class Rolling(Deployment):
    """A deployment that begins with the release before: its schema, its parts."""

    def __init__(self, folder: Path, before: Path) -> None:
        super().__init__(folder, {"LONGHAUL_TEST_SLOTS": "8"})
        self.before = {"PYTHONPATH": str(before)}

    async def open(self) -> None:
        await asyncio.to_thread(self.postgres.start)
        await asyncio.to_thread(self.redis.start)
        await self._ended(self.spawn("migrate", **self.before))
        words = ("create", "--tenant", "default", "--name", "tests")
        keys = self.spawn("keys", None, *words, **self.before)
        await self._ended(keys)
        (self.key,) = re.findall(r"sk-lh-\S+", keys.log.read_text())
        self.database = Database(self.postgres.url)

    async def _ended(self, process: Process) -> None:
        assert await process.ended(60) == 0, process.log.read_text()

    async def replace(self, part: str) -> None:
        """End a part of the release before, and start this one's."""
        process = self.parts[part]
        process.send(signal.SIGTERM)
        await self._ended(process)
        self.spawn(part)


@pytest.fixture
async def rolling(tmp_path: Path, before: Path) -> AsyncIterator[Rolling]:
    deployment = Rolling(tmp_path, before)
    try:
        await deployment.open()
        for part in ("control", "api", "worker"):
            deployment.spawn(part, **deployment.before)
        await deployment.until_served()
        yield deployment
    finally:
        await deployment.close()


async def test_jobs_run_on_while_each_part_is_replaced(rolling: Rolling) -> None:
    accepted: set[str] = set()
    async with rolling.client() as client, asyncio.TaskGroup() as group:

        async def step() -> None:
            """Jobs for what comes next, while some of those before it still run."""
            await completed(rolling, max(0, len(accepted) - STEP // 2))
            for _ in range(STEP):
                group.create_task(submit(client, accepted, len(accepted)))

        await step()
        await step()
        await asyncio.to_thread(migrate.upgrade, rolling.postgres.url)
        await step()
        await rolling.replace("api")
        await step()
        await completed(rolling, len(accepted))  # this release's API, the worker of the one before
        await step()
        await rolling.replace("control")
        await step()
        await rolling.replace("worker")
        await step()
    await completed(rolling, len(accepted))
    entries = journal.read(rolling.journal)
    await invariants.check_completed_once(rolling.database, accepted, entries)
    await invariants.check_order_is_clean(rolling.database)
    assert len({entry.pid for entry in entries}) == 2, "both workers ran some"


async def submit(client: httpx.AsyncClient, accepted: set[str], number: int) -> None:
    gate = asyncio.Semaphore(0)
    await submit_one(client, gate, accepted, number, delay=0.5)
