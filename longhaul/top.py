"""A deployment on one screen: models, workers, queues, and rates between two looks."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs import catalog, overview
from jobs.catalog import WorkerView
from jobs.database import Database
from jobs.overview import Fleet


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows that were ever written, `at` seconds of the database's clock."""

    at: float
    submitted: int
    results: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that is shown, at one moment."""

    fleets: Sequence[Fleet]
    workers: Sequence[WorkerView]
    counts: Counts


async def look(database: Database) -> Look:
    """Ask the database."""
    [counts] = await database.run("top_counts")
    return Look(await overview.look(database), await catalog.workers(database), Counts(**counts._asdict()))


def screen(now: Look, before: Look | None = None) -> RenderableType:
    """What is shown; rates from the look `before`, if there was one."""
    return Group(_rates(now, before), Text(), _models(now.fleets), Text(), _queues(now.fleets), Text(), _workers(now))


def _rates(now: Look, before: Look | None) -> Text:
    queued, running = (sum(getattr(fleet, name) for fleet in now.fleets) for name in ("queued", "running"))
    line = Text(f"{queued:,} waiting   {running:,} running", "bold")
    if before is None or now.counts.at <= before.counts.at:
        return line
    seconds = now.counts.at - before.counts.at
    for name in ("submitted", "results", "deliveries"):
        # The server's counts begin anew after a crash.
        more = max(0, getattr(now.counts, name) - getattr(before.counts, name))
        line.append(f"   {more / seconds:,.1f} {name}/s", "not bold")
    return line


def _models(fleets: Sequence[Fleet]) -> Table:
    table = _table("model", ("workers", "wanted", "slots", "waiting", "running", "tokens/s", "each", "deadline"))
    for fleet in fleets:
        workers = f"{fleet.serving}{f' +{fleet.draining} draining' if fleet.draining else ''}"
        table.add_row(
            fleet.model,
            Text(f"{workers}{f' {fleet.lost} lost' if fleet.lost else ''}", "red" if fleet.lost else ""),
            Text(str(fleet.wanted), "yellow" if fleet.wanted > fleet.serving else ""),
            str(fleet.slots),
            f"{fleet.queued:,}",
            f"{fleet.running:,}",
            _rounded(fleet.measured),
            _rounded(fleet.worker_speed),
            "-" if fleet.deadline_seconds is None else _ago(fleet.deadline_seconds),
        )
    return table


def _queues(fleets: Sequence[Fleet]) -> Table:
    table = _table("queue", ("waiting", "tokens", "oldest", "running"))
    for fleet in fleets:
        for queue in fleet.queues:
            table.add_row(
                f"{fleet.model} {queue.tier.label}",
                f"{queue.queued:,}",
                f"{queue.tokens:,.0f}",
                _ago(queue.oldest_seconds) if queue.queued else "-",
                f"{queue.running:,}",
            )
    return table


def _workers(now: Look) -> Table:
    table = _table("worker", ("model", "host", "pid", "running", "slots", "up", "state"))
    for worker in now.workers:
        table.add_row(
            str(worker.id),
            worker.model,
            worker.host,
            str(worker.pid),
            str(worker.running),
            str(worker.slots),
            _ago(now.counts.at - worker.started_at.timestamp()),
            Text("draining", "yellow") if worker.draining else Text("serving", "green"),
        )
    return table


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, no_wrap=True, justify="left" if name in ("model", "host", "state") else "right")
    return table


def _rounded(number: float) -> str:
    return f"{number:,.0f}" if number else "-"


def _ago(seconds: float) -> str:
    """A span as its two largest units; what is over is `0 s`."""
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole} s"
