"""Makes an engine known: its names, endpoints and limits, and the worker that runs it."""

import os
import socket
from dataclasses import dataclass
from uuid import UUID, uuid4

from jobs import catalog
from jobs.database import Database
from jobs.records import Model, Registration
from jobs.settings import Settings


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is while its process lives. `home` is the folder of the `longhaul up` that started it."""

    worker: UUID
    home: str | None
    lease_seconds: float

    async def register(self, database: Database, registration: Registration) -> Model:
        """Write the worker and its engine down, anew or again.

        Raises:
            Conflict: one of its names belongs to another engine, or its adapters differ from those of its peers.
        """
        return await catalog.register(
            database,
            self.worker,
            registration,
            host=socket.gethostname(),
            pid=os.getpid(),
            home=self.home,
            lease_seconds=self.lease_seconds,
        )


def identity(settings: Settings) -> Identity:
    """A new worker for each boot: host and pid come back after a restart, a UUID does not.

    `longhaul up` chooses the id of its child, so that it can end the lease of one that it saw die.
    """
    if settings.worker_id is None:
        return Identity(uuid4(), None, settings.lease_seconds)
    return Identity(UUID(settings.worker_id), str(settings.home.resolve()), settings.lease_seconds)
