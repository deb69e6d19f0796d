"""Looks at queues, workers and webhooks."""

from uuid import UUID

from jobs.claim import claim
from jobs.database import Database
from jobs.records import Tier
from longhaul.doctor import work as doctor
from longhaul.doctor.finding import Finding, Level
from tests.jobs import hooks
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import rows
from tests.longhaul.doctor.conftest import faults, said


async def examined(database: Database) -> list[Finding]:
    return await doctor.examine(database, lease_seconds=60)


async def test_a_deployment_at_work_is_well(database: Database, accept: Accept, new_job: MakeJob, worker: UUID) -> None:
    await accept(new_job(), new_job(tier=Tier.BATCH))
    found = await examined(database)
    assert faults(found) == []
    assert said(found, "queues") == "2 jobs wait, none too long."
    assert said(found, "workers") == "1 serve, none is lost."


async def test_jobs_that_nobody_serves_are_trouble(database: Database, accept: Accept, new_job: MakeJob) -> None:
    await accept(new_job())
    found = await examined(database)
    assert ("queues", Level.TROUBLE) in faults(found)
    assert "no worker serves it" in said(found, "queues")


async def test_people_who_wait_over_a_minute_are_a_warning_and_batches_are_not(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID
) -> None:
    await accept(new_job(tier=Tier.BATCH), new_job(tier=Tier.PRIORITY))
    await rows(database, "UPDATE jobs SET created_at = now() - interval '2 hours' WHERE tier = 3")
    assert faults(await examined(database)) == []
    await rows(database, "UPDATE jobs SET created_at = now() - interval '2 hours'")
    found = await examined(database)
    assert faults(found) == [("queues", Level.WARNING)]
    assert "tier priority" in said(found, "queues")


async def test_a_window_that_the_workers_will_not_make_is_a_warning(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID
) -> None:
    await accept(new_job(cost=6000))
    await rows(database, "UPDATE models SET worker_speed = 10")
    found = await examined(database)
    assert faults(found) == [("queues", Level.WARNING)]
    assert "has 1 workers and wants 10" in said(found, "queues")


async def test_a_worker_that_died_is_named(database: Database, worker: UUID) -> None:
    await rows(database, "UPDATE workers SET lease_until = now() - interval '5 minutes', host = 'gpu-9', pid = 4")
    found = await examined(database)
    assert faults(found) == [("workers", Level.WARNING)]
    assert "Worker 4 on gpu-9 (m)" in said(found, "workers")


async def test_a_dead_workers_jobs_that_nobody_takes_mean_that_control_is_missing(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job())
    await claim(database, worker, model_id, Tier.DEFAULT, 1)
    dead = "UPDATE workers SET lease_until = now() - interval '%s seconds', started_at = now() - interval '1 hour'"
    await rows(database, dead % 90)
    assert ("workers", Level.TROUBLE) not in faults(await examined(database))
    await rows(database, dead % 150)
    found = await examined(database)
    assert ("workers", Level.TROUBLE) in faults(found)
    assert "1 jobs are still its own" in said(found, "workers")
    assert any("longhaul control" in (finding.do or "") for finding in found)


async def test_a_deployment_without_a_model_says_how_to_begin(database: Database) -> None:
    found = await examined(database)
    assert faults(found) == [("workers", Level.WARNING)]


async def test_webhooks_that_nobody_sends_mean_that_control_is_missing(database: Database, worker: UUID) -> None:
    endpoint, _ = await hooks.endpoint(database, "job.completed")
    await hooks.send(database, endpoint.id, 3)
    assert faults(await examined(database)) == []
    await rows(database, "UPDATE deliveries SET next_at = now() - interval '6 minutes'")
    found = await examined(database)
    assert faults(found) == [("webhooks", Level.TROUBLE)]
    assert said(found, "webhooks").startswith("3 webhooks")


async def test_endpoints_that_take_nothing_are_a_warning(database: Database, worker: UUID) -> None:
    await hooks.endpoint(database, "job.completed")
    await hooks.endpoint(database, "job.completed")
    await rows(database, "UPDATE webhook_endpoints SET failing_since = now() - interval '2 hours'")
    assert faults(await examined(database)) == [("webhooks", Level.WARNING)]
    await rows(database, "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'nothing but failures'")
    found = await examined(database)
    assert faults(found) == [("webhooks", Level.WARNING)]
    assert "2 endpoints were disabled" in said(found, "webhooks")
