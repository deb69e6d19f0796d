"""How many workers would make every window: what is due by when, over what one worker does."""

import math
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from jobs.records import Tier

Due: TypeAlias = tuple[float, float]
"""(seconds until then, tokens that should have run by then)"""

WINDOWS: Final[Mapping[Tier, float]] = {
    Tier.PRIORITY: 60.0,
    Tier.DEFAULT: 60.0,
    Tier.FLEX: 3600.0,
    Tier.BATCH: 86_400.0,
    Tier.SUSPECT: 3600.0,
}
"""Seconds in which what waits should have run where nobody has said when it is due."""

_SOONEST_SECONDS: Final = 60.0
"""A window that is over, or nearly, cannot be made by any number of workers: one needs so long to come up."""

_HAIR: Final = 0.05
"""So much of a worker is none: rates are made of estimates."""


def rate(due: Iterable[Due]) -> float:
    """Tokens a second with which everything is done in its time, the nearest first."""
    wanted = total = 0.0
    for seconds, tokens in sorted(due):
        total += tokens
        wanted = max(wanted, total / max(seconds, _SOONEST_SECONDS))
    return wanted


def workers_wanted(tokens_per_second: float, worker_speed: float, serving: int, busy: bool) -> int:
    """Workers that make this rate, at least one while anything waits or runs (`busy`), else none.

    While nobody knows what one does (`worker_speed` 0), those that are `serving` are as good as any number.
    """
    if not busy:
        return 0
    if worker_speed <= 0:
        return max(1, serving)
    return max(1, math.ceil(tokens_per_second / worker_speed - _HAIR))
