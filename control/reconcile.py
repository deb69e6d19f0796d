"""Tops tickets up where jobs wait and the list in Redis is short: lost tickets cost at most a round of this."""

from collections import Counter
from collections.abc import Callable

from jobs.database import Database


async def run(database: Database, publish: Callable[[int, int], None]) -> int:
    """Publish tickets for every model that jobs wait for; how many jobs wait in all.

    `publish(model id, jobs)` knows the window: it adds nothing where enough tickets stand.
    """
    waiting: Counter[int] = Counter()
    for row in await database.run("queued"):
        waiting[row.model_id] += row.queued
    for model_id, jobs in waiting.items():
        publish(model_id, jobs)
    return waiting.total()
