"""Tops tickets up where jobs wait and the list in Redis is short: lost tickets cost at most a round of this."""

from collections import Counter
from collections.abc import Callable

from jobs import metrics
from jobs.database import Database
from jobs.records import Tier


async def run(database: Database, publish: Callable[[int, int], None]) -> int:
    """Publish tickets for every model that jobs wait for; how many jobs wait in all.

    `publish(model id, jobs)` knows the window: it adds nothing where enough tickets stand.
    """
    waiting: Counter[int] = Counter()
    oldest: dict[str, float] = {}
    metrics.QUEUED.clear()
    metrics.OLDEST.clear()
    for row in await database.run("queued"):
        waiting[row.model_id] += row.queued
        oldest[row.model] = max(oldest.get(row.model, 0.0), row.oldest_seconds)
        metrics.QUEUED.labels(row.model, Tier(row.tier).name.lower()).set(row.queued)
    for model, seconds in oldest.items():
        metrics.OLDEST.labels(model).set(seconds)
    for model_id, jobs in waiting.items():
        publish(model_id, jobs)
    return waiting.total()
