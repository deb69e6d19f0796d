"""A `NewJob` becomes a committed row with its place in the order, or finds the job that it repeats."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias
from uuid import UUID

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from jobs import conversations, metrics
from jobs.database import Database, Driver, Rows, fetch, is_connection_lost
from jobs.errors import BadRequest, Unavailable, Unprocessable
from jobs.group_commit import GroupCommit
from jobs.records import Accepted, NewJob
from jobs.webhooks import own_webhooks

FlowKey: TypeAlias = tuple[int, int, int, bool, UUID | None]
"""(model, tier, tenant, waited, batch)"""

Flows: TypeAlias = dict[FlowKey, int]
"""The ids of the flows of these keys."""

KnownKeys: TypeAlias = dict[tuple[int, str], tuple[bytes, UUID]]
"""(tenant, key) -> (body hash, job)"""

Submission: TypeAlias = tuple[NewJob, ...]
"""Jobs that are accepted together or not at all."""

_PATIENCE_SECONDS: Final = 5.0
"""How long a submit waits for a database that went away: a fail-over is invisible, an outage is a 503."""

_COMPANY: Final = 128

_LOAD_BYTES: Final = 16 * 2**20
"""One statement carries them as text, twice their size, and the server takes a gigabyte at most."""


class Acceptor:
    """Accepts jobs in company; `publish(model_id, count)` hears of them after each commit and must not block."""

    def __init__(
        self, database: Database, publish: Callable[[int, int], None], patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        self._database = database
        self._publish = publish
        self._patience_seconds = patience_seconds
        self._flows: Flows = {}
        self._group: GroupCommit[Submission, list[Accepted]] = GroupCommit(
            self._flush,
            limit=_COMPANY,
            size_of=lambda submission: sum(len(job.body) for job in submission),
            load=_LOAD_BYTES,
        )

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
        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                answers, fresh = await self._commit(submissions)
            except (DataError, IntegrityError, UnicodeError) as error:
                if len(submissions) > 1:  # one submit that cannot be stored must not refuse its company
                    return [(await self._flush([submission]))[0] for submission in submissions]
                reason = str(error.orig if isinstance(error, DBAPIError) else error)
                return [BadRequest(f"The request cannot be stored: {reason.splitlines()[0]}")]
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                if not (is_connection_lost(error) and time.monotonic() < deadline):
                    raise Unavailable(
                        "The database is not available. If you repeat this, send an Idempotency-Key: "
                        "it may have been accepted."
                    ) from error
                await asyncio.sleep(0.2)
                continue
            for model_id, count in Counter(job.model_id for job in fresh).items():
                self._publish(model_id, count)
            return answers

    async def _commit(self, submissions: Sequence[Submission]) -> tuple[list[list[Accepted] | Exception], list[NewJob]]:
        """What becomes of each submission, and the jobs that are new. Tried twice: flows go between look and lock."""
        jobs = [job for submission in submissions for job in submission]
        for _ in range(2):
            try:
                # Not inside a transaction: that holds a connection while the flows ask for another.
                flows = await self._flows_of(jobs)
                if any(job.key or job.conversation is not None for job in jobs):
                    return await self._commit_named(submissions, flows)
                _insist(flows, await self._database.run("accept", **_columns(jobs, flows)))
            except _FlowsRemoved:
                self._flows.clear()
                continue
            return [[Accepted(job.id, False) for job in submission] for submission in submissions], jobs
        raise Unavailable("The order's flows were removed while the job was accepted; try again.")

    async def _commit_named(
        self, submissions: Sequence[Submission], flows: Flows
    ) -> tuple[list[list[Accepted] | Exception], list[NewJob]]:
        """With jobs that have an idempotency key or a conversation: their names are locked, before the flows."""
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
                needed = {key: flows[key] for key in map(_flow_key, fresh)}
                await conversations.lock(connection, fresh)
                _insist(needed, await fetch(connection, "accept", **_columns(fresh, needed)))
                await conversations.add(connection, fresh)
        return answers, fresh

    async def _flows_of(self, jobs: Sequence[NewJob]) -> Flows:
        keys = {_flow_key(job) for job in jobs}
        flows = {key: self._flows[key] for key in keys if key in self._flows}
        if missing := keys - flows.keys():
            models, tiers, tenants, waited, batches = (list(column) for column in zip(*missing, strict=True))
            parameters = {"models": models, "tiers": tiers, "tenants": tenants, "waited": waited, "batches": batches}
            await self._database.run("flows_make", **parameters)
            for row in await self._database.run("flows_find", **parameters):
                flows[row.model_id, row.tier, row.tenant_id, row.waited, row.batch_id] = row.id
            if len(flows) < len(keys):
                raise _FlowsRemoved
            self._flows |= flows
        return flows


class _FlowsRemoved(Exception):
    """Flows went while they were needed; nothing was written."""


def _insist(flows: Flows, rows: Rows) -> None:
    if rows[0].locked < len(flows):
        raise _FlowsRemoved


def _flow_key(job: NewJob) -> FlowKey:
    return job.model_id, int(job.tier), job.tenant_id, job.waited, None


async def _recognise(connection: Driver, submissions: Sequence[Submission]) -> list[list[Accepted] | Exception]:
    """Take the idempotency keys of these submissions; a submission with a key that is spoilt takes none."""
    names = sorted({(job.tenant_id, job.key.key) for submission in submissions for job in submission if job.key})
    tenants, keys = [tenant for tenant, _ in names], [key for _, key in names]
    # Two statements: whoever took a key while we waited for its lock is seen only by a snapshot taken after.
    await fetch(connection, "keys_lock", tenants=tenants, keys=keys)
    found = await fetch(connection, "keys_find", kind="job", tenants=tenants, keys=keys)
    known: KnownKeys = {(row.tenant_id, row.key): (bytes(row.body_hash), row.object_id) for row in found}
    answers: list[list[Accepted] | Exception] = []
    taken: KnownKeys = {}
    for submission in submissions:
        try:
            answer, mine = _answer(submission, known)
        except Unprocessable as error:
            answers.append(error)
            continue
        known |= mine
        taken |= mine
        answers.append(answer)
    if taken:
        await fetch(
            connection,
            "keys_take",
            kind="job",
            tenants=[tenant for tenant, _ in taken],
            keys=[key for _, key in taken],
            hashes=[body_hash for body_hash, _ in taken.values()],
            ids=[job_id for _, job_id in taken.values()],
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


def _columns(jobs: Sequence[NewJob], flows: Flows) -> dict[str, Sequence[object]]:
    """The parameters of `accept.sql`: one list a column."""
    return {
        "flows": sorted(flows.values()),
        "ids": [job.id for job in jobs],
        "flow_ids": [flows[_flow_key(job)] for job in jobs],
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
        "previous": [job.previous for job in jobs],
        "traceparents": [job.traceparent for job in jobs],
        **own_webhooks((job.id, job.webhook) for job in jobs),
    }
