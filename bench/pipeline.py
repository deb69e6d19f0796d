"""Jobs/s through API, database, broker, worker and back with an engine that answers at once: the cost of the queue.

Arrays of 100 jobs are submitted by four connections, so fast that a few thousand jobs wait at any time. What is counted
is the jobs that ended: those that were accepted less those that are unfinished.
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
_UNFINISHED = text(
    "SELECT (SELECT coalesce(sum(queued), 0) FROM flows) + (SELECT count(*) FROM jobs WHERE status = 'in_progress')"
)


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
        began, before = time.perf_counter(), crowd.ended
        await crowd.watch(seconds)
        counted = (crowd.ended - before) / (time.perf_counter() - began)
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
    """Clients that submit arrays while fewer than a backlog of their jobs are unfinished."""

    def __init__(self, ours: Deployment) -> None:
        jobs = [{"endpoint": work.CHAT, "body": body} for body in work.chats(_ARRAY, MODEL, seed=0)]
        self._request = post("/v1/jobs", json.dumps(jobs).encode(), ours.key)
        self._ours = ours
        self._accepted = 0
        self._earlier: int | None = None
        self.ended = 0
        self.enough = False

    async def submit(self) -> None:
        connection = await Connection.open(self._ours.base_url)
        while not self.enough:
            if self._accepted - self.ended > _BACKLOG:
                await asyncio.sleep(_LOOK_SECONDS / 10)
                continue
            status, answer = await connection.ask(self._request)
            if status >= 300:
                raise RuntimeError(f"{status}: {answer.decode()}")
            self._accepted += _ARRAY
        connection.close()

    async def watch(self, seconds: float) -> None:
        """Keep `ended` up to date for so long; jobs that were there before count as neither."""
        deadline = time.perf_counter() + seconds
        while True:
            accepted = self._accepted
            unfinished = await self._unfinished()
            if self._earlier is None:
                self._earlier = unfinished - accepted
            self.ended = max(self.ended, accepted + self._earlier - unfinished)
            if time.perf_counter() >= deadline:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _unfinished(self) -> int:
        async with self._ours.database.engine.connect() as connection:
            return int((await connection.execute(_UNFINISHED)).scalar_one())
