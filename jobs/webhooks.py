"""Webhook endpoints and the secrets that sign for them. What a caller sends is checked in `jobs/admission/webhook.py`.

Secrets and headers are stored encrypted; a secret is shown when it is made and never again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from jobs import ids, signing
from jobs.database import Database, Driver, fetch
from jobs.errors import BadRequest, NotFound
from jobs.records import OwnWebhook
from jobs.secrets import Vault

_LAST: Final = UUID(int=2**128 - 1)
_SECRET: Final = "signing_secret"
MOST: Final = 250
"""Endpoints of one tenant. The end of a job tells all of them, in the transaction that ends others' jobs too."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as its tenant sees it. `secret_hint` is the secret's end; of the headers only the names are shown.

    `failing_since`: nothing but failures from then on. A disabled endpoint gets no deliveries; `disabled_reason` says
    why it is.
    """

    id: UUID
    tenant_id: int
    name: str
    url: str
    event_types: tuple[str, ...]
    header_names: tuple[str, ...]
    secret_hint: str
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """What an update changes; None leaves a value as it is. `disabled` False enables an endpoint again."""

    name: str | None = None
    url: str | None = None
    event_types: Sequence[str] | None = None
    headers: Mapping[str, str] | None = None
    disabled: bool | None = None


async def create(
    database: Database,
    vault: Vault,
    tenant_id: int,
    *,
    name: str,
    url: str,
    event_types: Sequence[str],
    headers: Mapping[str, str] | None = None,
) -> tuple[Endpoint, str]:
    """A new endpoint and its signing secret, which is not shown again.

    Raises:
        NoSecretKey: this server has no key to encrypt the secret with.
        BadRequest: the tenant has `MOST` already.
    """
    identity, secret = ids.new(), signing.new_secret()
    names, sealed = _sealed_headers(vault, headers)
    rows = await database.run(
        "endpoint_create",
        id=identity,
        tenant=tenant_id,
        label=name,
        url=url,
        event_types=list(event_types),
        header_names=names,
        headers=sealed,
        lane=lane(identity.hex),
        secret=vault.seal(secret, _SECRET),
        hint=_hint(secret),
        most=MOST,
    )
    if not rows:
        raise BadRequest(f"There are {MOST} webhook endpoints already, the most that may be.", code="limit_reached")
    return _endpoint(rows[0]), secret


async def get(database: Database, tenant_id: int, endpoint_id: UUID) -> Endpoint:
    """One endpoint.

    Raises:
        NotFound: this tenant has no such endpoint.
    """
    rows = await database.run("endpoint_get", id=endpoint_id, tenant=tenant_id)
    return _endpoint(_one(rows, endpoint_id))


async def page(database: Database, tenant_id: int, *, limit: int, after: UUID | None = None) -> list[Endpoint]:
    """Up to `limit` of a tenant's endpoints made before `after`, newest first."""
    rows = await database.run("endpoint_page", tenant=tenant_id, before=after or _LAST, limit=limit)
    return [_endpoint(row) for row in rows]


async def update(database: Database, vault: Vault, tenant_id: int, endpoint_id: UUID, changes: Changes) -> Endpoint:
    """Change an endpoint, also for the deliveries that wait; what it is after.

    Raises:
        NotFound: this tenant has no such endpoint.
        NoSecretKey: this server has no key to encrypt the headers with.
    """
    names, sealed = _sealed_headers(vault, changes.headers)
    rows = await database.run(
        "endpoint_update",
        id=endpoint_id,
        tenant=tenant_id,
        label=changes.name,
        url=changes.url,
        event_types=None if changes.event_types is None else list(changes.event_types),
        sets_headers=changes.headers is not None,
        header_names=names,
        headers=sealed,
        disabled=changes.disabled,
    )
    _one(rows, endpoint_id)
    return await get(database, tenant_id, endpoint_id)


async def delete(database: Database, tenant_id: int, endpoint_id: UUID) -> None:
    """Remove an endpoint; what waits for it is not delivered any more.

    Raises:
        NotFound: this tenant has no such endpoint.
    """
    _one(await database.run("endpoint_delete", id=endpoint_id, tenant=tenant_id), endpoint_id)


