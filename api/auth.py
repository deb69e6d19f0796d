"""Whose request is it? The key of its Authorization header, or nobody's where one machine serves one user."""

from typing import Final

from fastapi import Request

from api import parts
from jobs.errors import Unauthorized
from jobs.records import Tenant

DEFAULT: Final = Tenant(1, "default")
_HOW: Final = (
    "Send it as a header: Authorization: Bearer YOUR_KEY. `longhaul keys create` makes one; on a machine of your own,"
    " LONGHAUL_AUTH=none lets any key pass."
)


async def tenant(request: Request) -> Tenant:
    """The tenant whose key this request carries; with LONGHAUL_AUTH=none always `default`.

    Raises:
        Unauthorized: no key, or not a live one.
        Unavailable: the database does not answer.
    """
    here = parts.of(request)
    if here.settings.auth == "none":
        return DEFAULT
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    # Anthropic's SDK has a header of its own.
    secret = secret.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    if not secret:
        raise Unauthorized(f"You didn't provide an API key. {_HOW}")
    try:
        return await here.keyring.tenant(secret)
    except Unauthorized:
        hint = f"{secret[:6]}…{secret[-4:]}" if len(secret) > 20 else "a short one"
        raise Unauthorized(f"Incorrect API key provided: {hint}. {_HOW}", code="invalid_api_key") from None
