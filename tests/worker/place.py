"""A worker's place of work in this process: a scripted engine, a real database, and eyes for what becomes of jobs."""

import asyncio
import functools
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, text

from jobs import conversations, ids
from jobs.accept import Acceptor
from jobs.database import Database
from jobs.finish import Finisher
from jobs.order import Shares
from jobs.records import NewJob, Result, Tier
from jobs.states import Status
from jobs.streams import Writer
from jobs.traces import Traces
from tests.engines.scripted import ScriptedEngine
from tests.journal import Entry, read
from worker.dialect import Dialect
from worker.runner import Runner

SHARES = Shares({Tier.PRIORITY: 0.4, Tier.DEFAULT: 0.3, Tier.FLEX: 0.1, Tier.BATCH: 0.2}, bulk_ceiling=0.75)


@dataclass
class Place:
    """One worker's runner. Its lease is good unless `lease_is_good` is set to False."""

    database: Database
    engine: ScriptedEngine
    model_id: int
    journal: Path
    worker: UUID = field(default_factory=uuid4)
    lease_is_good: bool = True
    deaths: int = 0
    announced: list[UUID | Result] = field(default_factory=list)
    deliveries: int = 0

    redis_url: str = "redis://127.0.0.1:1/0"
    traces: Traces | None = None

    def __post_init__(self) -> None:
        self.writer = Writer(self.redis_url, "longhaul")
        self.finisher = Finisher(self.database, self.announced.extend, self._delivered)
        self.acceptor = Acceptor(self.database, lambda model_id, count: None)

    async def employ(self) -> None:
        """Register the worker and make its runner."""
        await self.enlist(self.database)
        self.runner = Runner(
            self.database,
            self.engine,
            Dialect(
                await self.engine.describe(),
                self.engine,
                functools.partial(conversations.before, self.database),
                separate_caches=False,
            ),
            self.worker,
            self.model_id,
            SHARES,
            self.finisher,
            self.writer,
            lease_is_good=lambda: self.lease_is_good,
            engine_died=self._died,
            traces=self.traces,
        )

    async def enlist(self, database: Database) -> None:
        """Write the worker down."""
        await scalar(
            database,
            "INSERT INTO workers (id, model_id, registration, slots, host, pid, lease_until)"
            f" VALUES ('{self.worker}', {self.model_id}, '{{}}', 1, 'here', 1, now() + interval '1 hour') RETURNING id",
        )

    async def lease_seconds_left(self) -> float:
        """How long the database gives this worker; negative once its lease ran out."""
        return float(await scalar(self.database, "SELECT extract(epoch FROM lease_until - now()) FROM workers"))

    def _delivered(self) -> None:
        self.deliveries += 1

    def _died(self) -> None:
        self.deaths += 1

    async def submit(
        self,
        count: int = 1,
        *,
        tier: Tier = Tier.DEFAULT,
        timeout: int = 60,
        expires: int | None = None,
        traceparent: str | None = None,
        **script: Any,
    ) -> list[UUID]:
        """Accept so many equal jobs, whose engine does what `script` says."""
        body = {"model": self.engine.model, "messages": [{"role": "user", "content": "one two"}], "script": script}
        jobs = [
            NewJob(
                id=ids.new(),
                tenant_id=1,
                model_id=self.model_id,
                model=self.engine.model,
                endpoint="/v1/chat/completions",
                body=json.dumps(body).encode(),
                tier=tier,
                waited=False,
                cost=10,
                timeout_seconds=timeout,
                expires_seconds=expires,
                traceparent=traceparent,
            )
            for _ in range(count)
        ]
        await self.acceptor.accept_all(jobs)
        return [job.id for job in jobs]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Runner]:
        """The claim loop runs inside the block; then everything is aborted."""
        claiming = asyncio.create_task(self.runner.run())
        yield self.runner
        self.runner.stop()
        self.runner.abort_all()
        await claiming
        await self.runner.quiet()
        await self.finisher.drain()

    async def row(self, job: UUID) -> Row[Any]:
        """A job's row, with its result's columns where it has one."""
        return (await self._rows([job]))[0]

    async def statuses(self, jobs: list[UUID]) -> list[Status]:
        """Their statuses, in their order."""
        return [Status(row.status) for row in await self._rows(jobs)]

    async def all_are(self, status: Status, jobs: list[UUID]) -> None:
        """Return when all these jobs have this status."""

        async def they_are() -> bool:
            return set(await self.statuses(jobs)) == {status}

        await until_asked(they_are)

    def entries(self, job: UUID) -> list[Entry]:
        """What the engine's journal says about a job."""
        return [entry for entry in read(self.journal) if entry.job == job.hex]

    def began(self, jobs: list[UUID]) -> bool:
        """Whether the engine has begun each of these."""
        return {entry.job for entry in read(self.journal)} >= {job.hex for job in jobs}

    def has_announced(self, count: int) -> bool:
        """Whether so many jobs have been recorded."""
        return len(self.announced) >= count

    async def _rows(self, jobs: list[UUID]) -> list[Row[Any]]:
        async with self.database.engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT * FROM jobs LEFT JOIN results ON job_id = id WHERE id = ANY(:jobs)"), {"jobs": jobs}
            )
        found = {row.id: row for row in rows}
        return [found[job] for job in jobs]


async def scalar(database: Database, question: str) -> Any:
    """The one value that a statement returns."""
    async with database.engine.connect() as connection:
        return (await connection.exec_driver_sql(question)).scalar_one()


async def until_asked(question: Callable[[], Awaitable[object]]) -> None:
    """Return when the answer to this is yes."""
    deadline = time.monotonic() + 20
    while not await question():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    """Return when this is so."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.005)


async def place(
    database: Database,
    journal: Path,
    slots: int = 4,
    kind: type[ScriptedEngine] = ScriptedEngine,
    traces: Traces | None = None,
) -> Place:
    """A place with a new model in this database and an engine with so many slots."""
    os.environ["LONGHAUL_TEST_JOURNAL"] = str(journal)
    engine = kind()
    del os.environ["LONGHAUL_TEST_JOURNAL"]
    engine.slots = slots
    await engine.start()
    model_id = await scalar(
        database,
        f"INSERT INTO models (name, queue, registration) VALUES ('{engine.model}', 'a queue', '{{}}') RETURNING id",
    )
    made = Place(database, engine, model_id, journal, traces=traces)
    await made.employ()
    return made
