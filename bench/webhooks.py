"""Webhooks: how many one control worker delivers, how soon, and what a hundred dead receivers cost the others.

The receiver is a process of its own that answers at once; where its CPU is near a whole core it was what was measured.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx

from bench.figure import Figure, Goal, Scale, alternate, ratios, said, say, windows
from bench.receiver import MOST
from bench.stack import Child, Deployment, Stores, deployment, stores
from jobs import events, webhooks
from jobs.broker import DELIVER_QUEUE
from jobs.secrets import Vault, new_key
from jobs.settings import Settings
from jobs.tickets import Publisher
from jobs.webhooks import Endpoint

_DELIVERIES: Final = 10_000
_RECEIVERS: Final = 16
_JOBS: Final = 100
_ENDPOINTS: Final = 200
_ROUNDS_PER_SECOND: Final = 2
_PATIENCE_SECONDS: Final = 120
_ENGINE: Final = "tests.engines.scripted:instant"


@dataclass
class Receiver:
    """The receiver's process, and what it got."""

    child: Child
    port: int = 0
    cpu: float = 0
    hits: dict[str, float] = field(default_factory=dict)
    """The first hit of each delivery."""

    @classmethod
    async def start(cls, ours: Deployment) -> "Receiver":
        command = [sys.executable, "-m", "bench.receiver"]
        child = ours.children["receiver"] = await Child.start("receiver", command, {}, ours.home, piped=True)
        return cls(child, int(await child.hear()))

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def listen(self) -> None:
        """Take in what it got since the last time."""
        count = MOST
        while count == MOST:
            await self.child.say("")
            heard = json.loads(await self.child.hear())
            self.cpu += heard["cpu"]
            for identity, at in heard["hits"]:
                self.hits.setdefault(identity, at)
            count = len(heard["hits"])

    async def until(self, count: int) -> None:
        """Return when it has got so many deliveries."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while len(self.hits) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.hits)} of {count} deliveries arrived in {_PATIENCE_SECONDS} s")
            await asyncio.sleep(0.1)
            await self.listen()


async def run(scale: Scale) -> list[Figure]:
    """Deliveries/s, ms from the end to the hit, and the ratio of the healthy receivers' latencies."""
    with stores() as servers:
        return [await _rate(servers, scale), await _delay(servers, scale), await _dead(servers, scale)]


@asynccontextmanager
async def _delivering(servers: Stores, name: str, **environment: str) -> AsyncIterator[tuple[Deployment, Receiver]]:
    """Control, and a receiver that it may reach."""
    environment = {"LONGHAUL_SECRET_KEY": new_key(), "WEBHOOK_ALLOW": "127.0.0.1", **environment}
    async with deployment(servers, name, environment) as ours:
        receiver = await Receiver.start(ours)
        await ours.start("control")
        yield ours, receiver


async def _endpoints(ours: Deployment, urls: Sequence[str]) -> list[Endpoint]:
    vault = Vault(ours.environment["LONGHAUL_SECRET_KEY"])
    tenant = await _value(ours, "SELECT id FROM tenants WHERE name = 'bench'")
    made = [
        webhooks.create(ours.database, vault, tenant, name="bench", url=url, event_types=list(events.JOB))
        for url in urls
    ]
    return [(await each)[0] for each in made]


async def _tell(ours: Deployment, each: int, endpoints: Sequence[Endpoint]) -> None:
    """Write `each` deliveries to every endpoint, in one statement, as ends would."""
    async with ours.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO deliveries (id, subject_id, endpoint_id, tenant_id, lane, type, body)"
            " SELECT new_id(), s, e.id, e.tenant_id, e.lane, 'job.completed', event_body(s, 'job.completed', now())"
            " FROM webhook_endpoints e, LATERAL (SELECT gen_random_uuid() AS s, e.id FROM generate_series(1, %s)) n"
            " WHERE e.id = ANY(%s)",
            (each, [endpoint.id for endpoint in endpoints]),
        )


async def _rate(servers: Stores, scale: Scale) -> Figure:
    async with _delivering(servers, "rate") as (ours, receiver):
        endpoints = await _endpoints(ours, [receiver.url(f"/{number}") for number in range(_RECEIVERS)])
        each = scale.of(_DELIVERIES) // _RECEIVERS

        async def rate(_: int) -> float:
            before, cpu = len(receiver.hits), receiver.cpu
            began = time.time()
            await _tell(ours, each, endpoints)
            await receiver.until(before + each * _RECEIVERS)
            seconds = max(receiver.hits.values()) - began
            say(f"  the receiver used {(receiver.cpu - cpu) / seconds:.0%} of a core")
            return each * _RECEIVERS / seconds

        await rate(0)
        rates = await windows(scale.pairs, rate)
    return Figure(f"webhooks delivered by one control worker to {_RECEIVERS} receivers", rates, "/s", Goal(500))


