"""Wakes whoever waits for a job: pub/sub says "read these", or brings small results along; a look once a second makes
up for lost messages."""

import asyncio
import contextlib
import struct
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from jobs import metrics, read
from jobs.database import Database
from jobs.records import Result
from jobs.states import Status

_ID_BYTES: Final = 16
_LOOK_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.5
_PUBLISH_SECONDS: Final = 4.0
"""For a publish, a repeat on a new connection included."""
_SILENCE_SECONDS: Final = 5.0
"""After so much silence a subscription is asked whether it is alive, and given as long again to answer."""
_COMPANY: Final = 500
_PER_MESSAGE: Final = 4096
_HEAD: Final = struct.Struct("!16sHI")
"""Of an ended job on the wire: its id, the status code of the response that follows (0: none does), its bytes."""
_CARRIED_BYTES: Final = 16 * 2**10
"""Larger responses are read by whoever waits: a message goes to every API process."""
_CARRIED: Final = 500
"""While so many wait to be announced, Redis is slow, and no more responses are kept for it."""
_log = structlog.get_logger()


def done_channel(prefix: str) -> str:
    """Where ended jobs are announced."""
    return f"{{{prefix}}}:done"


def abort_channel(prefix: str) -> str:
    """Where the ids are announced that a worker should stop running."""
    return f"{{{prefix}}}:abort"


class Announcer:
    """Publishes ids. Losing them costs waiters a second and a cancelled job the time to the next renewal."""

    def __init__(self, redis_url: str, prefix: str) -> None:
        # Repeats once: its connection may be from before a restart of Redis. A client waits for what is said here: a
        # pool, and a time limit for each socket call, would take a quarter of the time that it waits.
        self._redis = Redis.from_url(
            redis_url,
            single_connection_client=True,
            socket_timeout=None,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 1),
        )
        self._done, self._abort = done_channel(prefix), abort_channel(prefix)
        self._waiting: dict[str, deque[bytes]] = {self._done: deque(), self._abort: deque()}
        self._flight: asyncio.Task[None] | None = None
        self._reachable = True

    def announce(self, ended: Iterable[UUID | Result]) -> None:
        """Tell everybody who waits that these ended. Never blocks, never raises.

        What is given as a result, committed, need not be read by who waits for it, if it is a small response.
        """
        standing = self._waiting[self._done]
        self._say(self._done, (_packed(one, len(standing) < _CARRIED) for one in ended))

    def abort(self, ids: Iterable[UUID]) -> None:
        """Tell every worker that these shall not run any more. Never blocks, never raises."""
        self._say(self._abort, (job.bytes for job in ids))

    async def close(self) -> None:
        """Return when what was said has been published, or could not be."""
        if self._flight is not None:
            await asyncio.wait([self._flight])
        await self._redis.aclose()

    def _say(self, channel: str, words: Iterable[bytes]) -> None:
        self._waiting[channel].extend(words)
        if self._waiting[channel] and (self._flight is None or self._flight.done()):
            self._flight = asyncio.create_task(self._fly())

    async def _fly(self) -> None:
        """Publish until nothing is left: what comes meanwhile travels in the next message."""
        while channel := next((channel for channel, words in self._waiting.items() if words), None):
            words = self._waiting[channel]
            message = b"".join(words.popleft() for _ in range(min(len(words), _PER_MESSAGE)))
            try:
                async with asyncio.timeout(_PUBLISH_SECONDS):
                    await self._redis.publish(channel, message)
                self._reachable = True
            except (RedisError, OSError, TimeoutError) as error:
                if self._reachable:
                    _log.warning("announcements are lost, Redis does not take them", error=str(error))
                self._reachable = False


class Waiter:
    """One who waits for one job, from entering it as a context to leaving it. `ended` becomes the job's result."""

    def __init__(self, waiters: "Waiters", job: UUID, at_once: bool) -> None:
        self._waiters = waiters
        self._job = job
        self._at_once = at_once

    def __enter__(self) -> "Waiter":
        self.ended: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiters._enter(self._job, self.ended)
        if self._at_once:
            self._waiters._have_read([self._job.bytes])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waiters._leave(self._job, self.ended)

    async def result(self, seconds: float | None) -> Result | None:
        """The job's result; None if it has not ended after `seconds`. May be asked again."""
        await asyncio.wait([self.ended], timeout=seconds)
        return self.now

    @property
    def now(self) -> Result | None:
        """The job's result, if it is known to have ended."""
        return self.ended.result() if self.ended.done() else None

    def call(self, heard: Callable[[], None]) -> None:
        """Call this once the result is there."""
        self.ended.add_done_callback(lambda _: heard())


