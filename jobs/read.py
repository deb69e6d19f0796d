"""Reading jobs: one, a page of them, the results that waiters want, and the place in the queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, func, select

from jobs import ids, webhooks
from jobs.database import Database, fetch
from jobs.errors import Conflict, NotFound
from jobs.records import Flags, JobView, OwnWebhook, Result, Tier, Usage
from jobs.states import Status
from jobs.tables import DETAILS, JOBS, LINES, REQUESTS, RESULTS


@dataclass(frozen=True, slots=True)
class Position:
    """What is served before a queued job: jobs (exact to 1,000, then rounded to hundreds) and their tokens.

    `tokens_per_second` is the lane's measured speed, 0 while unknown.
    """

    place: int
    tokens_ahead: int
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What a retry sends again."""

    endpoint: str
    model: str
    body: bytes
    tier: Tier
    service_tier: str | None
    metadata: dict[str, str] | None
    timeout_seconds: int
    status: Status
    flags: Flags
    previous: UUID | None
    webhook: OwnWebhook | None


async def job(database: Database, tenant_id: int, job_id: UUID, *, with_body: bool = True) -> JobView:
    """One job with its response, if that is wanted.

    Raises:
        NotFound: this tenant has no such job.
    """
    query = (_view(RESULTS.c.body) if with_body else _view()).where(JOBS.c.id == job_id, JOBS.c.tenant_id == tenant_id)
    async with database.engine.connect() as connection:
        row = (await connection.execute(query)).first()
    if row is None:
        raise _missing(job_id)
    return _job_view(row)


async def page(
    database: Database,
    tenant_id: int,
    *,
    limit: int,
    after: UUID | None = None,
    ascending: bool = False,
    status: Status | None = None,
    model: str | None = None,
    batch_id: UUID | None = None,
    metadata: dict[str, str] | None = None,
) -> list[JobView]:
    """Up to `limit` of a tenant's jobs beyond `after`, newest first unless `ascending`, without response bodies."""
    query = _view().where(JOBS.c.tenant_id == tenant_id).limit(limit)
    query = query.order_by(JOBS.c.id if ascending else JOBS.c.id.desc())
    if after is not None:
        query = query.where(JOBS.c.id > after if ascending else JOBS.c.id < after)
    if status is not None:
        query = query.where(JOBS.c.status == status)
    if model is not None:
        query = query.where(REQUESTS.c.model == model)
    if batch_id is not None:
        query = query.where(LINES.c.batch_id == batch_id)
    if metadata:
        # Their ids first: beside an order by id, a planner that expects many walks all of the tenant's jobs instead.
        tagged = select(DETAILS.c.job_id).where(DETAILS.c.metadata.contains(metadata))
        if after is not None:
            tagged = tagged.where(DETAILS.c.job_id > after if ascending else DETAILS.c.job_id < after)
        query = query.where(JOBS.c.id == func.any(func.array(tagged.scalar_subquery())))
    async with database.engine.connect() as connection:
        return [_job_view(row) for row in await connection.execute(query)]


async def results(database: Database, job_ids: Sequence[UUID]) -> dict[UUID, Result]:
    """The results of those of these jobs that ended, whoever they belong to."""
    if not job_ids:
        return {}
    rows = await database.run("results", ids=list(job_ids), first=min(job_ids), last=max(job_ids))
    return {
        row.id: Result(
            id=row.id,
            status=Status(row.status),
            status_code=row.status_code,
            body=None if row.body is None else bytes(row.body),
            error_code=row.error_code,
            error_message=row.error_message,
        )
        for row in rows
    }


async def position(database: Database, job_id: UUID) -> Position | None:
    """What is served before this job; None unless it is queued. It can grow when others' flows wake."""
    rows = await database.run("position", id=job_id)
    if not rows or rows[0].place is None:
        return None
    place = rows[0].place if rows[0].place <= 1000 else round(rows[0].place, -2)
    return Position(place, rows[0].tokens, rows[0].tokens_per_second)


