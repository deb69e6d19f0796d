"""How a submit is answered: with the response when the job is done, or at once with the job (RFC 7240)."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, TypeVar
from uuid import UUID

from fastapi import Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from api import envelope, exchange, objects
from api.parts import Parts
from api.payload import JsonResponse
from api.prefer import Preference
from jobs import cancel, ids, read, repeats
from jobs.errors import Conflict, LonghaulError, NotFound, Unavailable, UpstreamLost
from jobs.records import Flags, JobView, Json, NewJob, Result
from jobs.states import Status

T = TypeVar("T")

_NO_RETRY: Final = {"x-should-retry": "false"}


class Interruption(Enum):
    """Why a wait ended before the job did."""

    DISCONNECTED = "the client went away"
    STOPPING = "this process stops"


Ending: TypeAlias = Result | Interruption | None
"""How a wait ended; None: its time ran out."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """What a request says about being a repeat: OpenAI's SDK sends `x-stainless-retry-count` with every request.

    `count` is None where the header is missing: such a client does not come back for its job.
    """

    count: int | None

    @classmethod
    def of(cls, request: Request) -> "Repeat":
        count = request.headers.get("x-stainless-retry-count", "")
        return cls(min(int(count), 10_000) if count.isdecimal() and count.isascii() else None)


async def until(parts: Parts, request: Request, result: Awaitable[T]) -> T | Interruption:
    """What comes first: the result, the end of its time, the client's disconnect, or this process's stop."""
    ended = asyncio.ensure_future(result)
    gone = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait((ended, gone, parts.stopping), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return ended.result()
        return Interruption.DISCONNECTED if gone.done() else Interruption.STOPPING
    finally:
        ended.cancel()
        gone.cancel()


async def answer(parts: Parts, request: Request, job: NewJob, preference: Preference) -> Response:
    """Accept the job and answer as the client prefers."""
    if job.waited:
        return await _respond(parts, request, job, Repeat.of(request))
    headers = {"preference-applied": preference.applied} if preference.respond_async else None
    if not preference.wait:
        accepted = await parts.acceptor.accept(job)
        return await accepted_response(parts, request, job, accepted.id, headers)
    with parts.waiters.register(job.id) as waiter:
        accepted = await parts.acceptor.accept(job)
        waiting = (
            parts.waiters.wait(accepted.id, preference.wait) if accepted.existed else waiter.result(preference.wait)
        )
        ending = await until(parts, request, waiting)
    exchange.concerns(request, accepted.id)
    if ending is Interruption.DISCONNECTED:
        raise ClientDisconnect
    if isinstance(ending, Result):
        return response(request, ending, headers)
    return await accepted_response(parts, request, job, accepted.id, headers)


async def accepted_response(
    parts: Parts, request: Request, job: NewJob, job_id: UUID, headers: Mapping[str, str] | None = None
) -> Response:
    """The 202: where the job is found, its place in the queue, when it may start (Unix seconds) and the job object."""
    exchange.concerns(request, job_id)
    # A turn may wait for another, of which its lane knows nothing.
    is_turn = job.conversation is not None
    shown = await (job_object(parts, job.tenant_id, job_id) if is_turn else accepted_object(parts, job, job_id))
    more = {"location": f"/v1/jobs/{shown['id']}", **(headers or {})}
    if (queue := shown["queue"]) is not None:
        more["x-queue-position"] = str(queue["position"])
        if queue["estimated_start_at"] is not None:
            more["x-estimated-start-at"] = str(queue["estimated_start_at"])
    return JsonResponse(shown, 202, more)


async def accepted_object(parts: Parts, job: NewJob, job_id: UUID) -> Json:
    """The object of a job that was just accepted, or of the one that its idempotency key found."""
    if job_id == job.id:
        lane = await parts.backlog.joined(job.model_id, job.tier)
        return objects.new_job(job, objects.place_behind(lane, job))
    return await job_object(parts, job.tenant_id, job_id)


async def job_object(parts: Parts, tenant_id: int, job_id: UUID) -> Json:
    """The object of any job, with its response, and its exact place while it is queued.

    Raises:
        NotFound: this tenant has no such job.
    """
    view = await read.job(parts.database, tenant_id, job_id)
    position = await read.position(parts.database, job_id) if view.status is Status.QUEUED else None
    return objects.job(view, None if position is None else objects.place(position), tokens=await _tokens(parts, view))


async def _tokens(parts: Parts, view: JobView) -> int | None:
    """How far a running stream is, as far as Redis knows."""
    if view.status is not Status.IN_PROGRESS or not view.flags & Flags.STREAMS:
        return None
    last = await parts.readers.last(view.id)
    return None if last is None else last.tokens


def response(request: Request, result: Result, headers: Mapping[str, str] | None = None) -> Response:
    """The engine's response as it was stored, or the error of a job that ended without one."""
    if result.status_code is not None:
        return Response(result.body, result.status_code, headers, "application/json")
    status, error = lost(result)
    return envelope.response(request, error, status, {**_NO_RETRY, **(headers or {})})


