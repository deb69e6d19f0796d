"""The control worker: chores on timers of their own, a few of which tickets from Celery wake before their time."""

import asyncio
import concurrent.futures
import contextlib
import resource
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import structlog
from celery.worker import state

from control import abandon, deadlines, expire, finalise, forget, purge, reconcile, rescue, sweep, turns
from control.deliver import Courier
from control.egress import Egress
from control.ingest import Ingest
from control.measure import Measure
from control.timetable import Chore, Timetable
from jobs import logs, metrics, probes, tickets, traces
from jobs.blobs import Blobs
from jobs.broker import CONTROL_QUEUE, DELIVER_QUEUE, make_app
from jobs.catalog import Catalog
from jobs.database import Database
from jobs.errors import Unavailable
from jobs.loop import LoopThread
from jobs.secrets import Vault
from jobs.settings import Settings
from jobs.streams import Writer
from jobs.tickets import Publisher
from jobs.wake import Announcer

_FORGET_SECONDS: Final = 60
_PURGE_SECONDS: Final = 600
_SWEEP_SECONDS: Final = 60
_MOST_CHORES: Final = 12
_POLL_SECONDS: Final = 1.0
"""Between two looks for batches that wait for control, of which a ticket tells as well."""
_log = structlog.get_logger()


class Control:
    """Everything that the chores need, on one loop, from `live` until it is cancelled."""

    def __init__(self, settings: Settings) -> None:
        if settings.database_url is None or settings.redis_url is None:
            raise ValueError("control needs DATABASE_URL and REDIS_URL")
        self._settings = settings
        self._database_url, self._redis_url = settings.database_url, settings.redis_url
        self._publisher = Publisher(settings)
        self._timetable: Timetable | None = None
        self._courier: Courier | None = None
        self._measure: Measure | None = None

    async def live(self) -> None:
        """Do the chores and send webhooks until cancelled."""
        settings = self._settings
        self._publisher.start()
        announcer = Announcer(self._redis_url, settings.redis_prefix)
        writer = Writer(self._redis_url, settings.redis_prefix)
        # A chore has a connection for its lock and one to work on.
        database = Database(self._database_url, pool_size=max(settings.pool_size, 2 * _MOST_CHORES))
        catalog = Catalog(database)
        tracing = traces.of(settings.otlp_endpoint, "control")
        try:
            async with Egress(settings.webhook_reach, settings.webhook_proxy_url) as egress:
                courier = Courier(database, Vault(settings.secret_key), egress, settings.webhook_jitter, tracing)
                chores = self._chores(database, catalog, announcer, writer, courier)
                timetable = Timetable(database, [*chores, *self._watching(database)])
                self._timetable, self._courier = timetable, courier
                async with asyncio.TaskGroup() as group:
                    group.create_task(timetable.keep())
                    group.create_task(courier.run())
        finally:
            self._timetable = self._courier = None
            await announcer.close()
            await writer.close()
            if self._measure:
                await self._measure.close()
            await asyncio.to_thread(self._publisher.stop)
            if tracing:
                await asyncio.to_thread(tracing.close)
            await database.close()

    def ready(self) -> bool:
        """Whether the chores are being done; from any thread."""
        return self._timetable is not None

    def wake(self) -> None:
        """A ticket came: look for batches that wait for control."""
        if self._timetable:
            self._timetable.wake()

    def deliver(self) -> None:
        """A ticket came: send the webhooks that are due now."""
        if self._courier:
            self._courier.wake()

    def _chores(
        self, database: Database, catalog: Catalog, announcer: Announcer, writer: Writer, courier: Courier
    ) -> list[Chore]:
        seconds, lease_seconds = self._settings.chore_seconds, self._settings.lease_seconds
        soon = min(seconds, lease_seconds / 4)
        abort = announcer.abort
        publish, ring = self._publish_by(catalog), self._publish_by(catalog, bell=True)
        blobs = Blobs(self._settings.blob_store)
        ingest = Ingest(database, blobs, catalog, self._settings, ring)
        watch = rescue.Watch(lease_seconds)

        def announce(ended: Sequence[UUID]) -> None:
            announcer.announce(ended)
            courier.wake()

        async def finalises() -> int:
            ended = await finalise.run(database, blobs)
            if ended:
                courier.wake()
            return ended

        async def tops_up() -> int:
            await catalog.current()
            return await reconcile.run(database, publish)

        async def rescues() -> int:
            with contextlib.suppress(Unavailable):
                await catalog.current()
            return await rescue.run(database, watch, lease_seconds, announce, publish, writer.lose)

        return [
            Chore("reconcile", seconds, tops_up),
            Chore("rescue", soon, rescues),
            Chore("expire", seconds, lambda: expire.run(database, announce)),
            Chore("abandon", soon, lambda: abandon.run(database, self._settings.grace_seconds, announce, abort)),
            Chore("turns", seconds, lambda: turns.run(database, self._publisher.publish)),
            Chore("forget", _FORGET_SECONDS, lambda: forget.run(database)),
            Chore("ingest", _POLL_SECONDS, ingest.run, shared=True, called=True),
            Chore("finalise", _POLL_SECONDS, finalises, shared=True, called=True),
            Chore("deadlines", seconds, lambda: deadlines.run(database, announce, abort)),
            Chore("purge", _PURGE_SECONDS, lambda: purge.run(database, self._settings.keep_days)),
            Chore("sweep", _SWEEP_SECONDS, lambda: sweep.run(database, blobs)),
        ]

    def _watching(self, database: Database) -> list[Chore]:
        """Only where somebody may look."""
        if not self._settings.metrics_port:
            return []
        self._measure = Measure(database, self._redis_url, self._settings.redis_prefix)
        return [Chore("measure", self._settings.chore_seconds, self._measure.run, shared=True)]

    def _publish_by(self, catalog: Catalog, bell: bool = False) -> Callable[[int, int], None]:
        """New jobs ring the bell; what stands in for lost tickets does not count on it."""

        def publish(model_id: int, jobs: int) -> None:
            for model in catalog.models():
                if model.id == model_id and model.slots:
                    if not bell:
                        metrics.TICKETS_AGAIN.inc()
                    self._publisher.publish(model.queue, jobs, 2 * model.slots, bell=bell)

        return publish


