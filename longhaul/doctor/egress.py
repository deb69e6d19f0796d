"""Looks at the way out for webhooks: what encrypts them, the proxy, and whether receivers can be connected to."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore

from control.network import JudgedNetwork, Names, Refused
from jobs.database import Database
from jobs.errors import BadRequest
from jobs.secrets import Unreadable, Vault
from jobs.settings import Settings
from jobs.webhook_url import check
from longhaul.doctor.finding import Finding, ok, trouble, warning

_SECONDS: Final = 5.0
_KEY: Final = "Set LONGHAUL_SECRET_KEY on every API and control as it was when the webhooks were made."


async def examine(database: Database, settings: Settings, secret_key: str) -> list[Finding]:
    """Everything about it: connections are opened and closed, and nothing is sent. Raises SQLAlchemyError if the
    database does not answer."""
    endpoints = await database.run("doctor_endpoints")
    found = [*_secrets(endpoints, secret_key)]
    if settings.webhook_proxy_url:
        return [*found, await _proxy(settings.webhook_proxy_url)]
    return [*found, *await _receivers(endpoints, settings)]


def _secrets(endpoints: Sequence[Any], secret_key: str) -> Iterator[Finding]:
    sealed = next((bytes(row.secret) for row in endpoints if row.secret is not None), None)
    try:
        vault = Vault(secret_key)
        if sealed is not None:
            vault.open(sealed)
    except (Unreadable, ValueError):
        message = "What signs webhooks cannot be read: the secret key is not the one that it was stored with."
        yield trouble("webhook secrets", message, _KEY)
        return
    if not secret_key:
        message = "There is no LONGHAUL_SECRET_KEY, so requests with webhooks of their own are refused."
        yield warning("webhook secrets", message, "Make one with `Fernet.generate_key()` of `cryptography`.")
    else:
        yield ok("webhook secrets", "The secret key opens what is stored." if sealed else "There is a secret key.")


async def _proxy(url: str) -> Finding:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError) as error:
        message = f"The egress proxy {parts.hostname}:{port} cannot be reached: {error or 'no answer'}"
        return trouble("webhook egress", message, "Start it, or set WEBHOOK_PROXY_URL right: no webhook goes out.")
    writer.close()
    return ok("webhook egress", f"The proxy {parts.hostname}:{port} can be reached.")


async def _receivers(endpoints: Sequence[Any], settings: Settings) -> list[Finding]:
    names = Names()
    try:
        reasons = await asyncio.gather(*(_connect(row, settings, names) for row in endpoints))
    finally:
        names.close()
    failed = {host: reason for host, reason in reasons if reason is not None}
    if not endpoints:
        return [ok("webhook egress", "There is no endpoint to try.")]
    hosts = {host for host, _ in reasons}
    if len(failed) == len(hosts) > 1:  # one alone may be down itself
        message = f"None of {len(failed)} receivers can be connected to; {next(iter(failed.values()))}."
        do = "See whether this host reaches the internet by names and port 443, or set WEBHOOK_PROXY_URL."
        return [trouble("webhook egress", message, do)]
    ways = [
        warning("webhook egress", f"A receiver cannot be connected to: {reason}.", f"Ask the owner of {host}.")
        for host, reason in failed.items()
    ]
    return ways or [ok("webhook egress", f"{len(endpoints)} endpoints can be connected to.")]


async def _connect(row: Any, settings: Settings, names: Names) -> tuple[str, str | None]:
    """The host, and why it cannot be connected to, if it cannot."""
    host = urlsplit(row.url).hostname or row.url
    network = JudgedNetwork(settings.webhook_reach, partial(names.addresses, row.tenant_id))
    try:
        target = check(row.url, settings.webhook_reach, "url")
        async with asyncio.timeout(_SECONDS):
            stream = await network.connect_tcp(target.host, target.port)
            await stream.aclose()
    except (BadRequest, Refused) as error:
        return host, str(error)
    except (OSError, TimeoutError, httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        return host, f"{host} does not answer ({error or 'no connection'})"
    return host, None
