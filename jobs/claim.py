"""Free slots become claimed jobs, in the order decided at that moment."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from jobs import metrics
from jobs.database import Database, Rows
from jobs.records import ClaimedJob, Flags, Tier

_SUSPECTS_TOGETHER: Final = 8


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many jobs wait in a lane (up to what was asked), and whether it was served in the last minute."""

    jobs: int
    served: bool


async def waiting(database: Database, model_id: int, free: int) -> dict[Tier, Waiting]:
    """What waits for a model, by tier, counted up to `free`."""
    return _lanes(await database.run("waiting", model=model_id, free=free))


async def claim(database: Database, worker: UUID, model_id: int, tier: Tier, free: int) -> list[ClaimedJob]:
    """Take up to `free` jobs of one lane for `worker`, by virtual start time. The claim is durable when it returns."""
    asked = _asked(worker, model_id, tier, free)
    _, taken = await database.together(("claim_lock", asked), ("claim", asked))
    return _jobs(taken, tier)


async def claim_and_look(
    database: Database, worker: UUID, model_id: int, tier: Tier, part: int, free: int
) -> tuple[list[ClaimedJob], dict[Tier, Waiting]]:
    """`claim` up to `part` jobs of a lane, and what is `waiting` then: in the time of the claim alone."""
    asked = _asked(worker, model_id, tier, part)
    _, taken, lanes = await database.together(
        ("claim_lock", asked), ("claim", asked), ("waiting", {"model": model_id, "free": free})
    )
    return _jobs(taken, tier), _lanes(lanes)


async def hold_suspects(database: Database, worker: UUID, model_id: int) -> bool:
    """Whether suspects wait and `worker` is the one to serve them, with its slots empty."""
    return bool(await database.run("suspects_hold", worker=worker, model=model_id))


async def yield_suspects(database: Database, worker: UUID, model_id: int) -> None:
    """Leave the suspects of a model to whichever worker asks next."""
    await database.run("suspects_yield", worker=worker, model=model_id)


async def claim_suspects(database: Database, worker: UUID, model_id: int) -> list[ClaimedJob]:
    """Take the next suspects: eight together, or one that was lost three times, alone."""
    asked = _asked(worker, model_id, Tier.SUSPECT, _SUSPECTS_TOGETHER)
    _, taken = await database.together(("claim_lock", asked), ("claim_suspects", asked))
    return _jobs(taken, Tier.SUSPECT)


def _asked(worker: UUID, model_id: int, tier: Tier, free: int) -> dict[str, Any]:
    return {"worker": worker, "model": model_id, "tier": int(tier), "free": free}


def _lanes(rows: Rows) -> dict[Tier, Waiting]:
    return {Tier(row.tier): Waiting(row.waiting, row.served) for row in rows}


def _jobs(taken: Rows, lane: Tier) -> list[ClaimedJob]:
    if taken:
        metrics.CLAIM_COMPANY.observe(len(taken))
        waits = metrics.WAIT_SECONDS.labels(lane.label)
        for row in taken:
            if row.lease_token == 1:  # else it has been waited for before
                waits.observe(row.queued_seconds)
    return [
        ClaimedJob(
            id=row.id,
            lease_token=row.lease_token,
            flow_id=row.flow_id,
            tenant_id=row.tenant_id,
            tier=Tier(row.tier) if lane is Tier.SUSPECT else lane,  # a batch that is late has risen
            cost=row.cost,
            weight=row.weight,
            attempts=row.attempts,
            timeout_seconds=row.timeout_s,
            flags=Flags(row.flags),
            endpoint=row.endpoint,
            body=bytes(row.body),
            service_tier=row.service_tier,
            waited=row.waited,
            previous=row.previous_id,
            traceparent=row.traceparent,
            queued_seconds=row.queued_seconds,
        )
        for row in taken
    ]
