"""`longhaul up`: every part on this machine, kept running until Ctrl-C."""

import asyncio
import fcntl
import os
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID, uuid4

import httpx
import typer
from sqlalchemy.exc import DBAPIError

from jobs import catalog, keys, lease, migrate, webhooks
from jobs import settings as settings_module
from jobs.database import Database
from jobs.secrets import Unreadable, Vault, new_key
from jobs.settings import Settings
from longhaul.commands.serve import wants_tiny_model
from longhaul.deployment import key_file, read_exports, secret_key, webhook_allow
from longhaul.embedded import EmbeddedPostgres, EmbeddedRedis, ServerFailed, free_port
from longhaul.output import FAILED, talk
from longhaul.parts import Child, Keeper, Part, Signals

T = TypeVar("T")

_TICK_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 15.0
"""What a part may take to end, beyond the worker's drain."""
_WEBHOOK_SECRET: Final = "OPENAI_WEBHOOK_SECRET"
"""The SDK's own variable: with it `client.webhooks.unwrap(body, headers)` needs no secret."""


class CannotStart(Exception):
    """Something that only a person can put right; the message says what."""


def up() -> None:
    """Run every part on this machine until Ctrl-C, and end them cleanly.

    PostgreSQL and Redis are started from wheels unless DATABASE_URL and REDIS_URL name others. A second Ctrl-C makes
    the worker hand its jobs back at once, a third kills.
    """
    settings = settings_module.load()
    try:
        with _only_one(settings.home.resolve()) as home, Signals.handled() as signals, ExitStack() as started:
            deployment = Deployment(settings, home, signals, started)
            deployment.start()
            deployment.keep()
            talk("Ending every part; the worker first finishes what it runs. Ctrl-C again to hurry.")
    except (CannotStart, ServerFailed) as error:
        talk(f"longhaul up: {error}")
        raise typer.Exit(FAILED) from None


