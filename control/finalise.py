"""Writes the files of batches whose lines have all ended: outputs and errors, each in the order of the input."""

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import structlog

from control import rounds
from jobs import files, ids, result_lines
from jobs.batches import line_of
from jobs.blobs import Blobs
from jobs.database import Database, Driver, fetch

_PAGE: Final = 200
_KEPT_SECONDS: Final = 30 * 86_400
"""How long result files are kept unless the batch says otherwise; as OpenAI."""
_TOKENS: Final = ("input", "cached", "output", "reasoning")
_log = structlog.get_logger()


async def run(database: Database, blobs: Blobs) -> int:
    """Finalise all batches that nobody else is at; how many there were. Raises as `rounds.over`."""
    ready = await database.run("batches_ready")
    return await rounds.over(ready, "finalise", lambda batch: _finalise(database, blobs, batch.id))


async def _finalise(database: Database, blobs: Blobs, batch_id: UUID) -> bool:
    """Write one batch's files; False if another process is at it, or was.

    The transaction is there for its lock: between two pages it holds no snapshot.
    """
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10min'")
        [lock] = await fetch(connection, "batch_lock", id=batch_id)
        rows = await fetch(connection, "batch_ready", id=batch_id) if lock.got else []
        if not rows:
            return False
        [batch] = rows
        tokens = dict.fromkeys(_TOKENS, 0)
        output = await _written(connection, blobs, batch, True, tokens) if batch.completed else None
        errors = await _written(connection, blobs, batch, False, tokens) if batch.ended > batch.completed else None
        counted = {f"{name}_tokens": count for name, count in tokens.items()}
        await fetch(connection, "batch_finish", id=batch_id, output=output, errors=errors, **counted)
    _log.info("a batch has ended", batch_id=ids.batch_id(batch_id), status=batch.ending, lines=batch.total)
    return True


async def _written(connection: Driver, blobs: Blobs, batch: Any, completed: bool, tokens: dict[str, int]) -> UUID:
    """The id of a file of the lines that completed, or of those that did not; `tokens` gets what they cost.

    The id derives from the batch's, so that whoever starts over after a crash writes the same blob once more.
    """
    identity = UUID(int=batch.id.int ^ (1 if completed else 2))
    blob = f"files/{identity.hex}"
    size = await blobs.put(blob, _lines(connection, batch.id, completed, tokens))
    kind = "output" if completed else "error"
    await files.insert(
        connection,
        files.NewFile(
            id=identity,
            tenant_id=batch.tenant_id,
            purpose="batch_output",
            filename=f"{ids.batch_id(batch.id)}_{kind}.jsonl",
            bytes=size,
            blob=blob,
            expires_seconds=batch.output_expires_s or _KEPT_SECONDS,
        ),
    )
    return identity


async def _lines(connection: Driver, batch_id: UUID, completed: bool, tokens: dict[str, int]) -> AsyncIterator[bytes]:
    """The file, a page of lines at a time."""
    after = 0
    while rows := await fetch(connection, "batch_lines", batch=batch_id, after=after, limit=_PAGE, completed=completed):
        lines = [line_of(row) for row in rows]
        for line in lines:
            if line.copy_of is None:
                for name in _TOKENS:
                    tokens[name] += getattr(line.usage, name)
        yield b"".join(result_lines.write(batch_id, line) + b"\n" for line in lines)
        after = lines[-1].line
