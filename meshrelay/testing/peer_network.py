"""Two P2P links, the NATs and bad paths between them and their relay, on a virtual clock; from a seed.

`PeerNetwork` lets both ends "sign in" first: the node sees their public addresses, as it does in reality, and writes
them into the sync bytes. From then on it moves packets and time, like `network.SimulatedPair` for sessions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from random import Random

from meshrelay.errors import PacketRejected
from meshrelay.machine.hole_punch import HolePunch, PunchOptions
from meshrelay.machine.nat_kind import MappingObserver
from meshrelay.machine.peer_link import LinkChanged, PeerEvent, PeerLink, PeerLinkOptions, PeerMessage, PeerPacket
from meshrelay.machine.peer_path import Path
from meshrelay.testing.impairment import Impairment, LossyPath
from meshrelay.testing.nat import Nat, NatNetwork
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.sync_bytes import SyncBytes, SyncUser

__all__ = ["PeerEnd", "PeerNetwork"]

NODE = UdpAddress("198.51.100.250", 7100)
_SECOND_NODE = UdpAddress("198.51.100.251", 7100)

#: Port of socket 0; the others follow.
_FIRST_PORT = 40000

_SYNC = SyncBytes(bytes(range(48)), (SyncUser("ann", ()), SyncUser("bob", ())))


class PeerEnd:
    """One client: its socket, its link and what came out of it."""

    def __init__(self, name: str, host: str, nats: Sequence[Nat]) -> None:
        self.name = name
        self.host = host
        self.nats = nats
        self.observer = MappingObserver()
        #: As the node says; None: UDP does not pass.
        self.public: UdpAddress | None = None
        self.link: PeerLink
        self.punch: HolePunch
        self.peer: PeerEnd
        #: (virtual time, event), in order.
        self.events: list[tuple[float, PeerEvent]] = []
        self.rejected: Counter[str] = Counter()
        #: Way ("direct", "relay") -> packets sent.
        self.sent: Counter[str] = Counter()
        self.sockets: set[int] = set()

    @property
    def payloads(self) -> list[bytes]:
        """Payloads of all frames received, in order."""
        messages = [event for _, event in self.events if isinstance(event, PeerMessage)]
        return [frame.payload for message in messages for frame in message.frames]

    @property
    def changes(self) -> list[tuple[float, LinkChanged]]:
        """When the way changed, and to what."""
        return [(time, event) for time, event in self.events if isinstance(event, LinkChanged)]


class PeerNetwork:
    """See the module. The clock starts at 0, when both ends get the sync bytes.

    :param first: hosts and NATs of the one end, nearest first; `second` of the other.
    :param direct: what paths between public addresses do; `relay` what the way by the node does.
    :param sees_twice: a second node has seen both ends, so that they know what mapping they have.
    """

    def __init__(
        self,
        first: Sequence[Nat],
        second: Sequence[Nat],
        *,
        direct: Impairment | None = None,
        relay: Impairment | None = None,
        sees_twice: bool = True,
        seed: int = 0,
        options: PeerLinkOptions | None = None,
    ) -> None:
        self.now = 0.0
        self.nats = NatNetwork()
        self.nats.add_host("node", NODE.host)
        self.nats.add_host("second node", _SECOND_NODE.host)
        self.first = PeerEnd("ann", "192.168.1.11" if first else "198.51.100.11", first)
        self.second = PeerEnd("bob", "192.168.1.12" if second else "198.51.100.12", second)
        self.ends = (self.first, self.second)
        self.first.peer, self.second.peer = self.second, self.first
        direct = direct or Impairment(delay_seconds=0.02)
        relay = relay or Impairment(delay_seconds=0.03)
        #: End -> the paths that its packets take.
        self.direct = {end.name: LossyPath(direct, 4 * seed + at) for at, end in enumerate(self.ends)}
        self.relay = {end.name: LossyPath(relay, 4 * seed + 2 + at) for at, end in enumerate(self.ends)}
        #: Longer datagrams do not pass directly.
        self.direct_limit_bytes = 1400
        self._order = count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        for end in self.ends:
            self._sign_in(end, sees_twice)
        for end in self.ends:
            self._make_link(end, seed, options)

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a virtual time."""
        heappush(self._agenda, (time, next(self._order), action))

    def start(self) -> None:
        """Let both ends get the sync bytes."""
        for end in self.ends:
            end.link.start(self.now)

    def run(self, until: float, stop: Callable[[], bool] | None = None) -> bool:
        """Let time pass up to `until` or until `stop` says True.

        :returns: what `stop` said last.
        """
        for end in self.ends:
            self._flush(end)
        while stop is None or not stop():
            time = self._next_time()
            if time is None or time > until:
                self.now = until
                return False
            self.now = max(self.now, time)
            self._step()
        return True

    def cut_direct(self) -> None:
        """Let no packet pass directly any more."""
        for path in self.direct.values():
            path.is_black_hole = True

    def _sign_in(self, end: PeerEnd, sees_twice: bool) -> None:
        self.nats.add_host(end.name, end.host, end.nats)
        nodes = (NODE, _SECOND_NODE) if sees_twice else (NODE,)
        for node in nodes:
            arrival = self.nats.send(end.name, _FIRST_PORT, node, self.now)
            if arrival is not None:
                end.public = end.public or arrival.source
                end.observer.add(node, arrival.source)

    def _make_link(self, end: PeerEnd, seed: int, options: PeerLinkOptions | None) -> None:
        peer = end.peer
        local = UdpAddress(peer.host, _FIRST_PORT)
        candidates = [] if peer.public is None else [peer.public, local]
        random = Random(f"{end.name} {seed}")
        punch = PunchOptions(has_socket=end.public is not None)
        end.punch = HolePunch(candidates, end.observer, random, self.now, punch)
        end.link = PeerLink(end.name, peer.name, _SYNC, end.punch, random.getrandbits(32), options)

    def _next_time(self) -> float | None:
        times = [end.link.next_deadline() for end in self.ends]
        if self._agenda:
            times.append(self._agenda[0][0])
        return min((time for time in times if time is not None), default=None)

    def _step(self) -> None:
        if self._agenda and self._agenda[0][0] <= self.now:
            heappop(self._agenda)[2]()
            for end in self.ends:
                self._flush(end)
            return
        for end in self.ends:
            deadline = end.link.next_deadline()
            if deadline is not None and deadline <= self.now:
                end.link.deadline_passed(self.now)
                self._flush(end)

    def _flush(self, end: PeerEnd) -> None:
        for packet in end.link.packets_to_send(self.now):
            self._put_on_the_way(end, packet)
        while (event := end.link.next_event()) is not None:
            end.events.append((self.now, event))

    def _put_on_the_way(self, end: PeerEnd, packet: PeerPacket) -> None:
        datagram, path = packet
        if path is None:
            end.sent["relay"] += 1
            for time in self.relay[end.name].arrivals(len(datagram), self.now):
                self.at(time, lambda: self._receive(end.peer, datagram, None))
            return
        end.sent["direct"] += 1
        end.sockets.add(path.socket)
        if len(datagram) > self.direct_limit_bytes:
            return
        for time in self.direct[end.name].arrivals(len(datagram), self.now):
            self.at(time, lambda: self._arrive(end, datagram, path))

    def _arrive(self, end: PeerEnd, datagram: bytes, path: Path) -> None:
        arrival = self.nats.send(end.name, _FIRST_PORT + path.socket, path.address, self.now)
        if arrival is not None and arrival.name == end.peer.name:
            self._receive(end.peer, datagram, Path(arrival.source, arrival.port - _FIRST_PORT))

    def _receive(self, end: PeerEnd, datagram: bytes, path: Path | None) -> None:
        try:
            end.link.receive_datagram(datagram, path, self.now)
        except PacketRejected as error:
            end.rejected[error.reason] += 1
