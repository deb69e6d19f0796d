"""What is counted where it happens, and the page that explains it."""

from uuid import UUID

from prometheus_client import CollectorRegistry, Gauge

from jobs import batches, cancel, lease, metrics
from jobs.claim import claim
from jobs.database import Database
from jobs.finish import Finisher
from jobs.records import Outcome, Tier, Usage
from jobs.states import Status
from tests.exposed import count, values
from tests.jobs.batch_rows import start
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import rows


def finished() -> dict[Status, float]:
    return {status: count("longhaul_finished_total", status=status) for status in Status if status.terminal}


def since(before: dict[Status, float]) -> dict[Status, float]:
    """What was counted since then."""
    return {status: now - before[status] for status, now in finished().items() if now > before[status]}


def test_a_gauge_shows_what_it_is_given_and_nothing_else() -> None:
    gauge = Gauge("any", "Any.", ["one", "other"], registry=CollectorRegistry())
    metrics.show(gauge, {("a", "b"): 1, ("c", "d"): 2})
    metrics.show(gauge, {("c", "d"): 3, ("e", "f"): 4})
    assert values(gauge) == {("c", "d"): 3, ("e", "f"): 4}


async def test_a_result_counts_once_with_its_tokens(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job(tier=Tier.FLEX), new_job(tier=Tier.FLEX))
    one, other = await claim(database, worker, model_id, Tier.FLEX, 2)
    before, stale = finished(), count("longhaul_stale_results_total")
    tokens = {kind: count("longhaul_tokens_total", tier="flex", kind=kind) for kind in ("input", "output", "cached")}
    finisher = Finisher(database, lambda ended: None)
    done = Outcome(Status.COMPLETED, 200, b"{}", Usage(input=10, cached=4, output=3))
    assert await finisher.finish(one, done)
    assert not await finisher.finish(one, done)
    assert await finisher.finish(other, Outcome(Status.FAILED, 400, b"{}"))
    assert since(before) == {Status.COMPLETED: 1, Status.FAILED: 1}
    assert count("longhaul_stale_results_total") == stale + 1
    for kind, more in (("input", 10), ("output", 3), ("cached", 4)):
        assert count("longhaul_tokens_total", tier="flex", kind=kind) == tokens[kind] + more


async def test_every_other_end_is_counted_too(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    before = finished()
    one, late, lost = await accept(new_job(), new_job(expires_seconds=60), new_job())
    await cancel.cancel(database, [one])
    await cancel.cancel(database, [one])
    await rows(database, "UPDATE jobs SET expires_at = now() WHERE id = %s", late)
    await cancel.expire(database)
    await cancel.lose(database, [lost])
    assert since(before) == {Status.CANCELLED: 1, Status.EXPIRED: 1, Status.FAILED: 1}

    batch = await start(database, worker, model_id, {"a": b"{}", "b": b"{}"})
    await batches.cancel(database, 1, batch.batch.id)
    assert since(before)[Status.CANCELLED] == 3

    await accept(new_job())
    await claim(database, worker, model_id, Tier.DEFAULT, 1)
    await rows(database, "UPDATE jobs SET losses = 9 WHERE status = 'in_progress'")
    await lease.orphan(database, worker)
    assert since(before)[Status.FAILED] == 2


async def test_a_job_waits_once(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    waits = "longhaul_wait_seconds"
    before, seconds = count(f"{waits}_count", tier="priority"), count(f"{waits}_sum", tier="priority")
    [job] = await accept(new_job(tier=Tier.PRIORITY))
    await rows(database, "UPDATE jobs SET created_at = now() - interval '100 seconds'")
    [claimed] = await claim(database, worker, model_id, Tier.PRIORITY, 1)
    assert 100 <= claimed.queued_seconds < 120
    assert 100 <= count(f"{waits}_sum", tier="priority") - seconds < 120
    await lease.release(database, [(job, claimed.lease_token)])
    await claim(database, worker, model_id, Tier.PRIORITY, 1)
    assert count(f"{waits}_count", tier="priority") == before + 1
