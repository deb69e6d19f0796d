"""The Celery side of a worker: a bootstep that keeps the engine, and the task that a ticket calls."""

import concurrent.futures
import logging
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final

from celery import bootsteps, signals
from celery.exceptions import SecurityWarning, WorkerShutdown
from celery.worker import state

from jobs import logs, probes, tickets
from jobs.broker import make_app
from jobs.loop import LoopThread
from jobs.settings import Settings
from worker.drain import Stop
from worker.engines import EngineArgumentError, load
from worker.life import Life
from worker.register import identity
from worker.watchdog import Watchdog

_THREADS: Final = 2
"""One ticket waits for a slot, one is on its way: a ticket carries nothing but the news."""
_LISTEN_SECONDS: Final = 0.2
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def main(settings: Settings, arguments: Sequence[str]) -> int:
    """Run one worker until it is asked to stop.

    Returns:
        The exit status: 0 after a drain, 2 for arguments that the engine refuses, 1 for anything that went wrong.
    """
    logs.configure(settings, "worker")
    signals.setup_logging.connect(_leave_logging_as_it_is)
    warnings.filterwarnings("ignore", category=SecurityWarning)  # as root, as containers run: only JSON is accepted
    try:
        engine = load(settings, arguments)
    except EngineArgumentError as error:
        print(error, file=sys.stderr)
        return 2
    loop = LoopThread("worker")
    loop.start()
    ending = Stop(loop.loop, _end_celery)
    who = identity(settings)
    life = Life(settings, who, engine, ending)
    watchdog = Watchdog(ending, settings.redis_url or "", settings.drain_seconds)
    app = make_app(settings, "worker")
    app.steps["worker"].add(_engine_step(life, loop, ending, watchdog))

    @app.task(name=tickets.TASK)
    def take() -> None:
        loop.run(life.take()).result()

    worker = app.Worker(
        hostname=f"{who.worker.hex}@{socket.gethostname()}",
        pool_cls="threads",
        concurrency=_THREADS,
        without_gossip=True,
        without_mingle=True,
        redirect_stdouts=False,
        quiet=True,
    )
    _listen(ending)
    watchdog.start()
    if settings.metrics_port:
        probes.serve(settings.metrics_port, lambda: life.ready.done() and not ending.asked)
    worker.start()
    loop.stop()
    watchdog.stop()
    return ending.code


def _leave_logging_as_it_is(**_: object) -> None:
    """With this receiver Celery configures no logging of its own. What it says of every ticket is too much."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _end_celery() -> None:
    # Celery's consumer looks at this once a second.
    state.should_stop = 0  # type: ignore[assignment]


def _listen(ending: Stop) -> None:
    """Take the signals that end a worker. Celery's own handlers know nothing of a drain, and its cold stop cannot
    work on a pool of threads."""

    def asked(number: int, frame: FrameType | None) -> None:
        ending.ask()

    for number in _SIGNALS:
        signal.signal(number, asked)


def _wait(*either: concurrent.futures.Future[Any]) -> None:
    """Return when one is done. In short waits: a signal that comes just as one begins is heard at its end only."""
    while not any(future.done() for future in either):
        concurrent.futures.wait(either, _LISTEN_SECONDS, concurrent.futures.FIRST_COMPLETED)


def _engine_step(life: Life, loop: LoopThread, ending: Stop, watchdog: Watchdog) -> type[bootsteps.StartStopStep]:
    """The worker's life as a bootstep: it begins before the consumer connects, and ends before the pool does."""

    class EngineStep(bootsteps.StartStopStep):
        requires = ("celery.worker.components:Pool",)

        def create(self, parent: Any) -> None:
            """Nothing that Celery should start by itself."""

        def start(self, parent: Any) -> None:
            _listen(ending)  # once more: by now Celery has put its own handlers in place
            if state.should_stop is not None:
                ending.ask()  # they have heard one
            self.life = loop.run(life.live())
            _wait(life.ready, self.life)
            if not life.ready.done():
                raise WorkerShutdown(ending.code)
            # Only now its queue is known: it is named after the model that the engine serves.
            parent.app.amqp.queues.select([life.ready.result().queue])
            watchdog.serving(loop.loop, parent.hub.call_soon)

        def stop(self, parent: Any) -> None:
            if not ending.asked:
                ending.fail()  # Celery ends by itself: something broke
            _wait(self.life)

        def terminate(self, parent: Any) -> None:
            self.stop(parent)

    return EngineStep
