"""A `NewJob` becomes a committed row with its place in the order, or finds the job that it repeats."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias
from uuid import UUID

from sqlalchemy.exc import DataError, SQLAlchemyError

from jobs import metrics
from jobs.database import Database, Driver, fetch, is_connection_lost
from jobs.errors import BadRequest, Unavailable, Unprocessable
from jobs.group_commit import GroupCommit
from jobs.records import Accepted, NewJob

FlowKey: TypeAlias = tuple[int, int, int, bool, UUID | None]
"""(model, tier, tenant, waited, batch)"""

KnownKeys: TypeAlias = dict[tuple[int, str], tuple[bytes, UUID]]
"""(tenant, key) -> (body hash, job)"""

Submission: TypeAlias = tuple[NewJob, ...]
"""Jobs that are accepted together or not at all."""

_PATIENCE_SECONDS: Final = 5.0
"""How long a submit waits for a database that went away: a fail-over is invisible, an outage is a 503."""

_COMPANY: Final = 128


class Acceptor:
    """Accepts jobs in company; `publish(model_id, count)` hears of them after each commit and must not block."""

    def __init__(self, database: Database, publish: Callable[[int, int], None]) -> None:
        self._database = database
        self._publish = publish
        self._flows: dict[FlowKey, int] = {}
        self._group: GroupCommit[Submission, list[Accepted]] = GroupCommit(self._flush, limit=_COMPANY)

    async def accept(self, job: NewJob) -> Accepted:
        """Commit one job.

        Raises:
            Unprocessable: its idempotency key came with another body.
            Unavailable: the database is away.
        """
        return (await self._group.add((job,)))[0]

    async def accept_all(self, jobs: Sequence[NewJob]) -> list[Accepted]:
        """Commit all of these jobs or none. Raises as `accept`."""
        answer = (await self._flush([tuple(jobs)]))[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _flush(self, submissions: Sequence[Submission]) -> Sequence[list[Accepted] | Exception]:
        metrics.ACCEPT_COMPANY.observe(len(submissions))
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                answers, fresh = await self._commit(submissions)
            except DataError as error:
                if len(submissions) > 1:  # one submit that cannot be stored must not refuse its company
                    return [(await self._flush([submission]))[0] for submission in submissions]
                return [BadRequest(f"The request cannot be stored: {str(error.orig).splitlines()[0]}")]
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                if not (is_connection_lost(error) and time.monotonic() < deadline):
                    raise Unavailable("The database is not available. Nothing was accepted; try again.") from error
                await asyncio.sleep(0.2)
                continue
            for model_id, count in Counter(job.model_id for job in fresh).items():
                self._publish(model_id, count)
            return answers

    async def _commit(self, submissions: Sequence[Submission]) -> tuple[list[list[Accepted] | Exception], list[NewJob]]:
        if not any(job.key for submission in submissions for job in submission):
            jobs = [job for submission in submissions for job in submission]
            await self._insert(jobs)
            return [[Accepted(job.id, False) for job in submission] for submission in submissions], jobs
        async with self._database.transaction() as connection:
            answers = await _recognise(connection, submissions)
            fresh = [
                job
                for submission, answer in zip(submissions, answers, strict=True)
                if not isinstance(answer, Exception)
                for job, accepted in zip(submission, answer, strict=True)
                if not accepted.existed
            ]
            if fresh:
                await self._insert(fresh, connection)
            return answers, fresh

    async def _insert(self, jobs: Sequence[NewJob], connection: Driver | None = None) -> None:
        for known in (True, False):
            if not known:
                self._flows.clear()
            flow_ids = await self._flow_ids(jobs)
            parameters = _columns(jobs, flow_ids)
            if connection is None:
                rows = await self._database.run("accept", **parameters)
            else:
                rows = await fetch(connection, "accept", **parameters)
            if rows[0].locked == len(parameters["flows"]):
                return
        raise Unavailable("The order's flows were removed while the job was accepted; try again.")

    async def _flow_ids(self, jobs: Sequence[NewJob]) -> list[int]:
        keys: list[FlowKey] = [(job.model_id, int(job.tier), job.tenant_id, job.waited, None) for job in jobs]
        missing = {key for key in keys if key not in self._flows}
        if missing:
            models, tiers, tenants, waited, batches = (list(column) for column in zip(*missing, strict=True))
            parameters = {"models": models, "tiers": tiers, "tenants": tenants, "waited": waited, "batches": batches}
            await self._database.run("flows_make", **parameters)
            for row in await self._database.run("flows_find", **parameters):
                self._flows[row.model_id, row.tier, row.tenant_id, row.waited, row.batch_id] = row.id
        return [self._flows[key] for key in keys]


async def _recognise(connection: Driver, submissions: Sequence[Submission]) -> list[list[Accepted] | Exception]:
    """Take the idempotency keys of these submissions; a submission with a key that is spoilt takes none."""
    keyed = {(job.tenant_id, job.key.key): job for submission in submissions for job in submission if job.key}
    names = sorted(keyed)
    tenants, keys = [tenant for tenant, _ in names], [key for _, key in names]
    # Another process may take a key between look and insert; its row is then there at the second look.
    known: KnownKeys = {}
    await fetch(connection, "keys_lock", tenants=tenants, keys=keys)
    for row in await fetch(connection, "keys_find", tenants=tenants, keys=keys):
        known[row.tenant_id, row.key] = (bytes(row.body_hash), row.object_id)
    answers: list[list[Accepted] | Exception] = []
    taken: list[NewJob] = []
    for submission in submissions:
        try:
            answer, mine = _answer(submission, known)
        except Unprocessable as error:
            answers.append(error)
            continue
        known |= mine
        taken += [job for job, accepted in zip(submission, answer, strict=True) if job.key and not accepted.existed]
        answers.append(answer)
    if taken:
        await fetch(
            connection,
            "keys_take",
            tenants=[job.tenant_id for job in taken],
            keys=[job.key.key for job in taken if job.key],
            hashes=[job.key.body_hash for job in taken if job.key],
            ids=[job.id for job in taken],
        )
    return answers


def _answer(submission: Submission, known: KnownKeys) -> tuple[list[Accepted], KnownKeys]:
    """What becomes of each job of a submission, and the keys that it takes."""
    answer: list[Accepted] = []
    mine: KnownKeys = {}
    for job in submission:
        if job.key is None:
            answer.append(Accepted(job.id, False))
            continue
        name = (job.tenant_id, job.key.key)
        body_hash, object_id = known.get(name) or mine.setdefault(name, (job.key.body_hash, job.id))
        if body_hash != job.key.body_hash:
            raise Unprocessable(
                f"The idempotency key '{job.key.key}' was used with a different request.",
                param="idempotency_key",
                code="idempotency_key_reused",
            )
        answer.append(Accepted(object_id, object_id != job.id))
    return answer, mine


def _columns(jobs: Sequence[NewJob], flow_ids: Sequence[int]) -> dict[str, Sequence[object]]:
    """The parameters of `accept.sql`: one list a column."""
    return {
        "flows": sorted(set(flow_ids)),
        "ids": [job.id for job in jobs],
        "flow_ids": flow_ids,
        "tenant_ids": [job.tenant_id for job in jobs],
        "costs": [job.cost for job in jobs],
        "tiers": [int(job.tier) for job in jobs],
        "timeouts": [job.timeout_seconds for job in jobs],
        "flags": [int(job.flags) for job in jobs],
        "expires": [job.expires_seconds for job in jobs],
        "endpoints": [job.endpoint for job in jobs],
        "models": [job.model for job in jobs],
        "bodies": [job.body for job in jobs],
        "metadata": [None if job.metadata is None else json.dumps(job.metadata) for job in jobs],
        "service_tiers": [job.service_tier for job in jobs],
        "retries": [job.retry_of for job in jobs],
        "repeat_hashes": [job.repeat_hash for job in jobs],
    }
