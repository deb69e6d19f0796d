"""Token streams: what a running job says, event by event, in Redis while it runs and in the database once it ended.

A job's log is a row of server-sent events (WHATWG HTML, 9.2), counted from 0. Each of its runs goes on counting where
the run before ended, and is told by its number: the lease token, which only grows. In Redis a log is one stream, whose
ids are made here, so that Redis itself refuses what comes twice or from a run that was given up.
"""

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from jobs.database import Database
from jobs.records import ClaimedJob, StreamLog

END_OF_EVENT: Final = b"\n\n"
_ENTRIES_A_SECOND: Final = 2000
"""Under load what the engine says meanwhile travels in one entry, which costs as much as one token alone."""
_AFTERWARDS_SECONDS: Final = 60
"""How long an ended log stays in Redis for who still reads there: it is in the database by then."""
_MARGIN_SECONDS: Final = 600
_BACKLOG_BYTES: Final = 2**20
"""So much of one log waits for a Redis that is away; what is beyond, readers find in the database."""
_RETRY_SECONDS: Final = 0.5
_MOST: Final = 2**64 - 1
_log = structlog.get_logger()

_Command: TypeAlias = tuple[str | bytes | int, ...]


def key(prefix: str, job: UUID) -> str:
    """Where Redis has a job's log."""
    return f"{{{prefix}}}:stream:{job.hex}"


class Kind(StrEnum):
    """What an entry says: a run begins, it goes on, it has ended, it was given up before its end."""

    BEGIN = "b"
    MORE = "m"
    END = "e"
    LOST = "l"


@dataclass(frozen=True, slots=True)
class Entry:
    """One or more events of a log. `count` are its events up to the last of these, `tokens` those of this run so far,
    about: an engine under load says several in one event."""

    kind: Kind
    run: int
    count: int
    tokens: int
    body: bytes

    @property
    def first(self) -> int:
        """The number of its first event."""
        return self.count - self.body.count(END_OF_EVENT)

    def since(self, count: int) -> "Entry":
        """The same without the events before number `count`."""
        body = self.body
        for _ in range(count - self.first):
            body = body[body.index(END_OF_EVENT) + len(END_OF_EVENT) :]
        return Entry(self.kind, self.run, self.count, self.tokens, body)


def entry_id(kind: Kind, run: int, count: int) -> str:
    """The id of an entry in Redis. Twice the count leaves room for an end without an event of its own."""
    return f"{run}-{_MOST if kind is Kind.LOST else 2 * count + (kind is Kind.END)}"


