"""A worker's life on its one loop: engine up, registered, serving, drained, gone."""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import sys
import time
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs import bell, conversations, metrics, traces, wake
from jobs.broker import CONTROL_QUEUE, DELIVER_QUEUE
from jobs.database import Database
from jobs.errors import Conflict
from jobs.finish import Finisher
from jobs.order import Shares
from jobs.records import Model, Registration, Tier
from jobs.settings import Settings
from jobs.streams import Writer
from jobs.tickets import Publisher
from worker.dialect import Dialect, extended
from worker.drain import Stop, Stopped, bury, drain, hand_back
from worker.engines import Engine, EngineArgumentError
from worker.heartbeat import Heartbeat, Lease
from worker.register import Identity
from worker.runner import Runner

_WRONG_ARGUMENTS: Final = 2
"""Exit status where another start with the same arguments would end the same way."""
_LOOK_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 1.0
_log = structlog.get_logger()


class Life:
    """One engine, from its start to its stop. `ready` is answered with the model once jobs are being served."""

    def __init__(self, settings: Settings, identity: Identity, engine: Engine, stop: Stop) -> None:
        if settings.database_url is None or settings.redis_url is None:
            raise ValueError("a worker needs DATABASE_URL and REDIS_URL")
        self._database_url, self._redis_url = settings.database_url, settings.redis_url
        self._settings = settings
        self._identity = identity
        self._engine = engine
        self._stop = stop
        self._runner: Runner | None = None
        self.ready: concurrent.futures.Future[Model] = concurrent.futures.Future()

    async def live(self) -> None:
        """Return when the worker has ended, for whatever reason; `stop.code` tells it."""
        structlog.contextvars.bind_contextvars(worker_id=str(self._identity.worker))
        try:
            await self._keep_engine()
        except Stopped:
            _log.info("stopped before it served")
        except (EngineArgumentError, Conflict) as error:
            print(error, file=sys.stderr, flush=True)
            self._stop.fail(_WRONG_ARGUMENTS)
        except Exception as error:
            _log.critical("the worker failed", exc_info=error)
            self._stop.fail()

    async def take(self) -> None:
        """A ticket came: see `Runner.take`."""
        if self._runner:
            await self._runner.take()

    async def _keep_engine(self) -> None:
        _log.info("loading the engine", engine=self._settings.engine)
        try:
            await self._stop.before(self._engine.start())
            registration = extended(await self._stop.before(self._engine.describe()))
            await self._keep_stores(registration)
        finally:
            await self._engine.stop()

    async def _keep_stores(self, registration: Registration) -> None:
        database = Database(self._database_url, self._settings.pool_size)
        announcer = wake.Announcer(self._redis_url, self._settings.redis_prefix)
        writer = Writer(self._redis_url, self._settings.redis_prefix)
        publisher = Publisher(self._settings)
        publisher.start()
        tracing = traces.of(self._settings.otlp_endpoint, "worker")
        try:
            lease, model = await self._stop.before(self._register(database, registration))
            finisher = Finisher(
                database,
                announcer.announce,
                lambda: publisher.publish(DELIVER_QUEUE, 1, 1),
                lambda: publisher.publish(CONTROL_QUEUE, 1, 1),
                lambda queue, turns: publisher.publish(queue, turns, turns, bell=True),
            )
            runner = self._runner = Runner(
                database,
                self._engine,
                Dialect(
                    registration,
                    self._engine,
                    functools.partial(conversations.before, database),
                    separate_caches=self._settings.separate_caches,
                ),
                self._identity.worker,
                model.id,
                Shares(
                    {Tier[name.upper()]: share for name, share in self._settings.shares.items()},
                    self._settings.bulk_ceiling,
                ),
                finisher,
                writer,
                lease_is_good=lease.is_good,
                engine_died=self._died,
                spare=registration.spare,
                traces=tracing,
            )
            metrics.WORKER_INFO.labels(str(self._identity.worker), model.name).set(1)
            metrics.SLOTS.set_function(lambda: self._engine.slots)
            metrics.RUNNING.set_function(lambda: runner.running)
            heartbeat = self._heartbeat(runner, lease, registration)
            heartbeat.start()
            try:
                await self._serve(runner, finisher, model)
            finally:
                await heartbeat.stop()  # first: it would register again a worker that has left
                await self._leave(database, runner, finisher)
                await runner.pay()
        finally:
            await asyncio.to_thread(publisher.stop)
            if tracing:
                await asyncio.to_thread(tracing.close)
            await writer.close()
            await announcer.close()
            await database.close()

    def _heartbeat(self, runner: Runner, lease: Lease, registration: Registration) -> Heartbeat:
        async def register_again(database: Database) -> None:
            try:
                await self._identity.register(database, registration)
            except Conflict:
                self._stop.fail(_WRONG_ARGUMENTS)
                raise

        worker = self._identity.worker
        return Heartbeat(self._database_url, worker, lease, runner, lambda: self._engine.slots, register_again)

    async def _serve(self, runner: Runner, finisher: Finisher, model: Model) -> None:
        """Until asked to stop; then nothing runs any more, and what ended is recorded."""
        async with asyncio.TaskGroup() as group:
            chores = [group.create_task(chore) for chore in (runner.settle(), self._aborts(runner), self._watch())]
            claiming = group.create_task(runner.run())
            listening = group.create_task(self._listen(runner, model.queue))
            # What start-up made lives as long as the process; looking it through again and again holds up every job.
            gc.collect()
            gc.freeze()
            self.ready.set_result(model)
            _log.info("serving", model=model.name, slots=self._engine.slots)
            await self._stop.begun()
            listening.cancel()
            await drain(runner, finisher, self._settings.drain_seconds if self._engine.alive() else 0, self._stop)
            await asyncio.wait({claiming}, timeout=_RETRY_SECONDS)
            for task in (claiming, *chores):
                task.cancel()

    async def _register(self, database: Database, registration: Registration) -> tuple[Lease, Model]:
        """Until it succeeds: an engine that is loaded is not thrown away because the database restarts."""
        lease = Lease(self._settings.lease_seconds)
        while True:
            sent_at = time.monotonic()
            try:
                model = await self._identity.register(database, registration)
            except (SQLAlchemyError, OSError) as error:
                _log.warning("cannot register, the database does not answer", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                lease.renewed(sent_at)
                return lease, model

    async def _leave(self, database: Database, runner: Runner, finisher: Finisher) -> None:
        worker, lease_seconds = self._identity.worker, self._settings.lease_seconds
        if self._engine.alive():
            released = await hand_back(database, worker, lease_seconds)
            _log.info("left", released=released)
        else:
            orphaned = await bury(database, worker, lease_seconds, runner.in_engine)
            if orphaned:
                finisher.tell(orphaned.failed)
            _log.info("left, the engine is dead", requeued=orphaned and orphaned.requeued)

    async def _listen(self, runner: Runner, queue: str) -> None:
        prefix = self._settings.redis_prefix
        await bell.listen(self._redis_url, prefix, queue, runner.ready, runner.hear)

    async def _aborts(self, runner: Runner) -> None:
        async for ids in wake.aborts(self._redis_url, self._settings.redis_prefix):
            runner.abort(ids)

    async def _watch(self) -> None:
        while not self._stop.asked:
            if not self._engine.alive():
                self._died()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.begun(), _LOOK_SECONDS)

    def _died(self) -> None:
        if not self._stop.code:
            _log.critical("the engine died")
        self._stop.fail()
