"""Who goes next: the tiers' shares of a worker's slots, and what a job costs. The order inside a lane is SQL's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jobs.records import Model, Tier

INTERACTIVE: Final = frozenset({Tier.PRIORITY, Tier.DEFAULT})
BULK: Final = frozenset({Tier.FLEX, Tier.BATCH})


@dataclass(frozen=True, slots=True)
class Shares:
    """How a worker's slots are shared: each tier's part while others want them too, of any scale, and bulk's largest
    part, 0 to 1, while anyone interactive was served in the last minute."""

    of: Mapping[Tier, float]
    bulk_ceiling: float

    def part(self, tier: Tier, slots: int) -> int:
        """How many of so many slots are a tier's own, whatever waits in the others."""
        return int(slots * self.of[tier] / sum(self.of.values()))


def allocate(
    free: int,
    slots: int,
    running: Mapping[Tier, int],
    waiting: Mapping[Tier, int],
    interactive_recently: bool,
    shares: Shares,
) -> list[tuple[Tier, int]]:
    """Divide `free` slots among the tiers where jobs wait: `(tier, how many)`, best tier first.

    Each slot goes to the tier that is furthest below its share of all `slots`, so what a tier leaves free the others
    use. Bulk stays under its ceiling while interactive work is about, but never under its own share.
    """
    total = sum(shares.of.values())
    due = {tier: slots * share / total - running.get(tier, 0) for tier, share in shares.of.items()}
    left = {tier: count for tier, count in waiting.items() if count > 0 and tier in due}
    interactive = interactive_recently or any(left.get(tier) for tier in INTERACTIVE)
    reserve = slots * sum(shares.of[tier] for tier in BULK) / total
    bulk_room = max(1, int(max(slots * shares.bulk_ceiling, reserve))) if interactive else slots
    bulk_room -= sum(running.get(tier, 0) for tier in BULK)
    given: dict[Tier, int] = {}
    for _ in range(free):
        candidates = [tier for tier, count in left.items() if count and (tier in INTERACTIVE or bulk_room > 0)]
        if not candidates:
            break
        tier = max(candidates, key=lambda candidate: (due[candidate], -candidate))
        left[tier] -= 1
        due[tier] -= 1
        bulk_room -= tier in BULK
        given[tier] = given.get(tier, 0) + 1
    return sorted(given.items())


def estimate(body_bytes: int, max_tokens: int | None, n: int, model: Model, tier: Tier) -> int:
    """A job's cost in tokens before it ran, at least 1: its input by the model's measured bytes per token, and the
    smaller of what it may produce and what its lane's jobs produced so far, `n` times."""
    output = model.mean_output.get(tier, 128.0)
    if max_tokens is not None:
        output = min(float(max_tokens), output)
    return min(2**30, max(1, int(body_bytes / model.bytes_per_token + output * n)))
