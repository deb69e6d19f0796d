"""A round over batches, of which none holds up the others."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from jobs import ids
from jobs.database import is_connection_lost
from jobs.errors import Unavailable

_log = structlog.get_logger()


async def over(batches: Sequence[Any], chore: str, work: Callable[[Any], Awaitable[bool]]) -> int:
    """Do this work of a chore for each batch; for how many it was done.

    Raises:
        Exception: what the first batch met that is left to the next round. The others were done all the same.
    """
    count = 0
    first: Exception | None = None
    for batch in batches:
        try:
            count += await work(batch)
        except Exception as error:  # one tenant's batch is no reason to leave those of others
            first = first or error
            told = None if isinstance(error, Unavailable) or is_connection_lost(error) else error
            batch_id, text = ids.batch_id(batch.id), str(error)
            _log.warning("a batch is left to the next round", chore=chore, batch_id=batch_id, error=text, exc_info=told)
    if first:
        raise first
    return count
