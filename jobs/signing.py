"""Signatures of webhooks, as Standard Webhooks 1.0 has them: https://www.standardwebhooks.com."""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable
from typing import Final

_PREFIX: Final = "whsec_"
_BYTES: Final = 32


def new_secret() -> str:
    """A secret that nobody had before."""
    return _PREFIX + base64.b64encode(os.urandom(_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that sign: what follows `whsec_`, in base64; a secret without that prefix is taken as it stands.

    Raises:
        ValueError: there are none, or they are not base64.
    """
    if not secret.startswith(_PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            raise ValueError(f"what follows {_PREFIX} is not base64") from None
    if not key:
        raise ValueError("it is empty")
    return key


def sign(webhook_id: str, timestamp: int, body: bytes, secrets: Iterable[str]) -> str:
    """The header `webhook-signature`: one signature for each secret, so that a receiver needs to know only one."""
    content = f"{webhook_id}.{timestamp}.".encode() + body
    signatures = (hmac.new(key_of(secret), content, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(signature).decode()}" for signature in signatures)
