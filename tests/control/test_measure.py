"""What control shows of the whole deployment."""

import math
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import redis
from sqlalchemy.exc import SQLAlchemyError

from control.measure import Measure
from jobs import claim, metrics, overview
from jobs.database import Database
from jobs.records import Tier
from tests.exposed import sample, values
from tests.jobs.conftest import Accept, MakeJob, MakeWorker, Outage
from tests.jobs.ledger import rows, value

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
async def measure(database: Database, redis_url: str) -> AsyncIterator[Measure]:
    made = Measure(database, redis_url, "longhaul")
    yield made
    await made.close()


async def test_it_shows_what_waits_and_what_runs_by_model_and_tier(
    measure: Measure, database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job(cost=4), new_job(cost=6), new_job(tier=Tier.BATCH))
    await claim.claim(database, worker, model_id, Tier.BATCH, 1)
    assert await measure.run() == 2
    assert values(metrics.QUEUED) == {("m", "default"): 2, ("m", "batch"): 0}
    assert values(metrics.QUEUED_TOKENS) == {("m", "default"): 10, ("m", "batch"): 0}
    assert values(metrics.IN_PROGRESS) == {("m", "default"): 0, ("m", "batch"): 1}
    assert values(metrics.OLDEST).keys() == {("m", "default"), ("m", "batch")}


async def test_it_shows_who_serves_and_how_many_should(
    measure: Measure, accept: Accept, new_job: MakeJob, worker: UUID
) -> None:
    await accept(new_job(expires_seconds=3600))
    await measure.run()
    assert values(metrics.WORKERS) == {("m", "serving"): 1, ("m", "draining"): 0, ("m", "lost"): 0}
    assert values(metrics.WORKERS_WANTED) == {("m",): 1}
    assert values(metrics.WORKER_SPEED) == {("m",): 0}
    assert values(metrics.DEADLINE) == {("m",): pytest.approx(3600, abs=30)}


async def test_the_speed_of_one_is_that_of_all_over_their_number_and_stays_known(
    measure: Measure, database: Database, accept: Accept, new_job: MakeJob, new_worker: MakeWorker
) -> None:
    async def learned() -> float:
        await measure.run()
        [fleet] = await overview.look(database)
        return fleet.worker_speed

    for _ in range(4):
        await new_worker()
    await accept(new_job())
    await rows(database, "UPDATE lanes SET tokens_per_second = 400, measured_from = now() WHERE tier = 1")
    assert await learned() == 100
    await rows(database, "UPDATE lanes SET tokens_per_second = 800")
    assert await learned() == 110
    await rows(database, "DELETE FROM workers")
    assert await learned() == 110


async def test_a_measure_of_long_ago_teaches_nothing(
    measure: Measure, database: Database, accept: Accept, new_job: MakeJob, worker: UUID
) -> None:
    await accept(new_job())
    await rows(database, "UPDATE lanes SET tokens_per_second = 400, measured_from = now() - interval '2 minutes'")
    await measure.run()
    assert await value(database, "SELECT worker_speed FROM models") is None


async def test_what_is_over_is_shown_no_more(
    measure: Measure, database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    await accept(new_job())
    await measure.run()
    [job] = await claim.claim(database, worker, model_id, Tier.DEFAULT, 1)
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE jobs SET status = 'completed', worker_id = NULL, finished_at = now() WHERE id = %s", (job.id,)
        )
    await measure.run()
    assert values(metrics.QUEUED) == {}
    assert values(metrics.WORKERS_WANTED) == {("m",): 0}


async def test_it_shows_what_stands_in_redis(measure: Measure, model_id: int, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("{longhaul}:q", "ticket", "ticket")
        client.hset("{longhaul}:unacked", "tag", "message")
    await measure.run()
    assert values(metrics.TICKETS_OUT) == {("control",): 0, ("deliver",): 0, ("m",): 2}
    assert (sample("longhaul_unacked"), sample("longhaul_broker_up")) == (1, 1)


async def test_without_redis_it_says_so_and_measures_the_rest(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    await accept(new_job())
    measure = Measure(database, NOWHERE, "longhaul")
    assert await measure.run() == 1
    assert sample("longhaul_broker_up") == 0
    assert math.isnan(sample("longhaul_unacked") or 0)
    assert values(metrics.TICKETS_OUT) == {}
    assert values(metrics.QUEUED) == {("m", "default"): 1}
    await measure.close()


async def test_without_the_database_nothing_is_shown_as_it_was(
    measure: Measure, accept: Accept, new_job: MakeJob, outage: Outage
) -> None:
    await accept(new_job())
    await measure.run()
    async with outage():
        with pytest.raises(SQLAlchemyError):
            await measure.run()
    assert values(metrics.QUEUED) == {}
    assert values(metrics.WORKERS_WANTED) == {}
    await measure.run()
    assert values(metrics.QUEUED) == {("m", "default"): 1}