async def rotate(
    database: Database, vault: Vault, tenant_id: int, endpoint_id: UUID, *, keep_old: bool = False
) -> tuple[Endpoint, str]:
    """A new secret, which signs from now on, also what waits already; with `keep_old` the old one does too for 24 h.

    Raises:
        NotFound: this tenant has no such endpoint.
        NoSecretKey: this server has no key to encrypt the secret with.
    """
    async with database.transaction() as connection:
        _one(await fetch(connection, "endpoint_touch", id=endpoint_id, tenant=tenant_id), endpoint_id)
        secret = await _replace(connection, vault, tenant_id, endpoint_id, keep_old)
    return await get(database, tenant_id, endpoint_id), secret


async def rotate_default(database: Database, vault: Vault, tenant: str, *, keep_old: bool = False) -> str:
    """A new default secret of the tenant of this name, which signs for webhooks that bring none; as `rotate`.

    Raises:
        NotFound: there is no such tenant.
        NoSecretKey: this server has no key to encrypt the secret with.
    """
    async with database.transaction() as connection:
        return await _replace(connection, vault, await _locked(connection, tenant), None, keep_old)


async def make_default(database: Database, vault: Vault, tenant: str, held: str) -> str | None:
    """A new default secret of the tenant of this name if it has none, else `held` if it is the current one, else None.

    Raises:
        NotFound: there is no such tenant.
        NoSecretKey: this server has no key to encrypt the secret with.
        Unreadable: it was encrypted with another key.
    """
    async with database.transaction() as connection:
        tenant_id = await _locked(connection, tenant)
        for row in await fetch(connection, "default_secret_look", tenant=tenant_id):
            return held if vault.open(bytes(row.secret)) == held else None
        return await _replace(connection, vault, tenant_id, None, keep_old=False)


async def has_default(database: Database, tenant_id: int) -> bool:
    """Whether a tenant has a default secret. Once it has one, it keeps having one."""
    return bool(await database.run("default_secret_look", tenant=tenant_id))


def own_webhooks(subjects: Iterable[tuple[UUID, OwnWebhook | None]]) -> dict[str, list[Any]]:
    """The parameters of the statements that store subjects with their own webhooks: one list a column."""
    those = [(subject, webhook) for subject, webhook in subjects if webhook is not None]
    return {
        "hooked": [subject for subject, _ in those],
        "hook_lanes": [webhook.lane for _, webhook in those],
        # PostgreSQL has no arrays of arrays of different lengths.
        "hook_events": [" ".join(webhook.event_types) for _, webhook in those],
        "hook_includes": [webhook.includes_result for _, webhook in those],
        "hook_targets": [webhook.target for _, webhook in those],
    }


async def own(database: Database, subject_id: UUID) -> OwnWebhook | None:
    """The webhook that a job or a batch brought itself, for who repeats it."""
    for row in await database.run("own_webhook_get", subject=subject_id):
        return OwnWebhook(row.lane, tuple(row.event_types), row.includes_result, bytes(row.target))
    return None


def lane(*receiver: object) -> int:
    """What deliveries to one receiver share, as the database's bigint."""
    digest = hashlib.blake2b("\0".join(map(str, receiver)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


async def _replace(connection: Driver, vault: Vault, tenant_id: int, endpoint_id: UUID | None, keep_old: bool) -> str:
    """Make a new secret the current one of an endpoint, or of the tenant; the caller holds that row's lock."""
    secret = signing.new_secret()
    about = {"tenant": tenant_id, "endpoint": endpoint_id}
    await fetch(connection, "secret_retire", keep=keep_old, **about)
    await fetch(connection, "secret_add", secret=vault.seal(secret, _SECRET), hint=_hint(secret), **about)
    return secret


async def _locked(connection: Driver, tenant: str) -> int:
    rows = await fetch(connection, "tenant_lock", tenant=tenant)
    if not rows:
        raise NotFound(f"No tenant found with the name '{tenant}'.")
    tenant_id: int = rows[0].id
    return tenant_id


def _sealed_headers(vault: Vault, headers: Mapping[str, str] | None) -> tuple[list[str], bytes | None]:
    """The names, which are shown, and everything, which is not."""
    if not headers:
        return [], None
    return list(headers), vault.seal(json.dumps(dict(headers)), "headers")


def _hint(secret: str) -> str:
    return secret[-4:]


def _one(rows: Sequence[Any], endpoint_id: UUID) -> Any:
    if not rows:
        raise NotFound(f"No webhook endpoint found with id '{ids.endpoint_id(endpoint_id)}'.", param="id")
    return rows[0]


def _endpoint(row: Any) -> Endpoint:
    return Endpoint(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        url=row.url,
        event_types=tuple(row.event_types),
        header_names=tuple(row.header_names),
        secret_hint=row.hint,
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
        failing_since=row.failing_since,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