class Deployment:
    """The parts of one data folder. `started` ends them in reverse: worker, API, control, Redis, PostgreSQL."""

    def __init__(self, settings: Settings, home: Path, signals: Signals, started: ExitStack) -> None:
        self._home = home
        self._signals = signals
        self._started = started
        self._settings = settings.model_copy(update={"home": home, "port": settings.port or free_port()})
        self._keepers: list[Keeper] = []
        self._stores: dict[str, str] = {}
        self._worker_id = uuid4()
        self._lost: set[UUID] = set()
        self._ready = False

    def start(self) -> None:
        """Start everything and return when a request would be answered, or when a signal came.

        Raises:
            CannotStart: a part ended by itself before it was ready, or a store does not answer.
            ServerFailed: an embedded server did not start.
        """
        control = Child("control", _command("control"), self._home, self._environment)
        api = Child("api", _command("api"), self._home, self._environment)
        worker = Child("worker", _command("worker"), self._home, self._worker_environment)
        patience = self._settings.drain_seconds + _STOP_SECONDS
        for child in (worker, api, control):
            child.end_leftover(self._signals, patience)
        self._make_secret_key()
        self._start_stores()
        self._prepare_database()
        self._start_child(control, _STOP_SECONDS)
        self._start_child(api, _STOP_SECONDS)
        self._start_child(worker, patience, self._worker_died)
        if wants_tiny_model(self._settings):
            talk("LONGHAUL_MODEL is not set: this serves A TINY MODEL OF RANDOM WEIGHTS, which speaks no sense.")
        talk(f"Loading the engine. Every part writes to {self._home / 'logs'}.")
        while not self._signals.asked and not self._all_ready():
            self._tend()
        if not self._signals.asked:
            self._ready = True
            self._write_client_env()
            print(f"ready {self._address}/v1", flush=True)

    def keep(self) -> None:
        """Start again what dies, until a signal comes."""
        while not self._signals.asked:
            self._tend()

    def _make_secret_key(self) -> None:
        """Once for a folder: what is stored encrypted cannot be read with another."""
        if not secret_key(self._settings):
            _write_private(key_file(self._home), f"{new_key()}\n")

    def _start_stores(self) -> None:
        log = self._home / "logs"
        self._stores = {"DATABASE_URL": self._settings.database_url or "", "REDIS_URL": self._settings.redis_url or ""}
        if not self._stores["DATABASE_URL"]:
            postgres = EmbeddedPostgres(self._home / "postgres", log=log / "postgres.log")
            self._stores["DATABASE_URL"] = self._start_server("postgres", postgres)
        if not self._stores["REDIS_URL"]:
            redis = EmbeddedRedis(self._home / "redis", log=log / "redis.log")
            self._stores["REDIS_URL"] = self._start_server("redis", redis)
        _write_exports(self._home / "server.env", self._stores)

    def _start_server(self, name: str, server: EmbeddedPostgres | EmbeddedRedis) -> str:
        self._started.callback(server.stop)
        url = server.start()
        self._keep_running(name, server)
        return url

    def _prepare_database(self) -> None:
        try:
            migrate.upgrade(self._stores["DATABASE_URL"])
            self._ask(lambda database: lease.end_home(database, socket.gethostname(), str(self._home)))
        except DBAPIError as error:
            raise CannotStart(f"the database refuses: {str(error.orig).strip()}") from None

    def _start_child(self, child: Child, patience: float, on_death: Callable[[], None] = lambda: None) -> None:
        def died(code: int) -> None:
            on_death()
            # A negative code is a signal, which says nothing about our arguments.
            if not self._ready and code > 0:
                raise CannotStart(f"{child.name} ended with exit status {code}:\n{child.said()}")

        self._started.callback(child.stop, self._signals, patience)
        child.start()
        self._keep_running(child.name, child, died)

    def _keep_running(self, name: str, part: Part, died: Callable[[int], None] = lambda code: None) -> None:
        self._keepers.append(Keeper(name, part, died))

    def _tend(self) -> None:
        for keeper in self._keepers:
            keeper.tend()
        for worker in [*self._lost]:
            self._end_lease(worker)
        self._signals.wait(_TICK_SECONDS)

    def _end_lease(self, worker: UUID) -> None:
        with suppress(DBAPIError):  # the database may be what died; then the next round
            self._ask(lambda database: lease.end(database, worker))
            self._lost.discard(worker)

    def _worker_died(self) -> None:
        self._lost.add(self._worker_id)

    def _environment(self) -> Mapping[str, str]:
        settings = self._settings
        return {
            **self._stores,
            "LONGHAUL_HOME": str(settings.home),
            "LONGHAUL_PORT": str(settings.port),
            "LONGHAUL_SECRET_KEY": secret_key(settings),
            "WEBHOOK_ALLOW": webhook_allow(settings),
        }

    def _worker_environment(self) -> Mapping[str, str]:
        self._worker_id = uuid4()
        port = self._settings.metrics_port
        return {
            **self._environment(),
            "LONGHAUL_WORKER_ID": str(self._worker_id),
            "LONGHAUL_METRICS_PORT": str(port and port + 1),  # control has the port itself
        }

    def _all_ready(self) -> bool:
        return self._status("/readyz") == 200 and self._worker_is_registered()

    def _worker_is_registered(self) -> bool:
        with suppress(DBAPIError):
            return any(worker.id == self._worker_id for worker in self._ask(catalog.workers))
        return False

    def _status(self, path: str, key: str = "") -> int | None:
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            return httpx.get(f"{self._address}{path}", headers=headers, timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return None

    @property
    def _address(self) -> str:
        """Where a client on this machine finds the API."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._settings.host, self._settings.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._settings.port}"

    def _write_client_env(self) -> None:
        path = self._home / "client.env"
        held = read_exports(path) if path.exists() else {}
        key = held.get("OPENAI_API_KEY", "")
        if self._settings.auth == "none":
            key = "EMPTY"
        elif not key or self._status("/v1/models", key) != 200:
            key = self._ask(lambda database: keys.create(database, tenant="default", name="longhaul up"))
        found = {"OPENAI_BASE_URL": f"{self._address}/v1", "OPENAI_API_KEY": key}
        if secret := self._webhook_secret(held.get(_WEBHOOK_SECRET, "")):
            found[_WEBHOOK_SECRET] = secret
        _write_exports(path, found)

    def _webhook_secret(self, held: str) -> str | None:
        """What signs webhooks for the key's tenant; None where somebody made another, who then knows it."""
        vault = Vault(secret_key(self._settings))
        with suppress(Unreadable):
            return self._ask(lambda database: webhooks.make_default(database, vault, "default", held))
        return None

    def _ask(self, question: Callable[[Database], Awaitable[T]]) -> T:
        async def ask() -> T:
            database = Database(self._stores["DATABASE_URL"], pool_size=2)
            try:
                return await question(database)
            finally:
                await database.close()

        return asyncio.run(ask())


def _command(name: str) -> list[str]:
    return [sys.executable, "-P", "-m", "longhaul", name]


@contextmanager
def _only_one(home: Path) -> Iterator[Path]:
    """The data folder, held for this process alone; the lock ends with the process, however it ends."""
    for folder in (home, home / "logs", home / "run"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotStart(f"another `longhaul up` (process {lock.read().strip()}) runs on {home}.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield home


def _write_exports(path: Path, variables: Mapping[str, str]) -> None:
    """A file for `source`."""
    _write_private(path, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))


def _write_private(path: Path, text: str) -> None:
    """A file that only its owner reads."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
