"""Connections for webhooks: a name is looked up, each address is judged, and just those are connected to."""

import asyncio
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Final

import httpcore

from jobs.webhook_url import Address, Reach

CONNECT_SECONDS: Final = 4
"""How long one address may take to be connected to."""
_MOST_ADDRESSES: Final = 3
# A look-up cannot be cancelled, so one tenant's names whose servers never answer must not take every thread.
_LOOKUPS: Final = 512
_SHARE: Final = 64
"""Look-ups of one tenant at the same time."""

Lookup = Callable[[str], Awaitable[Sequence[Address]]]
"""From a host's name to its addresses, the best first. Raises OSError."""


class Refused(Exception):
    """The host cannot be connected to, or must not be."""


class JudgedNetwork(httpcore.AsyncNetworkBackend):
    """What httpcore connects with. It checks the addresses that it then uses: one that was looked up before the check
    or after it may be another (DNS rebinding). TLS goes on to verify the host's name.
    """

    def __init__(self, reach: Reach, lookup: Lookup) -> None:
        self._reach = reach
        self._lookup = lookup
        self._tcp = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address of the host that answers.

        Raises:
            Refused: there is no such host, or not all its addresses may be connected to.
            httpcore.ConnectError, httpcore.ConnectTimeout: of the last address tried.
        """
        addresses = await self._judged(host)
        for address in addresses[:-1]:
            try:
                return await self._tcp.connect_tcp(str(address), port, CONNECT_SECONDS)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._tcp.connect_tcp(str(addresses[-1]), port, CONNECT_SECONDS)

    async def _judged(self, host: str) -> Sequence[Address]:
        try:
            addresses = await self._lookup(host)
        except OSError as error:
            raise Refused(f"the host {host} was not found") from error
        # One address that is closed closes them all: who names it beside a public one wants us to choose it one day.
        if not self._reach.names(host) and not all(map(self._reach.takes, addresses)):
            raise Refused(f"the host {host} leads to an address that is not public")
        return addresses[:_MOST_ADDRESSES]


class Names:
    """The system's look-up of names, on threads of its own; questions for the same name at one time are one.

    A tenant has a share of the threads. Its further names wait, and are not asked for when nobody waits any more.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup")
        self._asked: dict[str, asyncio.Future[list[Address]]] = {}
        self._shares: defaultdict[int, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_SHARE))

    async def addresses(self, tenant_id: int, host: str) -> Sequence[Address]:
        """The host's addresses in the system's order, which prefers those that this machine can reach."""
        if host not in self._asked:
            share = self._shares[tenant_id]
            await share.acquire()
            if host in self._asked:  # by another, while this waited
                share.release()
            else:
                self._ask(host, share)
        # Whoever gives up waiting leaves the answer to the others.
        return await asyncio.shield(self._asked[host])

    def close(self) -> None:
        """Ask no more; what is being asked ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, host: str, share: asyncio.Semaphore) -> None:
        asked = asyncio.get_running_loop().run_in_executor(self._threads, _ask_system, host)
        self._asked[host] = asked
        asked.add_done_callback(lambda answered: self._forget(host, share, answered))

    def _forget(self, host: str, share: asyncio.Semaphore, answered: asyncio.Future[list[Address]]) -> None:
        share.release()
        del self._asked[host]
        if not answered.cancelled():
            answered.exception()  # read, so that it is not reported as lost where all who asked have left


def _ask_system(host: str) -> list[Address]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [ip_address(place[0]) for *_, place in found]
