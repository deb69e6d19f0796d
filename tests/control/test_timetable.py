"""When chores are done, by whom, and what a failing one does to the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from control.timetable import Chore, Timetable
from jobs.database import Database
from tests.jobs.conftest import Outage
from tests.until import until


class Work:
    """A chore that counts its rounds, and goes on with one for as long as it is `held`."""

    def __init__(self) -> None:
        self.rounds = 0
        self.at_work = asyncio.Event()
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def run(self) -> int:
        self.at_work.set()
        await self.let_go.wait()
        self.rounds += 1
        return 1


@asynccontextmanager
async def kept(timetable: Timetable) -> AsyncIterator[None]:
    keeping = asyncio.create_task(timetable.keep())
    try:
        yield
    finally:
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping


async def test_a_chore_is_done_at_once_and_in_its_period(database: Database) -> None:
    often, seldom = Work(), Work()
    async with kept(Timetable(database, [Chore("often", 0.01, often.run), Chore("seldom", 3600, seldom.run)])):
        await until(lambda: often.rounds >= 3)
    assert seldom.rounds == 1


async def test_what_tickets_tell_of_is_done_before_its_time_and_nothing_else(database: Database) -> None:
    called, other = Work(), Work()
    chores = [Chore("called", 3600, called.run, called=True), Chore("other", 3600, other.run)]
    timetable = Timetable(database, chores)
    async with kept(timetable):
        await until(lambda: called.rounds == other.rounds == 1)
        for rounds in (2, 3, 4):
            timetable.wake()
            await until(lambda rounds=rounds: called.rounds == rounds)
    assert other.rounds == 1


async def test_two_processes_never_do_the_same_chore_at_once(database: Database, database_url: str) -> None:
    other = Database(database_url)
    work, theirs = Work(), Work()
    work.let_go.clear()
    first = asyncio.create_task(Timetable(database, []).do(Chore("same", 1, work.run)))
    await work.at_work.wait()
    assert await Timetable(other, []).do(Chore("same", 1, theirs.run)) is None
    assert await Timetable(other, []).do(Chore("another", 1, theirs.run)) == 1
    work.let_go.set()
    assert await first == 1
    assert await Timetable(other, []).do(Chore("same", 1, theirs.run)) == 1
    await other.close()


async def test_a_chore_that_fails_is_tried_again_and_holds_up_no_other(database: Database) -> None:
    tries, fine = 0, Work()

    async def fail() -> int:
        nonlocal tries
        tries += 1
        raise ValueError("odd")

    async with kept(Timetable(database, [Chore("failing", 0.01, fail), Chore("fine", 0.01, fine.run)])):
        await until(lambda: tries >= 3 and fine.rounds >= 3)


async def test_a_chore_that_was_cut_short_leaves_no_lock(database: Database, database_url: str) -> None:
    work = Work()
    work.let_go.clear()
    cut = asyncio.create_task(Timetable(database, []).do(Chore("cut", 1, work.run)))
    await work.at_work.wait()
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut
    work.let_go.set()
    other = Database(database_url)

    async def free() -> bool:
        return await Timetable(other, []).do(Chore("cut", 1, work.run)) == 1

    await until(free)
    await other.close()


async def test_chores_go_on_after_an_outage_of_the_database(database: Database, outage: Outage) -> None:
    work = Work()
    async with kept(Timetable(database, [Chore("steady", 0.01, work.run)])):
        await until(lambda: work.rounds >= 1)
        async with outage():
            pass
        rounds = work.rounds
        await until(lambda: work.rounds > rounds)
