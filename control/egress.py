"""The way out: POSTs to the URLs of webhooks, over connections to addresses that are judged as they are used."""

import asyncio
import os
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import certifi
import httpcore

from control.network import CONNECT_SECONDS, JudgedNetwork, Lookup, Names, Refused
from jobs.errors import BadRequest
from jobs.webhook_url import Reach, Target, check

TIMEOUT_SECONDS: Final = 15
"""How long one POST may take in all, from the look-up of the name to the last byte of the answer."""
SHOWN_BYTES: Final = 1024
"""How much of an answer is kept to be shown."""
_MOST_BYTES: Final = 64 * 1024
_LONGEST_REASON: Final = 300
# Many servers close a connection after five idle seconds, and one that is closed as we send costs an attempt.
_IDLE_SECONDS: Final = 4

_FAILURES: Final = (
    BadRequest,
    Refused,
    OSError,  # TLS that breaks after its handshake comes as it is, and so does our own timeout
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said, whatever its status: no redirect is followed, and an error is an answer too."""

    status: int
    retry_after: float | None
    """Seconds from now."""
    body: bytes
    """The first `SHOWN_BYTES`."""
    seconds: float


class Undelivered(Exception):
    """A POST had no answer; `reason` is for whoever owns the URL and tells nothing about our own network."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds


class Egress:
    """Sends POSTs from one loop, and keeps connections a while for those that follow.

    With `proxy_url` everything goes through that proxy, which then judges the addresses. Proxies that the environment
    names are not used.
    """

    def __init__(self, reach: Reach, proxy_url: str | None = None, lookup: Lookup | None = None) -> None:
        self._reach = reach
        self._names = Names()
        self._lookup = lookup
        self._proxy = _proxy(proxy_url) if proxy_url else None
        self._tls = _tunnel_tls() if proxy_url else httpcore.default_ssl_context()
        self._pools: dict[int, httpcore.AsyncConnectionPool] = {}
        """By tenant, each with its share of the look-ups."""
        self._idle: dict[str, list[httpcore.AsyncConnectionInterface]] = {}
        self._swept = time.monotonic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, tenant_id: int) -> Answer:
        """The receiver's answer to this body. `Host` and `Content-Length` are ours, every other header the caller's.
        It is the tenant's share of the look-ups that a new connection needs.

        Raises:
            Undelivered: the URL or its address is refused, or no whole answer came within `TIMEOUT_SECONDS`.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                request = _request(check(url, self._reach, "url"), headers, body, proxied=self._proxy is not None)
                status, retry_after, start = await self._exchange(request, tenant_id)
        except _FAILURES as error:
            # It may quote the receiver, which may have said a great deal.
            raise Undelivered(_reason(error)[:_LONGEST_REASON], time.monotonic() - began) from error
        return Answer(status, retry_after, start, time.monotonic() - began)

    async def close(self) -> None:
        """End the idle connections; for when nothing is under way."""
        await self._sweep(everything=True)
        self._names.close()

    async def _exchange(self, request: httpcore.Request, tenant_id: int) -> tuple[int, float | None, bytes]:
        connection = await self._connection(request.url.origin, tenant_id)
        try:
            response = await connection.handle_async_request(request)
            try:
                return response.status, _retry_after(response), await _start(response)
            finally:
                await response.aclose()
        finally:
            if connection.is_available():
                self._idle.setdefault(str(request.url.origin), []).append(connection)
            else:
                await connection.aclose()

    async def _connection(self, origin: httpcore.Origin, tenant_id: int) -> httpcore.AsyncConnectionInterface:
        if time.monotonic() - self._swept > _IDLE_SECONDS:
            await self._sweep()
        kept = self._idle.get(str(origin), [])
        while kept:
            connection = kept.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return self._pool(tenant_id).create_connection(origin)

    def _pool(self, tenant_id: int) -> httpcore.AsyncConnectionPool:
        """Only makes connections: its own search for a free one passes over all of them, for every request."""
        if tenant_id not in self._pools:
            lookup = self._lookup or partial(self._names.addresses, tenant_id)
            self._pools[tenant_id] = httpcore.AsyncConnectionPool(
                ssl_context=self._tls,
                proxy=self._proxy,
                keepalive_expiry=_IDLE_SECONDS,
                network_backend=None if self._proxy else JudgedNetwork(self._reach, lookup),
            )
        return self._pools[tenant_id]

    async def _sweep(self, everything: bool = False) -> None:
        self._swept = time.monotonic()
        idle, self._idle = self._idle, {}
        for origin, connections in idle.items():
            for connection in connections:
                if everything or connection.has_expired():
                    await connection.aclose()
                else:
                    self._idle.setdefault(origin, []).append(connection)


class _TunnelTls(ssl.SSLContext):
    """Takes the brackets, which an IPv6 address has where a proxy is asked for it, from the name to be verified."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        if isinstance(server_hostname, bytes):
            server_hostname = server_hostname.decode("ascii")
        if server_hostname is not None:
            server_hostname = server_hostname.strip("[]")
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _tunnel_tls() -> ssl.SSLContext:
    context = _TunnelTls(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    context.load_verify_locations(certifi.where())
    return context


def _request(target: Target, headers: Mapping[str, str], body: bytes, proxied: bool) -> httpcore.Request:
    # A proxy is told host and port in one word, which needs the brackets; a socket is given the address as it is.
    host = f"[{target.host}]" if proxied and ":" in target.host else target.host
    url = httpcore.URL(scheme=target.scheme.encode(), host=host.encode(), port=target.port, target=target.path.encode())
    ours = [(b"Host", target.authority.encode()), (b"Content-Length", str(len(body)).encode())]
    theirs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return httpcore.Request(b"POST", url, headers=ours + theirs, content=body)


async def _start(response: httpcore.Response) -> bytes:
    """The first bytes to show. The rest is read to free the connection, up to a limit, after which it is closed."""
    start, read = b"", 0
    async for chunk in response.aiter_stream():
        start += chunk[: SHOWN_BYTES - len(start)]
        read += len(chunk)
        if read > _MOST_BYTES:
            break
    return start


def _retry_after(response: httpcore.Response) -> float | None:
    """Seconds, which the header gives as such or as a date (RFC 9110, 10.2.3); what is neither says nothing."""
    said = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"").decode("latin-1")
    if re.fullmatch("[0-9]{1,9}", said):
        return float(said)
    try:
        then = parsedate_to_datetime(said)
    except (ValueError, OverflowError):  # the latter for years and zones of many digits
        return None
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _proxy(url: str) -> httpcore.Proxy:
    parsed = urlsplit(url)
    auth = (unquote(parsed.username), unquote(parsed.password or "")) if parsed.username else None
    return httpcore.Proxy(url, auth=auth)


def _reason(error: Exception) -> str:
    match error:
        case BadRequest() | Refused():
            return str(error)
        case TimeoutError():
            return f"no whole answer within {TIMEOUT_SECONDS} seconds"
        case httpcore.TimeoutException():
            return f"no connection within {CONNECT_SECONDS} seconds"
        case httpcore.ProxyError():
            return f"the egress proxy refused: {error}"
        case httpcore.ConnectError():
            return f"no connection: {_cause(error)}"
        case httpcore.LocalProtocolError():
            return f"the request cannot be sent: {error}"
        case httpcore.RemoteProtocolError():
            return f"the answer is not HTTP: {error}"
    return "the connection broke before the answer was whole"


def _cause(error: BaseException) -> str:
    """What the system or TLS said, below the layers that each report the failure in words of their own."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return str(error) or "closed by the other side"
