"""What hangs is noticed from outside of it, and the process ends."""

import asyncio
from collections.abc import Callable

import pytest

from worker.drain import Stop
from worker.watchdog import PATIENCE, Pulse, Watchdog


@pytest.fixture
async def stop() -> Stop:
    return Stop(asyncio.get_running_loop(), spread=lambda: None)


async def checked(watchdog: Watchdog, times: int) -> None:
    """Let it look so often, while this loop takes its turns."""
    for _ in range(times):
        watchdog.check()
        await asyncio.sleep(0)


def test_a_loop_that_hangs_is_pinged_once_and_its_silence_grows() -> None:
    pings: list[Callable[[], None]] = []
    pulse = Pulse(pings.append)
    assert [pulse.check() for _ in range(4)] == [0, 1, 2, 3]
    assert len(pings) == 1


def test_a_loop_that_answers_late_has_a_pulse_again() -> None:
    pings: list[Callable[[], None]] = []
    pulse = Pulse(pings.append)
    assert [pulse.check(), pulse.check()] == [0, 1]
    pings[0]()
    assert [pulse.check(), len(pings)] == [0, 2]


async def test_a_consumer_that_is_silent_while_redis_answers_ends_the_worker(stop: Stop, redis_url: str) -> None:
    watchdog = Watchdog(stop, redis_url, drain_seconds=25)
    watchdog.serving(asyncio.get_running_loop(), lambda ping: None)
    await checked(watchdog, PATIENCE + 1)
    assert stop.asked == 0
    await checked(watchdog, 1)
    assert (stop.asked, stop.code) == (1, 1)


async def test_a_consumer_that_is_silent_without_redis_is_as_it_should_be(stop: Stop) -> None:
    watchdog = Watchdog(stop, "redis://127.0.0.1:1/0", drain_seconds=25)
    watchdog.serving(asyncio.get_running_loop(), lambda ping: None)
    await checked(watchdog, PATIENCE + 10)
    assert stop.asked == 0


async def test_loops_that_take_their_turns_are_left_alone(stop: Stop, redis_url: str) -> None:
    loop = asyncio.get_running_loop()
    watchdog = Watchdog(stop, redis_url, drain_seconds=25)
    watchdog.serving(loop, loop.call_soon)
    await checked(watchdog, PATIENCE + 10)
    assert stop.asked == 0
