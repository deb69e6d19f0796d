"""An asyncio loop in a thread of its own: the only way from Celery's threads into asyncio."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

Answer = TypeVar("Answer")


class LoopThread:
    """A loop that runs between `start` and `stop`; both are harmless when repeated, `stop` also before `start`."""

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._begun = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None

    def start(self) -> None:
        """Return when the loop runs."""
        if self._loop is None:
            self._thread.start()
            self._begun.wait()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the loop has not been started")
        return self._loop

    def run(self, coroutine: Coroutine[Any, Any, Answer]) -> concurrent.futures.Future[Answer]:
        """Start a coroutine on the loop, from any other thread. Cancelling the future cancels the coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def stop(self) -> None:
        """Cancel what still runs, close the loop, return when its thread has ended."""
        if self._loop is not None and self._end is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._until_the_end())

    async def _until_the_end(self) -> None:
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._begun.set()
        await self._end.wait()
