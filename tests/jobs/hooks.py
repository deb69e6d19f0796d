"""Webhooks for the tests: endpoints, jobs that bring their own, and what was told."""

import json
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from jobs import outbox, webhooks
from jobs.database import Database
from jobs.outbox import Due
from jobs.records import OwnWebhook
from jobs.secrets import Vault, new_key
from jobs.webhooks import Endpoint
from tests.jobs.ledger import rows

KEY: Final = new_key()
VAULT: Final = Vault(KEY)
URL: Final = "https://example.com/hook"
SECRET: Final = "whsec_" + "A" * 44


async def endpoint(database: Database, *event_types: str, tenant: int = 1, **fields: Any) -> tuple[Endpoint, str]:
    """An endpoint that listens to these events, and its secret."""
    wanted: dict[str, Any] = {"name": "hook", "url": URL} | fields
    return await webhooks.create(database, VAULT, tenant, event_types=event_types, **wanted)


def own(*event_types: str, includes_result: bool = False, url: str = URL, **target: Any) -> OwnWebhook:
    """A webhook that a job brings."""
    sealed = VAULT.seal(json.dumps({"url": url, "secret": SECRET, "headers": {}} | target), "webhook")
    return OwnWebhook(webhooks.lane(url), event_types, includes_result, sealed)


async def told(database: Database) -> list[tuple[str, UUID]]:
    """Type and subject of every delivery, in the order in which they were written."""
    found = await rows(database, "SELECT type, subject_id FROM deliveries ORDER BY created_at, type, id")
    return [(row.type, row.subject_id) for row in found]


async def claim(database: Database, full: Sequence[int] = (), most: int = 100) -> list[Due]:
    """What is due."""
    return await outbox.claim(database, VAULT, full, (), (), most)


async def send(database: Database, endpoint_id: UUID, count: int = 1) -> list[UUID]:
    """Deliveries to an endpoint, as ends of jobs would have written them."""
    made = await rows(
        database,
        "INSERT INTO deliveries (id, subject_id, endpoint_id, tenant_id, lane, type, body)"
        " SELECT new_id(), s, id, tenant_id, lane, 'job.completed', event_body(s, 'job.completed', now())"
        " FROM webhook_endpoints, (SELECT gen_random_uuid() AS s FROM generate_series(1, %s)) n"
        " WHERE id = %s RETURNING id",
        count,
        endpoint_id,
    )
    return [row.id for row in made]
