"""NATs made of numbers: which public port a packet leaves by, and which packets are let in; from a seed.

====================  ======================  ===================================================
kind                  public port             lets in
====================  ======================  ===================================================
FULL_CONE             one for each socket     everybody
ADDRESS_RESTRICTED    one for each socket     hosts that the socket has sent to
PORT_RESTRICTED       one for each socket     addresses that the socket has sent to
SYMMETRIC_STEADY      the next, for each      the one address that the port is for
SYMMETRIC_RANDOM      by chance, for each     the same
BLOCKED               none: drops all UDP     nobody
====================  ======================  ===================================================

`NatNetwork` joins hosts and NATs, also one behind the other, and says where a packet ends up. Nothing here touches a
socket; time is an argument. What the kinds do in real routers is said in RFC 4787 and, with these names, in RFC 3489.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, unique
from random import Random
from typing import NamedTuple

from meshrelay.wire.addresses import UdpAddress

__all__ = ["Arrival", "Nat", "NatKind", "NatNetwork"]

#: A mapping that carries nothing out for so long is forgotten.
MAPPING_SECONDS = 30.0

_FIRST_PORT = 1024
_LAST_PORT = 65535


@unique
class NatKind(Enum):
    """See the module."""

    FULL_CONE = "full cone"
    ADDRESS_RESTRICTED = "address-restricted"
    PORT_RESTRICTED = "port-restricted"
    SYMMETRIC_STEADY = "symmetric, steady"
    SYMMETRIC_RANDOM = "symmetric, random"
    BLOCKED = "blocked"

    @property
    def is_symmetric(self) -> bool:
        """Whether each destination gets a port of its own."""
        return self in (NatKind.SYMMETRIC_STEADY, NatKind.SYMMETRIC_RANDOM)


class _Mapping:
    """One public port."""

    def __init__(self, inside: UdpAddress, key: tuple[UdpAddress, UdpAddress | None], now: float) -> None:
        self.inside = inside
        self.key = key
        self.used_at = now
        #: Address of each destination -> when something was last sent there.
        self.destinations: dict[UdpAddress, float] = {}


class Nat:
    """One router.

    :param public_host: its address outside.
    :param passes_hairpins: whether its own clients reach each other by their public addresses.
    """

    def __init__(self, kind: NatKind, public_host: str, seed: int = 0, passes_hairpins: bool = False) -> None:
        self.kind = kind
        self.public_host = public_host
        self.passes_hairpins = passes_hairpins
        self._random = Random(seed)
        self._by_key: dict[tuple[UdpAddress, UdpAddress | None], int] = {}
        self._by_port: dict[int, _Mapping] = {}
        self._next_port = self._random.randrange(20000, 60000)

    def translate_out(self, source: UdpAddress, destination: UdpAddress, now: float) -> UdpAddress | None:
        """Return the public source of a packet that goes out; None: dropped."""
        if self.kind is NatKind.BLOCKED:
            return None
        key = (source, destination if self.kind.is_symmetric else None)
        port = self._by_key.get(key)
        if port is None or self._is_old(port, now):
            port = self._free_port(source.port, now)
            self._by_key[key] = port
            self._by_port[port] = _Mapping(source, key, now)
        mapping = self._by_port[port]
        mapping.used_at = mapping.destinations[destination] = now
        return UdpAddress(self.public_host, port)

    def translate_in(self, port: int, source: UdpAddress, now: float) -> UdpAddress | None:
        """Return the inner destination of a packet that comes to a public port; None: dropped."""
        if port not in self._by_port or self._is_old(port, now):
            return None
        mapping = self._by_port[port]
        sent = [to for to, at in mapping.destinations.items() if now < at + MAPPING_SECONDS]
        if self.kind is NatKind.ADDRESS_RESTRICTED and source.host not in [to.host for to in sent]:
            return None
        if self.kind not in (NatKind.FULL_CONE, NatKind.ADDRESS_RESTRICTED) and source not in sent:
            return None
        return mapping.inside

    def forget(self) -> None:
        """Lose all mappings, as at a restart."""
        self._by_key.clear()
        self._by_port.clear()

    def _is_old(self, port: int, now: float) -> bool:
        return now >= self._by_port[port].used_at + MAPPING_SECONDS

    def _free_port(self, wished: int, now: float) -> int:
        port = wished
        if self.kind is NatKind.SYMMETRIC_STEADY:
            port = self._next_port = self._next_port + 1
        elif self.kind is NatKind.SYMMETRIC_RANDOM:
            port = self._random.randint(_FIRST_PORT, _LAST_PORT)
        while port in self._by_port and not self._is_old(port, now):
            port = port + 1 if port < _LAST_PORT else _FIRST_PORT
        old = self._by_port.pop(port, None)
        if old is not None:
            self._by_key.pop(old.key, None)
        return port


class Arrival(NamedTuple):
    """Where a packet ended up: the host's name, its port, and from where it seems to come."""

    name: str
    port: int
    source: UdpAddress


class NatNetwork:
    """Hosts and the NATs between them and the internet. Hosts of one network reach each other without a NAT."""

    def __init__(self) -> None:
        # Network -> host -> what is there. A network is named by the NAT that leads out of it, "" is the internet.
        self._networks: dict[str, dict[str, str | Nat]] = {"": {}}
        self._outer: dict[str, str] = {}
        self._nats: dict[str, Nat] = {}
        self._hosts: dict[str, tuple[str, str]] = {}

    def add_host(self, name: str, host: str, nats: Sequence[Nat] = ()) -> None:
        """Add a host.

        :param host: its IP address inside.
        :param nats: those between it and the internet, the nearest first; one may serve many hosts.
        """
        network = ""
        for nat in reversed(nats):
            inside = f"{network}/{nat.public_host}"
            if inside not in self._networks:
                self._networks[inside] = {}
                self._networks[network][nat.public_host] = nat
                self._outer[inside] = network
                self._nats[inside] = nat
            network = inside
        self._networks[network][host] = name
        self._hosts[name] = (network, host)

    def send(self, name: str, port: int, destination: UdpAddress, now: float) -> Arrival | None:
        """Return where a packet of a host's socket ends up; None: dropped on the way."""
        network, host = self._hosts[name]
        source = UdpAddress(host, port)
        came_from: Nat | None = None
        while destination.host not in self._networks[network]:
            nat = self._nats.get(network)
            translated = nat.translate_out(source, destination, now) if nat is not None else None
            if translated is None:
                return None
            source, network, came_from = translated, self._outer[network], nat
        return self._descend(network, source, destination, came_from, now)

    def _descend(
        self, network: str, source: UdpAddress, destination: UdpAddress, came_from: Nat | None, now: float
    ) -> Arrival | None:
        """Let a packet in through the NATs between `network` and the host."""
        while True:
            place = self._networks[network].get(destination.host)
            if not isinstance(place, Nat):
                return None if place is None else Arrival(place, destination.port, source)
            if place is came_from and not place.passes_hairpins:
                return None
            inner = place.translate_in(destination.port, source, now)
            if inner is None:
                return None
            network, destination = f"{network}/{place.public_host}", inner
