"""Frees the turns of conversations that wait for a job which has ended: whoever ended it died before it could."""

from collections.abc import Callable

from jobs import conversations
from jobs.database import Database


async def run(database: Database, publish: Callable[[str, int, int], None]) -> int:
    """Free them; how many jobs they waited for. `publish(queue, jobs, window)` hears of those that may run now."""
    ended = await conversations.overdue(database)
    for queue, count in (await conversations.free(database, ended)).items():
        publish(queue, count, count)
    return len(ended)