def main(settings: Settings) -> int:
    """Run control until it is asked to stop; the exit status."""
    logs.configure(settings, "control")
    _allow_many_sockets()
    control = Control(settings)
    loop = LoopThread("chores")
    loop.start()
    living = loop.run(control.live())
    if settings.metrics_port:
        probes.serve(settings.metrics_port, control.ready)
    app = make_app(settings, "control")

    @app.task(name=tickets.TASK, ignore_result=True, bind=True)
    def take(task: Any) -> None:
        asked = task.request.delivery_info["routing_key"]
        loop.loop.call_soon_threadsafe(control.deliver if asked == DELIVER_QUEUE else control.wake)

    worker = app.Worker(
        queues=[CONTROL_QUEUE, DELIVER_QUEUE],
        pool_cls="threads",
        concurrency=1,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        redirect_stdouts=False,
        quiet=True,
    )
    _log.info("control is up")
    living.add_done_callback(_end_celery)
    worker.start()  # returns after SIGTERM; without Redis it goes on trying to connect
    failed = living.done()
    loop.stop()
    _log.info("control has ended")
    return 1 if failed else int(worker.exitcode or 0)


def _allow_many_sockets() -> None:
    """Every receiver that does not answer holds four; a thousand, a common limit, is soon reached."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _end_celery(living: concurrent.futures.Future[None]) -> None:
    """The chores do not end by themselves; if they did, the process must not stay up without them."""
    state.should_stop = 0  # type: ignore[assignment]  # Celery's consumer looks at this once a second
