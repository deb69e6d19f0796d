"""Waking: whoever waits gets the result at once, or within a second if the message is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis.asyncio

from jobs import cancel, catalog, ids, wake
from jobs.accept import Acceptor
from jobs.database import Database
from jobs.records import NewJob, Registration, Result, Tier
from jobs.states import Status
from jobs.wake import Announcer, Waiters
from longhaul.embedded import EmbeddedRedis
from tests.until import until

PREFIX = "longhaul"


@pytest.fixture
async def model_id(database: Database) -> int:
    engine = Registration("m", (), (), {}, None, slots=4)
    return (await catalog.register(database, uuid4(), engine, host="here", pid=1, home=None)).id


async def queued(database: Database, model_id: int, *jobs: UUID) -> None:
    new = [
        NewJob(job, 1, model_id, "m", "/v1/completions", b"{}", Tier.DEFAULT, waited=True, cost=1, timeout_seconds=60)
        for job in jobs
    ]
    await Acceptor(database, lambda *_: None).accept_all(new)


@asynccontextmanager
async def waiting(redis_url: str, database: Database) -> AsyncIterator[Waiters]:
    waiters = Waiters(redis_url, PREFIX, database)
    await waiters.start()
    try:
        yield waiters
    finally:
        await waiters.stop()


@asynccontextmanager
async def announcing(redis_url: str) -> AsyncIterator[Announcer]:
    announcer = Announcer(redis_url, PREFIX)
    try:
        yield announcer
    finally:
        await announcer.close()


async def test_an_announced_job_wakes_its_waiter(redis_url: str, database: Database, model_id: int) -> None:
    async with waiting(redis_url, database) as waiters, announcing(redis_url) as announcer:
        await until(lambda: waiters.subscribed)
        job = ids.new()
        with waiters.register(job) as waiter:  # before the row exists: nothing falls between
            await queued(database, model_id, job)
            await cancel.cancel(database, [job])
            announcer.announce([job])
            result = await waiter.result(20)
        assert result is not None and result.status is Status.CANCELLED


async def test_a_small_response_travels_with_its_announcement(redis_url: str, database: Database) -> None:
    """So nobody need read it: this one is in no table."""
    async with waiting(redis_url, database) as waiters, announcing(redis_url) as announcer:
        await until(lambda: waiters.subscribed)
        done = Result(ids.new(), Status.COMPLETED, 200, b'{"ok": true}', None, None)
        with waiters.register(done.id) as waiter:
            announcer.announce([uuid4(), done, uuid4()])
            assert await waiter.result(20) == done


@pytest.mark.parametrize(
    "ended",
    [
        Result(uuid4(), Status.COMPLETED, 200, b" " * 20_000, None, None),
        Result(uuid4(), Status.FAILED, 400, b"{}", None, None),
        Result(uuid4(), Status.FAILED, None, None, "request_timeout", "It took too long."),
    ],
    ids=["large", "refused", "no-response"],
)
async def test_what_else_ended_is_read(redis_url: str, database: Database, ended: Result) -> None:
    async with waiting(redis_url, database) as waiters, announcing(redis_url) as announcer:
        await until(lambda: waiters.subscribed)
        with waiters.register(ended.id) as waiter:
            announcer.announce([ended])
            assert await waiter.result(0.2) is None  # it is in no table


async def test_a_lost_announcement_costs_a_second(redis_url: str, database: Database, model_id: int) -> None:
    async with waiting(redis_url, database) as waiters:
        job = ids.new()
        with waiters.register(job) as waiter:
            await queued(database, model_id, job)
            await cancel.cancel(database, [job])
            assert await waiter.result(20) is not None


async def test_a_job_that_ended_before_is_found_at_once(redis_url: str, database: Database, model_id: int) -> None:
    job = ids.new()
    await queued(database, model_id, job)
    await cancel.cancel(database, [job])
    async with waiting(redis_url, database) as waiters:
        result = await waiters.wait(job, 20)
        assert result is not None and result.id == job


async def test_a_job_that_does_not_end_in_time_has_no_result(redis_url: str, database: Database, model_id: int) -> None:
    job = ids.new()
    await queued(database, model_id, job)
    async with waiting(redis_url, database) as waiters:
        assert await waiters.wait(job, 0.05) is None
        with waiters.register(job) as waiter:
            assert await waiter.result(0) is None
            assert await waiter.result(0.01) is None
            await cancel.cancel(database, [job])
            assert await waiter.result(20) is not None


async def test_many_may_wait_for_one_job(redis_url: str, database: Database, model_id: int) -> None:
    job = ids.new()
    await queued(database, model_id, job)
    async with waiting(redis_url, database) as waiters:
        calls = [asyncio.create_task(waiters.wait(job, 20)) for _ in range(3)]
        impatient = asyncio.create_task(waiters.wait(job, 20))
        await asyncio.sleep(0)
        impatient.cancel()
        await cancel.cancel(database, [job])
        assert all(await asyncio.gather(*calls))


async def test_an_announcement_of_a_job_that_goes_on_wakes_nobody(
    redis_url: str, database: Database, model_id: int
) -> None:
    job = ids.new()
    await queued(database, model_id, job)
    async with waiting(redis_url, database) as waiters, announcing(redis_url) as announcer:
        await until(lambda: waiters.subscribed)
        with waiters.register(job) as waiter:
            announcer.announce([job, uuid4()])
            assert await waiter.result(0.2) is None
            await cancel.cancel(database, [job])
            announcer.announce([job])
            assert await waiter.result(20) is not None


async def test_ten_thousand_wait_and_all_are_woken(redis_url: str, database: Database, model_id: int) -> None:
    jobs = [ids.new() for _ in range(10_000)]
    async with waiting(redis_url, database) as waiters, announcing(redis_url) as announcer:
        await until(lambda: waiters.subscribed)
        calls = [asyncio.create_task(waiters.wait(job, 60)) for job in jobs]
        await queued(database, model_id, *jobs)
        while ended := await _end_some(database, jobs):
            announcer.announce(ended)
        assert all(await asyncio.gather(*calls))


async def _end_some(database: Database, jobs: list[UUID]) -> list[UUID]:
    company = [jobs.pop() for _ in range(min(1000, len(jobs)))]
    return await cancel.cancel(database, company)


async def test_after_redis_was_away_the_waiters_subscribe_again(
    tmp_path: Path, database: Database, model_id: int
) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    first, second = ids.new(), ids.new()
    await queued(database, model_id, first, second)
    async with waiting(server.url, database) as waiters, announcing(server.url) as announcer:
        await until(lambda: waiters.subscribed)
        await asyncio.to_thread(server.stop)
        await until(lambda: not waiters.subscribed)
        await cancel.cancel(database, [first])
        announcer.announce([first])  # into the void
        assert await waiters.wait(first, 20) is not None
        await asyncio.to_thread(server.start)
        await until(lambda: waiters.subscribed)
        await cancel.cancel(database, [second])
        announcer.announce([second])
        assert await waiters.wait(second, 20) is not None
    server.stop()


async def test_ids_to_abort_reach_every_worker(redis_url: str) -> None:
    job = uuid4()
    async with announcing(redis_url) as announcer, redis.asyncio.Redis.from_url(redis_url) as client:
        heard = [wake.aborts(redis_url, PREFIX) for _ in range(2)]
        async with aclosing(heard[0]), aclosing(heard[1]):
            first = [asyncio.ensure_future(anext(each)) for each in heard]
            await until(lambda: _heard_by(client, 2))
            announcer.abort([job])
            assert await asyncio.gather(*first) == [[job], [job]]


async def _heard_by(client: "redis.asyncio.Redis", workers: int) -> bool:
    [(_, subscriptions)] = await client.pubsub_numsub(wake.abort_channel(PREFIX))
    return bool(subscriptions == workers)


async def test_announcing_into_the_void_neither_blocks_nor_raises() -> None:
    async with announcing("redis://127.0.0.1:1/0") as announcer:
        announcer.announce([])
        announcer.announce([uuid4()])
        announcer.abort([uuid4() for _ in range(10_000)])
