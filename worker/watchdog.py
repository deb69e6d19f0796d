"""A thread that ends the process where nothing else would: a silent consumer, a stuck engine, an endless stop."""

import asyncio
import faulthandler
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import redis
import structlog

from worker.drain import Stop

_CHECK_SECONDS: Final = 1.0
PATIENCE: Final = 120
"""For how many checks, one a second, a loop may not take its turn."""
_LOAD_STOP_SECONDS: Final = 3
"""How long an engine that is still loading may take to let go; it holds no jobs."""
STOP_SECONDS: Final = 20
"""How long, beyond the drain, an orderly end may take: vLLM alone needs up to 8 s."""
_log = structlog.get_logger()


class Pulse:
    """Whether a loop takes its turns: a ping is called on it, the next one only after the last was answered.

    Counted in checks, not in seconds: in a process that was frozen nobody checked either.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._answered = True
        self._silent_checks = 0

    def check(self) -> int:
        """How many checks ago the loop answered; sends the next ping."""
        if not self._answered:
            self._silent_checks += 1
            return self._silent_checks
        self._silent_checks = 0
        self._answered = False
        self._call_soon(self._answer)
        return 0

    def _answer(self) -> None:
        self._answered = True


class Watchdog:
    """Watches from before the engine loads until the process is gone."""

    def __init__(self, stop: Stop, redis_url: str, drain_seconds: float) -> None:
        self._stop = stop
        self._redis_url = redis_url
        self._drain_seconds = drain_seconds
        self._loop: Pulse | None = None
        self._hub: Pulse | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def serving(self, loop: asyncio.AbstractEventLoop, hub_call_soon: Callable[[Callable[[], None]], object]) -> None:
        """The engine is up: from now on the worker's loop and Celery's hub are expected to take their turns."""
        self._hub = Pulse(hub_call_soon)
        self._loop = Pulse(loop.call_soon_threadsafe)

    def stop(self) -> None:
        """The process ends by itself now."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(_CHECK_SECONDS):
            self.check()

    def check(self) -> None:
        """Look once whether something hangs; done each second from `start` on."""
        if self._stop.asked:
            self._check_end()
        elif self._loop and self._loop.check() > PATIENCE:
            _log.critical("the worker's loop is stuck")
            _end_process(1, stacks=True)
        elif self._hub and self._hub.check() > PATIENCE and self._redis_answers():
            # Silent with Redis away is as it should be.
            _log.critical("the consumer is stuck while Redis answers")
            _dump_stacks()
            self._stop.fail()

    def _check_end(self) -> None:
        loading = self._loop is None
        patience = _LOAD_STOP_SECONDS if loading else self._drain_seconds + STOP_SECONDS
        if time.monotonic() - self._stop.asked_at > patience:
            _log.warning("the worker did not end by itself")
            _end_process(self._stop.code if loading else 1, stacks=not loading)

    def _redis_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self._redis_url, socket_timeout=5, socket_connect_timeout=5) as connection:
                return bool(connection.ping())
        except redis.RedisError:
            return False


def _dump_stacks() -> None:
    faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)


def _end_process(code: int, *, stacks: bool) -> None:
    """End now, with the engine's processes: an orphaned one would keep the accelerator's memory."""
    if stacks:
        _dump_stacks()
    for child in multiprocessing.active_children():
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
