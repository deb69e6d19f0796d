"""Reading token streams: any number of readers in a process, one connection that waits for all that they read."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, Self
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from jobs import read, streams
from jobs.database import Database
from jobs.records import Result, StreamLog
from jobs.streams import Entry, Kind, Recorder, key, last_entries, read_entry
from jobs.wake import Waiter

_BLOCK_MS: Final = 1000
_SILENCE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.5
_TOGETHER: Final = 16
"""Entries of one log that are read at once."""
_KEPT_BYTES: Final = 2**16
"""So much is kept for a reader that does not keep up; the rest waits in Redis."""
_READS_A_SECOND: Final = 10_000
"""Logs that are asked for: between two reads of many, more comes together."""
_LONGEST_PAUSE: Final = 0.03
_KNOCK_SECONDS: Final = 0.002
_PATIENCE_SECONDS: Final = 0.3
"""An end that is known from the database may still be on its way through Redis for so long."""
_log = structlog.get_logger()


class Lost(Exception):
    """The run was given up after its reader had seen its beginning; another run would say something else."""


class Interrupted(Exception):
    """The reader was told to stop."""


class Tail:
    """One reader's place in one log. `with` it."""

    def __init__(self, readers: "Readers", job: UUID, run: int, count: int) -> None:
        self.job = job
        self.run = run
        self.count = count
        self._readers = readers
        self._name = key(readers.prefix, job).encode()
        self._place = (run, 2 * count)
        self._entries: deque[Entry] = deque()
        self._size = 0
        self._wake: asyncio.Future[bool] | None = None
        self._interrupted = False

    def __enter__(self) -> Self:
        self._readers._enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._readers._leave(self)

    @property
    def interrupted(self) -> bool:
        return self._interrupted

    def interrupt(self, *_: object) -> None:
        """Have the reader stop."""
        self._interrupted = True
        self.ring()

    def ring(self) -> None:
        """Have the reader look around."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(True)

    async def rung(self, seconds: float | None = None) -> bool:
        """Return when there may be something new; False: not within so long."""
        loop = asyncio.get_running_loop()
        self._wake = wake = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _give_up, wake)
        try:
            return bool(await wake)
        finally:
            if timer is not None:
                timer.cancel()

    def take(self) -> Entry | None:
        """What was read next."""
        if not self._entries:
            return None
        entry = self._entries.popleft()
        was_full = self._full
        self._size -= len(entry.body)
        if was_full and not self._full:
            self._readers._changed.set()
        return entry

    @property
    def _full(self) -> bool:
        return self._size >= _KEPT_BYTES

    def _offer(self, place: tuple[int, int], entry: Entry) -> None:
        if place <= self._place:
            return
        self._place = place
        self._entries.append(entry)
        self._size += len(entry.body)
        self.ring()


class Readers:
    """Everybody in this process who reads a stream."""

    def __init__(self, redis_url: str, prefix: str) -> None:
        self.prefix = prefix
        self._redis_url = redis_url
        self._tails: dict[bytes, list[Tail]] = {}
        self._changed = asyncio.Event()
        self._blocked = False
        self._work: asyncio.Task[None] | None = None
        self._asking = self._client(socket_timeout=2)
        self.connected = False
        """Whether Redis answers."""

    async def start(self) -> None:
        """Begin to read. Repeating it is harmless."""
        self._work = self._work or asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop reading."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        await self._asking.aclose()

    def follow(self, job: UUID, run: int = 0, count: int = 0) -> Tail:
        """A reader of a job's log, which need not exist yet, behind event `count` - 1 of a run; 0: from its start."""
        return Tail(self, job, run, count)

    async def last(self, job: UUID) -> Entry | None:
        """The newest entry of a job's log; None if Redis has none, or is away."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            return (await last_entries(self._asking, [key(self.prefix, job)]))[0]
        return None

    async def so_far(self, job: UUID) -> StreamLog | None:
        """What a job's last run has said until now; None if it has not, or Redis is away."""
        if not self.connected:
            return None
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            rows: Any = await self._asking.xrange(key(self.prefix, job))
            entries = [read_entry(number, next(iter(fields.items()))) for number, fields in rows]
            said = Recorder()
            for entry in entries:
                said.add(entry.body)
            if entries and entries[-1].count > entries[0].first:
                return StreamLog(entries[-1].run, entries[0].first, said.body())
        return None

    def _client(self, socket_timeout: float | None) -> "Redis":
        return Redis.from_url(
            self._redis_url,
            socket_timeout=socket_timeout,
            socket_connect_timeout=2,
            socket_keepalive=True,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )

    def _enter(self, tail: Tail) -> None:
        self._tails.setdefault(tail._name, []).append(tail)
        self._changed.set()

    def _leave(self, tail: Tail) -> None:
        others = self._tails[tail._name]
        others.remove(tail)
        if not others:
            del self._tails[tail._name]

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._knock())

    async def _read(self) -> None:
        while True:
            # No socket timeout: with it redis-py uses `wait_for`, which in Python 3.11 can swallow a cancellation.
            redis = self._client(socket_timeout=None)
            try:
                await self._read_on(redis)
            except (RedisError, OSError, TimeoutError) as error:
                if self.connected:
                    _log.warning("streams cannot be read, Redis does not answer", error=str(error))
                self.connected = self._blocked = False
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await redis.aclose()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _read_on(self, redis: "Redis") -> None:
        async with redis.client() as connection:
            connection.set_response_callback("XREAD", _as_it_came)  # type: ignore[arg-type]
            async with asyncio.timeout(_SILENCE_SECONDS):
                self._number = await connection.client_id()
            self.connected = True
            while True:
                self._changed.clear()
                places = self._places()
                if not places:
                    await self._changed.wait()
                    continue
                self._blocked = True
                async with asyncio.timeout(_BLOCK_MS / 1000 + _SILENCE_SECONDS):
                    answer = await connection.execute_command(  # type: ignore[no-untyped-call]
                        *("XREAD", "COUNT", _TOGETHER, "BLOCK", _BLOCK_MS, "STREAMS", *places, *places.values())
                    )
                self._blocked = False
                self._hand_out(answer or ())
                if len(places) > 1:
                    await asyncio.sleep(min(len(places) / _READS_A_SECOND, _LONGEST_PAUSE))

    def _places(self) -> dict[bytes, str]:
        """Behind what to read on in each log: where the hindmost of its readers is, of those that have room."""
        places = {}
        for name, tails in self._tails.items():
            if wanting := [tail._place for tail in tails if not tail._full]:
                run, place = min(wanting)
                places[name] = f"{run}-{place}"
        return places

    def _hand_out(self, answer: Iterable[Any]) -> None:
        for name, rows in answer:
            tails = self._tails.get(name, ())
            for number, fields in rows:
                run, _, place = number.partition(b"-")
                entry = read_entry(number, fields)
                for tail in tails:
                    if not tail._full:
                        tail._offer((int(run), int(place)), entry)

    async def _knock(self) -> None:
        """A read that waits knows nothing of who came after it began: it is ended, and begun anew for all."""
        while True:
            await self._changed.wait()
            if self._blocked:
                with contextlib.suppress(RedisError, OSError, TimeoutError):
                    await self._asking.client_unblock(self._number)
            # It may have been too early by a moment: the read was sent, but had not arrived.
            await asyncio.sleep(_KNOCK_SECONDS)


