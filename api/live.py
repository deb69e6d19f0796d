"""The answer to a request that streams: events as the engine says them, or an ordinary response if it says none."""

import asyncio
import functools
from typing import Final, Literal
from uuid import UUID

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api import answers, exchange
from api.parts import Parts
from jobs import error_response, repeats
from jobs.admission.parameters import RESPONSES
from jobs.errors import LonghaulError, Unavailable, UpstreamLost
from jobs.following import Interrupted, Lost, Tail, follow
from jobs.records import NewJob
from jobs.states import Status
from jobs.streams import Kind
from jobs.wake import Waiter

HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
STORING_SECONDS: Final = 5
"""How long the last event of a response waits until it is stored: who has it may retrieve or continue it."""
_STOPPING_SECONDS: Final = 15
"""How long a stream that has begun may go on when its server was asked to stop, which then waits for 20 s."""


class Live(Response):
    """Accepts the job when it is called, and answers with its stream. A client that goes away cancels its job."""

    background = None

    def __init__(self, parts: Parts, request: Request, job: NewJob, repeat: answers.Repeat) -> None:
        self._parts = parts
        self._request = request
        self._job = job
        self._repeat = repeat
        self._began = False
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts, job = self._parts, self._job
        job_id = await answers.attached(parts, job, self._repeat)
        taken = self._repeat.count or 0 if job_id else 0
        owns = True
        if job_id is None:
            with parts.waiters.register(job.id) as waiter, parts.readers.follow(job.id) as tail:
                accepted = await parts.acceptor.accept(job)
                if not accepted.existed:
                    return await self._answer(job.id, taken, True, waiter, tail, scope, receive, send)
            job_id, owns = accepted.id, False
            await repeats.keep(parts.database, job_id)
        with parts.waiters.register(job_id, look=True) as waiter, parts.readers.follow(job_id) as tail:
            await self._answer(job_id, taken, owns, waiter, tail, scope, receive, send)

    async def _answer(
        self,
        job_id: UUID,
        taken: int,
        owns: bool,
        waiter: Waiter,
        tail: Tail,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        exchange.concerns(self._request, job_id)
        gone = asyncio.ensure_future(answers.disconnected(self._request))
        gone.add_done_callback(tail.interrupt)
        stop = functools.partial(self._stop, tail)
        self._parts.stopping.add_done_callback(stop)
        error: LonghaulError | None = None
        try:
            if await self._pass_on(waiter, tail, send):
                return
        except Interrupted:
            if gone.done():
                return await self._went_away(job_id, taken)
            if not self._began:
                response = await answers.stopped(self._parts, self._request, job_id, taken)
                return await response(scope, receive, send)
            await repeats.abandon(self._parts.database, job_id, taken)
            error = Unavailable("This server is restarting.")
        except Lost:
            if owns:
                await self._parts.lose([job_id])
            error = UpstreamLost("The worker that ran this stream was lost before its end.", code="worker_lost")
        except (SQLAlchemyError, OSError, TimeoutError):
            if not self._began:
                raise
            error = Unavailable("The database is not available.")
        finally:
            gone.cancel()
            self._parts.stopping.remove_done_callback(stop)
        if not self._began:
            result = await waiter.result(None)
            assert result is not None
            return await answers.response(self._request, result)(scope, receive, send)
        if waiter.now is not None and waiter.now.status is not Status.COMPLETED:
            _, error = answers.lost(waiter.now)
        await self._end(send, error or UpstreamLost(code="server_error"))

    async def _pass_on(self, waiter: Waiter, tail: Tail, send: Send) -> bool:
        """Send the log as it grows; whether it was sent to its end."""
        async for entry in follow(tail, waiter, self._parts.database):
            if entry is None:
                continue
            self._count = entry.count
            if entry.body and not self._began:
                self._began = True
                await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
            is_end = entry.kind is Kind.END
            if is_end and self._job.endpoint == RESPONSES:
                await waiter.result(STORING_SECONDS)
            if is_end and waiter.now is not None and waiter.now.status is Status.CANCELLED:
                return False
            if self._began and (entry.body or is_end):
                await send({"type": "http.response.body", "body": entry.body, "more_body": not is_end})
            if is_end:
                return self._began
        return False

    def _stop(self, tail: Tail, stopping: asyncio.Future[Literal[True]]) -> None:
        """The server stops: who has seen nothing yet may as well ask again."""
        asyncio.get_running_loop().call_later(_STOPPING_SECONDS if self._began else 0, tail.interrupt)

    async def _went_away(self, job_id: UUID, taken: int) -> None:
        """OpenAI's SDK repeats what was not answered, but never a stream that has begun."""
        if self._repeat.count is not None and not self._began:
            await repeats.abandon(self._parts.database, job_id, taken)
        elif await repeats.end(self._parts.database, job_id, taken):
            await answers.end(self._parts, self._job, job_id)
        raise ClientDisconnect

    async def _end(self, send: Send, error: LonghaulError) -> None:
        fields = error_response.fields(error)
        events = error_response.last_events(fields, self._job.endpoint, self._count)
        await send({"type": "http.response.body", "body": b"".join(events), "more_body": False})