async def attached(parts: Parts, job: NewJob, repeat: Repeat) -> UUID | None:
    """The job that this request repeats, if it is a repeat and finds one."""
    if repeat.count and job.repeat_hash and job.key is None:  # a key finds its job by itself
        return await repeats.attach(parts.database, job.tenant_id, job.repeat_hash, repeat.count)
    return None


async def _respond(parts: Parts, request: Request, job: NewJob, repeat: Repeat) -> Response:
    """The response itself, once the job is done. A repeat finds its job; a client that goes away cancels its own."""
    found = await attached(parts, job, repeat)
    if found is not None:
        job_id, taken = found, repeat.count or 0
        ending = await until(parts, request, parts.waiters.wait(found, None))
    else:
        taken = 0
        with parts.waiters.register(job.id) as waiter:
            accepted = await parts.acceptor.accept(job)
            job_id = accepted.id
            if accepted.existed:
                await repeats.keep(parts.database, job_id)
            waiting = parts.waiters.wait(job_id, None) if accepted.existed else waiter.ended
            ending = await until(parts, request, waiting)
    exchange.concerns(request, job_id)
    if isinstance(ending, Result):
        return response(request, ending)
    if ending is Interruption.STOPPING:
        return await stopped(parts, request, job_id, taken)
    if repeat.count is not None:
        await repeats.abandon(parts.database, job_id, taken)
    elif await repeats.end(parts.database, job_id, taken):
        await end(parts, job, job_id)
    raise ClientDisconnect


async def end(parts: Parts, job: NewJob, job_id: UUID) -> None:
    """The client went away and is none that comes back; its idempotency key may be used again."""
    if await parts.cancel([job_id]) and job.key is not None:
        await cancel.free_key(parts.database, job.tenant_id, job.key.key, job_id)


async def stopped(parts: Parts, request: Request, job_id: UUID, taken: int) -> Response:
    """This process stops, which is no disconnect: the job goes on for a grace, and the repeat finds it."""
    await repeats.abandon(parts.database, job_id, taken)
    message = f"This server is restarting. Your request goes on as {ids.job_id(job_id)}: send it again to wait for it."
    return envelope.response(request, Unavailable(message), headers={"x-should-retry": "true"})


async def disconnected(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def lost(result: Result) -> tuple[int, LonghaulError]:
    """The status and error of a job that ended without a response."""
    code, message = result.error_code, result.error_message
    if result.status is Status.EXPIRED:
        return 408, UpstreamLost(message or "The job expired before it ran.", code=code or "expired")
    if result.status is Status.CANCELLED:
        return 409, Conflict(message or "The job was cancelled.", code=code or "cancelled")
    if code == "model_retired":
        return 404, NotFound(message, param="model", code="model_not_found")
    if code == "request_timeout":
        return 504, UpstreamLost(message or "The job ran into its time limit.", code=code)
    return 500, UpstreamLost(message, code=code or "server_error")
