"""An engine whose load holds the worker's loop, as native code may."""

import time
from collections.abc import Sequence

from jobs.settings import Settings
from tests.engines.scripted import ScriptedEngine


class Stuck(ScriptedEngine):
    async def start(self) -> None:
        time.sleep(3600)  # noqa: ASYNC251 - that is the point


def factory(settings: Settings, arguments: Sequence[str]) -> Stuck:
    """The engine that `worker.engines.load` makes of `tests.worker.stuck:factory`."""
    return Stuck()
