"""Batches under way, with the rows that the reading of their files would have written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from jobs import batches, claim, ids
from jobs.accept import Acceptor
from jobs.database import Database
from jobs.finish import Finisher
from jobs.records import Batch, Flags, Json, NewBatch, NewJob, Outcome, Tier, Usage
from jobs.states import Status
from tests.jobs.ledger import rows

CHAT: Final = "/v1/chat/completions"
DONE: Final = Outcome(Status.COMPLETED, 200, b'{"ok":true}', Usage(input=3, output=2))
FAULT: Final = Outcome(Status.FAILED, 400, b'{"error":{"message":"no"}}')


def new_batch(**fields: Any) -> NewBatch:
    """A batch of the tenant `default`."""
    plain: Json = {"id": ids.new(), "tenant_id": 1, "endpoint": CHAT, "input_file_id": ids.new()}
    return NewBatch(**plain | {"window": "24h", "window_seconds": 86_400} | fields)


@dataclass
class Started:
    """A batch whose lines `a`, `b`, `c`... wait, and a hand that plays the worker."""

    database: Database
    batch: Batch
    worker: UUID
    model_id: int
    jobs: dict[str, UUID] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)
    """The lines at whose end control was called to finalise a batch."""

    async def end(self, custom_id: str, outcome: Outcome = DONE) -> None:
        """Claim what waits, if anything does, and end the job of one line."""
        if not hasattr(self, "_held"):
            claimed = await claim.claim(self.database, self.worker, self.model_id, Tier.BATCH, 1000)
            self._held = {job.id: job for job in claimed}
        finisher = Finisher(self.database, lambda ended: None, finalise=lambda: self.called.append(custom_id))
        assert await finisher.finish(self._held[self.jobs[custom_id]], outcome)

    async def now(self) -> Batch:
        return await batches.get(self.database, self.batch.tenant_id, self.batch.id)


async def start(
    database: Database,
    worker: UUID,
    model_id: int,
    bodies: dict[str, bytes],
    copies: Sequence[tuple[str, str]] = (),
    **fields: Any,
) -> Started:
    """Begin a batch of these lines; `copies` are further lines, each with the line whose job answers it."""
    batch = await batches.create(database, new_batch(**fields))
    started = Started(database, batch, worker, model_id)
    new = [_job(batch, model_id, body) for body in bodies.values()]
    await Acceptor(database, lambda model, count: None).accept_all(new)
    started.jobs = dict(zip(bodies, (job.id for job in new), strict=True))
    await rows(
        database,
        "UPDATE flows SET batch_id = %s WHERE id IN (SELECT flow_id FROM jobs WHERE id = ANY(%s))",
        batch.id,
        [job.id for job in new],
    )
    numbers = {name: number for number, name in enumerate(bodies, 1)}
    lines: list[tuple[str, UUID, int | None]] = [(name, job, None) for name, job in started.jobs.items()]
    lines += [(name, started.jobs[first], numbers[first]) for name, first in copies]
    for number, (name, job, copy_of) in enumerate(lines, 1):
        await _add_line(database, batch, number, name, job, copy_of)
    await rows(
        database,
        "UPDATE batches SET status = 'in_progress', in_progress_at = now(), total = %s, model = 'm' WHERE id = %s",
        len(lines),
        batch.id,
    )
    return started


async def refuse(started: Started, custom_id: str, body: bytes, answer: bytes) -> None:
    """Add a line that admission refused."""
    job, batch = ids.new(), await started.now()
    await _add_line(started.database, batch, batch.total + 1, custom_id, job, None)
    insert = "INSERT INTO requests (job_id, endpoint, model, body) VALUES (%s, %s, 'm', %s)"
    await rows(started.database, insert, job, batch.endpoint, body)
    insert = "INSERT INTO results (job_id, status_code, body) VALUES (%s, 400, %s)"
    await rows(started.database, insert, job, answer)
    await rows(
        started.database,
        "UPDATE batches SET total = total + 1, failed = failed + 1, refused = refused + 1, ended = ended + 1"
        " WHERE id = %s",
        batch.id,
    )
    await rows(
        started.database,
        "UPDATE lines SET status = 'failed', ended = %s WHERE batch_id = %s AND custom_id = %s",
        batch.ended + 1,
        batch.id,
        custom_id,
    )


async def finalise(started: Started) -> None:
    """Let a batch whose lines have ended be what it was to become, as if its files were written."""
    await rows(
        started.database,
        "UPDATE batches SET status = ending, input_tokens = 6, cached_tokens = 1, output_tokens = 4,"
        " reasoning_tokens = 2 WHERE id = %s AND ended = total",
        started.batch.id,
    )


def _job(batch: Batch, model_id: int, body: bytes) -> NewJob:
    return NewJob(
        id=ids.new(),
        tenant_id=batch.tenant_id,
        model_id=model_id,
        model="m",
        endpoint=batch.endpoint,
        body=body,
        tier=Tier.BATCH,
        waited=False,
        cost=1,
        timeout_seconds=3600,
        flags=Flags.LINES,
    )


async def _add_line(
    database: Database, batch: Batch, number: int, custom_id: str, job: UUID, copy_of: int | None
) -> None:
    insert = "INSERT INTO lines (batch_id, line, custom_id, job_id, copy_of) VALUES (%s, %s, %s, %s, %s)"
    await rows(database, insert, batch.id, number, custom_id, job, copy_of)
