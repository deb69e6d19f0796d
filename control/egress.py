"""The way out: POSTs to the URLs of webhooks, over connections to addresses that were judged as they are used."""

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self

import httpcore

from jobs.errors import BadRequest
from jobs.webhook_url import Address, Reach, Target, check

TIMEOUT_SECONDS: Final = 15
"""How long one POST may take in all, from the look-up of the name to the last byte of the answer."""
SHOWN_BYTES: Final = 1024
"""How much of an answer is kept to be shown."""
_MOST_BYTES: Final = 64 * 1024
_CONNECT_SECONDS: Final = 4
_MOST_ADDRESSES: Final = 3
# Many servers close a connection that was idle for five seconds; one that they close as we send costs an attempt.
_IDLE_SECONDS: Final = 4
# A look-up cannot be cancelled, so names whose servers never answer must not take every thread.
_LOOKUPS: Final = 64

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""From a host's name and port to its addresses, the best first. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said, whatever its status: a redirect is not followed and an error is an answer too."""

    status: int
    retry_after: float | None
    """Seconds from now."""
    body: bytes
    """The first `SHOWN_BYTES`."""
    seconds: float


class Undelivered(Exception):
    """A POST had no answer; `reason` is fit for whoever owns the URL, and tells nothing of our own network."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds


class Egress:
    """Sends POSTs from one loop and keeps connections for those that follow soon.

    With `proxy_url` all goes through that proxy, which judges the addresses; the environment's proxies are not used.
    """

    def __init__(self, reach: Reach, proxy_url: str | None = None, resolve: Resolve | None = None) -> None:
        ...

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The receiver's answer to this body. `Host` and `Content-Length` are ours, every other header the caller's.

        Raises:
            Undelivered: the URL or its address is refused, or no whole answer came within `TIMEOUT_SECONDS`.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """End the connections; what is under way fails."""
