"""Group commit: alone at once, in company behind a flush, and nobody is forgotten."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from jobs.group_commit import GroupCommit


class Flush:
    """Notes its companies; waits for `gate` where one is set, and answers each item with its double."""

    def __init__(self) -> None:
        self.companies: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.companies.append(list(items))
        await self.gate.wait()
        return [ValueError(item) if item < 0 else 2 * item for item in items]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_alone_is_flushed_at_once() -> None:
    flush = Flush()
    assert await GroupCommit(flush, limit=8).add(21) == 42
    assert flush.companies == [[21]]


async def test_who_comes_in_the_same_turn_travels_together() -> None:
    flush = Flush()
    group = GroupCommit(flush, limit=8)
    assert await asyncio.gather(*(group.add(number) for number in range(3))) == [0, 2, 4]
    assert flush.companies == [[0, 1, 2]]


async def test_who_comes_while_a_flush_is_in_flight_travels_in_the_next() -> None:
    flush = Flush()
    flush.gate.clear()
    group = GroupCommit(flush, limit=8)
    first = asyncio.create_task(group.add(1))
    await turns()
    rest = [asyncio.create_task(group.add(number)) for number in (2, 3, 4)]
    await turns()
    assert (flush.companies, group.waiting) == ([[1]], 3)
    flush.gate.set()
    assert await asyncio.gather(first, *rest) == [2, 4, 6, 8]
    assert flush.companies == [[1], [2, 3, 4]]


async def test_no_company_is_larger_than_the_limit() -> None:
    flush = Flush()
    group = GroupCommit(flush, limit=4)
    await asyncio.gather(*(group.add(number) for number in range(10)))
    assert flush.companies == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_a_company_is_cut_before_it_is_too_heavy_and_a_heavy_one_goes_alone() -> None:
    flush = Flush()
    group = GroupCommit(flush, limit=4, size_of=lambda item: item, load=10)
    await asyncio.gather(*(group.add(size) for size in (4, 6, 1, 99, 5, 5, 0, 0, 0)))
    assert flush.companies == [[4, 6], [1], [99], [5, 5, 0, 0], [0]]


async def test_several_lanes_fly_at_once_and_no_more() -> None:
    flush = Flush()
    flush.gate.clear()
    group = GroupCommit(flush, limit=1, lanes=2)
    callers = [asyncio.create_task(group.add(number)) for number in range(5)]
    await turns()
    assert len(flush.companies) == 2
    flush.gate.set()
    await asyncio.gather(*callers)
    assert len(flush.companies) == 5


async def test_an_exception_for_one_item_is_its_callers_alone() -> None:
    group = GroupCommit(Flush(), limit=8)
    good, bad, other = await asyncio.gather(group.add(1), group.add(-1), group.add(2), return_exceptions=True)
    assert (good, other) == (2, 4)
    assert isinstance(bad, ValueError)


async def test_what_the_flush_raises_everybody_gets_and_the_next_flush_goes() -> None:
    fails = True

    async def flush(items: Sequence[int]) -> Sequence[int | Exception]:
        if fails:
            raise OSError("gone")
        return items

    group = GroupCommit(flush, limit=8)
    results = await asyncio.gather(*(group.add(number) for number in range(3)), return_exceptions=True)
    assert all(isinstance(result, OSError) for result in results)
    fails = False
    assert await group.add(7) == 7


async def test_a_caller_that_goes_away_spoils_nothing_for_the_others() -> None:
    flush = Flush()
    flush.gate.clear()
    group = GroupCommit(flush, limit=8)
    leaving, staying = asyncio.create_task(group.add(1)), asyncio.create_task(group.add(2))
    await turns()
    leaving.cancel()
    await turns()
    flush.gate.set()
    assert await staying == 4
    assert await group.add(3) == 6


async def test_draining_waits_for_everything_that_was_added() -> None:
    flush = Flush()
    flush.gate.clear()
    group = GroupCommit(flush, limit=1)
    callers = [asyncio.create_task(group.add(number)) for number in range(4)]
    await turns()
    draining = asyncio.create_task(group.drain())
    await turns()
    assert not draining.done()
    flush.gate.set()
    await draining
    assert group.waiting == 0
    assert await asyncio.gather(*callers) == [0, 2, 4, 6]


async def test_draining_with_nothing_to_do_returns() -> None:
    await GroupCommit(Flush(), limit=1).drain()


@pytest.mark.parametrize("seed", range(5))
async def test_nobody_waits_for_ever_whatever_the_schedule(seed: int) -> None:
    chance = random.Random(seed)

    async def pause() -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)

    async def flush(items: Sequence[int]) -> Sequence[int | Exception]:
        await pause()
        if chance.random() < 0.1:
            raise OSError
        return items

    group = GroupCommit(flush, limit=chance.randint(1, 5), lanes=chance.randint(1, 3))

    async def caller(number: int) -> None:
        for _ in range(20):
            await pause()
            try:
                assert await group.add(number) == number
            except OSError:
                continue

    async with asyncio.timeout(20):
        await asyncio.gather(*(caller(number) for number in range(30)))
        await group.drain()
    assert group.waiting == 0


async def test_who_has_patience_waits_for_company() -> None:
    flush = Flush()
    group = GroupCommit(flush, limit=8)
    first = asyncio.create_task(group.add(1, patience=0.2))
    await asyncio.sleep(0.01)
    assert not flush.companies
    second = asyncio.create_task(group.add(2, patience=0.2))
    assert (await first, await second) == (2, 4)
    assert flush.companies == [[1, 2]]


async def test_who_has_none_takes_those_who_wait_along_at_once() -> None:
    flush = Flush()
    group = GroupCommit(flush, limit=8)
    patient = asyncio.create_task(group.add(1, patience=3600))
    await asyncio.sleep(0.01)
    assert await asyncio.wait_for(group.add(2), 5) == 4
    assert await patient == 2
    assert flush.companies == [[1, 2]]


@pytest.mark.parametrize("lanes", [1, 2])
async def test_patience_ends_when_the_company_is_full_and_none_is_left_behind(lanes: int) -> None:
    flush = Flush()
    group = GroupCommit(flush, limit=4, lanes=lanes)
    answers = await asyncio.wait_for(asyncio.gather(*(group.add(number, patience=3600) for number in range(9))), 5)
    assert answers == [2 * number for number in range(9)]
    assert [len(company) for company in flush.companies] == [4, 4, 1]
    alone = asyncio.create_task(group.add(9, patience=0.05))
    assert await asyncio.wait_for(alone, 5) == 18
