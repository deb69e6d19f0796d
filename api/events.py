"""`GET /v1/jobs/{id}/events`: what becomes of a job and what its stream says, for any number of readers."""

import asyncio
import re
from contextlib import suppress
from typing import Final

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api import answers, objects
from api.live import HEADERS
from api.parts import Parts
from jobs import error_response, read, streams
from jobs.errors import BadRequest, LonghaulError, NotFound, Unavailable, UpstreamLost
from jobs.following import Interrupted, Lost, Tail, follow
from jobs.payload import write
from jobs.records import Flags, JobView
from jobs.states import Status
from jobs.streams import Entry, Kind
from jobs.wake import Waiter

_EVENT_ID: Final = re.compile("([0-9]{1,9})-([0-9]{1,9})")
_LOOK_SECONDS: Final = 1.0
"""Between two looks at a job that does not stream: nobody tells when it begins."""
_QUIET_SECONDS: Final = 15.0
"""After so long a comment shows proxies that the connection lives."""
_LOST: Final = "The worker that ran this stream was lost before its end."
_AWAY: Final = "The database is not available. Read on from the last event that you have."


def place(request: Request, starting_after: str | None = None) -> tuple[int, int]:
    """Behind which event of which run to go on: (run, events before).

    By the request's `Last-Event-ID`, else by `starting_after`: a browser's EventSource cannot send the header when it
    connects first, and sends it with the same URL when it connects again.

    Raises:
        BadRequest: it is none of our ids.
    """
    last, name = request.headers.get("last-event-id", ""), "Last-Event-ID"
    if not last and starting_after is not None:
        last, name = starting_after, "starting_after"
    elif not last:
        return 0, 0
    found = _EVENT_ID.fullmatch(last)
    if not found:
        message = f"Invalid '{name}': '{last:.100}'. Expected the id of an event, like '1-8'."
        raise BadRequest(message, param=name, code="invalid_value")
    return int(found[1]), int(found[2]) + 1


class Events(Response):
    """Server-sent events: `job.queued`, `job.in_progress` and how it ended, and between them those of the job's stream
    as the engine said them. Only these have ids, `RUN-NUMBER`, behind which a reader may go on."""

    background = None

    def __init__(self, parts: Parts, request: Request, view: JobView, after: tuple[int, int]) -> None:
        self._parts = parts
        self._request = request
        self._view = view
        self._after = after
        self._count = after[1]
        self._running = after != (0, 0)
        """Whether the reader knows that it runs."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts, job_id = self._parts, self._view.id
        with (
            parts.waiters.register(job_id, look=True) as waiter,
            parts.readers.follow(job_id, *self._after) as tail,
        ):
            gone = asyncio.ensure_future(answers.disconnected(self._request))
            gone.add_done_callback(tail.interrupt)
            parts.stopping.add_done_callback(tail.interrupt)
            try:
                await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
                await self._tell(waiter, tail, send)
            except Interrupted:
                if gone.done():
                    raise ClientDisconnect from None
            except Lost:
                await self._fail(send, UpstreamLost(_LOST, code="worker_lost"))
            except NotFound as error:  # deleted meanwhile
                await self._fail(send, error)
            except (SQLAlchemyError, OSError, TimeoutError):
                await self._fail(send, Unavailable(_AWAY))
            finally:
                gone.cancel()
                parts.stopping.remove_done_callback(tail.interrupt)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, waiter: Waiter, tail: Tail, send: Send) -> None:
        if not self._running:
            await _say(send, self._status(Status.QUEUED))
        is_stream = bool(self._view.flags & Flags.STREAMS)
        quiet_seconds = _QUIET_SECONDS if is_stream else _LOOK_SECONDS
        async for entry in follow(tail, waiter, self._parts.database, quiet_seconds):
            if entry is None:
                await self._look(send, is_stream)
            elif entry.kind is Kind.BEGIN:
                await self._runs(send)
            elif entry.body:
                self._count = entry.count
                await _say(send, _numbered(entry))
        while waiter.now is None:
            if tail.interrupted:
                raise Interrupted
            await tail.rung()
        self._view = await self._now()
        if self._view.started_at is not None:
            await self._runs(send)
        await _say(send, self._status(self._view.status))

    async def _look(self, send: Send, is_stream: bool) -> None:
        if not is_stream and not self._running:
            with suppress(SQLAlchemyError, OSError, TimeoutError):  # the database will be back
                view = await self._now()
                if view.status is Status.IN_PROGRESS:
                    return await self._runs(send)
        await _say(send, b": keep-alive\n\n")

    async def _now(self) -> JobView:
        return await read.job(self._parts.database, self._view.tenant_id, self._view.id, with_body=False)

    async def _fail(self, send: Send, error: LonghaulError) -> None:
        """The last event, without a number: who reads on must miss none."""
        events = error_response.last_events(error_response.fields(error), self._view.endpoint, self._count)
        await _say(send, b"".join(events))

    async def _runs(self, send: Send) -> None:
        if not self._running:
            self._running = True
            await _say(send, self._status(Status.IN_PROGRESS))

    def _status(self, status: Status) -> bytes:
        return b"event: job.%s\ndata: %s\n\n" % (status.value.encode(), write(objects.status(self._view, status)))


async def _say(send: Send, events: bytes) -> None:
    await send({"type": "http.response.body", "body": events, "more_body": True})


def _numbered(entry: Entry) -> bytes:
    return b"".join(
        b"id: %d-%d\n%s" % (entry.run, number, event)
        for number, event in enumerate(streams.events(entry.body), entry.first)
    )
