"""Jobs/s through API, database, broker, worker and back with an engine that answers at once: the cost of the queue.

Arrays of 100 jobs are submitted by four connections, so fast that a few thousand jobs wait at any time. What is counted
is the jobs that left the queue: those that were accepted less those that are queued. What is in the engine at either
end of a window, 256 at most, is the error.
"""

import asyncio
import json
import time

from sqlalchemy import text

from bench import work
from bench.figure import Figure, Goal, Scale, windows
from bench.load import Connection, post
from bench.stack import Deployment, deployment, stores
from jobs.records import Registration
from tests.engines.script import ENDPOINTS

ENVIRONMENT = {"LONGHAUL_ENGINE": "tests.engines.scripted:instant", "LONGHAUL_TEST_SLOTS": "256"}
MODEL = "scripted"
_CONNECTIONS = 4
_ARRAY = 100
_BACKLOG = 4000
_LOOK_SECONDS = 0.1
_LOOKS = 600
_WARM_UP_SECONDS = 1.0
_QUEUED = text("SELECT coalesce(sum(queued), 0) FROM flows")
"""Counting what runs as well would cost a deep database a sixth of its time: every dead row is in that index too."""


async def run(scale: Scale) -> list[Figure]:
    """Jobs/s in windows one after the other."""
    with stores() as servers:
        async with deployment(servers, environment=ENVIRONMENT) as ours:
            for part in ("control", "api", "worker"):
                await ours.start(part)
            rates = await windows(scale.pairs, lambda window: rate(ours, scale.seconds))
    return [Figure("jobs through the whole pipeline, an engine that answers at once", rates, "/s", Goal(1500))]


async def rate(ours: Deployment, seconds: float) -> float:
    """Keep a backlog and count what ends in so many seconds, after a first second that is not counted."""
    crowd = _Crowd(ours)
    counted = 0.0
    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(crowd.submit())
        await crowd.watch(_WARM_UP_SECONDS)
        began, before = time.perf_counter(), crowd.left
        await crowd.watch(seconds)
        counted = (crowd.left - before) / (time.perf_counter() - began)
        crowd.enough = True
    return counted


def registration() -> Registration:
    """What the worker of `ENVIRONMENT` says of itself."""
    return Registration(MODEL, (), (), ENDPOINTS, context_length=4096, slots=256)


async def quiet(ours: Deployment) -> None:
    """Return when no job runs."""
    running = text("SELECT count(*) FROM jobs WHERE status = 'in_progress'")
    async with ours.database.engine.connect() as connection:
        for _ in range(_LOOKS):
            if not (await connection.execute(running)).scalar_one():
                return
            await asyncio.sleep(_LOOK_SECONDS)
    raise TimeoutError("jobs still run on an engine that answers at once")


class _Crowd:
    """Clients that submit arrays while fewer than a backlog of their jobs are queued."""

    def __init__(self, ours: Deployment) -> None:
        jobs = [{"endpoint": work.CHAT, "body": body} for body in work.chats(_ARRAY, MODEL, seed=0)]
        self._request = post("/v1/jobs", json.dumps(jobs).encode(), ours.key)
        self._ours = ours
        self._accepted = 0
        self._earlier: int | None = None
        self.left = 0
        self.enough = False

    async def submit(self) -> None:
        connection = await Connection.open(self._ours.base_url)
        while not self.enough:
            if self._accepted - self.left > _BACKLOG:
                await asyncio.sleep(_LOOK_SECONDS / 10)
                continue
            status, answer = await connection.ask(self._request)
            if status >= 300:
                raise RuntimeError(f"{status}: {answer.decode()}")
            self._accepted += _ARRAY
        connection.close()

    async def watch(self, seconds: float) -> None:
        """Keep `left`, how many jobs left the queue, up to date for so long; earlier ones count as neither."""
        deadline = time.perf_counter() + seconds
        while True:
            accepted = self._accepted
            queued = await self._queued()
            if self._earlier is None:
                self._earlier = queued - accepted
            self.left = max(self.left, accepted + self._earlier - queued)
            if time.perf_counter() >= deadline:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _queued(self) -> int:
        async with self._ours.database.engine.connect() as connection:
            return int((await connection.execute(_QUEUED)).scalar_one())