async def _delay(servers: Stores, scale: Scale) -> Figure:
    async with _delivering(servers, "delay", LONGHAUL_ENGINE=_ENGINE) as (ours, receiver):
        await _endpoints(ours, [receiver.url("/")])
        await ours.start("api")
        await ours.start("worker")

        async def p95(_: int) -> float:
            before = len(receiver.hits)
            async with httpx.AsyncClient(base_url=ours.base_url, timeout=60, trust_env=False) as client:
                for number in range(scale.of(_JOBS)):
                    await _submit(client, ours.key)
                    await receiver.until(before + number + 1)
            ended = await _times(
                ours,
                "SELECT d.id, extract(epoch FROM j.finished_at)::float8 FROM deliveries d"
                " JOIN jobs j ON j.id = d.subject_id",
            )
            took = [at - ended[identity] for identity, at in list(receiver.hits.items())[before:]]
            return _percentile(took)

        await p95(0)
        return Figure(
            "webhook, idle system: p95 from the end to the hit",
            await windows(scale.pairs, p95),
            "ms",
            Goal(100, at_most=True),
        )


async def _submit(client: httpx.AsyncClient, key: str) -> None:
    body = {"model": "scripted", "prompt": "hi", "max_tokens": 1}
    headers = {"Authorization": f"Bearer {key}", "Prefer": "respond-async"}
    answer = await client.post("/v1/completions", json=body, headers=headers)
    if answer.status_code != 202:
        raise RuntimeError(f"{answer.status_code}: {answer.text}")


async def _dead(servers: Stores, scale: Scale) -> Figure:
    seconds = 2 * scale.seconds

    async def p95(name: str, dead: int) -> float:
        async with _delivering(servers, name) as (ours, receiver):
            well = [receiver.url(f"/well/{number}") for number in range(_ENDPOINTS - dead)]
            healthy = await _endpoints(ours, well)
            others = await _endpoints(ours, [receiver.url(f"/dead/{number}") for number in range(dead)])
            await asyncio.sleep(2)
            with _tickets(ours) as publisher:
                for _ in range(round(seconds * _ROUNDS_PER_SECOND)):
                    await _tell(ours, 1, healthy + others)
                    publisher.publish(DELIVER_QUEUE, 1, 1)
                    await asyncio.sleep(1 / _ROUNDS_PER_SECOND)
            await asyncio.sleep(2)
            await receiver.listen()
            told = await _times(
                ours,
                "SELECT id, extract(epoch FROM created_at)::float8 FROM deliveries WHERE endpoint_id = ANY(%s)",
                [endpoint.id for endpoint in healthy],
            )
            if missing := told.keys() - receiver.hits.keys():
                raise RuntimeError(f"{len(missing)} deliveries to healthy receivers did not arrive")
            return _percentile([receiver.hits[identity] - at for identity, at in told.items()])

    pairs = await alternate(
        min(2, scale.pairs),
        lambda pair: p95(f"dead{pair}", _ENDPOINTS // 2),
        lambda pair: p95(f"alive{pair}", 0),
    )
    what = f"{_ENDPOINTS} receivers, half of them dead: p95 of the others over p95 with none dead"
    return ratios(what, pairs, "ms", Goal(1.5, at_most=True))


@contextmanager
def _tickets(ours: Deployment) -> Iterator[Publisher]:
    """What a worker has besides its engine: the bell that wakes control."""
    prefix, redis_url = ours.environment["LONGHAUL_REDIS_PREFIX"], ours.environment["REDIS_URL"]
    publisher = Publisher(Settings(redis_url=redis_url, redis_prefix=prefix))
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


async def _times(ours: Deployment, query: str, *parameters: Any) -> Mapping[str, float]:
    """A Unix time for each delivery, by its public id."""
    async with ours.database.transaction() as connection:
        rows = await (await connection.execute(query.encode(), parameters)).fetchall()
    times: dict[UUID, float] = dict(rows)
    return {f"wh_{identity.hex}": at for identity, at in times.items()}


async def _value(ours: Deployment, query: str) -> Any:
    async with ours.database.transaction() as connection:
        row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row[0]


def _percentile(seconds: Sequence[float]) -> float:
    """The 95th, in ms."""
    p95 = statistics.quantiles(seconds, n=100, method="inclusive")[94] * 1000
    say(f"  p50 {said(statistics.median(seconds) * 1000, 'ms')}, p95 {said(p95, 'ms')} of {len(seconds)}")
    return p95
