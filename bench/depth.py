"""Submits and the whole pipeline on a deep queue, over an empty database on the same server.

Prepared once: 1,300,000 jobs of 50 tenants are accepted and 300,000 of them run, with autovacuum off. Then windows
alternate between two deployments, of which the one that is not measured has its tenants paused. Once more with a
transaction of somebody else held open in the deep database, so that nothing that dies there can be cleaned away.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
from sqlalchemy import text

from bench import deep, pipeline, submit
from bench.figure import Figure, Goal, Scale, alternate, ratios, say
from bench.stack import Deployment, deployment, plain, stores

_QUEUED = 1_000_000
_RUN = 300_000
_TENANTS = 50


async def run(scale: Scale) -> list[Figure]:
    """Four ratios: submits and pipeline, without and with the held transaction."""
    queued, ran = scale.of(_QUEUED), scale.of(_RUN)
    name = f"{queued:,} queued, {ran:,} run"
    with stores({"autovacuum": "off"}) as servers:
        async with (
            deployment(servers, "empty", pipeline.ENVIRONMENT) as empty,
            deployment(servers, "deep", pipeline.ENVIRONMENT) as full,
        ):
            await _prepare(full, queued, ran)
            for ours in (empty, full):
                await _pause(ours)
                for part in ("control", "api", "worker"):
                    await ours.start(part)
            figures = await _compare(scale, full, empty, name, Goal(0.9))
            with _transaction_held(full):
                figures += await _compare(scale, full, empty, f"{name}, a transaction held", Goal(0.25))
    return figures


async def _prepare(full: Deployment, queued: int, ran: int) -> None:
    model_id = await full.know(pipeline.registration())
    tenants = await deep.tenants(full.database, _TENANTS)
    say(f"  accepting {queued + ran:,} jobs and running {ran:,} of them")
    await deep.queue(full.database, (model_id, pipeline.MODEL), tenants, queued + ran)
    pace = await deep.run(full.database, model_id, ran, company=64)
    say(f"  claimed and finished by 64: {pace.rate:,.0f}/s, a claim in {pace.claim_p50_ms:.1f} ms")


async def _compare(scale: Scale, full: Deployment, empty: Deployment, name: str, goal: Goal) -> list[Figure]:
    async def submits(ours: Deployment) -> float:
        await _emptied(empty)
        return (await submit.window(ours, pipeline.MODEL, scale.seconds)).rate

    async def jobs(ours: Deployment) -> float:
        await _emptied(empty)
        await _execute(ours, "UPDATE tenants SET paused = false")
        measured = await pipeline.rate(ours, scale.seconds)
        await _pause(ours)
        return measured

    figures = []
    for what, measure in (("submits", submits), ("pipeline", jobs)):
        pairs = await alternate(scale.pairs, partial(_on, full, measure), partial(_on, empty, measure))
        figures.append(ratios(f"{what} with {name}: over an empty database", pairs, "/s", goal))
    return figures


async def _on(ours: Deployment, measure: Callable[[Deployment], Awaitable[float]], pair: int) -> float:
    return await measure(ours)


async def _pause(ours: Deployment) -> None:
    """Let nothing more be claimed, and return when nothing runs."""
    await _execute(ours, "UPDATE tenants SET paused = true")
    await pipeline.quiet(ours)


async def _emptied(empty: Deployment) -> None:
    """Take out what earlier windows left. Its tenants are paused and nothing runs."""
    await _execute(empty, "TRUNCATE jobs, details, requests, results, repeats, idempotency")
    await _execute(empty, "UPDATE flows SET queued = 0, open = false, cursor = ''")


async def _execute(ours: Deployment, statement: str) -> None:
    async with ours.database.engine.connect() as connection:
        await connection.execute(text(statement))


@contextmanager
def _transaction_held(ours: Deployment) -> Iterator[None]:
    """A snapshot that somebody took and keeps."""
    with psycopg.connect(plain(ours.environment["DATABASE_URL"])) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM flows")
        yield
