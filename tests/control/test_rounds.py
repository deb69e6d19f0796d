"""A round over batches, some of which fail."""

from dataclasses import dataclass
from uuid import UUID

from structlog.testing import capture_logs

from control import rounds
from control.timetable import Chore, Timetable
from jobs import ids
from jobs.database import Database
from tests.exposed import count


@dataclass(frozen=True)
class Batch:
    """What a round knows of one."""

    id: UUID


async def test_a_round_in_which_batches_fail_reaches_all_of_them_and_has_failed_once(database: Database) -> None:
    batches = [Batch(ids.new()) for _ in range(3)]

    async def fail(batch: Batch) -> bool:
        raise ValueError("odd")

    with capture_logs() as logs:
        await Timetable(database, []).do(Chore("rounds", 1, lambda: rounds.over(batches, "rounds", fail)))
    told = [log["batch_id"] for log in logs if "batch_id" in log]
    assert told == [ids.batch_id(batch.id) for batch in batches]
    ends = {end: count("longhaul_chores_total", chore="rounds", end=end) for end in ("done", "failed")}
    assert ends == {"done": 0, "failed": 1}
