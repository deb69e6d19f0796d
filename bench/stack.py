"""The stack that a bench measures: stores and parts of its own in a temporary folder, ended whatever happens."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

import httpx
import psycopg

from jobs import catalog, keys, migrate
from jobs.database import Database
from jobs.records import Registration
from longhaul.embedded import EmbeddedPostgres, EmbeddedRedis, free_port

T = TypeVar("T")

_ROOT: Final = Path(__file__).parents[1]
_READY_SECONDS: Final = 300
_STOP_SECONDS: Final = 60
_WORDS_OF_FAILURE: Final = 3000


class Child:
    """One process in a session of its own, with its output in a file: Ctrl-C in the terminal does not reach it."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path, *, piped: bool = False
    ) -> "Child":
        """Start it, not waiting for it to be of use. `piped`: what it prints is read by us."""
        log = folder / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **environment},
                cwd=_ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if piped else output,
                stderr=output,
                start_new_session=True,
            )
        return cls(name, process, log)

    async def say(self, line: str) -> None:
        """Write a line to its input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    async def hear(self) -> str:
        """The next line that a `piped` one prints."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            await self.process.wait()
            self.check()
        return line.decode()

    def check(self) -> None:
        """Raise with the end of what it wrote if it has ended."""
        if self.process.returncode is not None:
            end = self.log.read_text(errors="replace")[-_WORDS_OF_FAILURE:]
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{end}")

    async def stop(self) -> None:
        """End it cleanly, then whatever it left in its session."""
        if self.process.returncode is None:
            self.process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), _STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def resident_mb(self) -> float:
        """Its resident memory now, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


async def until(holds: Callable[[], bool], child: Child, seconds: float = _READY_SECONDS) -> None:
    """Return when something holds that `child` brings about."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(holds):
        child.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{child.name} was not ready after {seconds} s: {child.log}")
        await asyncio.sleep(0.1)


def answers(url: str, status: int = 200) -> bool:
    """Whether a GET of this URL is answered with this status."""
    try:
        return httpx.get(url, timeout=5).status_code == status
    except httpx.TransportError:
        return False


@dataclass(frozen=True, slots=True)
class Stores:
    """A PostgreSQL and a Redis on a temporary folder."""

    folder: Path
    postgres_url: str
    redis_url: str

    def new_database(self, name: str) -> str:
        """The URL of a fresh database with the schema."""
        url = self.postgres_url.removesuffix("longhaul") + name
        with psycopg.connect(plain(self.postgres_url), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        migrate.upgrade(url)
        return url


def plain(url: str) -> str:
    """A URL of SQLAlchemy's as psycopg reads it."""
    return url.replace("+psycopg", "")


@contextmanager
def stores(settings: Mapping[str, str] | None = None) -> Iterator[Stores]:
    """As `longhaul up` starts them, durable; `settings` are laid over PostgreSQL's."""
    with tempfile.TemporaryDirectory(prefix="longhaul-bench-") as name, contextlib.ExitStack() as started:
        folder = Path(name)
        postgres, redis = EmbeddedPostgres(folder / "postgres", settings), EmbeddedRedis(folder / "redis")
        started.callback(postgres.stop, immediate=True)
        started.callback(redis.stop, immediate=True)
        yield Stores(folder, postgres.start(), redis.start())


@dataclass(slots=True)
class Deployment:
    """The parts on one database. `key` belongs to the tenant `bench`."""

    name: str
    database: Database
    home: Path
    environment: dict[str, str]
    key: str
    port: int = field(default_factory=free_port)
    children: dict[str, Child] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, part: str, *arguments: str, name: str | None = None) -> Child:
        """Run `longhaul PART ARGUMENTS`, known as `name`, and return when it serves."""
        if part == "api":
            return await self._serve(name or part, self.port)
        child = self.children[name or part] = await self._run(name or part, self.port, part, *arguments)
        if part == "worker":
            await self._worker_known(child)
        return child

    async def start_api(self, name: str) -> str:
        """One more API process, on a port of its own; its base URL."""
        port = free_port()
        await self._serve(name, port)
        return f"http://127.0.0.1:{port}"

    async def _serve(self, name: str, port: int) -> Child:
        child = self.children[name] = await self._run(name, port, "api")
        await until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), child)
        return child

    async def _run(self, name: str, port: int, part: str, *arguments: str) -> Child:
        environment = {**self.environment, "LONGHAUL_PORT": str(port)}
        return await Child.start(name, [sys.executable, "-m", "longhaul", part, *arguments], environment, self.home)

    async def _worker_known(self, child: Child) -> None:
        """Every worker that was started is registered."""
        started = sum(name.startswith("worker") for name in self.children)
        deadline = time.monotonic() + _READY_SECONDS
        while len(await catalog.workers(self.database)) < started:
            child.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the worker was not ready after {_READY_SECONDS} s: {child.log}")
            await asyncio.sleep(0.1)

    async def know(self, registration: Registration) -> int:
        """Make a model known as a worker would that is not there; its id."""
        worker = uuid4()
        model = await catalog.register(self.database, worker, registration, host="bench", pid=0, home=None)
        return model.id

    async def stop(self) -> None:
        """End every part, the last started first."""
        for child in reversed(self.children.values()):
            await child.stop()
        await self.database.close()


@asynccontextmanager
async def deployment(
    stores: Stores, name: str = "bench", environment: Mapping[str, str] | None = None
) -> AsyncIterator[Deployment]:
    """A deployment on a database of its own, no part started yet; every part gets `environment`."""
    home = stores.folder / name
    home.mkdir()
    url = await asyncio.to_thread(stores.new_database, name)
    database = Database(url)
    own = {
        "LONGHAUL_HOME": str(home),
        "LONGHAUL_HOST": "127.0.0.1",
        "LONGHAUL_REDIS_PREFIX": name,
        "DATABASE_URL": url,
        "REDIS_URL": stores.redis_url,
        **(environment or {}),
    }
    deployed = Deployment(name, database, home, own, await keys.create(database, "bench", "bench"))
    try:
        yield deployed
    finally:
        await deployed.stop()