def read_entry(name: bytes, fields: Sequence[bytes]) -> Entry:
    """An entry as Redis returns it."""
    run, _, place = name.partition(b"-")
    label, body = fields[0].decode(), fields[1]
    kind, tokens = Kind(label[0]), int(label[1:])
    if kind is Kind.LOST:  # its place is the last that there is
        return Entry(kind, int(run), int(body), tokens, b"")
    return Entry(kind, int(run), int(place) // 2, tokens, body)


def events(body: bytes) -> Iterator[bytes]:
    """The single events of a piece of a log, each with the empty line that ends it."""
    start = 0
    while (end := body.find(END_OF_EVENT, start)) >= 0:
        yield body[start : (start := end + len(END_OF_EVENT))]


class Recorder:
    """Gathers a run's events for the database, packed: they repeat themselves, so little is left of them."""

    _BLOCK: Final = 2**16

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._loose: list[bytes] = []
        self._size = 0

    def add(self, event: bytes) -> None:
        self._loose.append(event)
        self._size += len(event)
        if self._size >= self._BLOCK:
            self._pack()

    def body(self) -> bytes:
        """All events so far."""
        self._pack()
        return b"".join(self._packed)

    def _pack(self) -> None:
        if self._loose:
            self._packed.append(zlib.compress(b"".join(self._loose), 1))
            self._loose.clear()
            self._size = 0


def unpack(body: bytes) -> Iterator[bytes]:
    """What was recorded, some tens of kilobytes at a time, each a number of whole events."""
    while body:
        unpacker = zlib.decompressobj()
        yield unpacker.decompress(body)
        body = unpacker.unused_data


async def stored(database: Database, job: UUID) -> StreamLog | None:
    """The log of an ended job, as long as the job is kept; None if it has none."""
    rows = await database.run("stream_get", id=job)
    return StreamLog(rows[0].run, rows[0].first, bytes(rows[0].body)) if rows else None


async def keep(database: Database, job: UUID, log: StreamLog) -> None:
    """Store what a stream had said when its job was cancelled; a log that ended is stored with the result."""
    await database.run("stream_keep", id=job, run=log.run, first=log.first, body=log.body)


class Channel:
    """One run's way into the log: what is appended is published soon, its first event and its end at once.

    `with` it; left without `end`, in whatever way, the run counts as given up. Nothing here blocks or raises.
    """

    def __init__(self, writer: "Writer", name: str, run: int, first: int, seconds: float) -> None:
        self.run = run
        self.first = first
        self.count = first
        self.tokens = 0
        self._writer = writer
        self._name = name
        self._seconds = seconds
        self._waiting: list[bytes] = []
        self._size = 0
        self._begun = False
        self._closing: Kind | None = None

    def __enter__(self) -> "Channel":
        self._writer._hasten(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._closing is None:
            self._forget()
            self._closing = Kind.LOST
            self._writer._hasten(self)

    def append(self, event: bytes, tokens: int = 0) -> None:
        """Say one event, in which the engine made so many tokens."""
        self._waiting.append(event)
        self._size += len(event)
        self.tokens += tokens
        self.count += 1
        if self._size > _BACKLOG_BYTES:  # Redis is away; readers will see that something is missing
            self._forget()
        if self.count - 1 == self.first:
            self._writer._hasten(self)
        else:
            self._writer._wait_for_company(self)

    def end(self) -> None:
        """All has been said."""
        self._closing = Kind.END
        self._writer._hasten(self)

    def _forget(self) -> None:
        self._waiting = []
        self._size = 0

    def _say(self) -> tuple[list[_Command], Callable[[list[Any]], bool]]:
        """What Redis is to be told now, and what makes of its answers whether that was all.

        Redis refuses an entry that it has already, so all this may be said twice.
        """
        name, taken = self._name, self._waiting
        waiting = len(taken)
        if self._closing is Kind.LOST:
            return _giving_up(name, self.run, self.count, self.tokens), lambda answers: True
        said: list[_Command] = []
        if not self._begun:
            said_before = self.count - waiting
            # Where Redis lost the log it does not begin anew: who has not read so far sees that something is missing.
            kind = Kind.BEGIN if said_before == self.first else Kind.MORE
            begin = entry_id(kind, self.run, said_before)
            said += [("XADD", name, begin, f"{kind}{self.tokens}", b""), ("EXPIRE", name, int(self._seconds))]
            if self.run > 1:
                said.append(("XTRIM", name, "MINID", begin))
        place = len(said)
        if waiting or self._closing:
            kind = self._closing or Kind.MORE
            label, body = f"{kind}{self.tokens}", b"".join(taken)
            said.append(("XADD", name, "NOMKSTREAM", entry_id(kind, self.run, self.count), label, body))
        if self._closing:
            said.append(("EXPIRE", name, _AFTERWARDS_SECONDS))

        def heard(answers: list[Any]) -> bool:
            if place < len(answers) and answers[place] is None:  # Redis lost the log meanwhile: it begins again
                self._begun = False
                return False
            self._begun = True
            if self._waiting is taken:
                del taken[:waiting]
                self._size = sum(map(len, taken))
            return True

        return said, heard


class Writer:
    """Publishes what many runs say: one flight at a time, a pipeline for all of them."""

    def __init__(self, redis_url: str, prefix: str) -> None:
        self._redis = Redis.from_url(
            redis_url, socket_timeout=5, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1), protocol=2
        )
        self._prefix = prefix
        self._urgent: dict[Channel, None] = {}
        self._patient: dict[Channel, None] = {}
        self._lost: list[tuple[UUID, int]] = []
        self._next_flight = 0.0
        self._flight: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._stopping = False
        self._reachable = True

    async def open(self, job: ClaimedJob) -> Channel:
        """A claimed job's channel. A run that is not the first counts on, if Redis still knows from where."""
        name, first = key(self._prefix, job.id), 0
        if job.lease_token > 1:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                [last] = await self._last([name])
                first = last.count if last else 0
        return Channel(self, name, job.lease_token, first, job.timeout_seconds + _MARGIN_SECONDS)

    def lose(self, runs: Iterable[tuple[UUID, int]]) -> None:
        """These runs (job, lease token) were given up by others than their workers. Never blocks, never raises."""
        self._lost.extend(runs)
        if self._lost:
            self._hurry.set()
            self._depart()

    async def close(self) -> None:
        """Return when what was said has been published, or could not be."""
        self._stopping = True
        self._hurry.set()
        if self._flight is not None:
            await asyncio.wait([self._flight])
        await self._redis.aclose()

    def _hasten(self, channel: Channel) -> None:
        self._urgent[channel] = None
        self._patient.pop(channel, None)
        self._hurry.set()
        self._depart()

    def _wait_for_company(self, channel: Channel) -> None:
        self._patient[channel] = None
        self._depart()

    def _depart(self) -> None:
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._fly())

    async def _fly(self) -> None:
        """Publish until nothing is left. Who is patient travels when the flight before has been paid for in time."""
        loop = asyncio.get_running_loop()
        while self._urgent or self._patient or self._lost:
            regular = loop.time() >= self._next_flight or self._stopping
            if not regular and not self._hurry.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(self._next_flight):
                        await self._hurry.wait()
                continue
            self._hurry.clear()
            company, self._urgent = self._urgent, {}
            if regular:
                company, self._patient = company | self._patient, {}
            lost, self._lost = self._lost, []
            if not await self._publish(company, lost):
                if self._stopping:
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            if regular:
                self._next_flight = loop.time() + len(company) / _ENTRIES_A_SECOND

    async def _publish(self, company: Iterable[Channel], lost: list[tuple[UUID, int]]) -> bool:
        """Whether Redis took it; what it did not take waits for the next flight."""
        try:
            await self._send(company)
            await self._give_up(lost)
        except (RedisError, OSError, TimeoutError) as error:
            if self._reachable:
                _log.warning("streams wait, Redis does not take them", error=str(error))
            self._reachable = False
            self._patient = dict.fromkeys(company) | self._patient
            self._lost = lost + self._lost
            return False
        self._reachable = True
        return True

    async def _send(self, company: Iterable[Channel]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        hearing: list[tuple[Channel, int, Callable[[list[Any]], bool]]] = []
        for channel in company:
            said, heard = channel._say()
            hearing.append((channel, len(said), heard))
            for command in said:
                pipeline.execute_command(*command)
        if not len(pipeline):
            return
        answers = await pipeline.execute(raise_on_error=False)
        _insist(answers)
        start = 0
        for channel, count, heard in hearing:
            if not heard(answers[start : start + count]):
                self._urgent[channel] = None
            start += count

    async def _give_up(self, runs: list[tuple[UUID, int]]) -> None:
        names = [key(self._prefix, job) for job, _ in runs]
        pipeline = self._redis.pipeline(transaction=False)
        for name, (_, run), last in zip(names, runs, await self._last(names), strict=True):
            if last is not None:
                for command in _giving_up(name, run, last.count, last.tokens):
                    pipeline.execute_command(*command)
        if len(pipeline):
            _insist(await pipeline.execute(raise_on_error=False))

    async def _last(self, names: Sequence[str]) -> list[Entry | None]:
        return await last_entries(self._redis, names)


async def last_entries(redis: "Redis", names: Sequence[str]) -> list[Entry | None]:
    """The newest entry of each of these logs; None for one that Redis does not have."""
    if not names:
        return []
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        pipeline.xrevrange(name, count=1)
    found = await pipeline.execute()
    return [read_entry(rows[0][0], next(iter(rows[0][1].items()))) if rows else None for rows in found]


def _giving_up(name: str, run: int, count: int, tokens: int) -> list[_Command]:
    """Nothing of this run comes after it, and what came before is no use to a new reader."""
    gone = entry_id(Kind.LOST, run, count)
    return [("XADD", name, "NOMKSTREAM", gone, f"l{tokens}", str(count)), ("XTRIM", name, "MINID", gone)]


def _insist(answers: Iterable[object]) -> None:
    """Raise the refusals, but for that of an entry that is there already, or of a run that was given up."""
    for answer in answers:
        if isinstance(answer, ResponseError) and "equal or smaller" not in str(answer):
            raise answer
