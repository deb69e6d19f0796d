"""Where webhooks may go: what the form of a URL shows, and the rule for the addresses that are really connected to."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

from jobs.errors import BadRequest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK: Final = "127.0.0.0/8,::1"
"""What a deployment on one machine may allow, so that its own receivers are reached."""

LONGEST: Final = 2048

# One grammar for the check and for the connection: two parsers that read a URL differently are a way around a check.
_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?")
_AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

_PUBLIC_6: Final = IPv6Network("2000::/3")
# Python's `is_global` calls some of these global: old and translated ranges that lead back inside, and the address at
# which Azure's hosts serve their machines.
_CLOSED: Final[tuple[Network, ...]] = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv4Network("168.63.129.16/32"),
    IPv6Network("2001::/23"),
    IPv6Network("2001:db8::/32"),
    IPv6Network("2002::/16"),
    IPv6Network("3fff::/20"),
)


def is_reachable(address: Address) -> bool:
    """Whether the address is a public one; the rule is RELIABILITY's, made of IANA's special-purpose registries."""
    address = _unwrapped(address)
    if any(address in network for network in _CLOSED):
        return False
    if isinstance(address, IPv6Address):
        return address in _PUBLIC_6
    return address.is_global and not address.is_multicast and not address.is_reserved


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart, in lower case where case means nothing: what to connect to and what to ask for."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port, as in the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reach:
    """Which hosts, networks and ports webhooks may reach.

    A host that is named is trusted: any port, http too, whatever its address. A network adds its addresses to the
    public ones; a URL that gives one of them as its host counts as named.
    """

    hosts: frozenset[str]
    networks: tuple[Network, ...]
    ports: frozenset[int]

    @classmethod
    def of(cls, allow: str, ports: str) -> Self:
        """From lists with commas: hosts (`.corp.example`: all below it), addresses and networks; port numbers.

        Raises:
            ValueError: naming what is none of these.
        """
        hosts, networks = set(), []
        for word in _words(allow):
            if _is_numeric(word) or ":" in word or "/" in word:
                networks.append(ip_network(word.strip("[]")))
            elif _NAME.fullmatch(word.removeprefix(".")):
                hosts.add(word)
            else:
                raise ValueError(f"{word!r} is neither a host nor a network")
        numbers = frozenset(map(int, _words(ports)))
        if not all(0 < number < 65536 for number in numbers):
            raise ValueError("a port is a number from 1 to 65535")
        return cls(frozenset(hosts), tuple(networks), numbers)

    def names(self, host: str) -> bool:
        """Whether the host is named, itself or by a domain above it."""
        labels = host.split(".")
        return host in self.hosts or any("." + ".".join(labels[at:]) in self.hosts for at in range(1, len(labels)))

    def trusts(self, host: str) -> bool:
        """Whether the host is named, or is by its form an address of a network that is added."""
        address = _literal(host)
        return self.names(host) or (address is not None and self._adds(address))

    def takes(self, address: Address) -> bool:
        """Whether an address that a host's name has led to may be connected to."""
        return is_reachable(address) or self._adds(address)

    def _adds(self, address: Address) -> bool:
        return any(_unwrapped(address) in network for network in self.networks)


def check(url: str, reach: Reach, param: str) -> Target:
    """The URL's parts, if webhooks may go there as far as its form shows; the address is judged when it is used.

    Raises:
        BadRequest: naming `param` and the reason.
    """
    try:
        return _checked(url, reach)
    except ValueError as reason:
        raise BadRequest(f"Webhooks cannot be sent to this URL: {reason}.", param=param, code="invalid_url") from None


def _checked(url: str, reach: Reach) -> Target:
    target = _parsed(url)
    if reach.trusts(target.host):
        return target
    if target.scheme != "https":
        raise ValueError("it must begin with https://")
    if target.port not in reach.ports:
        raise ValueError(f"port {target.port} is not open for webhooks")
    address = _literal(target.host)
    if address is not None and not reach.takes(address):
        raise ValueError(f"{target.host} is not a public address")
    return target


def _parsed(url: str) -> Target:
    if len(url) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    if not all("!" <= character <= "~" for character in url) or "\\" in url:
        raise ValueError("it holds spaces, backslashes or characters beyond ASCII; write them percent-encoded (%20)")
    scheme, separator, rest = url.partition("://")
    found = _URL.fullmatch(f"{scheme.lower()}{separator}{rest}")
    if found is None or found["scheme"] not in _DEFAULT_PORTS:
        raise ValueError("it has a #fragment" if "#" in url else "it must begin with https://")
    if "@" in found["authority"]:
        raise ValueError("it holds a user name or password; send `headers` instead")
    authority = _AUTHORITY.fullmatch(found["authority"].lower())
    if authority is None:
        raise ValueError("it has no valid host and port")
    port = int(authority["port"] or _DEFAULT_PORTS[found["scheme"]])
    if not 0 < port < 65536:
        raise ValueError("a port is a number from 1 to 65535")
    return Target(found["scheme"], _host(authority["host"]), port, (found["path"] or "/") + (found["query"] or ""))


def _host(written: str) -> str:
    """The host as it will be looked up.

    A last label that is a number makes the whole an IPv4 address to every resolver, whatever it looks like: `127.1`,
    `2130706433` and `0x7f000001` are 127.0.0.1. Only the plain form is taken.
    """
    host = written.removesuffix(".")
    try:
        if host.startswith("["):
            return str(IPv6Address(host[1:-1]))
        if _is_numeric(host):
            return str(IPv4Address(host))
    except ValueError:
        raise ValueError(f"{host} is no address in its plain form") from None
    if not _NAME.fullmatch(host):
        raise ValueError(f"{host!r} is no valid host name")
    return host


def _is_numeric(host: str) -> bool:
    return _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


def _literal(host: str) -> Address | None:
    """The address that the host is by its form alone; `localhost` is always this machine (RFC 6761)."""
    if host == "localhost" or host.endswith(".localhost"):
        return IPv4Address("127.0.0.1")
    return ip_address(host) if ":" in host or _is_numeric(host) else None


def _unwrapped(address: Address) -> Address:
    """An IPv4 address in IPv6 clothes is the IPv4 address: the system connects to that."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _words(listed: str) -> list[str]:
    return [word.strip().lower() for word in listed.split(",") if word.strip()]
