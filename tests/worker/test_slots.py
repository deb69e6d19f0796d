"""Slots: when a ticket is let in, and when freed ones are worth a claim."""

import asyncio
from uuid import UUID, uuid4

import pytest

from jobs.records import ClaimedJob, Flags, Tier
from worker.slots import Slots


def job(identity: UUID) -> ClaimedJob:
    return ClaimedJob(
        id=identity,
        lease_token=1,
        flow_id=1,
        tenant_id=1,
        tier=Tier.DEFAULT,
        cost=1,
        weight=1,
        attempts=1,
        timeout_seconds=60,
        flags=Flags.NONE,
        endpoint="/v1/completions",
        body=b"{}",
        service_tier=None,
        waited=False,
    )


async def filled(slots: Slots, count: int) -> list[ClaimedJob]:
    jobs = [job(uuid4()) for _ in range(count)]
    for each in jobs:
        slots.occupy(each, asyncio.create_task(asyncio.sleep(0)))
    return jobs


async def has_room(slots: Slots) -> bool:
    ticket = asyncio.create_task(slots.room())
    await asyncio.sleep(0)
    entered = ticket.done()
    ticket.cancel()
    return entered


async def test_a_ticket_waits_while_every_slot_is_taken() -> None:
    slots = Slots(lambda: 2)
    assert await has_room(slots)
    first, _ = await filled(slots, 2)
    slots.claimed(more=False)
    assert not await has_room(slots)
    slots.vacate(first)
    assert await has_room(slots)


async def test_a_ticket_waits_while_fewer_slots_are_left_than_jobs_run() -> None:
    size = 4
    slots = Slots(lambda: size)
    first, second, _ = await filled(slots, 3)
    slots.claimed(more=False)
    size = 2
    assert not await has_room(slots)
    for each in (first, second):
        slots.vacate(each)
    assert await has_room(slots)


async def test_a_full_worker_that_knows_of_more_jobs_leaves_tickets_to_others() -> None:
    slots = Slots(lambda: 2)
    first, second = await filled(slots, 2)
    slots.claimed(more=True)
    slots.vacate(first)
    assert not await has_room(slots)
    slots.claimed(more=False)
    assert await has_room(slots)
    slots.vacate(second)
    assert await has_room(slots)


async def test_slots_that_the_tiers_left_free_are_open_to_a_ticket_whatever_else_waits() -> None:
    slots = Slots(lambda: 4)
    await filled(slots, 3)
    slots.claimed(more=True)
    assert await has_room(slots)


@pytest.mark.parametrize(("size", "freed"), [(32, 2), (160, 10), (2, 1)])
async def test_a_sixteenth_of_the_slots_is_worth_a_claim_at_once(size: int, freed: int) -> None:
    slots = Slots(lambda: size)
    jobs = await filled(slots, size)
    slots.claimed(more=True)
    await slots.rung(0)
    for each in jobs[:freed]:
        slots.vacate(each)
    rung = asyncio.create_task(slots.rung(60))
    await asyncio.sleep(0)
    assert rung.done()


async def test_an_engine_with_jobs_to_spare_waits_until_half_of_them_are_used_up() -> None:
    slots = Slots(lambda: 48, spare=16)
    jobs = await filled(slots, 48)
    slots.claimed(more=True)
    await slots.rung(0)
    rung = asyncio.create_task(slots.rung(60))
    for each in jobs[:7]:
        slots.vacate(each)
    await asyncio.sleep(0)
    assert not rung.done()
    slots.vacate(jobs[7])
    await asyncio.sleep(0)
    assert rung.done()
