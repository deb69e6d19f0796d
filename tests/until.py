"""Tests wait for a condition, never for time."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Return when `condition` holds.

    Raises:
        TimeoutError: it does not after `seconds`.
    """
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.01)
