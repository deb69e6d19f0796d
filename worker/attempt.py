"""One run of one job on the engine, and what of it counts as an outcome."""

import asyncio
from dataclasses import dataclass

import structlog

from jobs import payload
from jobs.error_response import body_of
from jobs.errors import BadRequest
from jobs.records import ClaimedJob, Outcome
from jobs.states import Status
from worker import error_body
from worker.assemble import assemble
from worker.dialect import Dialect, Translated
from worker.engines import Engine, EngineDead
from worker.replay import Replay

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BackOff:
    """The engine's trouble, not the job's: the job goes back, and nothing is claimed for so many seconds."""

    seconds: float


async def attempt(engine: Engine, dialect: Dialect, job: ClaimedJob) -> Outcome | BackOff:
    """Replay a job for as long as it may run. Cancelling this disconnects it; nothing that then comes back counts.

    Raises:
        EngineDead: what came back is no result.
        SQLAlchemyError: the database was away, which the translation needed.
    """
    try:
        request = await dialect.translate(job)
    except BadRequest as error:
        return Outcome(Status.FAILED, 400, payload.write(body_of(error, job.endpoint, 400)))
    try:
        async with asyncio.timeout(job.timeout_seconds) as limit:
            outcome = await _replay(engine, request, job)
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            return Outcome(
                Status.FAILED,
                error_code="request_timeout",
                error_message=f"The job ran longer than its limit of {job.timeout_seconds} seconds.",
            )
        if not engine.alive():
            raise EngineDead() from error
        _log.error("the engine's app failed at a job", job_id=str(job.id), endpoint=job.endpoint, exc_info=error)
        return Outcome(Status.FAILED, 500, error_body.normalise(job.endpoint, 500, b""))
    if isinstance(outcome, Outcome) and (outcome.status_code or 0) >= 500 and not engine.alive():
        raise EngineDead()
    return outcome


async def _replay(engine: Engine, request: Translated, job: ClaimedJob) -> Outcome | BackOff:
    async with Replay(engine.app, job.endpoint, request.body, request.headers) as response:
        back_off = engine.verdict(response.status, response.headers)
        if back_off is not None:
            return BackOff(back_off)
        return request.restore(await assemble(job, response))
