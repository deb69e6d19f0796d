"""Deep queues, prepared with the product's own statements: many jobs written down, many run, without any part."""

import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text

from bench import work
from jobs import ids
from jobs.accept import Acceptor
from jobs.claim import claim
from jobs.database import Database
from jobs.finish import Finisher
from jobs.records import ClaimedJob, NewJob, Outcome, Tier, Usage
from jobs.states import Status

_COMPANY: Final = 1000
_RESPONSE: Final = b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",'
_OUTCOME: Final = Outcome(Status.COMPLETED, 200, _RESPONSE + b'"content":"word"}}]}', Usage(input=60, output=16))


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast jobs were claimed and finished."""

    jobs: int
    seconds: float
    claim_p50_ms: float

    @property
    def rate(self) -> float:
        return self.jobs / self.seconds


async def tenants(database: Database, count: int) -> list[int]:
    """So many new tenants; their ids."""
    query = text("INSERT INTO tenants (name) SELECT 'deep-' || n FROM generate_series(1, :count) n RETURNING id")
    async with database.engine.connect() as connection:
        return [row.id for row in await connection.execute(query, {"count": count})]


async def queue(database: Database, model: tuple[int, str], tenant_ids: Sequence[int], count: int) -> None:
    """Accept `count` chats for (id, name) of a model, a thousand at a time, from these tenants in turn."""
    model_id, name = model
    bodies = itertools.cycle(work.encoded(work.chats(1000, name, seed=0)))
    acceptor = Acceptor(database, lambda model_id, count: None)
    owners = itertools.cycle(tenant_ids)

    def job() -> NewJob:
        return NewJob(ids.new(), next(owners), model_id, name, work.CHAT, next(bodies), Tier.DEFAULT, False, 120, 3600)

    for start in range(0, count, _COMPANY):
        await acceptor.accept_all([job() for _ in range(min(_COMPANY, count - start))])


async def run(database: Database, model_id: int, jobs: int, company: int, workers: int = 2) -> Pace:
    """Claim and finish so many jobs, `company` at a time, by `workers` side by side."""
    finisher = Finisher(database, lambda ids: None)
    claims: list[float] = []
    left = jobs

    async def work_off(worker: UUID) -> None:
        nonlocal left
        while left > 0:
            left -= company
            began = time.monotonic()
            held = await claim(database, worker, model_id, Tier.DEFAULT, company)
            claims.append(time.monotonic() - began)
            await _finish(finisher, held)

    async with database.engine.connect() as connection:
        known = await connection.scalar(text("SELECT id FROM workers WHERE model_id = :model"), {"model": model_id})
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work_off(known))
    return Pace(jobs, time.monotonic() - began, statistics.median(claims) * 1000)


async def _finish(finisher: Finisher, held: Sequence[ClaimedJob]) -> None:
    if not all(await asyncio.gather(*(finisher.finish(job, _OUTCOME) for job in held))):
        raise RuntimeError("a job that was held could not be finished")