async def request(database: Database, tenant_id: int, job_id: UUID) -> StoredRequest:
    """What was asked for.

    Raises:
        NotFound: this tenant has no such job, or its body is gone.
    """
    query = (
        select(
            JOBS.c.status,
            JOBS.c.flags,
            JOBS.c.tier,
            JOBS.c.timeout_s,
            REQUESTS.c.endpoint,
            REQUESTS.c.model,
            REQUESTS.c.body,
            REQUESTS.c.previous_id,
            DETAILS.c.metadata,
            DETAILS.c.service_tier,
        )
        .select_from(
            JOBS.join(REQUESTS, REQUESTS.c.job_id == JOBS.c.id).outerjoin(DETAILS, DETAILS.c.job_id == JOBS.c.id)
        )
        .where(JOBS.c.id == job_id, JOBS.c.tenant_id == tenant_id, REQUESTS.c.job_id == job_id)
    )
    async with database.engine.connect() as connection:
        row = (await connection.execute(query)).first()
    if row is None:
        raise _missing(job_id)
    return StoredRequest(
        endpoint=row.endpoint,
        model=row.model,
        body=bytes(row.body),
        tier=Tier(row.tier),
        service_tier=row.service_tier,
        metadata=row.metadata,
        timeout_seconds=row.timeout_s,
        status=row.status,
        flags=Flags(row.flags),
        previous=row.previous_id,
        webhook=await webhooks.own(database, job_id),
    )


async def delete(database: Database, tenant_id: int, job_id: UUID) -> None:
    """Remove an ended job and everything that was stored of it.

    Raises:
        NotFound: this tenant has no such job.
        Conflict: it has not ended, or a batch's files need it.
    """
    async with database.transaction() as connection:
        rows = await fetch(connection, "delete_look", id=job_id, tenant=tenant_id)
        if not rows:
            raise _missing(job_id)
        if not Status(rows[0].status).terminal:
            raise Conflict(f"Cannot delete a job with status '{rows[0].status}'. Cancel it first.")
        if rows[0].flags & Flags.LINES:
            raise Conflict("Cannot delete a job that answers a line of a batch.")
        await fetch(connection, "delete_job", id=job_id, tenant=tenant_id)


def _view(*more: Any) -> Select[Any]:
    joined = (
        JOBS.outerjoin(REQUESTS, REQUESTS.c.job_id == JOBS.c.id)
        .outerjoin(RESULTS, RESULTS.c.job_id == JOBS.c.id)
        .outerjoin(DETAILS, DETAILS.c.job_id == JOBS.c.id)
        .outerjoin(LINES, and_(LINES.c.job_id == JOBS.c.id, LINES.c.copy_of.is_(None)))
    )
    columns = [column for column in JOBS.c if column.name not in ("flow_id", "timeout_s")]
    columns += [column for column in RESULTS.c if column.name not in ("job_id", "body")]
    columns += [column for column in DETAILS.c if column.name != "job_id"]
    columns += [LINES.c.batch_id, LINES.c.custom_id, REQUESTS.c.endpoint, REQUESTS.c.model]
    return select(*columns, *more).select_from(joined)


def _job_view(row: Row[Any]) -> JobView:
    body = getattr(row, "body", None)
    ended = row.input_tokens is not None
    usage = Usage(row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens) if ended else None
    return JobView(
        id=row.id,
        tenant_id=row.tenant_id,
        status=row.status,
        endpoint=row.endpoint or "",
        model=row.model or "",
        tier=Tier(row.tier),
        service_tier=row.service_tier,
        flags=Flags(row.flags),
        attempts=row.attempts,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        expires_at=row.expires_at,
        batch_id=row.batch_id,
        custom_id=row.custom_id,
        metadata=row.metadata,
        retry_of=row.retry_of,
        usage=usage,
        status_code=row.status_code,
        body=None if body is None else bytes(body),
        error_code=row.error_code,
        error_message=row.error_message,
    )


def _missing(job_id: UUID) -> NotFound:
    return NotFound(f"No job found with id '{ids.job_id(job_id)}'.", param="id")
