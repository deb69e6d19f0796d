"""What clients send to make batches, and a batch of theirs under way."""

import json
from collections.abc import Sequence
from typing import Any, Final

from jobs import ids
from jobs.database import Database
from jobs.records import Json
from tests.api.conftest import Client, Worker, chat, value
from tests.jobs.batch_rows import CHAT, Started, start

FILE: Final = ids.file_id(ids.new())


def asked(**more: Any) -> Json:
    return {"input_file_id": FILE, "endpoint": CHAT, "completion_window": "24h", **more}


def inline(*lines: Any, **more: Any) -> Json:
    return {"requests": list(lines), "endpoint": CHAT, "completion_window": "24h", **more}


async def created(client: Client, body: Json | None = None, **headers: str) -> Json:
    response = await client.post("/v1/batches", json=body or asked(), headers=headers)
    assert response.status_code == 200, response.text
    batch: Json = response.json()
    return batch


async def lines_of(client: Client, file_id: str) -> list[Json]:
    content = (await client.get(f"/v1/files/{file_id}/content")).content
    return [json.loads(line) for line in content.splitlines()]


async def started_for_acme(
    database: Database, worker: Worker, custom_ids: Sequence[str] = "abc", copies: Sequence[tuple[str, str]] = ()
) -> Started:
    """A batch of chats that wait; each says its custom_id."""
    acme = await value(database, "SELECT id FROM tenants WHERE name = 'acme'")
    bodies = {name: json.dumps(chat(name)).encode() for name in custom_ids}
    return await start(database, worker.id, worker.model.id, bodies, copies, tenant_id=acme, metadata={"team": "a"})
