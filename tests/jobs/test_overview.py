"""The whole deployment at one moment."""

from uuid import UUID

from jobs import batches, claim, keys, overview
from jobs.database import Database
from jobs.overview import Fleet, Queue
from jobs.records import Tier
from tests.jobs.batch_rows import start
from tests.jobs.conftest import Accept, MakeJob, MakeWorker
from tests.jobs.ledger import rows


async def only(database: Database) -> Fleet:
    [fleet] = await overview.look(database)
    return fleet


async def test_a_model_without_work_wants_nobody(database: Database, model_id: int) -> None:
    fleet = await only(database)
    assert (fleet.id, fleet.model, fleet.queue) == (model_id, "m", "q")
    assert (fleet.queues, fleet.wanted, fleet.deadline_seconds) == ((), 0, None)


async def test_what_waits_is_counted_by_tier_with_its_tokens_and_its_age(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    old, *_ = await accept(new_job(cost=10), new_job(cost=30), new_job(tier=Tier.FLEX, cost=5, waited=True))
    await rows(database, "UPDATE jobs SET created_at = now() - interval '90 seconds' WHERE id = %s", old)
    default, flex = (await only(database)).queues
    assert (default.tier, default.queued, default.tokens, default.running) == (Tier.DEFAULT, 2, 40, 0)
    assert 90 <= default.oldest_seconds < 120
    assert (flex.tier, flex.queued, flex.tokens) == (Tier.FLEX, 1, 5)


async def test_the_tokens_of_a_long_queue_are_reckoned_from_its_head(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    await accept(*(new_job(cost=7) for _ in range(250)))
    [queue] = (await only(database)).queues
    assert (queue.queued, queue.tokens) == (250, 1750)


async def test_what_runs_is_counted_where_it_was_claimed(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job(), new_job(), new_job(tier=Tier.BATCH))
    await claim.claim(database, worker, model_id, Tier.DEFAULT, 2)
    fleet = await only(database)
    assert fleet.queues == (
        Queue(Tier.DEFAULT, 0, 0, 0.0, running=2),
        Queue(Tier.BATCH, 1, 1, fleet.queues[1].oldest_seconds, running=0),
    )
    assert (fleet.queued, fleet.running) == (1, 2)


async def test_what_is_paused_is_not_waiting(database: Database, accept: Accept, new_job: MakeJob) -> None:
    await accept(new_job(expires_seconds=600))
    await keys.set_tenant(database, "default", paused=True)
    fleet = await only(database)
    assert (fleet.queued, fleet.wanted, fleet.deadline_seconds) == (0, 0, None)


async def test_workers_are_counted_by_what_they_are_good_for(database: Database, new_worker: MakeWorker) -> None:
    _, draining, lost = [await new_worker() for _ in range(3)]
    await rows(database, "UPDATE workers SET draining = true WHERE id = %s", draining)
    await rows(database, "UPDATE workers SET lease_until = now() - interval '1 second' WHERE id = %s", lost)
    fleet = await only(database)
    assert (fleet.serving, fleet.draining, fleet.lost, fleet.slots) == (1, 1, 1, 8)


async def test_a_retired_model_is_not_shown(database: Database, model_id: int) -> None:
    await rows(database, "UPDATE models SET retired_at = now()")
    assert await overview.look(database) == []


async def test_workers_are_wanted_by_the_speed_of_one_and_the_nearest_window(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int
) -> None:
    await rows(database, "UPDATE models SET worker_speed = 10")
    await accept(*(new_job(cost=1000) for _ in range(3)))  # to be done in a minute
    assert (await only(database)).wanted == 5


async def test_a_batch_has_the_rest_of_its_window(database: Database, worker: UUID, model_id: int) -> None:
    started = await start(database, worker, model_id, {"a": b"{}", "b": b"{}"})
    await rows(database, "UPDATE models SET worker_speed = 1")
    await rows(database, "UPDATE jobs SET cost = 1000")
    assert (await only(database)).wanted == 1
    await rows(database, "UPDATE batches SET expires_at = now() + interval '500 seconds'")
    fleet = await only(database)
    assert fleet.wanted == 4
    assert fleet.deadline_seconds is not None and 490 < fleet.deadline_seconds <= 500
    await batches.cancel(database, 1, started.batch.id)
    assert (await only(database)).wanted == 0


async def test_a_job_that_expires_is_a_deadline(database: Database, accept: Accept, new_job: MakeJob) -> None:
    await rows(database, "UPDATE models SET worker_speed = 1")
    await accept(new_job(tier=Tier.FLEX, cost=1200, expires_seconds=115), new_job(tier=Tier.FLEX, cost=600))
    fleet = await only(database)
    assert fleet.deadline_seconds is not None and 105 < fleet.deadline_seconds <= 115
    assert 1200 / 115 - 0.05 <= fleet.wanted <= 1200 / 105 + 1


async def test_what_is_past_its_time_is_no_deadline(database: Database, accept: Accept, new_job: MakeJob) -> None:
    await rows(database, "UPDATE models SET worker_speed = 1")
    await accept(new_job(tier=Tier.FLEX, cost=600, expires_seconds=110))
    await rows(database, "UPDATE jobs SET expires_at = now() - interval '1 second'")
    fleet = await only(database)
    assert (fleet.wanted, fleet.deadline_seconds) == (1, None)


async def test_what_expires_is_due_beside_what_has_other_windows(
    database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await start(database, worker, model_id, {"a": b"{}", "b": b"{}"})
    await rows(database, "UPDATE models SET worker_speed = 1")
    await rows(database, "UPDATE jobs SET cost = 1000")
    await rows(database, "UPDATE batches SET expires_at = now() + interval '500 seconds'")
    await accept(*(new_job(tier=Tier.FLEX, cost=1000, expires_seconds=500) for _ in range(2)))
    assert (await only(database)).wanted == 8


async def test_what_expires_in_a_batch_is_counted_once(database: Database, worker: UUID, model_id: int) -> None:
    await start(database, worker, model_id, {"a": b"{}", "b": b"{}"})
    await rows(database, "UPDATE models SET worker_speed = 1")
    await rows(database, "UPDATE jobs SET cost = 1000, expires_at = now() + interval '700 seconds'")
    await rows(database, "UPDATE batches SET expires_at = now() + interval '500 seconds'")
    assert (await only(database)).wanted == 4


async def test_a_chat_that_would_wait_for_hours_is_still_due_in_a_minute(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    await rows(database, "UPDATE models SET worker_speed = 1")
    await accept(new_job(cost=600, expires_seconds=3600))
    assert (await only(database)).wanted == 10
