"""Says "jobs wait for this queue", by bell or ticket, from a thread of its own: no loop ever waits for Redis."""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs import bell, metrics
from jobs.broker import make_app
from jobs.settings import Settings

TASK: Final = "longhaul.take"
"""The task that a ticket calls. It has no arguments: which jobs are meant is decided when a worker claims."""
JOBS_PER_TICKET: Final = 16
_GATHER_SECONDS: Final = 0.005
"""One job alone is announced at once; those that come right after it, together."""
_PAUSE_SECONDS: Final = 0.5
"""After a failure, so that a dead Redis costs little."""
_log = structlog.get_logger()


class _Asked(NamedTuple):
    jobs: int
    window: int
    bell: bool


class Publisher:
    """Tickets of one process. What cannot be published is dropped: the workers' looks and control make up for it."""

    def __init__(self, settings: Settings) -> None:
        self._app = make_app(settings, "tickets")
        # Repeats once: its connection may be from before a restart of Redis.
        self._redis = Redis.from_url(
            settings.redis_url or "", socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1)
        )
        self._prefix = settings.redis_prefix
        self._lock = threading.Lock()
        self._waiting: dict[str, _Asked] = {}
        self._news = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, name="tickets", daemon=True)
        self._connection: Any = None
        self._producer: Any = None
        self._reachable = True

    def start(self) -> None:
        metrics.PUBLISH_QUEUE_DEPTH.set_function(lambda: len(self._waiting))
        if not self._thread.is_alive():
            self._thread.start()

    def publish(self, queue: str, jobs: int, window: int, *, bell: bool = False) -> None:
        """Say that `jobs` more wait in `queue`, which wants at most `window` tickets to stand in it. Never blocks.

        With `bell` the first worker that listens is told without a ticket. What comes while the thread is busy is added
        up, so this holds one entry a queue, however slow Redis is.
        """
        with self._lock:
            before = self._waiting.get(queue, _Asked(0, 0, False))
            self._waiting[queue] = _Asked(before.jobs + jobs, window, before.bell or bell)
        self._news.set()

    def stop(self) -> None:
        """Return when what was said has been published, or could not be."""
        self._ended.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()

    def _main(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            with self._lock:
                waiting, self._waiting = self._waiting, {}
            sent = not waiting or self._sent(waiting)
            if not sent:
                metrics.TICKETS_LOST.inc(len(waiting))
            self._ended.wait(_GATHER_SECONDS if sent else _PAUSE_SECONDS)
            if self._ended.is_set() and not self._waiting:
                self._disconnect()
                return

    def _sent(self, waiting: dict[str, _Asked]) -> bool:
        """Whether these went out; a connection that Redis closed in the meantime is replaced once."""
        return any(self._send(waiting) for _ in range(2))

    def _send(self, waiting: dict[str, _Asked]) -> bool:
        try:
            wanted = {queue: self._missing(queue, asked) for queue, asked in waiting.items()}
            tickets = [queue for queue, missing in wanted.items() for _ in range(missing)]
            if tickets:
                self._post(tickets)
        except Exception as error:  # whatever it is, the thread must outlive it, and the tickets are only lost
            self._disconnect()
            if self._reachable:
                _log.warning("tickets are lost, Redis does not take them", error=str(error))
            self._reachable = False
            return False
        metrics.TICKETS.inc(len(tickets))
        if not self._reachable:
            _log.info("tickets are published again")
        self._reachable = True
        return True

    def _post(self, queues: Sequence[str]) -> None:
        """One ticket to each of these queues."""
        self._connect()
        # A batch costs more than one message alone does.
        with self._producer.batch(max_size=1000) if len(queues) > 1 else contextlib.nullcontext():
            for queue in queues:
                self._app.send_task(TASK, queue=queue, producer=self._producer, retry=False, declare=[])

    def _missing(self, queue: str, asked: _Asked) -> int:
        """How many tickets to add: one that stands in the list already is as good as a new one, and so is the bell."""
        if asked.bell:
            outstanding = bell.ring(self._redis, self._prefix, queue)
        else:
            outstanding = int(self._redis.llen(f"{{{self._prefix}}}:{queue}"))
        return max(0, min(-(-asked.jobs // JOBS_PER_TICKET) - asked.bell, asked.window - outstanding))

    def _connect(self) -> None:
        if self._connection is not None:
            return
        self._connection = self._app.connection_for_write(
            transport_options={"socket_timeout": 2, "socket_connect_timeout": 2, "max_retries": 0}
        )
        self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
        self._connection.default_channel.client.ping()

    def _disconnect(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            try:
                connection.release()
            except Exception as error:
                _log.debug("a broken connection to Redis could not be closed", error=str(error))
