"""What a batch left undone, as the input of another."""

from collections.abc import AsyncIterator
from typing import Any, Final

from jobs import ids, payload
from jobs.database import Database
from jobs.errors import BadRequest, Conflict
from jobs.records import Batch, Json
from jobs.states import BatchStatus

_PAGE: Final = 100


def refuse(batch: Batch) -> None:
    """Raises Conflict while a batch has not ended, or if none of its lines was ever accepted."""
    if not batch.status.terminal:
        raise Conflict(f"Cannot retry a batch with status '{batch.status}'.")
    if batch.status is BatchStatus.FAILED:
        raise Conflict("Cannot retry a batch whose input failed validation. Create one with a corrected input instead.")


async def lines(database: Database, batch: Batch, timeout_seconds: int) -> AsyncIterator[bytes]:
    """The failed, expired and cancelled lines of a batch as JSONL, a page at a time, each with the terms that its job
    had; `timeout_seconds` is what a line has that says nothing.

    Raises:
        BadRequest: there are none.
        Conflict: a request is not kept any more; some pages may have come before.
    """
    after = 0
    while rows := await database.run("batch_retry", batch=batch.id, after=after, limit=_PAGE):
        for row in rows:
            if row.body is None:
                raise Conflict(f"Cannot retry the batch: the request of '{row.custom_id}' is not kept any more.")
        yield b"".join(_line(batch.endpoint, row, timeout_seconds) for row in rows)
        after = rows[-1].line
    if not after:
        raise BadRequest("The batch has nothing to retry: no line of it failed, expired or was cancelled.")


def _line(endpoint: str, row: Any, timeout_seconds: int) -> bytes:
    head = payload.write({"custom_id": row.custom_id, "method": "POST", "url": endpoint})
    # A body is JSON on one line as it is; reading it only to write it again would be for nothing.
    body, terms = bytes(row.body), _terms(row, timeout_seconds)
    if terms:
        body = payload.write(payload.parse(body) | terms)
    return b'%s,"body":%s}\n' % (head[:-1], body)


def _terms(row: Any, timeout_seconds: int) -> Json:
    """What was taken out of the stored body; a line without a job was stored with all that it said."""
    terms: Json = {}
    if row.timeout_s not in (None, timeout_seconds):
        terms["timeout"] = row.timeout_s
    if row.expires_at is not None:
        terms["expires_after"] = round(row.expires_at.timestamp() - ids.seconds(row.job_id))
    return terms
