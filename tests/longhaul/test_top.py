"""The screen of `longhaul top`, and the command."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from rich.console import Console
from typer.testing import Result

from jobs.catalog import WorkerView
from jobs.overview import Fleet, Queue
from jobs.records import Tier
from longhaul.top import Counts, Look, screen

FLEET = Fleet(
    id=1,
    model="org/model",
    queue="q",
    serving=2,
    draining=0,
    lost=0,
    slots=64,
    worker_speed=1500.0,
    measured=3000.0,
    wanted=3,
    deadline_seconds=7_260.0,
    queues=(Queue(Tier.DEFAULT, 12, 3400.0, 75.0, 4), Queue(Tier.BATCH, 50_000, 9e6, 90_000.0, 60)),
)
WORKER = WorkerView(
    id=uuid4(),
    model="org/model",
    host="gpu-1",
    pid=77,
    home=None,
    slots=32,
    started_at=datetime.fromtimestamp(1_000_000, UTC),
    lease_until=datetime.fromtimestamp(2_000_000, UTC),
    draining=True,
    running=30,
)
NOW = Look([FLEET], [WORKER], Counts(at=1_000_100.0, submitted=500, results=400, deliveries=30))


def shown(now: Look, before: Look | None = None) -> list[str]:
    """The lines, with single spaces between their words."""
    console = Console(width=200, no_color=True)
    with console.capture() as said:
        console.print(screen(now, before))
    return [" ".join(line.split()) for line in said.get().splitlines()]


def test_a_model_has_its_workers_its_speed_and_its_deadline() -> None:
    assert "org/model 2 3 64 50,012 64 3,000 1,500 2 h 1 min" in shown(NOW)


def test_every_queue_has_a_line() -> None:
    assert "org/model default 12 3,400 1 min 15 s 4" in shown(NOW)
    assert "org/model batch 50,000 9,000,000 1 d 1 h 60" in shown(NOW)


def test_every_worker_has_a_line() -> None:
    assert f"{WORKER.id} org/model gpu-1 77 30 32 1 min 40 s draining" in shown(NOW)


def test_rates_are_those_between_two_looks() -> None:
    before = replace(NOW, counts=Counts(at=1_000_098.0, submitted=480, results=399, deliveries=30))
    assert shown(NOW, before)[0] == "50,012 waiting 64 running 10.0 submitted/s 0.5 results/s 0.0 deliveries/s"
    assert shown(NOW)[0] == "50,012 waiting 64 running"


def test_counts_that_began_anew_are_no_negative_rates() -> None:
    before = replace(NOW, counts=Counts(at=1_000_098.0, submitted=9_000, results=9_000, deliveries=9_000))
    assert shown(NOW, before)[0] == "50,012 waiting 64 running 0.0 submitted/s 0.0 results/s 0.0 deliveries/s"


def test_lost_workers_are_named() -> None:
    lines = shown(replace(NOW, fleets=[replace(FLEET, lost=1)]))
    assert any(line.startswith("org/model 2 1 lost") for line in lines)


def test_the_command_prints_once_where_nobody_watches(longhaul: Callable[..., Result]) -> None:
    result = longhaul("top")
    assert result.exit_code == 0, result.output
    worker = json.loads(longhaul("workers", "--json").stdout)
    assert worker["id"] in result.stdout
    assert "scripted" in result.stdout


def test_without_a_database_it_says_so(longhaul: Callable[..., Result], tmp_path: Path) -> None:
    result = longhaul("top", "--once", LONGHAUL_HOME=str(tmp_path))
    assert result.exit_code == 3
    assert "DATABASE_URL" in result.stderr
