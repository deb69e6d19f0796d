"""The whole deployment at one moment: what waits, what runs, who serves it, and how many should."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobs import demand
from jobs.database import Database, Rows
from jobs.demand import Due
from jobs.records import Tier

_LEFT: Final = 0.5
"""The part of what runs that is still to be done, on average."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One lane of a model. `queued` may be claimed now: what is paused, and turns that wait for others, are not in it.

    `tokens` are estimates of what waits; `oldest_seconds` is the age of the oldest that is next in its flow.
    """

    tier: Tier
    queued: int
    tokens: float
    oldest_seconds: float
    running: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """A model and its workers. `lost` ones went without a word in the last hour, or hold jobs still.

    `worker_speed` is what one was measured to do, in tokens/s; 0 while unknown. `deadline_seconds`: until the nearest
    end of a batch's window, or of the time of a job that waits.
    """

    id: int
    model: str
    queue: str
    serving: int
    draining: int
    lost: int
    slots: int
    worker_speed: float
    measured: float
    """Tokens/s of all that serve, in the lanes where jobs wait; 0: none do, or nothing has ended for a minute."""
    wanted: int
    deadline_seconds: float | None
    queues: tuple[Queue, ...]

    @property
    def queued(self) -> int:
        """Jobs that wait, in all lanes."""
        return sum(queue.queued for queue in self.queues)

    @property
    def running(self) -> int:
        """Jobs that workers hold."""
        return sum(queue.running for queue in self.queues)


async def look(database: Database) -> list[Fleet]:
    """Every known model, by name. One round trip."""
    models, queues, running, expiring = await database.together(
        ("overview_models", {}), ("overview_queues", {}), ("overview_running", {}), ("overview_expiring", {})
    )
    waiting, held, ending = _by_model(queues), _by_model(running), _by_model(expiring)
    return [_fleet(model, waiting[model.id], held[model.id], ending[model.id]) for model in models]


def _by_model(rows: Rows) -> defaultdict[int, list[Any]]:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.model_id].append(row)
    return found


def _fleet(model: Any, waiting: Sequence[Any], held: Sequence[Any], expiring: Sequence[Any]) -> Fleet:
    dated = [row.due_seconds for row in (*waiting, *expiring) if row.due_seconds is not None]
    rate = demand.rate(_due(waiting, held, expiring))
    return Fleet(
        id=model.id,
        model=model.name,
        queue=model.queue,
        serving=model.serving,
        draining=model.draining,
        lost=model.lost,
        slots=model.slots,
        worker_speed=model.worker_speed,
        measured=model.measured,
        wanted=demand.workers_wanted(rate, model.worker_speed, model.serving, bool(waiting or held)),
        deadline_seconds=min(dated, default=None),
        queues=_queues(waiting, held),
    )


def _due(waiting: Sequence[Any], held: Sequence[Any], expiring: Sequence[Any]) -> Iterator[Due]:
    """All that is to be done. What expires waits in a flow, whose tokens it is part of: it is due when it expires, if
    that is sooner than the flow's own end."""
    for row in held:
        yield demand.WINDOWS[Tier(row.tier)], row.tokens * _LEFT
    ending: defaultdict[Any, list[Any]] = defaultdict(list)
    for row in expiring:
        ending[row.tier, row.window_ends].append(row)
    for row in waiting:
        window = demand.WINDOWS[Tier(row.tier)] if row.due_seconds is None else row.due_seconds
        parts = ending[row.tier, row.window_ends]
        yield window, max(0.0, row.tokens - sum(part.tokens for part in parts))
        for part in parts:
            yield min(window, part.due_seconds), part.tokens


def _queues(waiting: Sequence[Any], held: Sequence[Any]) -> tuple[Queue, ...]:
    running = {row.tier: row.running for row in held}
    lanes: defaultdict[int, list[Any]] = defaultdict(list)
    for row in waiting:
        lanes[row.tier].append(row)
    return tuple(
        Queue(
            tier=Tier(tier),
            queued=sum(row.queued for row in lanes[tier]),
            tokens=sum(row.tokens for row in lanes[tier]),
            oldest_seconds=max((row.oldest_seconds for row in lanes[tier]), default=0.0),
            running=running.get(tier, 0),
        )
        for tier in sorted({*lanes, *running})
    )
