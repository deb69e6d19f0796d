"""Takes lost workers' jobs from them, so that other workers run them."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import structlog

from jobs import lease, metrics
from jobs.database import Database

_log = structlog.get_logger()


class Watch:
    """Whether the database has answered this process without a gap for one lease.

    Before that a lease that ran out proves nothing: while the database was away nobody could renew. By the database's
    clock, so that a machine that slept counts as a gap too.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._since: datetime | None = None
        self._last: datetime | None = None

    def answered(self, at: datetime) -> None:
        """The database said that it is `at`."""
        gap = self._last is None or not 0 <= (at - self._last).total_seconds() <= self._lease_seconds / 2
        if gap:
            self._since = at
        self._last = at

    def failed(self) -> None:
        """The database did not answer."""
        self._since = self._last = None

    @property
    def long_enough(self) -> bool:
        if self._since is None or self._last is None:
            return False
        return (self._last - self._since).total_seconds() >= self._lease_seconds


async def run(
    database: Database,
    watch: Watch,
    lease_seconds: float,
    announce: Callable[[Sequence[UUID]], None],
    publish: Callable[[int, int], None],
    lose: Callable[[Sequence[tuple[UUID, int]]], None],
) -> int:
    """Requeue what lost workers held, each job with the loss counted; how many jobs were taken from them.

    `announce` hears of the jobs that ended as `worker_lost`, `publish(model id, jobs)` of those that wait again, `lose`
    of the runs that were streams. To be run at least twice in half a lease.
    """
    try:
        [now] = await database.run("clock")
        watch.answered(now.at)
        lost = await lease.expired(database, lease_seconds, watched=watch.long_enough)
    except Exception:
        watch.failed()
        raise
    taken = 0
    for worker in lost:
        orphaned = await lease.orphan(database, worker, only_expired=True)
        metrics.LEASES_EXPIRED.inc()
        _log.warning("a worker is lost", worker_id=str(worker), requeued=orphaned.requeued, failed=len(orphaned.failed))
        lose(orphaned.streams)
        announce(orphaned.failed)
        if orphaned.model_id is not None and orphaned.requeued:
            publish(orphaned.model_id, orphaned.requeued)
        taken += orphaned.requeued + len(orphaned.failed)
    return taken
