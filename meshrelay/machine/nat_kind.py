"""What others see of our public address in, how our NAT chooses public ports out.

One UDP socket speaks to the node and to peers. Each of them tells from which address our packets came; how those
answers differ shows the mapping of the NAT (RFC 4787, section 4.1), without a server made for that purpose. What a NAT
lets in cannot be seen this way, and need not be: a punch works or does not.
"""

from __future__ import annotations

from itertools import pairwise

from meshrelay.wire.addresses import AddressKind, UdpAddress
from meshrelay.wire.peer_packet import MAX_PUBLIC_ADDRESSES, Mapping

__all__ = ["MAX_OBSERVATIONS", "MAX_STEP", "MappingObserver"]

#: Answers of so many destinations are kept, the latest ones.
MAX_OBSERVATIONS = 16

#: Ports that are farther apart than this do not follow each other.
MAX_STEP = 64

_TEXTS = {
    Mapping.UNKNOWN: "not known yet: it takes two places that see this address",
    Mapping.SAME: "one public port for all destinations",
    Mapping.STEADY: "another public port for each destination, in even steps (symmetric)",
    Mapping.RANDOM: "another public port for each destination, by chance (symmetric)",
}


class MappingObserver:
    """What was seen of one socket. Answers of IPv4 and IPv6 destinations are told apart."""

    def __init__(self) -> None:
        # Destination -> how it sees us, latest last.
        self._seen: dict[UdpAddress, UdpAddress] = {}

    def add(self, destination: UdpAddress, seen: UdpAddress) -> None:
        """Note that `destination` receives our packets from `seen`.

        What a neighbour in our own network sees is no public address, and is passed over.
        """
        if seen.kind is not AddressKind.PUBLIC:
            return
        if self._seen.get(destination) == seen:
            return
        self._seen.pop(destination, None)
        self._seen[destination] = seen
        if len(self._seen) > MAX_OBSERVATIONS:
            del self._seen[next(iter(self._seen))]

    def clear(self) -> None:
        """Forget everything: the socket or the network is another one."""
        self._seen.clear()

    @property
    def public(self) -> tuple[UdpAddress, ...]:
        """Our public addresses, the latest first; at most what one PROBE can tell."""
        return tuple(dict.fromkeys(reversed(self._seen.values())))[:MAX_PUBLIC_ADDRESSES]

    @property
    def mapping(self) -> Mapping:
        """How the NAT chooses ports, as far as that is known."""
        ports = self._ports()
        if len(ports) < 2:
            return Mapping.UNKNOWN
        if len(set(ports)) == 1:
            return Mapping.SAME
        return Mapping.STEADY if self.step else Mapping.RANDOM

    @property
    def step(self) -> int:
        """The distance from one public port to the next, -64 to 64; 0: there is none."""
        ports = self._ports()
        steps = [after - before for before, after in pairwise(ports) if after != before]
        if not steps or any(abs(step) > MAX_STEP for step in steps):
            return 0
        return min(steps, key=abs)

    @property
    def text(self) -> str:
        """The mapping, for people."""
        return _TEXTS[self.mapping]

    def _ports(self) -> list[int]:
        """Return the ports that were seen, of the IP version of the latest, in the order in which they were."""
        if not self._seen:
            return []
        is_v6 = ":" in next(reversed(self._seen.values())).host
        return [seen.port for seen in self._seen.values() if (":" in seen.host) is is_v6]
