"""Batches for the tests of what control does with them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import pytest

from control.ingest import Ingest
from jobs import batches, catalog, files, ids
from jobs.blobs import Blobs
from jobs.catalog import Catalog
from jobs.database import Database
from jobs.records import Batch, Json, Model, NewBatch, Registration
from jobs.settings import Settings
from tests.api import schemas

CHAT: Final = "/v1/chat/completions"
MakeBatch: TypeAlias = Callable[[Sequence[Json | str]], Awaitable[Batch]]
"""`await new_batch([chat("a"), "{"])`: a batch of a file of these lines."""


def chat(custom_id: str, text: str = "hello", **body: Any) -> Json:
    """An input line."""
    message = {"role": "user", "content": text}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": CHAT,
        "body": {"model": "tiny", "messages": [message], **body},
    }


async def content(database: Database, blobs: Blobs, file_id: UUID | None) -> list[Any]:
    """The lines of a result file."""
    assert file_id is not None
    stored = await files.get(database, 1, file_id)
    assert stored.purpose == "batch_output"
    data = b"".join([chunk async for chunk in blobs.read(stored.blob)])
    assert len(data) == stored.bytes
    return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def worker_of_model() -> UUID:
    return uuid4()


@pytest.fixture
async def model(database: Database, worker_of_model: UUID) -> Model:
    """`org/tiny`, alias `tiny`, with a worker."""
    registration = Registration("org/tiny", ("tiny",), (), schemas.ENDPOINTS, context_length=2048, slots=8)
    return await catalog.register(database, worker_of_model, registration, host="here", pid=1, home=None)


@pytest.fixture
def blobs(settings: Settings) -> Blobs:
    return Blobs(settings.blob_store)


@pytest.fixture
def published() -> list[tuple[int, int]]:
    """What ingest published."""
    return []


@pytest.fixture
def ingest(
    request: pytest.FixtureRequest,
    database: Database,
    blobs: Blobs,
    model: Model,
    settings: Settings,
    published: list[tuple[int, int]],
) -> Ingest:
    """With the settings that a test names as its parameter."""
    changed = settings.model_copy(update=getattr(request, "param", {}))
    return Ingest(database, blobs, Catalog(database), changed, lambda model, jobs: published.append((model, jobs)))


@pytest.fixture
def new_batch(database: Database, blobs: Blobs) -> MakeBatch:
    async def make(lines: Sequence[Json | str]) -> Batch:
        async def chunks() -> AsyncIterator[bytes]:
            for line in lines:
                yield (line if isinstance(line, str) else json.dumps(line)).encode() + b"\n"

        file_id = ids.new()
        key = f"files/{file_id.hex}"
        size = await blobs.put(key, chunks())
        await files.create(database, files.NewFile(file_id, 1, "batch", "in.jsonl", size, key))
        return await batches.create(database, NewBatch(ids.new(), 1, CHAT, file_id, "24h", 86_400))

    return make
