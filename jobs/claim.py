"""Free slots become claimed jobs, in the order decided at that moment."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from jobs import metrics
from jobs.database import Database, fetch
from jobs.records import ClaimedJob, Flags, Tier

_SUSPECTS_TOGETHER: Final = 8


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many jobs wait in a lane (up to what was asked), and whether it was served in the last minute."""

    jobs: int
    served: bool


async def waiting(database: Database, model_id: int, free: int) -> dict[Tier, Waiting]:
    """What waits for a model, by tier, counted up to `free`."""
    rows = await database.run("waiting", model=model_id, free=free)
    return {Tier(row.tier): Waiting(row.waiting, row.served) for row in rows}


async def claim(database: Database, worker: UUID, model_id: int, tier: Tier, free: int) -> list[ClaimedJob]:
    """Take up to `free` jobs of one lane for `worker`, by virtual start time. The claim is durable when it returns."""
    return await _claim(database, "claim", worker=worker, model=model_id, tier=int(tier), free=free)


async def hold_suspects(database: Database, worker: UUID, model_id: int) -> bool:
    """Whether suspects wait and `worker` is the one to serve them, with its slots empty."""
    return bool(await database.run("suspects_hold", worker=worker, model=model_id))


async def yield_suspects(database: Database, worker: UUID, model_id: int) -> None:
    """Leave the suspects of a model to whichever worker asks next."""
    await database.run("suspects_yield", worker=worker, model=model_id)


async def claim_suspects(database: Database, worker: UUID, model_id: int) -> list[ClaimedJob]:
    """Take the next suspects: eight together, or one that was lost three times, alone."""
    return await _claim(
        database, "claim_suspects", worker=worker, model=model_id, tier=int(Tier.SUSPECT), free=_SUSPECTS_TOGETHER
    )


async def _claim(database: Database, name: str, **parameters: Any) -> list[ClaimedJob]:
    async with database.transaction() as connection:
        flows = await fetch(
            connection,
            "claim_lock",
            worker=parameters["worker"],
            model=parameters["model"],
            tier=parameters["tier"],
            free=parameters["free"],
        )
        if not flows:
            return []
        taken = await fetch(connection, name, locked=[flow.id for flow in flows], **parameters)
    lane = Tier(parameters["tier"])
    if taken:
        metrics.CLAIM_COMPANY.observe(len(taken))
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
        )
        for row in taken
    ]
