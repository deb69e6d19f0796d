"""The rows of a batch's lines, gathered and written by COPY."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from jobs import ids, payload
from jobs.database import Driver
from jobs.error_response import body_of, status_of
from jobs.errors import LonghaulError
from jobs.records import Flags, NewJob, Tier
from jobs.states import Status

_COLUMNS: Final[dict[str, dict[str, str]]] = {
    "lines": {
        "batch_id": "uuid",
        "line": "int4",
        "custom_id": "text",
        "job_id": "uuid",
        "copy_of": "int4",
        "status": "text",
        "ended": "int4",
    },
    "jobs": {
        "id": "uuid",
        "flow_id": "int8",
        "tenant_id": "int4",
        "cost": "int4",
        "tier": "int2",
        "timeout_s": "int4",
        "flags": "int2",
        "place": "bytea",
        "expires_at": "timestamptz",
    },
    "requests": {"job_id": "uuid", "endpoint": "text", "model": "text", "body": "bytea", "previous_id": "uuid"},
    "results": {"job_id": "uuid", "status_code": "int2", "body": "bytea"},
    "details": {"job_id": "uuid", "metadata": "jsonb", "service_tier": "text"},
}
"""The columns that are written, with the types in which they are sent."""


class Rows:
    """What lines become, until `write`. Its length is in lines."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Sequence[Any]]] = {table: [] for table in _COLUMNS}

    def __len__(self) -> int:
        return len(self._rows["lines"])

    def job(self, batch: UUID, line: int, custom_id: str, job: NewJob, flow: int, place: bytes) -> None:
        """A line with a job of its own."""
        add, tier, flags = self._rows, int(Tier.BATCH), int(job.flags | Flags.LINES)
        # From the id's own time, so that a retry of the batch finds the seconds again.
        expires = job.expires_seconds and datetime.fromtimestamp(ids.seconds(job.id) + job.expires_seconds, UTC)
        add["lines"].append((batch, line, custom_id, job.id, None, Status.QUEUED.value, None))
        add["jobs"].append((job.id, flow, job.tenant_id, job.cost, tier, job.timeout_seconds, flags, place, expires))
        add["requests"].append((job.id, job.endpoint, job.model, job.body, job.previous))
        if job.metadata is not None or job.service_tier is not None:
            metadata = None if job.metadata is None else Jsonb(job.metadata)
            add["details"].append((job.id, metadata, job.service_tier))

    def copy(self, batch: UUID, line: int, custom_id: str, job: UUID, copy_of: int) -> None:
        """A line that the job of an earlier one answers."""
        self._rows["lines"].append((batch, line, custom_id, job, copy_of, Status.QUEUED.value, None))

    def refuse(
        self, batch: Any, line: int, custom_id: str, model: str, body: bytes, error: LonghaulError, ended: int
    ) -> None:
        """A line that admission refused: the `ended`-th of its batch to end, before it began."""
        identity, status = ids.new(), status_of(error)
        answer = payload.write(body_of(error, batch.endpoint, status))
        self._rows["lines"].append((batch.id, line, custom_id, identity, None, Status.FAILED.value, ended))
        self._rows["requests"].append((identity, batch.endpoint, model, body, None))
        self._rows["results"].append((identity, status, answer))

    def clear(self) -> None:
        """Forget what has not been written."""
        for rows in self._rows.values():
            rows.clear()

    async def write(self, connection: Driver) -> None:
        """Write them all, in the transaction that this connection is in."""
        for table, columns in _COLUMNS.items():
            if not self._rows[table]:
                continue
            statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
                sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
            )
            async with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types(list(columns.values()))
                for row in self._rows[table]:
                    await copy.write_row(row)
        self.clear()
