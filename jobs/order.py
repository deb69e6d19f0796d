"""Who goes next: the tiers' shares of a worker's slots, and what a job costs. The order inside a lane is SQL's."""

from collections.abc import Mapping
from typing import Final

from jobs.records import Model, Tier

INTERACTIVE: Final = frozenset({Tier.PRIORITY, Tier.DEFAULT})
BULK: Final = frozenset({Tier.FLEX, Tier.BATCH})
_BULK_CEILING: Final = 0.75
"""Bulk's largest part of the slots while anyone interactive was served in the last minute."""


def allocate(
    free: int,
    slots: int,
    running: Mapping[Tier, int],
    waiting: Mapping[Tier, int],
    interactive_recently: bool,
    shares: Mapping[Tier, float],
) -> list[tuple[Tier, int]]:
    """Divide `free` slots among the tiers where jobs wait: `(tier, how many)`, best tier first.

    Each slot goes to the tier that is furthest below its share of all `slots`, so what a tier leaves free the others
    use. Bulk stays under three quarters of the slots while interactive work is about, but never under its own share.
    """
    total = sum(shares.values())
    due = {tier: slots * shares[tier] / total - running.get(tier, 0) for tier in shares}
    left = {tier: count for tier, count in waiting.items() if count > 0 and tier in due}
    interactive = interactive_recently or any(left.get(tier) for tier in INTERACTIVE)
    reserve = slots * sum(shares[tier] for tier in BULK) / total
    bulk_room = max(1, int(max(slots * _BULK_CEILING, reserve))) if interactive else slots
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
