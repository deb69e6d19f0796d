"""Cancels jobs whose client went away and did not come back for them in its grace."""

from collections.abc import Callable, Sequence
from uuid import UUID

from jobs import cancel, repeats
from jobs.database import Database


async def run(
    database: Database,
    grace_seconds: float,
    announce: Callable[[Sequence[UUID]], None],
    abort: Callable[[Sequence[UUID]], None],
) -> int:
    """Cancel them all, and free the idempotency keys that they were sent with; how many there were.

    `announce` hears of those that ended, and so does `abort`, for the workers that run them.
    """
    count = 0
    while overdue := await repeats.overdue(database, grace_seconds):
        cancelled = await cancel.cancel(database, overdue)
        announce(cancelled)
        abort(cancelled)
        await database.run("abandoned_keys_free", ids=cancelled)
        count += len(cancelled)
    return count