class Waiters:
    """Everybody in this process who waits for a job: one subscription, and one query a second for all of them."""

    def __init__(self, redis_url: str, prefix: str, database: Database) -> None:
        self._redis_url = redis_url
        self._channel = done_channel(prefix)
        self._database = database
        self._futures: dict[bytes, list[asyncio.Future[Result]]] = {}
        self._due: set[bytes] = set()
        self._read_now = asyncio.Event()
        self._look_now = asyncio.Event()
        self._somebody = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self.subscribed = False
        """Whether Redis answers: while it does not, results are found by looking alone."""

    async def start(self) -> None:
        """Begin to listen. Repeating it is harmless."""
        self._work = self._work or asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop listening; who still waits gets nothing any more."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    def register(self, job: UUID, *, look: bool = False) -> Waiter:
        """A waiter for a job whose row need not exist yet: so nothing falls between writing it and waiting. With `look`
        it may have ended long ago."""
        return Waiter(self, job, look)

    async def wait(self, job: UUID, seconds: float | None) -> Result | None:
        """The result of a job that may have ended long ago; None if it has not after `seconds`."""
        with self.register(job, look=True) as waiter:
            return await waiter.result(seconds)

    def _enter(self, job: UUID, future: asyncio.Future[Result]) -> None:
        self._futures.setdefault(job.bytes, []).append(future)
        self._somebody.set()

    def _leave(self, job: UUID, future: asyncio.Future[Result]) -> None:
        remaining = self._futures[job.bytes]
        remaining.remove(future)
        if not remaining:
            del self._futures[job.bytes]
        if not self._futures:
            self._somebody.clear()

    def _have_read(self, jobs: Iterable[bytes]) -> None:
        self._due.update(job for job in jobs if job in self._futures)
        if self._due:
            self._read_now.set()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for work in (self._listen(), self._look(), self._read()):
                group.create_task(work)

    async def _listen(self) -> None:
        async for heard in _messages(self._redis_url, self._channel):
            if isinstance(heard, bytes):
                self._hear(heard)
            else:
                self.subscribed = heard
                self._look_now.set()

    def _hear(self, message: bytes) -> None:
        brought: dict[UUID, Result] = {}
        for job, status_code, body in _unpacked(message):
            if status_code and job in self._futures:
                ended = UUID(bytes=job)
                brought[ended] = Result(ended, Status.COMPLETED, status_code, body, None, None)
            else:
                self._have_read([job])
        if brought:
            self._hand_out(brought)

    async def _look(self) -> None:
        """Once a second, and after each subscription, ask which of all that are waited for have ended."""
        while True:
            await self._somebody.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._look_now.wait()
            self._look_now.clear()
            if waited := [UUID(bytes=job) for job in self._futures]:
                try:
                    ended = await self._database.run("ended_among", ids=waited)
                except (SQLAlchemyError, OSError, TimeoutError) as error:
                    _log.warning("cannot look for results, the database does not answer", error=str(error))
                else:
                    self._have_read(row.id.bytes for row in ended)

    async def _read(self) -> None:
        """Read what is due in company: the read in flight is the window in which the next company gathers."""
        while True:
            await self._read_now.wait()
            company = [UUID(bytes=self._due.pop()) for _ in range(min(len(self._due), _COMPANY))]
            if not self._due:
                self._read_now.clear()
            try:
                self._hand_out(await read.results(self._database, company))
            except (SQLAlchemyError, OSError, TimeoutError) as error:  # the next look finds them again
                _log.warning("cannot read results, the database does not answer", error=str(error))

    def _hand_out(self, results: dict[UUID, Result]) -> None:
        metrics.READ_COMPANY.observe(len(results))
        for job, result in results.items():
            for future in self._futures.get(job.bytes, ()):
                if not future.done():
                    future.set_result(result)


async def aborts(redis_url: str, prefix: str) -> AsyncGenerator[list[UUID], None]:
    """The ids that a worker should stop running, as they are announced, for ever; what is lost, the renewal finds."""
    async for heard in _messages(redis_url, abort_channel(prefix)):
        if isinstance(heard, bytes):
            yield [UUID(bytes=job) for job in _split(heard)]


async def _messages(redis_url: str, channel: str) -> AsyncGenerator[bytes | bool, None]:
    """A channel's messages for ever, across reconnections: True after each subscription, False after each loss."""
    reachable = True
    pinged_at: float | None
    while True:
        # No socket timeout: with it redis-py uses `wait_for`, which in Python 3.11 can swallow a cancellation.
        redis = Redis.from_url(
            redis_url, socket_timeout=None, socket_connect_timeout=2, socket_keepalive=True, retry=Retry(NoBackoff(), 0)
        )
        try:
            async with redis.pubsub() as pubsub:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    await pubsub.subscribe(channel)
                reachable, pinged_at = True, None
                while True:
                    message = await pubsub.get_message(timeout=_SILENCE_SECONDS)
                    if message is not None:
                        pinged_at = None
                        if message["type"] == "subscribe":
                            metrics.BROKER_UP.set(1)
                            yield True
                        elif message["type"] == "message":
                            yield message["data"]
                    elif pinged_at is None:
                        pinged_at = time.monotonic()
                        await pubsub.ping()
                    elif time.monotonic() - pinged_at >= _SILENCE_SECONDS:
                        raise TimeoutError("Redis does not answer")
        except (RedisError, OSError, TimeoutError) as error:
            if reachable:
                _log.warning("the subscription is lost", channel=channel, error=str(error))
            reachable = False
            metrics.BROKER_UP.set(0)
            yield False
        finally:
            with contextlib.suppress(RedisError, OSError):
                await redis.aclose()
        await asyncio.sleep(_RETRY_SECONDS)


def _packed(ended: UUID | Result, carried: bool) -> bytes:
    if isinstance(ended, UUID):
        return _HEAD.pack(ended.bytes, 0, 0)
    body = ended.body
    if not carried or ended.status is not Status.COMPLETED or body is None or len(body) > _CARRIED_BYTES:
        return _HEAD.pack(ended.id.bytes, 0, 0)
    return _HEAD.pack(ended.id.bytes, ended.status_code, len(body)) + body


def _unpacked(message: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    start = 0
    while start + _HEAD.size <= len(message):
        job, status_code, size = _HEAD.unpack_from(message, start)
        start += _HEAD.size + size
        yield job, status_code, message[start - size : start]


def _split(message: bytes) -> Sequence[bytes]:
    return [message[start : start + _ID_BYTES] for start in range(0, len(message) - _ID_BYTES + 1, _ID_BYTES)]
