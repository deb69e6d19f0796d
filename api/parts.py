"""What the routes work with: the connections of one API process, opened together and closed in reverse."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from starlette.requests import Request

from jobs import cancel, streams
from jobs.accept import Acceptor
from jobs.admission.admit import Admission
from jobs.backlog import Backlog
from jobs.blobs import Blobs
from jobs.broker import CONTROL_QUEUE, DELIVER_QUEUE
from jobs.catalog import Catalog
from jobs.database import Database
from jobs.following import Readers
from jobs.keys import Keyring
from jobs.secrets import Vault
from jobs.settings import Settings
from jobs.tickets import Publisher
from jobs.wake import Announcer, Waiters

_TICKETS_PER_SLOT = 2


@dataclass(frozen=True, slots=True)
class Parts:
    """`stopping` is done when the server begins to stop, while requests are still being answered.

    `wake_control` has control look at once for batches that wait for it, `deliver` for webhooks to send, and `publish`
    says that so many more jobs of a queue may run; none of them blocks.
    """

    settings: Settings
    database: Database
    catalog: Catalog
    admission: Admission
    keyring: Keyring
    vault: Vault
    acceptor: Acceptor
    backlog: Backlog
    announcer: Announcer
    waiters: Waiters
    readers: Readers
    blobs: Blobs
    wake_control: Callable[[], None]
    deliver: Callable[[], None]
    publish: Callable[[str, int], None]
    stopping: asyncio.Task[Literal[True]]

    async def cancel(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """End these jobs, tell their workers and whoever waits for them; the ones that this call ended."""
        ended = await cancel.cancel(self.database, job_ids, self.publish)
        for job_id in ended:  # before its worker hears of it and takes it back
            if log := await self.readers.so_far(job_id):
                await streams.keep(self.database, job_id, log)
        return self._tell(ended)

    async def lose(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Fail these jobs as `worker_lost`, and tell of it as above; the ones that this call ended."""
        return self._tell(await cancel.lose(self.database, job_ids, self.publish))

    def _tell(self, ended: list[UUID]) -> list[UUID]:
        self.announcer.abort(ended)
        self.announcer.announce(ended)
        if ended:
            self.deliver()
        return ended


def of(request: Request) -> Parts:
    """The parts of the process that got this request."""
    parts: Parts = request.app.state.parts
    return parts


@asynccontextmanager
async def opened(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Parts]:
    """The parts, none of which needs its server to be there yet. `stop` is set when that begins to stop."""
    assert settings.database_url and settings.redis_url
    async with AsyncExitStack() as stack:
        stopping = asyncio.create_task(stop.wait())
        stack.callback(stopping.cancel)
        database = Database(settings.database_url, settings.pool_size)
        stack.push_async_callback(database.close)
        catalog = Catalog(database)
        publisher = Publisher(settings)
        publisher.start()
        stack.push_async_callback(asyncio.to_thread, publisher.stop)
        announcer = Announcer(settings.redis_url, settings.redis_prefix)
        stack.push_async_callback(announcer.close)
        waiters = Waiters(settings.redis_url, settings.redis_prefix, database)
        await waiters.start()
        stack.push_async_callback(waiters.stop)
        readers = Readers(settings.redis_url, settings.redis_prefix)
        await readers.start()
        stack.push_async_callback(readers.stop)

        def publish(model_id: int, count: int) -> None:
            for model in catalog.models():
                if model.id == model_id:
                    publisher.publish(model.queue, count, _TICKETS_PER_SLOT * max(1, model.slots), bell=True)

        yield Parts(
            settings=settings,
            database=database,
            catalog=catalog,
            admission=Admission(settings, catalog, database),
            keyring=Keyring(database),
            vault=Vault(settings.secret_key),
            acceptor=Acceptor(database, publish),
            backlog=Backlog(database),
            announcer=announcer,
            waiters=waiters,
            readers=readers,
            blobs=Blobs(settings.blob_store),
            wake_control=lambda: publisher.publish(CONTROL_QUEUE, 1, 1),
            deliver=lambda: publisher.publish(DELIVER_QUEUE, 1, 1),
            publish=lambda queue, jobs: publisher.publish(queue, jobs, jobs, bell=True),
            stopping=stopping,
        )
