"""What a tenant may ask for just now, though it could be done."""

from collections.abc import Iterable

from api.parts import Parts
from jobs.errors import TooMany
from jobs.records import NewJob, Tier


async def refuse_flex(here: Parts, jobs: Iterable[NewJob]) -> None:
    """Refuse `flex` while its lane is as long as the operator allows, as OpenAI does without resources for it.

    Raises:
        TooMany: with OpenAI's code `resource_unavailable`.
    """
    most = here.settings.flex_queue_limit
    if most is None:
        return
    for model_id in {job.model_id for job in jobs if job.tier is Tier.FLEX}:
        lane = await here.backlog.lane(model_id, Tier.FLEX)
        if lane is not None and lane.queued >= most:
            raise TooMany(
                "Resource unavailable: too many requests with service_tier 'flex' are waiting. Try again later, or"
                " with another service_tier.",
                param="service_tier",
                code="resource_unavailable",
            )
