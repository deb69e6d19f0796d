"""How long a queue is, asked once a second."""

from jobs.backlog import Backlog, Lane
from jobs.database import Database
from jobs.records import Tier
from tests.jobs.conftest import Accept, MakeJob


async def test_a_lane_holds_what_its_flows_count(
    database: Database, model_id: int, new_job: MakeJob, accept: Accept
) -> None:
    await accept(new_job(), new_job(waited=True), new_job(tier=Tier.FLEX))
    assert await Backlog(database).joined(model_id, Tier.DEFAULT) == Lane(2, 0.0)
    assert await Backlog(database).joined(model_id, Tier.BATCH) == Lane(0, 0.0)


async def test_within_a_second_it_counts_on_by_itself(
    database: Database, model_id: int, new_job: MakeJob, accept: Accept
) -> None:
    backlog = Backlog(database)
    lengths = []
    for _ in range(3):
        await accept(new_job())
        lane = await backlog.joined(model_id, Tier.DEFAULT)
        lengths.append(lane and lane.queued)
    assert lengths == [1, 2, 3]


async def test_nobody_knows_while_the_database_is_away() -> None:
    nowhere = Database("postgresql+psycopg://x:y@127.0.0.1:1/z")
    assert await Backlog(nowhere).joined(1, Tier.DEFAULT) is None
    await nowhere.close()


async def test_looking_counts_nothing_on(database: Database, model_id: int, new_job: MakeJob, accept: Accept) -> None:
    backlog = Backlog(database)
    await accept(new_job())
    assert [await backlog.lane(model_id, Tier.DEFAULT) for _ in range(2)] == [Lane(1, 0.0)] * 2
    assert await backlog.joined(model_id, Tier.DEFAULT) == Lane(2, 0.0)
