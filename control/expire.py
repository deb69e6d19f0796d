"""Ends queued jobs that nobody will run any more: those past their time, and those of retired models."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

from jobs import cancel
from jobs.database import Database


async def run(database: Database, announce: Callable[[Sequence[UUID]], None]) -> int:
    """End them all; how many there were."""
    ended = await _all(partial(cancel.expire, database), announce)
    for model in await database.run("models_retired"):
        ended += await _all(partial(cancel.retire, database, model.id), announce)
    return ended


async def _all(end_some: Callable[[], Awaitable[list[UUID]]], announce: Callable[[Sequence[UUID]], None]) -> int:
    count = 0
    while ended := await end_some():
        announce(ended)
        count += len(ended)
    return count
