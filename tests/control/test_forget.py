"""Answered repeats are forgotten, however many; those that somebody may still ask for are not."""

from control import forget
from jobs import cancel, repeats
from jobs.database import Database
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import rows

HASH = b"sixteen bytes..."


async def test_answered_repeats_are_forgotten(database: Database, accept: Accept, new_job: MakeJob) -> None:
    ended, waiting = await accept(*(new_job(repeat_hash=HASH) for _ in range(2)))
    await cancel.cancel(database, [ended])
    assert await forget.run(database) == 0
    await rows(database, "UPDATE jobs SET finished_at = now() - interval '1 hour' WHERE id = %s", ended)
    assert await forget.run(database) == 1
    assert await repeats.attach(database, 1, HASH, 1) == waiting
    assert await repeats.attach(database, 1, HASH, 1) is None


async def test_a_round_leaves_none(database: Database) -> None:
    await rows(
        database,
        "INSERT INTO repeats (job_id, tenant_id, body_hash)"
        " SELECT gen_random_uuid(), 1, %s FROM generate_series(1, 2500)",
        HASH,
    )
    assert await forget.run(database) == 2500
