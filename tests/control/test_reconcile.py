"""Tickets for what waits."""

from uuid import UUID

from control import reconcile
from jobs import claim, keys
from jobs.database import Database
from jobs.records import Tier
from tests.control.conftest import Ears
from tests.jobs.conftest import Accept, MakeJob


async def test_every_model_that_jobs_wait_for_gets_tickets(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int, ears: Ears
) -> None:
    assert await reconcile.run(database, ears.publish) == 0
    assert ears.published == []
    await accept(new_job(), new_job(tier=Tier.BATCH), new_job(tier=Tier.BATCH))
    assert await reconcile.run(database, ears.publish) == 3
    assert ears.published == [(model_id, 3)]


async def test_what_runs_needs_no_ticket(
    database: Database, accept: Accept, new_job: MakeJob, model_id: int, worker: UUID, ears: Ears
) -> None:
    await accept(new_job())
    await claim.claim(database, worker, model_id, Tier.DEFAULT, 1)
    assert await reconcile.run(database, ears.publish) == 0


async def test_a_paused_tenant_knocks_at_no_door(
    database: Database, accept: Accept, new_job: MakeJob, ears: Ears
) -> None:
    await accept(new_job())
    await keys.set_tenant(database, "default", paused=True)
    assert await reconcile.run(database, ears.publish) == 0
    await keys.set_tenant(database, "default", paused=False)
    assert await reconcile.run(database, ears.publish) == 1
