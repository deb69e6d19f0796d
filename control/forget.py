"""Forgets the repeats that jobs were kept findable for, once those were answered."""

from jobs import repeats
from jobs.database import Database


async def run(database: Database) -> int:
    """Forget them all; how many there were."""
    count = 0
    while forgotten := await repeats.forget(database):
        count += forgotten
    return count
