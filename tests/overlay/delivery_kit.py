"""Peers that only exchange messages, and a network between them that loses, doubles and mixes up what they send."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from meshrelay.overlay.conversations import Outcome
from meshrelay.overlay.deliveries import Deliveries, Message, Received
from meshrelay.overlay.identity import Identity
from meshrelay.wire.overlay import Envelope, decode_frame, encode_frame

__all__ = ["RELAYS", "Network", "Node", "identity"]

#: First hops to everybody.
RELAYS = tuple(bytes([number]) * 20 for number in (240, 241, 242))


def identity(number: int) -> Identity:
    """The same one for the same number, always."""
    return Identity(bytes([number]) * 32)


class Node:
    """One peer, what it got, and how its messages ended."""

    def __init__(self, network: Network, number: int, *, accepts_unsigned: bool = True, max_peers: int = 100) -> None:
        self.identity = identity(number)
        self.peer_id = self.identity.peer_id
        self.network = network
        self.got: list[Message] = []
        self.outcomes: dict[bytes, Outcome] = {}
        self.hops: list[tuple[str, bytes, bytes]] = []
        self.received: list[Received] = []
        #: Called with each message that comes.
        self.answer: Callable[[Message], None] = lambda message: None
        self.deliveries = Deliveries(
            self.identity,
            self.post,
            self.deliver,
            network.random.randbytes,
            accepts_unsigned=accepts_unsigned,
            worked=lambda target, hop: self.hops.append(("worked", target, hop)),
            failed=lambda target, hop: self.hops.append(("failed", target, hop)),
            max_peers=max_peers,
        )

    def post(self, envelope: Envelope, avoid: frozenset[bytes]) -> tuple[bytes, ...]:
        return self.network.post(envelope, avoid)

    def deliver(self, message: Message) -> None:
        self.got.append(message)
        self.answer(message)

    def send(self, to: bytes, raw: bytes) -> None:
        """Send a message; its text is the name of its outcome."""
        self.deliveries.send(to, raw, self.network.now, lambda outcome: self.outcomes.__setitem__(raw, outcome))

    def receive(self, envelope: Envelope) -> Received:
        """Take an envelope now."""
        self.received.append(self.deliveries.received(envelope, self.network.now))
        return self.received[-1]

    @property
    def texts(self) -> list[bytes]:
        """What it got, in order."""
        return [message.raw or b"" for message in self.got]


class Network:
    """Carries envelopes as frames.

    :param loss: share of them that is lost; as many are doubled.
    :param delay: seconds that each takes, at most; they overtake each other.
    """

    def __init__(self, seed: int = 0, loss: float = 0.0, delay: float = 0.0) -> None:
        self.random = Random(seed)
        self.loss = loss
        self.delay = delay
        self.now = 0.0
        self.nodes: dict[bytes, Node] = {}
        #: Everything that was posted.
        self.log: list[Envelope] = []
        #: First hops there are now.
        self.relays: tuple[bytes, ...] = RELAYS
        #: May look at an envelope and change it; None: it is lost.
        self.on_the_way: Callable[[Envelope], Envelope | None] = lambda envelope: envelope
        #: True: everything arrives before `post` returns.
        self.is_instant = False
        self._flying: list[tuple[float, int, bytes]] = []
        self._count = 0

    def add(self, number: int, *, accepts_unsigned: bool = True, max_peers: int = 100) -> Node:
        """Make a peer, or make it anew: it has forgotten everything but its key."""
        node = Node(self, number, accepts_unsigned=accepts_unsigned, max_peers=max_peers)
        self.nodes[node.peer_id] = node
        return node

    def post(self, envelope: Envelope, avoid: frozenset[bytes]) -> tuple[bytes, ...]:
        """Put an envelope on its way, over one relay."""
        hops = [relay for relay in self.relays if relay not in avoid]
        if not hops:
            return ()
        self.log.append(envelope)
        changed = self.on_the_way(envelope)
        if changed is not None and self.is_instant:
            self.nodes[changed.to].receive(changed)
        elif changed is not None:
            for _ in range(self._copies()):
                self._count += 1
                at = self.now + self.random.random() * self.delay
                heappush(self._flying, (at, self._count, encode_frame(changed, changed.sender)))
        return (hops[0],)

    def _copies(self) -> int:
        number = self.random.random()
        return 0 if number < self.loss else 2 if number > 1 - self.loss else 1

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        while (at := self._next_at()) is not None and at <= end:
            self.now = max(self.now, at)
            while self._flying and self._flying[0][0] <= self.now:
                envelope = decode_frame(heappop(self._flying)[2])
                if envelope.to in self.nodes:
                    self.nodes[envelope.to].receive(envelope)
            for node in self.nodes.values():
                node.deliveries.expire(self.now)
        self.now = end

    def _next_at(self) -> float | None:
        times = [node.deliveries.next_at() for node in self.nodes.values()]
        if self._flying:
            times.append(self._flying[0][0])
        return min([at for at in times if at is not None], default=None)
