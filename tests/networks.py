"""Networks of our own: namespaces of the kernel's, joined by links that can be cut. They want root and Linux.

A namespace is a host as far as TCP can tell.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyroute2 import NetNS, netns

_numbers: Final = itertools.count(1)


def allowed() -> bool:
    """Whether this process may make them."""
    name = f"longhaul-probe-{os.getpid()}"
    try:
        netns.create(name)
    except OSError:
        return False
    netns.remove(name)
    return True


class Host:
    """A namespace with a loopback interface. Whatever is started `inside` lives there."""

    def __init__(self, name: str) -> None:
        self.name = f"longhaul-{os.getpid()}-{name}"
        netns.create(self.name)
        with NetNS(self.name) as kernel:
            kernel.link("set", index=_index(kernel, "lo"), state="up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is on this host: the sockets it opens, and the processes it starts."""
        with open("/proc/thread-self/ns/net") as home:
            netns.setns(self.name)
            try:
                yield
            finally:
                netns.setns(home.fileno())

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            netns.remove(self.name)


class Link:
    """Joins two hosts through a router, which alone knows of a cut. `near` and `far` are their addresses on it."""

    def __init__(self, one: Host, other: Host) -> None:
        number = next(_numbers)
        self._router = Host(f"router-{number}")
        net = f"10.231.{number}"
        self.near, self.far = f"{net}.1", f"{net}.5"
        self._join(one, f"near{number}", self.near, f"{net}.2", towards=f"{net}.4/30")
        self._join(other, f"far{number}", self.far, f"{net}.6", towards=f"{net}.0/30")
        self.mend()

    def _join(self, host: Host, interface: str, address: str, gateway: str, towards: str) -> None:
        router = self._router.name
        with NetNS(host.name) as kernel, NetNS(router) as far:
            kernel.link("add", ifname=interface, kind="veth", peer={"ifname": interface, "net_ns_fd": router})
            for end, own in ((kernel, address), (far, gateway)):
                index = _index(end, interface)
                end.addr("add", index=index, address=own, prefixlen=30)
                end.link("set", index=index, state="up")
            kernel.route("add", dst=towards, gateway=gateway)

    def cut(self) -> None:
        """Lose every packet from now on. Neither host is told: no interface goes down, nothing is refused."""
        self._forward(False)

    def mend(self) -> None:
        self._forward(True)

    def _forward(self, forwards: bool) -> None:
        with self._router.inside():
            Path("/proc/sys/net/ipv4/ip_forward").write_text(str(int(forwards)))

    def remove(self) -> None:
        self._router.remove()


def _index(kernel: NetNS, interface: str) -> int:
    (index,) = kernel.link_lookup(ifname=interface)
    return int(index)
