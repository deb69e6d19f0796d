"""vLLM as a worker keeps it, whose own app answers on a socket too: what it would have said without Longhaul.

`LONGHAUL_ENGINE=tests.end_to_end.served:factory`, with the port in LONGHAUL_TEST_PORT.
"""

import asyncio
import os
from collections.abc import Sequence

import uvicorn

from jobs.settings import Settings
from worker.engines.vllm import VllmEngine


class ServedVllm(VllmEngine):
    """The engine of a worker; nothing of it is changed."""

    async def start(self) -> None:
        await super().start()
        port = int(os.environ["LONGHAUL_TEST_PORT"])
        self._server = uvicorn.Server(uvicorn.Config(self.app, port=port, lifespan="off", log_config=None))
        self._serving = asyncio.create_task(self._server.serve())

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._serving
        await super().stop()


def factory(settings: Settings, arguments: Sequence[str]) -> ServedVllm:
    """The engine that `worker.engines.load` makes of `tests.end_to_end.served:factory`."""
    return ServedVllm(settings, arguments)
