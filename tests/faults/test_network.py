"""Three hosts: stores on one, API and control on another, the worker on the third. The links between them go silent."""

import asyncio
import contextlib
import re
import shlex
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis import Redis
from sqlalchemy import text

from jobs.database import Database
from longhaul.embedded import EmbeddedPostgres
from tests import journal, networks
from tests.faults import invariants
from tests.faults.test_everything_at_once import completed, submit_one
from tests.networks import Host, Link
from tests.processes import ROOT, Deployment

pytestmark = [
    pytest.mark.skipif(not networks.allowed(), reason="network namespaces want root on Linux"),
    pytest.mark.timeout(400),
]

PAGE = (ROOT / "docs" / "more-machines.md").read_text()
JOBS = 240
CUT_SECONDS = 90
RECOVERY_SECONDS = 90


@dataclass(frozen=True)
class Network:
    """The hosts, of which each but `stores` is joined to that alone."""

    stores: Host
    front: Host
    back: Host
    to_front: Link
    to_back: Link


@pytest.fixture
def network() -> Iterator[Network]:
    with contextlib.ExitStack() as made:
        hosts = [Host(name) for name in ("stores", "front", "back")]
        for host in hosts:
            made.callback(host.remove)
        stores, front, back = hosts
        links = [Link(stores, front), Link(stores, back)]
        for link in links:
            made.callback(link.remove)
        yield Network(stores, front, back, *links)


class Spread(Deployment):
    """A deployment on this network."""

    def __init__(self, folder: Path, network: Network) -> None:
        super().__init__(folder, {"LONGHAUL_TEST_SLOTS": "16", "LONGHAUL_HOST": network.to_front.far})
        self.postgres = EmbeddedPostgres(folder / "postgres", {"shared_buffers": "64MB", "listen_addresses": "*"})
        self._network = network

    @property
    def base_url(self) -> str:
        return f"http://{self._network.to_front.far}:{self.port}"

    async def open(self) -> None:
        await asyncio.to_thread(self.postgres.start)
        await asyncio.to_thread(self.redis.start)
        self.database = Database(self.postgres.url)
        with (self.postgres.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        async with self.database.engine.connect() as connection:
            await connection.execute(text("SELECT pg_reload_conf()"))
        with Redis.from_url(self.redis.url) as redis:
            redis.config_set("bind", "0.0.0.0")
        said = ""
        with self._network.front.inside():
            for command, *arguments in commands("Once, anywhere"):
                said += await self.run(command, *arguments, **self.stores_over(self._network.to_front))
        (self.key,) = re.findall(r"sk-lh-\S+", said)

    def stores_over(self, link: Link) -> dict[str, str]:
        """Where a host finds the stores that is joined to them by this link."""
        return {"DATABASE_URL": at(self.postgres.url, link.near), "REDIS_URL": at(self.redis.url, link.near)}


def at(url: str, host: str) -> str:
    """The same on another host."""
    parts = urlsplit(url)
    account, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{account}@{host}:{parts.port}"))


def commands(title: str) -> list[list[str]]:
    """What the page on more machines runs in the section of this title, as `longhaul`'s arguments."""
    (section,) = re.findall(rf"^## \d\. {title}$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    return [shlex.split(words) for words in re.findall(r"^longhaul (.*)$", section, re.MULTILINE)]


@asynccontextmanager
async def spread(folder: Path, network: Network) -> AsyncIterator[Spread]:
    """All parts up, each where it belongs."""
    deployment = Spread(folder, network)
    try:
        await deployment.open()
        places = {"In front": (network.front, network.to_front), "In the back": (network.back, network.to_back)}
        for title, (host, link) in places.items():
            for part, *arguments in commands(title):
                with host.inside():
                    deployment.spawn(part, None, *arguments, **deployment.stores_over(link))
        await deployment.until_served()
        yield deployment
    finally:
        await deployment.close()


async def test_links_that_are_silent_for_90_seconds_lose_nothing(network: Network, tmp_path: Path) -> None:
    with network.stores.inside():
        async with spread(tmp_path, network) as deployment:
            accepted: set[str] = set()
            submitting = asyncio.create_task(asyncio.to_thread(submit, network.front, deployment, accepted))
            await completed(deployment, 20)
            network.to_back.cut()
            await asyncio.sleep(CUT_SECONDS / 3)
            network.to_front.cut()
            await asyncio.sleep(2 * CUT_SECONDS / 3)
            network.to_back.mend()
            await asyncio.sleep(CUT_SECONDS / 3)
            before = len(accepted)
            network.to_front.mend()

            await submitting
            assert before < len(accepted) == JOBS
            await completed(deployment, JOBS, RECOVERY_SECONDS)
            entries = journal.read(deployment.journal)
            await invariants.check_completed_once(deployment.database, accepted, entries)
            await invariants.check_order_is_clean(deployment.database)
            assert all(part.code is None for part in deployment.parts.values()), "no part had to be started again"


def submit(host: Host, deployment: Deployment, accepted: set[str]) -> None:
    """From this host, over the time of both cuts, each until it was accepted. What a cut held up follows at once."""

    async def all_of_them() -> None:
        gate, began = asyncio.Semaphore(8), time.monotonic()
        async with deployment.client() as client, asyncio.TaskGroup() as group:
            for number in range(JOBS):
                await gate.acquire()
                group.create_task(submit_one(client, gate, accepted, number, delay=1.0))
                await asyncio.sleep(max(0.0, began + number * 1.5 * CUT_SECONDS / JOBS - time.monotonic()))

    with host.inside():
        asyncio.run(all_of_them())