async def follow(
    tail: Tail, waiter: Waiter, database: Database, quiet_seconds: float | None = None
) -> AsyncIterator[Entry | None]:
    """A log's entries behind the tail's place, in order and without a gap; the last is an `END`.

    It comes from Redis while Redis has it, else from the database once the job has ended. Without an `END` the job has
    ended without a log: the waiter knows how. After so many quiet seconds it yields None.

    Raises:
        Lost: the run was given up after something was handed out.
        Interrupted: the tail was.
    """
    waiter.call(tail.ring)
    run, count, begun = tail.run, tail.count, False
    ended_at: float | None = None
    loop = asyncio.get_running_loop()
    while True:
        if tail.interrupted:
            raise Interrupted
        entry = tail.take()
        if entry is None:
            result = waiter.now
            if result is None:
                if not await tail.rung(quiet_seconds):
                    yield None
                continue
            ended_at = ended_at or loop.time()
            left = ended_at + _PATIENCE_SECONDS - loop.time()
            if run and left > 0 and _has_log(result) and tail._readers.connected:
                await tail.rung(left)
                continue
            break
        if entry.kind is Kind.LOST or entry.run != run:
            if begun:
                if await read.results(database, [tail.job]):
                    break  # it was given up because it had ended
                raise Lost
            if entry.kind is Kind.LOST:
                run = 0
                continue
            run = entry.run
            if entry.kind is Kind.BEGIN:
                count = entry.count
        if entry.kind is Kind.BEGIN:
            yield entry
            continue
        if entry.first > count:
            break  # Redis was away, or forgot
        if entry.count <= count and entry.kind is not Kind.END:
            continue
        yield entry.since(count) if entry.first < count else entry
        begun, count = True, entry.count
        if entry.kind is Kind.END:
            return
    while waiter.now is None:
        if tail.interrupted:
            raise Interrupted
        if not await tail.rung(quiet_seconds):
            yield None
    log = await streams.stored(database, tail.job)
    if log is None:
        return
    if log.run != run:
        if begun:
            raise Lost
        count = log.first
    async for stored in _stored(log.run, log.first, log.body, count):
        yield stored


async def _stored(run: int, first: int, body: bytes, count: int) -> AsyncIterator[Entry]:
    yield Entry(Kind.BEGIN, run, first, 0, b"")
    reached = first
    for piece in streams.unpack(body):
        entry = Entry(Kind.MORE, run, reached + piece.count(streams.END_OF_EVENT), 0, piece)
        reached = entry.count
        if reached > count:
            yield entry.since(count) if entry.first < count else entry
    yield Entry(Kind.END, run, reached, 0, b"")


def _give_up(wake: asyncio.Future[bool]) -> None:
    if not wake.done():
        wake.set_result(False)


def _as_it_came(answer: Any, **_: Any) -> Any:
    return answer


def _has_log(result: Result) -> bool:
    return result.status_code is not None
