"""The loop in a thread."""

import asyncio
import concurrent.futures
import threading

import pytest

from jobs.loop import LoopThread


async def where() -> str:
    return threading.current_thread().name


def test_a_coroutine_runs_in_the_loops_own_thread() -> None:
    loop = LoopThread("engine room")
    loop.start()
    assert loop.run(where()).result() == "engine room"
    loop.stop()


def test_starting_and_stopping_twice_is_harmless() -> None:
    loop = LoopThread("twice")
    loop.stop()
    loop.start()
    loop.start()
    assert loop.run(where()).result() == "twice"
    loop.stop()
    loop.stop()


def test_before_its_start_there_is_no_loop() -> None:
    with pytest.raises(RuntimeError):
        _ = LoopThread("early").loop


def test_what_still_runs_at_the_stop_is_cancelled_and_may_clean_up() -> None:
    began, cleaned = threading.Event(), threading.Event()

    async def endless() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    loop = LoopThread("stopped")
    loop.start()
    future = loop.run(endless())
    assert began.wait(10)
    loop.stop()
    assert cleaned.is_set()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)


def test_cancelling_the_future_cancels_the_coroutine() -> None:
    began, cancelled = threading.Event(), threading.Event()

    async def endless() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    loop = LoopThread("cancelled")
    loop.start()
    future = loop.run(endless())
    assert began.wait(10)
    future.cancel()
    assert cancelled.wait(10)
    loop.stop()


def test_an_exception_reaches_the_caller() -> None:
    async def fails() -> None:
        raise ValueError("seen")

    loop = LoopThread("failing")
    loop.start()
    with pytest.raises(ValueError, match="seen"):
        loop.run(fails()).result()
    loop.stop()
