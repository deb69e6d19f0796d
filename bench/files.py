"""Batches as a client makes them: upload a file, create, look until it has ended."""

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench import work
from bench.stack import Deployment
from jobs.records import Json

_LOOK_SECONDS = 0.2
"""Asking oftener takes of the cores what is measured, but for the last lines."""
_LAST = 0.97
"""Of the lines."""
_SOON_SECONDS = 0.02
_WINDOW = "24h"


def write(path: Path, bodies: Iterable[Json]) -> int:
    """Write an input file of these chats; its lines."""
    count = 0
    with path.open("w") as file:
        for body in bodies:
            line = {"custom_id": f"request-{count}", "method": "POST", "url": work.CHAT, "body": body}
            file.write(json.dumps(line) + "\n")
            count += 1
    return count


@dataclass(slots=True)
class Batches:
    """The batches of one deployment."""

    ours: Deployment
    http: httpx.AsyncClient

    @classmethod
    def of(cls, ours: Deployment) -> "Batches":
        headers = {"Authorization": f"Bearer {ours.key}"}
        return cls(ours, httpx.AsyncClient(base_url=ours.base_url, headers=headers, timeout=600, trust_env=False))

    async def upload(self, path: Path) -> str:
        """The file's id."""
        with path.open("rb") as file:
            answer = await self.http.post("/v1/files", data={"purpose": "batch"}, files={"file": (path.name, file)})
        answer.raise_for_status()
        identity: str = answer.json()["id"]
        return identity

    async def create(self, file_id: str) -> str:
        """The batch's id."""
        asked = {"input_file_id": file_id, "endpoint": work.CHAT, "completion_window": _WINDOW}
        answer = await self.http.post("/v1/batches", json=asked)
        answer.raise_for_status()
        identity: str = answer.json()["id"]
        return identity

    async def until(self, batch_id: str, *statuses: str) -> Any:
        """The batch object, once it has one of these statuses.

        Raises:
            RuntimeError: it ended in another way.
        """
        while True:
            batch = (await self.http.get(f"/v1/batches/{batch_id}")).json()
            if batch["status"] in statuses:
                return batch
            if batch["status"] in ("failed", "expired", "cancelled"):
                raise RuntimeError(f"the batch ended as {batch['status']}: {batch['errors']}")
            counts = batch["request_counts"]
            soon = counts["completed"] > _LAST * counts["total"] > 0
            await asyncio.sleep(_SOON_SECONDS if soon else _LOOK_SECONDS)

    async def seconds(self, file_ids: Sequence[str], count: int) -> float:
        """Make batches of these files, one after the other; seconds until all of their `count` lines are written."""
        began = time.perf_counter()
        batch_ids = [await self.create(file_id) for file_id in file_ids]
        ended = [await self.until(batch_id, "completed") for batch_id in batch_ids]
        seconds = time.perf_counter() - began
        completed = sum(batch["request_counts"]["completed"] for batch in ended)
        if completed != count:
            raise RuntimeError(f"{completed} of {count} lines completed")
        return seconds

    async def close(self) -> None:
        await self.http.aclose()
