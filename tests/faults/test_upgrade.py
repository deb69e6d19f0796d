"""A rolling upgrade: the release before this one and this one on one queue, each part replaced while jobs run."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from jobs.database import Database
from tests import journal
from tests.faults import invariants
from tests.faults.test_batches import CHAT, until
from tests.faults.test_everything_at_once import completed, submit_one
from tests.processes import PROGRAM, ROOT, Deployment

BEFORE = "HEAD~1"
STEP = 20
LINES = 200


@dataclass(frozen=True)
class Release:
    """An installed release: its command, and the folder of its tests, whose engine it serves."""

    program: Path
    tests: Path


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The commit before this one as a wheel in an environment of its own.

    What it depends on is read from this environment, so an upgrade of other packages is not part of it.
    """
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip(f"there is no {BEFORE} here: {archive.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("before")
    source, environment = folder / "source", folder / "environment"
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(source, filter="data")
    python = environment / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    install = ["install", "-q", "--no-deps", "--no-build-isolation", "--no-index", str(source)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    (folder / "tests").mkdir()
    (source / "tests").rename(folder / "tests" / "tests")
    return Release(environment / "bin" / "longhaul", folder / "tests")


class Rolling(Deployment):
    """A deployment that begins with the release before: its schema, its parts."""

    def __init__(self, folder: Path, before: Release) -> None:
        super().__init__(folder, {"LONGHAUL_TEST_SLOTS": "8", "PYTHONPATH": str(before.tests)})
        self.program = [str(before.program)]

    async def open(self) -> None:
        await asyncio.to_thread(self.postgres.start)
        await asyncio.to_thread(self.redis.start)
        self.database = Database(self.postgres.url)
        await self.run("migrate")
        (self.key,) = re.findall(r"sk-lh-\S+", await self.run("keys", "create", "--tenant=default", "--name=tests"))

    async def upgrade(self) -> None:
        """This release's schema; what is started from here on is this release too."""
        self.program = PROGRAM
        del self.environment["PYTHONPATH"]
        await self.run("migrate")

    async def replace(self, part: str) -> None:
        """End a part of the release before, and start this one's."""
        process = self.parts[part]
        process.send(signal.SIGTERM)
        assert await process.ended(60) == 0, process.log.read_text()
        self.spawn(part)


@pytest.fixture
async def rolling(tmp_path: Path, before: Release) -> AsyncIterator[Rolling]:
    deployment = Rolling(tmp_path, before)
    try:
        await deployment.open()
        for part in ("control", "api", "worker"):
            deployment.spawn(part)
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
        await rolling.upgrade()
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


async def test_a_batch_and_streams_go_from_one_release_to_the_next(rolling: Rolling) -> None:
    async with rolling.client() as client:
        batch = await begin(client)
        kept = await client.post(CHAT, json=chat("kept") | {"stream": True}, headers={"Prefer": "respond-async"})
        await until(client, batch, "in_progress", done=1)
        await rolling.upgrade()
        await rolling.replace("worker")
        async with client.stream("POST", CHAT, json=chat("streamed") | {"stream": True}) as stream:
            said = words(await stream.aread())  # the API of the release before, this one's worker
        await rolling.replace("control")
        await rolling.replace("api")
        await rolling.until_ready()
        ended = await until(client, batch, "completed")
        assert ended["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
        results = await client.get(f"/v1/files/{ended['output_file_id']}/content")
        assert len(results.text.splitlines()) == LINES
        events = await client.get(f"/v1/jobs/{kept.json()['id']}/events")
        assert words(events.content) == said == "word word word word"
    pids = {entry.job: entry.pid for entry in journal.read(rolling.journal)}
    async with rolling.database.engine.connect() as connection:
        lines = await connection.execute(text("SELECT job_id FROM lines"))
        assert len({pids[line.job_id.hex] for line in lines}) == 2, "both workers ran some of the batch"


async def submit(client: httpx.AsyncClient, accepted: set[str], number: int) -> None:
    gate = asyncio.Semaphore(0)
    await submit_one(client, gate, accepted, number, delay=0.5)


async def begin(client: httpx.AsyncClient) -> str:
    """Make a batch that takes several seconds; its id."""
    lines = [{"custom_id": str(n), "body": chat(f"line {n}") | {"script": {"delay": 0.25}}} for n in range(LINES)]
    made = await client.post("/v1/batches", json={"endpoint": CHAT, "completion_window": "24h", "requests": lines})
    assert made.status_code == 200, made.text
    identity: str = made.json()["id"]
    return identity


def chat(content: str) -> dict[str, object]:
    return {"model": "scripted", "messages": [{"role": "user", "content": content}], "max_tokens": 4}


def words(stream: bytes) -> str:
    """What a stream has said, in chunks of a chat, among other events."""
    data = [line.removeprefix(b"data: ") for line in stream.splitlines() if line.startswith(b"data: ")]
    events = [json.loads(event) for event in data if event != b"[DONE]"]
    choices = [choice for event in events for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
