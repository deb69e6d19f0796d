"""The lines of a batch that have ended, as a stream: a page at a time, and on until the batch ends."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from api.parts import Parts
from jobs import batches, result_lines
from jobs.records import Batch, Line
from jobs.states import Status

MOST: Final = 2**31 - 1
"""No batch has more lines."""
_PAGE: Final = 100
_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines: those that ended after the `after`-th, up to `limit`; with `follow` also those that have yet to."""

    after: int
    limit: int
    follow: bool
    with_input: bool
    status: Status | None
    custom_id: str | None


async def stream(here: Parts, batch: Batch, wanted: Wanted) -> AsyncIterator[bytes]:
    """The lines as JSONL. No connection is held while the client reads, or between two looks.

    The end of a stream that follows is that of the batch, or of this process: a client goes on from its last number.
    """
    after = wanted.after
    left = wanted.limit if wanted.custom_id is None else 1  # nothing else in the batch has it
    while True:
        # Looked at before its lines: they are all there once it has ended.
        batch = await batches.get(here.database, batch.tenant_id, batch.id)
        while left and after < batch.ended and (lines := await _page(here, batch.id, wanted, after, min(left, _PAGE))):
            yield b"".join(_written(batch.id, line, wanted.with_input) for line in lines)
            after = lines[-1].ended
            left -= len(lines)
        if not left or not wanted.follow or batch.status.terminal or await _stops(here):
            return
        # What did not match needs no second look.
        after = max(after, batch.ended)


async def _page(here: Parts, batch_id: UUID, wanted: Wanted, after: int, limit: int) -> list[Line]:
    return await batches.lines(
        here.database,
        batch_id,
        after=after,
        limit=limit,
        status=wanted.status,
        custom_id=wanted.custom_id,
        with_request=wanted.with_input,
    )


def _written(batch_id: UUID, line: Line, with_input: bool) -> bytes:
    """The line of the result file with more keys: a stored body goes on as it is, unread."""
    request = b',"input":%s' % (line.request or b"null") if with_input else b""
    return b'%s,"number":%d%s}\n' % (result_lines.write(batch_id, line)[:-1], line.ended, request)


async def _stops(here: Parts) -> bool:
    """Wait until it is time for another look; whether the process stops instead."""
    await asyncio.wait((here.stopping,), timeout=_LOOK_SECONDS)
    return here.stopping.done()
