"""A deployment of real processes on stores of its own: started, killed, frozen and started again by tests."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID, uuid4

import httpx

from jobs import catalog, keys, migrate
from jobs.database import Database
from longhaul.embedded import EmbeddedPostgres, EmbeddedRedis, free_port

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
PROGRAM: Final = (sys.executable, "-P", "-m", "longhaul")
"""`longhaul`, as this checkout has it."""


class Process:
    """One `longhaul PART` in a session of its own, its output in a file."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit status; None while it runs, negative for a signal."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Its children live on."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Kill it with everything in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    async def ended(self, seconds: float) -> int:
        """Its exit status, once it has one."""
        return await eventually(lambda: _value(self.code), seconds, f"the end of {self.log.name}")


async def _value(value: T | None) -> T | None:
    return value


async def eventually(look: Callable[[], Awaitable[T | None]], seconds: float, what: str) -> T:
    """What `look` returns once that is neither None nor False; a stated bound makes the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = await look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.05)


class Deployment:
    """Stores, api, control and any number of workers in one folder. Every part gets `environment`."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self.postgres = EmbeddedPostgres(folder / "postgres", {"shared_buffers": "64MB"})
        self.redis = EmbeddedRedis(folder / "redis")
        self.port = free_port()
        self.parts: dict[str, Process] = {}
        self.environment = dict(environment)
        self.program: Sequence[str] = PROGRAM

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Start the stores, with the schema and a key."""
        await asyncio.to_thread(self.postgres.start)
        await asyncio.to_thread(self.redis.start)
        await asyncio.to_thread(migrate.upgrade, self.postgres.url)
        self.database = Database(self.postgres.url)
        self.key = await keys.create(self.database, tenant="default", name="tests")

    async def close(self) -> None:
        for process in self.parts.values():
            process.end()
        await self.database.close()
        await asyncio.to_thread(self.postgres.stop, immediate=True)
        await asyncio.to_thread(self.redis.stop, immediate=True)

    def client(self) -> httpx.AsyncClient:
        """An HTTP client with this deployment's key."""
        return httpx.AsyncClient(
            base_url=self.base_url, headers={"Authorization": f"Bearer {self.key}"}, timeout=60, trust_env=False
        )

    def spawn(self, part: str, name: str | None = None, *arguments: str, **environment: str) -> Process:
        """Run `longhaul PART`, known as `name`, not waiting for it to be of use."""
        name = name or part
        process = Process(
            [*self.program, part, *arguments],
            {**self._environment(), **environment},
            self.folder / f"{name}.log",
        )
        self.parts[name] = process
        return process

    async def run(self, command: str, *arguments: str, **environment: str) -> str:
        """What `longhaul COMMAND` says, which has to end well within a minute."""
        process = self.spawn(command, None, *arguments, **environment)
        code = await process.ended(60)
        said = process.log.read_text()
        assert code == 0, said
        del self.parts[command]
        return said

    async def start_api(self) -> Process:
        process = self.spawn("api")
        await self.until_ready()
        return process

    async def start_worker(self, name: str = "worker", *arguments: str, **environment: str) -> tuple[Process, UUID]:
        """A worker that serves, and its id."""
        worker = uuid4()
        process = self.spawn("worker", name, *arguments, **{"LONGHAUL_WORKER_ID": str(worker), **environment})

        async def registered() -> bool:
            assert process.code is None, process.log.read_text()[-2000:]
            return any(view.id == worker for view in await catalog.workers(self.database))

        await eventually(registered, 240, f"{name} registers")
        return process, worker

    async def until_ready(self) -> None:
        """Return when the API serves."""

        async def ready() -> bool:
            assert (api := self.parts["api"]).code is None, api.log.read_text()[-2000:]
            async with self.client() as client:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get("/readyz")).status_code == 200
            return False

        await eventually(ready, 60, "the API is ready")

    async def until_served(self) -> None:
        """Return when the API serves and knows a model."""

        async def known() -> bool:
            async with self.client() as client:
                return bool((await client.get("/v1/models")).json()["data"])

        await self.until_ready()
        await eventually(known, 60, "a model is known")

    def _environment(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            "LONGHAUL_HOME": str(self.folder),
            "LONGHAUL_PORT": str(self.port),
            "LONGHAUL_LEASE": "2",
            "LONGHAUL_CHORES": "0.5",
            "LONGHAUL_ENGINE": "tests.engines.scripted:factory",
            "LONGHAUL_TEST_JOURNAL": str(self.journal),
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            **self.environment,
        }


@asynccontextmanager
async def deployed(folder: Path, **environment: str) -> AsyncIterator[Deployment]:
    """A deployment with its stores up and no part started; everything is ended on the way out."""
    deployment = Deployment(folder, environment)
    try:
        await deployment.open()
        yield deployment
    finally:
        await deployment.close()
