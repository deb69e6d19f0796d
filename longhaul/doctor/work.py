"""Looks at the work: what waits how long, who serves it, who went without a word, whether control does its chores."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from jobs import overview
from jobs.database import Database
from jobs.order import INTERACTIVE
from jobs.overview import Fleet
from longhaul.doctor.finding import Finding, ok, trouble, warning

_PATIENCE_SECONDS: Final = 60.0
"""So long may an interactive job wait."""
_CONTROL: Final = "Start control (`longhaul control`), or read in its log why it fails."


async def examine(database: Database, lease_seconds: float) -> list[Finding]:
    """Everything about it. Raises SQLAlchemyError if the database does not answer."""
    fleets = await overview.look(database)
    lost = await database.run("doctor_lost")
    [webhooks] = await database.run("doctor_webhooks")
    return [*_queues(fleets), *_workers(fleets, lost, lease_seconds), *_webhooks(webhooks)]


def _queues(fleets: Sequence[Fleet]) -> Iterator[Finding]:
    found = [finding for fleet in fleets for finding in _queue(fleet)]
    yield from found or [ok("queues", f"{sum(fleet.queued for fleet in fleets)} jobs wait, none too long.")]


def _queue(fleet: Fleet) -> Iterator[Finding]:
    if fleet.queued and not fleet.serving:
        oldest = max(queue.oldest_seconds for queue in fleet.queues)
        message = f"{fleet.queued} jobs wait for {fleet.model}, the oldest for {oldest:.0f} s, and no worker serves it."
        do = f"Start a worker of it, or forget it: `longhaul models retire {fleet.model}` fails what waits."
        yield trouble("queues", message, do)
        return
    for queue in fleet.queues:
        if queue.tier in INTERACTIVE and queue.oldest_seconds > _PATIENCE_SECONDS:
            message = f"Jobs of {fleet.model} in the tier {queue.tier.label} wait for {queue.oldest_seconds:.0f} s."
            yield warning(
                "queues", message, "Add workers, or pause the tenant that floods it (`longhaul tenants set`)."
            )
    if fleet.wanted > fleet.serving:
        message = f"{fleet.model} has {fleet.serving} workers and wants {fleet.wanted} to make every window."
        yield warning("queues", message, "Add workers, or expect batches to expire.")


def _workers(fleets: Sequence[Fleet], lost: Sequence[Any], lease_seconds: float) -> Iterator[Finding]:
    if not fleets:
        yield warning("workers", "No worker has ever registered a model.", "Start one: `longhaul worker`.")
        return
    for worker in lost:
        who = f"Worker {worker.pid} on {worker.host} ({worker.model}) went without a word"
        # Two leases: so long may control take that has just come up itself.
        if worker.held and worker.seconds > 2 * lease_seconds:
            yield trouble("workers", f"{who}, and {worker.held} jobs are still its own: nobody rescues them.", _CONTROL)
        else:
            do = (
                f"Look into its log and the kernel's on {worker.host}. Its jobs run elsewhere; its row goes in an hour."
            )
            yield warning("workers", f"{who}.", do)
    if not lost:
        serving, draining = sum(fleet.serving for fleet in fleets), sum(fleet.draining for fleet in fleets)
        yield ok("workers", f"{serving} serve{f', {draining} drain' if draining else ''}, none is lost.")


def _webhooks(row: Any) -> Iterator[Finding]:
    if row.late:
        yield trouble(
            "webhooks", f"{row.late} webhooks have been due for five minutes and nobody sends them.", _CONTROL
        )
    if row.failing:
        message = f"{row.failing} endpoints have taken nothing for an hour."
        do = "Ask their owners; `longhaul webhooks` shows what they answered. After five days they are disabled."
        yield warning("webhooks", message, do)
    if row.disabled:
        message = f"{row.disabled} endpoints were disabled because they took nothing."
        yield warning("webhooks", message, "Their owners enable them again when they are back, or delete them.")
    if not (row.late or row.failing or row.disabled):
        yield ok("webhooks", "None is late.")
