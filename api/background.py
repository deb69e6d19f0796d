"""Responses in the background: their beginning, and their events, before, during and after their run."""

import asyncio
from contextlib import suppress
from typing import Final

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api import answers, exchange, response_objects
from api.live import HEADERS, STORING_SECONDS
from api.parts import Parts
from api.payload import JsonResponse
from jobs import error_response, response_events, responses
from jobs.admission.parameters import RESPONSES
from jobs.errors import LonghaulError, NotFound, Unavailable, UpstreamLost
from jobs.following import Interrupted, Lost, Tail, follow
from jobs.records import Flags, NewJob
from jobs.responses import StoredResponse
from jobs.states import Status
from jobs.streams import Kind
from jobs.wake import Waiter

_QUIET_SECONDS: Final = 15.0
"""After so long a comment shows proxies that the connection lives."""
_LOST: Final = "The worker that ran this response was lost; it runs again. Read its events from the first."
_STOPPING: Final = "This server is restarting. Read on from the last event that you have."


async def begin(parts: Parts, request: Request, job: NewJob) -> Response:
    """Accept a job whose client comes back for its response: answered with the response as it now is, or its events."""
    accepted = await parts.acceptor.accept(job)
    exchange.concerns(request, accepted.id)
    stored = responses.accepted(job)
    if accepted.existed:
        stored = await responses.get(parts.database, job.tenant_id, accepted.id)
    if Flags.STREAMS in stored.flags:
        return Events(parts, request, job.tenant_id, stored)
    return JsonResponse(response_objects.response(stored))


class Events(Response):
    """Event number `start` and all that follow. Who goes away ends nothing, and may come back for the rest."""

    background = None

    def __init__(self, parts: Parts, request: Request, tenant_id: int, stored: StoredResponse, start: int = 0) -> None:
        self._parts = parts
        self._request = request
        self._tenant_id = tenant_id
        self._stored = stored
        self._start = start
        self._reached = start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        job_id = self._stored.id
        exchange.concerns(self._request, job_id)
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
        await self._open(send)
        with self._parts.waiters.register(job_id, look=True) as waiter, self._parts.readers.follow(job_id) as tail:
            gone = asyncio.ensure_future(answers.disconnected(self._request))
            gone.add_done_callback(tail.interrupt)
            self._parts.stopping.add_done_callback(tail.interrupt)
            try:
                last = b"" if await self._pass_on(waiter, tail, send) else await self._end()
            except Interrupted:
                if gone.done():
                    raise ClientDisconnect from None
                last = self._error(Unavailable(_STOPPING))
            except Lost:
                last = await self._lost()
            except (SQLAlchemyError, OSError, TimeoutError):
                last = self._error(Unavailable("The database is not available."))
            finally:
                gone.cancel()
                self._parts.stopping.remove_done_callback(tail.interrupt)
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _open(self, send: Send) -> None:
        """Say what is known without a worker: at once, so that a client has the response's name whatever comes."""
        opening = response_events.opening(response_objects.begun(self._stored))
        if body := b"".join(opening[self._start :]):
            await send({"type": "http.response.body", "body": body, "more_body": True})
        self._reached = max(self._start, len(opening))

    async def _pass_on(self, waiter: Waiter, tail: Tail, send: Send) -> bool:
        """Send the log as it grows; whether it was sent to its end.

        Raises:
            Lost: what the client has was said by a run that was given up.
        """
        async for entry in follow(tail, waiter, self._parts.database, _QUIET_SECONDS):
            if entry is None:
                await send({"type": "http.response.body", "body": b": keep-alive\n\n", "more_body": True})
                continue
            if entry.kind is Kind.BEGIN and 0 < self._start <= entry.count:
                raise Lost
            is_end = entry.kind is Kind.END
            if is_end:
                await waiter.result(STORING_SECONDS)
            if is_end and waiter.now is not None and waiter.now.status is Status.CANCELLED:
                return False  # it said its end when it had been ended already
            if entry.count > self._reached:
                body = (entry.since(self._reached) if entry.first < self._reached else entry).body
                self._reached = entry.count
                await send({"type": "http.response.body", "body": body, "more_body": True})
            if is_end:
                return True
        return False

    async def _end(self) -> bytes:
        """The last event of a response that has ended and of which no worker told."""
        with suppress(NotFound):
            now = response_objects.response(await self._now())
            if now["status"] in response_events.ENDS:
                return response_events.event(now["status"], now, self._reached)
            return self._error(UpstreamLost(f"The response was {now['status']}.", code=now["status"]))
        return self._error(NotFound("The response was deleted."))

    async def _lost(self) -> bytes:
        """A run is given up when its worker is lost, or because the response has ended otherwise."""
        with suppress(NotFound, SQLAlchemyError, OSError, TimeoutError):
            if (await self._now()).status is Status.CANCELLED:
                return await self._end()
        return self._error(UpstreamLost(_LOST, code="worker_lost"))

    async def _now(self) -> StoredResponse:
        return await responses.get(self._parts.database, self._tenant_id, self._stored.id)

    def _error(self, error: LonghaulError) -> bytes:
        """With the number of the event before: it is no event of the response, and who reads on must miss none."""
        fields = error_response.fields(error)
        return b"".join(error_response.last_events(fields, RESPONSES, self._reached - 1))
