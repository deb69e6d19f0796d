"""One run of one job on the engine, and what of it counts as an outcome."""

import asyncio
from dataclasses import dataclass, replace
from typing import Final

import structlog

from jobs import payload
from jobs.error_response import body_of
from jobs.errors import BadRequest
from jobs.records import ClaimedJob, Flags, Outcome
from jobs.states import Status
from jobs.streams import Writer
from worker import error_body
from worker.asgi import Headers
from worker.assemble import assemble
from worker.dialect import Dialect, Translated
from worker.engines import Engine, EngineBusy, EngineDead, JobLost
from worker.replay import Replay
from worker.stream import Stream

_AGAIN_SECONDS: Final = 1.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BackOff:
    """The engine's trouble, not the job's: the job goes back, and nothing is claimed for so many seconds."""

    seconds: float


async def attempt(engine: Engine, dialect: Dialect, writer: Writer, job: ClaimedJob) -> Outcome | BackOff:
    """Replay a job for as long as it may run. Cancelling this disconnects it; nothing that then comes back counts.

    What a stream says is published meanwhile; left without an outcome, it counts as given up.

    Raises:
        EngineDead: what came back is no result.
        JobLost: the same, but the engine lives.
        SQLAlchemyError: the database was away, which the translation needed.
    """
    if not job.flags & Flags.STREAMS:
        return await _attempt(engine, dialect, job)
    with await writer.open(job) as channel:
        stream = Stream(job, channel)
        outcome = await _attempt(engine, dialect, job, stream)
        return stream.close(outcome) if isinstance(outcome, Outcome) else outcome


async def _attempt(
    engine: Engine, dialect: Dialect, job: ClaimedJob, stream: Stream | None = None
) -> Outcome | BackOff:
    try:
        request = await dialect.translate(job)
    except BadRequest as error:
        return _refused(job, error, Outcome(Status.FAILED))
    except EngineBusy as busy:
        return BackOff(busy.seconds)
    except Exception as error:
        if not engine.alive():
            raise EngineDead() from error
        if isinstance(error, JobLost):  # only a question about its tokens: the job did not run
            return BackOff(_AGAIN_SECONDS)
        raise
    try:
        async with asyncio.timeout(job.timeout_seconds) as limit:
            outcome = await _replay(engine, request, job, stream)
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            return Outcome(
                Status.FAILED,
                error_code="request_timeout",
                error_message=f"The job ran longer than its limit of {job.timeout_seconds} seconds.",
            )
        if not engine.alive():
            raise EngineDead() from error
        if isinstance(error, JobLost):
            raise
        _log.error("the engine's app failed at a job", job_id=str(job.id), endpoint=job.endpoint, exc_info=error)
        return Outcome(Status.FAILED, 500, error_body.normalise(job.endpoint, 500, b""))
    if isinstance(outcome, Outcome) and (outcome.status_code or 0) >= 500 and not engine.alive():
        raise EngineDead()
    return outcome


async def _replay(engine: Engine, request: Translated, job: ClaimedJob, stream: Stream | None) -> Outcome | BackOff:
    async with Replay(engine.app, job.endpoint, request.body, request.headers) as response:
        back_off = engine.verdict(response.status, response.headers)
        if back_off is not None:
            return BackOff(back_off)
        if stream is None or not _is_stream(response.status, response.headers):
            outcome = await assemble(job, response)
        else:
            await response.into(stream.feed)
            outcome = stream.outcome()
    try:
        return request.restore(outcome)
    except BadRequest as error:
        return _refused(job, error, outcome)


def _refused(job: ClaimedJob, error: BadRequest, outcome: Outcome) -> Outcome:
    """A 400 of ours in the place of this outcome, whose tokens were spent all the same."""
    body = payload.write(body_of(error, job.endpoint, 400))
    return replace(outcome, status=Status.FAILED, status_code=400, body=body)


def _is_stream(status: int, headers: Headers) -> bool:
    return status == 200 and dict(headers).get(b"content-type", b"").startswith(b"text/event-stream")
