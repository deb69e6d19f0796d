"""The HTTP client of `longhaul batch`: files up and down, batches made, looked at and stopped."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from jobs.records import Json
from longhaul.batch_files import Part, Section
from longhaul.client import TERMINAL, Client


class BatchClient(Client):
    """The calls of the Files and Batch API; every one returns the API's own object."""

    async def upload(self, part: Part, key: str, told: Callable[[int], None] = lambda sent: None) -> Json:
        """`POST /v1/files` of a part of a file, streamed; the same key is the same file."""
        with Section(part, told) as content:
            return await self._object(
                "POST",
                "/v1/files",
                data={"purpose": "batch"},
                files={"file": (part.name, content, "application/octet-stream")},
                headers={"Idempotency-Key": key},
            )

    async def create_batch(self, batch: Json, key: str | None = None) -> Json:
        """`POST /v1/batches`; the same key is the same batch."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self._object("POST", "/v1/batches", json=batch, headers=headers)

    async def batch(self, batch_id: str) -> Json:
        """`GET /v1/batches/{id}`."""
        return await self._object("GET", f"/v1/batches/{batch_id}")

    async def batch_page(self, filters: dict[str, str]) -> Json:
        """`GET /v1/batches`: one page, newest first."""
        return await self._object("GET", "/v1/batches", params=filters)

    async def cancel_batch(self, batch_id: str) -> Json:
        """`POST /v1/batches/{id}/cancel`: the batch object, cancelling."""
        return await self._object("POST", f"/v1/batches/{batch_id}/cancel")

    async def retry_batch(self, batch_id: str) -> Json:
        """`POST /v1/batches/{id}/retry`: the new batch's object."""
        return await self._object("POST", f"/v1/batches/{batch_id}/retry")

    def content(self, file_id: str) -> AsyncIterator[bytes]:
        """`GET /v1/files/{id}/content`, in chunks."""
        return self.stream(f"/v1/files/{file_id}/content")

    async def until_all_ended(
        self, batch_ids: Sequence[str], poll: float, seen: Callable[[Sequence[Json]], None]
    ) -> list[Json]:
        """Look every `poll` seconds until all batches have ended; `seen` is told of all of them each time.

        Once a batch was seen, an API that is away for a minute does not end the wait: it may be restarting.
        """
        batches = [await self.batch(batch_id) for batch_id in batch_ids]
        seen(batches)
        while not all(batch["status"] in TERMINAL for batch in batches):
            await asyncio.sleep(poll)
            batches = [await self._look_again(batch) for batch in batches]
            seen(batches)
        return batches

    async def _look_again(self, batch: Json) -> Json:
        if batch["status"] in TERMINAL:
            return batch
        return await self._patiently(lambda: self.batch(batch["id"]))
