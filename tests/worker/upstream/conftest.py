"""A server that somebody else runs, the forwarding engine before it, and one run of a job on that."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.admission.parameters import speaks_dialect
from jobs.records import Flags, Json, Outcome
from jobs.settings import Settings
from jobs.states import Status
from jobs.streams import Writer
from tests.engines.served import Served, served
from tests.worker.test_assemble import JOB
from worker.attempt import BackOff, attempt
from worker.dialect import Dialect, extended
from worker.engines import load
from worker.engines.upstream.engine import UpstreamEngine

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "one two"}]


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the servers of this test write what they run."""
    monkeypatch.setenv("LONGHAUL_TEST_JOURNAL", str(tmp_path / "journal"))
    return tmp_path / "journal"


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    async with served() as server:
        yield server


def engine_of(*servers: Served, arguments: tuple[str, ...] = (), **settings: Any) -> UpstreamEngine:
    urls = ",".join(server.url for server in servers)
    engine = load(Settings(engine=urls, **settings), arguments)
    assert isinstance(engine, UpstreamEngine)
    return engine


@asynccontextmanager
async def started(*servers: Served, **settings: Any) -> AsyncIterator[UpstreamEngine]:
    engine = engine_of(*servers, **settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def run(
    engine: UpstreamEngine, body: Json | None = None, *, endpoint: str = CHAT, **script: Any
) -> Outcome | BackOff:
    """What comes of a chat on this engine, or of another `body`; it is a stream where its body says so."""

    async def nothing_earlier(job_id: object) -> list[Json]:
        return []

    dialect = Dialect(extended(await engine.describe()), engine, nothing_earlier, separate_caches=False)
    chat = {"messages": MESSAGES} if endpoint == CHAT else {}
    asked = {"model": "scripted", **chat, "script": script, **(body or {})}
    flags = Flags.STREAMS if asked.get("stream") else Flags.NONE
    if speaks_dialect(asked):
        flags |= Flags.DIALECT
    job = replace(JOB, endpoint=endpoint, body=json.dumps(asked).encode(), flags=flags)
    writer = Writer("redis://127.0.0.1:1/0", "unused")
    try:
        return await attempt(engine, dialect, writer, job)
    finally:
        await writer.close()


def content(outcome: Outcome | BackOff) -> str:
    """What a completed chat says."""
    assert isinstance(outcome, Outcome) and outcome.status is Status.COMPLETED, outcome
    said: str = json.loads(outcome.body or b"")["choices"][0]["message"]["content"]
    return said
