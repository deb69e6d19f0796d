"""Tenants and their API keys: made, listed, revoked, and the ring that tells whose key a request carries."""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from jobs import ids
from jobs.database import Database
from jobs.errors import BadRequest, NotFound, Unauthorized, Unavailable
from jobs.group_commit import GroupCommit
from jobs.records import Tenant

PREFIX: Final = "sk-lh-"
_KEPT_SECONDS: Final = 2.0
"""How long a key's answer is believed: a revocation takes effect within it."""
_KEPT_KEYS: Final = 50_000
_COMPANY: Final = 500
_MOST_WEIGHT: Final = 1000.0


@dataclass(frozen=True, slots=True)
class KeyView:
    """What is shown of a key; `hint` is its last four characters."""

    id: UUID
    tenant: str
    name: str
    hint: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class TenantView:
    """A tenant and how it is served: its share beside others is by `weight`; while `paused` its jobs wait."""

    id: int
    name: str
    weight: float
    paused: bool
    created_at: datetime


async def create(database: Database, tenant: str, name: str) -> str:
    """Make a key of `tenant`, who is made when new.

    Returns:
        The secret. It is not stored and cannot be shown again.
    """
    _check_name(tenant)
    secret = PREFIX + secrets.token_urlsafe(32)
    key = {"id": ids.new(), "label": name, "hash": _hash(secret), "hint": secret[-4:], "tenant": tenant}
    while not await database.run("api_key_add", **key):
        pass  # somebody made the tenant in this moment; the statement's snapshot is older than its row
    return secret


async def list_keys(database: Database) -> list[KeyView]:
    """Every key, revoked ones too, oldest first."""
    return [KeyView(*row) for row in await database.run("api_key_list")]


async def revoke(database: Database, key: UUID) -> None:
    """End a key; the API refuses it within two seconds. Repeating this is harmless.

    Raises:
        NotFound: there is no such key.
    """
    if not await database.run("api_key_revoke", id=key):
        raise NotFound(f"No API key found with id '{key}'.")


async def list_tenants(database: Database) -> list[TenantView]:
    """Every tenant, oldest first."""
    return [TenantView(*row) for row in await database.run("tenant_list")]


async def set_tenant(
    database: Database, name: str, weight: float | None = None, paused: bool | None = None
) -> TenantView:
    """Change how a tenant is served from now on; None leaves a value as it is.

    Raises:
        NotFound: there is no such tenant.
        BadRequest: the weight is not above 0, or above 1,000.
    """
    if weight is not None and not 0 < weight <= _MOST_WEIGHT:
        raise BadRequest(f"A weight must be above 0 and at most {_MOST_WEIGHT:g}.", param="weight")
    rows = await database.run("tenant_set", tenant=name, weight=weight, paused=paused)
    if not rows:
        raise NotFound(f"No tenant found with the name '{name}'.")
    return TenantView(*rows[0])


class Keyring:
    """Whose key is it? Answers are kept for two seconds; keys that are not known yet are looked up in company."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[bytes, tuple[float, Tenant | None]] = {}
        self._group: GroupCommit[bytes, Tenant | None] = GroupCommit(self._look_up, limit=_COMPANY)

    async def tenant(self, secret: str) -> Tenant:
        """The tenant that a live key belongs to.

        Raises:
            Unauthorized: no live key is spelled so.
            Unavailable: the database does not answer.
        """
        hashed = _hash(secret)
        until, tenant = self._kept.get(hashed, (0.0, None))
        if until <= time.monotonic():
            tenant = await self._group.add(hashed)
        if tenant is None:
            raise Unauthorized(code="invalid_api_key")
        return tenant

    async def _look_up(self, hashes: Sequence[bytes]) -> Sequence[Tenant | None]:
        try:
            rows = await self._database.run("api_key_owners", hashes=list(hashes))
        except (SQLAlchemyError, OSError, TimeoutError):
            raise Unavailable from None
        tenants = {bytes(row.hash): Tenant(row.id, row.name) for row in rows}
        if len(self._kept) > _KEPT_KEYS:
            self._kept.clear()
        until = time.monotonic() + _KEPT_SECONDS
        self._kept.update((hashed, (until, tenants.get(hashed))) for hashed in hashes)
        return [tenants.get(hashed) for hashed in hashes]


def _hash(secret: str) -> bytes:
    """SHA-256: a key has 256 random bits, so neither salt nor stretching would add anything."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _check_name(tenant: str) -> None:
    if not tenant.strip() or not tenant.isprintable():
        raise BadRequest("A tenant's name must have visible characters only.", param="tenant")
