"""Token streams: any number of readers from any event on, and what becomes of them when a run or Redis is lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
import redis.asyncio

from jobs import cancel, ids, read, streams
from jobs.claim import claim
from jobs.database import Database
from jobs.finish import Finisher
from jobs.following import Interrupted, Lost, Readers, Tail, follow
from jobs.records import ClaimedJob, Flags, Outcome, StreamLog, Tier
from jobs.states import Status
from jobs.streams import Channel, Entry, Kind, Recorder, Writer
from jobs.wake import Waiters
from longhaul.embedded import EmbeddedRedis
from tests.jobs.conftest import Accept, MakeJob
from tests.until import until

PREFIX = "longhaul"


def said(number: int) -> bytes:
    """The event with this number."""
    return b'data: {"n":%d}\n\n' % number


class Desk:
    """Everything that runs and readers need, on one Redis."""

    def __init__(self, redis_url: str, database: Database) -> None:
        self.redis = redis.asyncio.Redis.from_url(redis_url)
        self.database = database
        self.writer = Writer(redis_url, PREFIX)
        self.readers = Readers(redis_url, PREFIX)
        self.waiters = Waiters(redis_url, PREFIX, database)

    async def open(self) -> None:
        await self.readers.start()
        await self.waiters.start()

    async def close(self) -> None:
        await self.writer.close()
        await self.readers.stop()
        await self.waiters.stop()
        await self.redis.aclose()

    async def read(self, job: UUID, run: int = 0, count: int = 0) -> list[Entry]:
        """The whole log behind an event."""
        with self.waiters.register(job, look=True) as waiter, self.readers.follow(job, run, count) as tail:
            return [entry async for entry in follow(tail, waiter, self.database) if entry]

    async def events(self, job: UUID, run: int = 0, count: int = 0) -> list[bytes]:
        """The single events of it."""
        return [event for entry in await self.read(job, run, count) for event in streams.events(entry.body)]

    async def published(self, job: UUID, count: int) -> None:
        """Return when so many of its events are in Redis."""

        async def there() -> bool:
            last = await self.readers.last(job)
            return last is not None and last.count >= count

        await until(there)

    async def finish(self, job: ClaimedJob, log: StreamLog | None = None) -> None:
        """End a job as its worker does."""
        finisher = Finisher(self.database, lambda ids: None)
        assert await finisher.finish(job, Outcome(Status.COMPLETED, 200, b"{}", log=log))


@pytest.fixture
async def desk(redis_url: str, database: Database) -> AsyncIterator[Desk]:
    made = Desk(redis_url, database)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def job(database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int) -> ClaimedJob:
    """A job that streams, and runs."""
    await accept(new_job(flags=Flags.STREAMS))
    [claimed] = await claim(database, worker, model_id, Tier.DEFAULT, 1)
    return claimed


def log_of(channel: Channel, events: int) -> StreamLog:
    recorder = Recorder()
    for number in range(events):
        recorder.add(said(channel.first + number))
    return StreamLog(channel.run, channel.first, recorder.body())


async def say(desk: Desk, job: ClaimedJob, events: int) -> Channel:
    """Run a job to the end of its stream."""
    with await desk.writer.open(job) as channel:
        for number in range(events):
            channel.append(said(channel.first + number), tokens=1)
        channel.end()
    return channel


async def test_a_reader_hears_every_event_once_and_in_order(desk: Desk, job: ClaimedJob) -> None:
    reading = asyncio.create_task(desk.events(job.id))
    with await desk.writer.open(job) as channel:
        for number in range(300):
            channel.append(said(number))
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        channel.end()
    assert await reading == [said(number) for number in range(300)]


async def test_an_event_is_heard_before_the_next_is_said(desk: Desk, job: ClaimedJob) -> None:
    heard: list[Entry] = []
    with (
        desk.waiters.register(job.id) as waiter,
        desk.readers.follow(job.id) as tail,
        await desk.writer.open(job) as channel,
    ):
        reader = follow(tail, waiter, desk.database)
        begun = await anext(reader)
        assert begun is not None and begun.kind is Kind.BEGIN
        for number in range(5):
            channel.append(said(number), tokens=2)
            entry = await anext(reader)
            assert entry is not None
            heard.append(entry)
        channel.end()
    assert [entry.body for entry in heard] == [said(number) for number in range(5)]
    assert [entry.tokens for entry in heard] == [2, 4, 6, 8, 10]


async def test_what_waits_travels_in_one_entry_and_stays_apart(desk: Desk, job: ClaimedJob) -> None:
    await say(desk, job, 500)
    assert len(await desk.read(job.id)) < 50
    assert len(await desk.events(job.id)) == 500


@pytest.mark.parametrize("behind", [0, 1, 57, 99, 100])
async def test_any_number_of_readers_go_on_behind_any_event(desk: Desk, job: ClaimedJob, behind: int) -> None:
    rest = [said(number) for number in range(behind, 100)]
    early = [asyncio.create_task(desk.events(job.id, job.lease_token if behind else 0, behind)) for _ in range(3)]
    channel = await say(desk, job, 100)
    assert [await reading for reading in early] == [rest] * 3
    assert await desk.events(job.id, job.lease_token if behind else 0, behind) == rest
    await desk.finish(job, log_of(channel, 100))
    await desk.redis.flushall()
    assert await desk.events(job.id, job.lease_token if behind else 0, behind) == rest


async def test_a_reader_that_does_not_keep_up_leaves_the_rest_in_redis(desk: Desk, job: ClaimedJob) -> None:
    large = b"data: %s\n\n" % (b"x" * 20_000)
    with desk.waiters.register(job.id) as waiter, desk.readers.follow(job.id) as stalled:
        with await desk.writer.open(job) as channel:
            for number in range(200):
                channel.append(large)
                await desk.published(job.id, number - 40)
            channel.end()
        quick = await desk.events(job.id)
        assert len(quick) == 200
        assert stalled._size < 20 * len(large)
        whole = [entry async for entry in follow(stalled, waiter, desk.database) if entry]
    assert sum(entry.body.count(large) for entry in whole) == 200


async def test_every_key_has_an_end(desk: Desk, job: ClaimedJob) -> None:
    with await desk.writer.open(job) as channel:
        channel.append(said(0))
        await desk.published(job.id, 1)
        name = streams.key(PREFIX, job.id)
        assert job.timeout_seconds < await desk.redis.ttl(name) < 3600
        channel.append(said(1))
        channel.end()
    await desk.published(job.id, 2)
    await until(lambda: _is_short(desk, name))


async def _is_short(desk: Desk, name: str) -> bool:
    return bool(0 < await desk.redis.ttl(name) <= 60)


async def test_a_run_that_is_given_up_ends_its_readers(desk: Desk, job: ClaimedJob) -> None:
    reading = asyncio.create_task(desk.events(job.id))
    with pytest.raises(ValueError, match="broken"), await desk.writer.open(job) as channel:
        channel.append(said(0))
        await asyncio.sleep(0.05)
        raise ValueError("broken")
    with pytest.raises(Lost):
        await reading


async def test_who_has_heard_nothing_hears_the_next_run(desk: Desk, job: ClaimedJob, database: Database) -> None:
    reading = asyncio.create_task(desk.events(job.id))
    with await desk.writer.open(job):
        await desk.published(job.id, 0)
    second = await _again(database, job)
    await say(desk, second, 3)
    assert await reading == [said(number) for number in range(3)]


async def test_another_run_counts_on_and_is_all_that_new_readers_hear(
    desk: Desk, job: ClaimedJob, database: Database
) -> None:
    with await desk.writer.open(job) as channel:
        for number in range(5):
            channel.append(said(number))
        await desk.published(job.id, 5)
    second = await _again(database, job)
    channel = await say(desk, second, 4)
    assert (channel.run, channel.first) == (2, 5)
    assert await desk.events(job.id) == [said(number) for number in range(5, 9)]
    assert await desk.events(job.id, 1, 3) == [said(number) for number in range(5, 9)]
    assert await desk.events(job.id, 2, 7) == [said(number) for number in range(7, 9)]
    await desk.finish(second, log_of(channel, 4))
    await desk.redis.flushall()
    assert await desk.events(job.id) == [said(number) for number in range(5, 9)]
    assert await desk.events(job.id, 1, 3) == [said(number) for number in range(5, 9)]


async def _again(database: Database, job: ClaimedJob) -> ClaimedJob:
    """The same job as another worker claims it after the loss of the first."""
    async with database.transaction() as connection:
        await connection.execute("UPDATE jobs SET lease_token = lease_token + 1")
    return ClaimedJob(**{name: getattr(job, name) for name in job.__slots__} | {"lease_token": job.lease_token + 1})


async def test_a_worker_that_was_given_up_says_nothing_more(desk: Desk, job: ClaimedJob, database: Database) -> None:
    with await desk.writer.open(job) as stale:
        stale.append(said(0))
        await desk.published(job.id, 1)
        desk.writer.lose([(job.id, job.lease_token)])
        await until(lambda: _was_given_up(desk, job))
        stale.append(said(1))
        second = await _again(database, job)
        await say(desk, second, 2)
        stale.append(said(2))
        stale.end()
    assert await desk.events(job.id) == [said(1), said(2)]
    assert [entry.run for entry in await desk.read(job.id)] == [2] * len(await desk.read(job.id))


async def _was_given_up(desk: Desk, job: ClaimedJob) -> bool:
    last = await desk.readers.last(job.id)
    return last is not None and last.kind is Kind.LOST


async def test_a_log_that_redis_lost_is_read_to_its_end_from_the_database(desk: Desk, job: ClaimedJob) -> None:
    with desk.waiters.register(job.id) as waiter, desk.readers.follow(job.id) as tail:
        reader = follow(tail, waiter, desk.database)
        heard: list[bytes] = []
        with await desk.writer.open(job) as channel:
            channel.append(said(0))
            while not heard:
                heard += await _some(reader)
            desk.readers._leave(tail)  # it looks away while Redis forgets
            channel.append(said(1))
            await desk.published(job.id, 2)
            await desk.redis.flushall()
            channel.append(said(2))
            await desk.published(job.id, 3)
            desk.readers._enter(tail)
            late = asyncio.create_task(desk.events(job.id))
            channel.append(said(3))
            channel.end()
        await desk.finish(job, log_of(channel, 4))
        async for entry in reader:
            heard += streams.events(entry.body if entry else b"")
    assert heard == await late == [said(number) for number in range(4)]


async def _some(reader: AsyncIterator[Entry | None]) -> list[bytes]:
    entry = await anext(reader)
    return list(streams.events(entry.body)) if entry else []


async def test_what_is_said_while_redis_is_away_is_said_when_it_is_back(
    tmp_path: Path, database: Database, job: ClaimedJob
) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    desk = Desk(server.url, database)
    await desk.open()
    with await desk.writer.open(job) as channel:
        channel.append(said(0))
        await desk.published(job.id, 1)
        await asyncio.to_thread(server.stop)
        for number in range(1, 10):
            channel.append(said(number))
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.start)
        channel.end()
        assert await desk.events(job.id) == [said(number) for number in range(10)]
    await desk.close()
    server.stop()


async def test_a_job_that_ends_without_a_stream_ends_its_readers(desk: Desk, job: ClaimedJob) -> None:
    reading = asyncio.create_task(desk.read(job.id))
    await asyncio.sleep(0)
    await cancel.cancel(desk.database, [job.id])
    assert await reading == []


async def test_a_reader_can_be_told_to_stop(desk: Desk) -> None:
    job = ids.new()

    async def read(tail: Tail) -> None:
        with desk.waiters.register(job) as waiter:
            async for _ in follow(tail, waiter, desk.database):
                pass

    with desk.readers.follow(job) as tail:
        reading = asyncio.create_task(read(tail))
        await asyncio.sleep(0)
        tail.interrupt()
        with pytest.raises(Interrupted):
            await reading


async def test_a_log_is_packed_and_unpacked_in_pieces_of_whole_events() -> None:
    recorder = Recorder()
    events = [b"data: %s\n\n" % (b"%d" % number * 50) for number in range(5000)]
    for event in events:
        recorder.add(event)
    pieces = list(streams.unpack(recorder.body()))
    assert len(pieces) > 3
    assert [event for piece in pieces for event in streams.events(piece)] == events
    assert len(recorder.body()) < sum(map(len, events)) / 5


async def test_the_log_goes_where_the_job_goes(desk: Desk, job: ClaimedJob, database: Database) -> None:
    channel = await say(desk, job, 3)
    await desk.finish(job, log_of(channel, 3))
    assert await streams.stored(database, job.id) == log_of(channel, 3)
    await read.delete(database, 1, job.id)
    assert await streams.stored(database, job.id) is None


async def test_who_lost_the_job_stores_no_log(desk: Desk, job: ClaimedJob, database: Database) -> None:
    await cancel.cancel(database, [job.id])
    log = StreamLog(job.lease_token, 0, b"")
    assert not await Finisher(database, lambda ids: None).finish(job, Outcome(Status.COMPLETED, 200, b"{}", log=log))
    assert await streams.stored(database, job.id) is None
