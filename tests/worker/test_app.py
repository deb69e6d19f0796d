"""A worker as a process: signals, exit statuses, and a job that comes by ticket."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import httpx
import pytest
import redis

from jobs import bell, lease
from jobs.claim import claim
from jobs.database import Database
from jobs.records import Tier
from jobs.settings import Settings
from jobs.states import Status
from jobs.tickets import Publisher
from longhaul.embedded import free_port
from tests.engines.scripted import ScriptedEngine
from tests.engines.served import served
from tests.worker.place import Place, scalar, until, until_asked

ROOT = Path(__file__).parents[2]


class Worker:
    """One `longhaul worker` with the scripted engine, and its journal."""

    def __init__(
        self, settings: Settings, folder: Path, database: Database, options: Sequence[str], environment: dict[str, str]
    ) -> None:
        self._log = folder / f"{uuid4()}.log"
        self._journal = folder / "journal"
        self._database = database
        variables = {
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": str(settings.database_url),
            "REDIS_URL": str(settings.redis_url),
            "LONGHAUL_ENGINE": "tests.engines.scripted:factory",
            "LONGHAUL_LEASE": "2",
            "LONGHAUL_TEST_JOURNAL": str(self._journal),
            "LONGHAUL_TEST_SLOTS": "4",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "longhaul", "worker", *options],
                env=os.environ | variables | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def place(self) -> Place:
        """Where its jobs are submitted and watched, once it is registered."""
        while not (registered := await self.registered()):
            assert self.process.poll() is None, self.said()
            await asyncio.sleep(0.05)
        return Place(self._database, ScriptedEngine(), registered[0], self._journal)

    async def registered(self) -> list[int]:
        """The model of each worker in the database."""
        return await self._ask("SELECT model_id FROM workers")

    async def queue(self) -> str:
        """Where its tickets go."""
        [queue] = await self._ask("SELECT queue FROM models")
        return str(queue)

    async def _ask(self, question: str) -> list[Any]:
        async with self._database.engine.connect() as connection:
            return list((await connection.exec_driver_sql(question)).scalars())

    def said(self) -> str:
        """All that it wrote."""
        return self._log.read_text()

    async def ends(self, *signals: signal.Signals) -> int:
        """Its exit status, after these signals, each sent when the one before has been heard."""
        for position, number in enumerate(signals):
            if position:
                await until(lambda: "draining" in self.said())
            self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 30)


Start: TypeAlias = Callable[..., Worker]


@pytest.fixture
def start(settings: Settings, tmp_path: Path, database: Database) -> Iterator[Start]:
    """Starts workers on this test's servers, with these options and variables; none outlives the test."""
    started: list[Worker] = []

    def begin(*options: str, **environment: str) -> Worker:
        started.append(Worker(settings, tmp_path, database, options, environment))
        return started[-1]

    yield begin
    for worker in started:
        worker.process.kill()
        worker.process.wait()


async def test_a_ticket_brings_a_job_to_an_idle_worker_and_term_ends_it_cleanly(
    start: Start, settings: Settings
) -> None:
    worker = start()
    place = await worker.place()
    tickets = Publisher(settings)
    tickets.start()
    jobs = await place.submit(3, delay=0.3)
    queue = await worker.queue()
    tickets.publish(queue, 3, 8)
    tickets.stop()
    await until(lambda: place.began(jobs))
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        await until(lambda: client.llen(f"{{{settings.redis_prefix}}}:{queue}") == 0)
    assert await worker.ends(signal.SIGTERM) == 0, worker.said()
    assert await place.statuses(jobs) == [Status.COMPLETED] * 3
    assert await worker.registered() == []
    assert "Traceback" not in worker.said()


async def test_its_metrics_say_who_it_is_and_what_it_did(start: Start) -> None:
    port = free_port()
    worker = start(LONGHAUL_METRICS_PORT=str(port))
    place = await worker.place()
    jobs = await place.submit(2)
    await place.all_are(Status.COMPLETED, jobs)
    wanted = {
        'longhaul_worker_info{model="scripted",worker="',
        "longhaul_slots 4.0",
        'longhaul_finished_total{status="completed"} 2.0',
        'longhaul_wait_seconds_count{tier="default"} 2.0',
        'longhaul_run_seconds_count{tier="default"} 2.0',
        'longhaul_tokens_total{kind="output",tier="default"} 32.0',
        "longhaul_broker_up 1.0",
    }
    async with httpx.AsyncClient() as client:

        async def shown() -> bool:
            answer = await client.get(f"http://127.0.0.1:{port}/metrics")
            return all(line in answer.text for line in wanted)

        await until_asked(shown)
    assert await worker.ends(signal.SIGTERM) == 0, worker.said()


async def test_the_bell_brings_jobs_without_a_ticket(start: Start, settings: Settings) -> None:
    worker = start()
    place = await worker.place()
    queue = await worker.queue()
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        await until(lambda: client.info("clients")["blocked_clients"] == 2)  # the bell's listener, and Celery's
        jobs = await place.submit(3)
        assert bell.ring(client, settings.redis_prefix, queue) == 0
        await until(lambda: place.began(jobs))
    assert await worker.ends(signal.SIGTERM) == 0, worker.said()
    assert "Traceback" not in worker.said()


