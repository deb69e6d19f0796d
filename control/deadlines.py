"""Keeps batches to their windows: late ones rise in tier, and what is over is stopped."""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from jobs import batches, cancel
from jobs.database import Database

_LET_RUN_SECONDS: Final = 600
"""How long the running lines of a batch that was cancelled or ran out of time may take to finish."""


async def run(
    database: Database, announce: Callable[[Sequence[UUID]], None], abort: Callable[[Sequence[UUID]], None]
) -> int:
    """How many flows rose and jobs ended. `announce` and `abort` hear of the jobs."""
    expired = await batches.expire(database)
    announce(expired)
    risen = len(await database.run("batches_rise"))
    overdue = await database.run("batches_overdue", seconds=_LET_RUN_SECONDS)
    aborted = await cancel.cancel(database, [row.id for row in overdue])
    abort(aborted)
    announce(aborted)
    return risen + len(expired) + len(aborted)