async def test_term_hands_back_what_takes_longer_than_the_drain(start: Start) -> None:
    worker = start("--drain-seconds", "0.3")
    place = await worker.place()
    [short], long = await place.submit(delay=0.1), await place.submit(2, hang=True)
    await until(lambda: place.began([short, *long]))
    assert await worker.ends(signal.SIGTERM) == 0, worker.said()
    assert await place.statuses([short]) == [Status.COMPLETED]
    rows = [await place.row(job) for job in long]
    assert [(row.status, row.attempts, row.losses) for row in rows] == [(Status.QUEUED, 0, 0)] * 2
    assert await worker.registered() == []


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGQUIT)],
    ids=["term-term", "int-int", "term-quit"],
)
async def test_a_second_signal_hands_back_at_once(start: Start, signals: tuple[signal.Signals, ...]) -> None:
    worker = start(LONGHAUL_DRAIN="3600")
    place = await worker.place()
    jobs = await place.submit(2, hang=True)
    await until(lambda: place.began(jobs))
    assert await worker.ends(*signals) == 0, worker.said()
    assert await place.statuses(jobs) == [Status.QUEUED] * 2
    assert "NotImplementedError" not in worker.said()


async def test_term_while_the_engine_loads_ends_promptly(start: Start) -> None:
    worker = start(LONGHAUL_TEST_START="3600")
    await until(lambda: "loading the engine" in worker.said())
    assert await worker.ends(signal.SIGTERM) == 0, worker.said()
    assert await worker.registered() == []


async def test_term_while_a_load_holds_the_loop_ends_promptly(start: Start) -> None:
    worker = start(LONGHAUL_ENGINE="tests.worker.stuck:factory")
    await until(lambda: "loading the engine" in worker.said())
    assert await worker.ends(signal.SIGTERM) == 0, worker.said()


async def test_a_dead_engine_ends_the_worker_for_its_keeper_to_start_another(start: Start) -> None:
    worker = start()
    place = await worker.place()
    jobs = [*await place.submit(2, hang=True), *await place.submit(die=True, delay=0.3)]
    assert await worker.ends() == 1, worker.said()
    rows = [await place.row(job) for job in jobs]
    assert [(row.status, row.attempts, row.losses) for row in rows] == [(Status.QUEUED, 1, 1)] * 3
    assert await worker.registered() == []


async def test_a_worker_that_was_frozen_beyond_its_lease_writes_nothing(start: Start, database: Database) -> None:
    worker = start()
    place = await worker.place()
    [job] = await place.submit(delay=1)
    await until(lambda: place.began([job]))
    worker.process.send_signal(signal.SIGSTOP)
    frozen = (await place.row(job)).worker_id
    await lease.orphan(database, frozen)
    await place.enlist(database)
    assert await claim(database, place.worker, place.model_id, Tier.DEFAULT, 1)
    await until_asked(lambda: scalar(database, f"SELECT lease_until < now() FROM workers WHERE id = '{frozen}'"))
    worker.process.send_signal(signal.SIGCONT)
    await until(lambda: len(place.entries(job)) == 2)
    assert await worker.ends(signal.SIGTERM) == 0, worker.said()
    row = await place.row(job)
    assert (row.status, row.worker_id, row.lease_token) == (Status.IN_PROGRESS, place.worker, 2)


async def test_without_redis_a_worker_serves_by_looking(start: Start) -> None:
    worker = start(REDIS_URL="redis://127.0.0.1:1/0")
    place = await worker.place()
    jobs = await place.submit(2)
    await place.all_are(Status.COMPLETED, jobs)
    assert await worker.ends(signal.SIGTERM) == 0, worker.said()


async def test_an_alias_of_another_engine_ends_the_worker_with_a_message(start: Start) -> None:
    await start(LONGHAUL_TEST_ALIASES="llama").place()
    other = start(LONGHAUL_TEST_MODEL="other", LONGHAUL_TEST_ALIASES="llama")
    assert await other.ends() == 2, other.said()
    assert "llama" in other.said()


async def test_an_engine_that_is_not_there_ends_the_worker_with_a_message(start: Start) -> None:
    worker = start(LONGHAUL_ENGINE="tests.nowhere:factory")
    assert await worker.ends() == 2
    assert "LONGHAUL_ENGINE=tests.nowhere:factory is not there" in worker.said()


async def test_a_worker_forwards_to_a_server_and_ends_with_it(start: Start) -> None:
    async with served() as server:
        worker = start("--engine", server.url)
        place = await worker.place()
        await place.all_are(Status.COMPLETED, await place.submit(3))
        jobs = await place.submit(3, hang=True)
        await until(lambda: len(server.asked) == 6)
        await server.die()
        assert await worker.ends() == 1, worker.said()
    rows = [await place.row(job) for job in jobs]
    assert [(row.status, row.attempts, row.losses) for row in rows] == [(Status.QUEUED, 1, 1)] * 3
    assert await worker.registered() == []


async def test_a_worker_of_several_servers_has_jobs_served_by_each(start: Start) -> None:
    async with served() as one, served() as other:
        worker = start("--engine", one.url, "--engine", other.url, LONGHAUL_ENGINE_CONCURRENCY="2")
        place = await worker.place()
        jobs = await place.submit(8, delay=0.1)
        await place.all_are(Status.COMPLETED, jobs)
        asked = {server.url: {body["request_id"] for _, _, body in server.asked} for server in (one, other)}
        assert all(asked.values()), "each of them was asked"
        assert sorted([*asked[one.url], *asked[other.url]]) == sorted(job.hex for job in jobs)
        assert await worker.ends(signal.SIGTERM) == 0, worker.said()


async def test_a_server_of_other_models_ends_the_worker_with_a_message(start: Start) -> None:
    async with served() as server:
        worker = start("--engine", server.url, LONGHAUL_MODEL="large")
        assert await worker.ends() == 2
    assert f"{server.url} has no model 'large'. It has: scripted." in worker.said()
