"""Whole networks of routers, without sockets: does everything arrive, and at what price?

Beside our routers stand models of npm's ``peer-relay`` 0.0.2, with the habits that cost it messages: two copies at each
step, relays that do not stop at the target, tables that refuse the twenty-first neighbour of a bucket, paths that it
learns only from text IDs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import permutations
from random import Random
from typing import Protocol

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.links import LinkTable
from meshrelay.overlay.router import AGAIN_KEY, Router
from meshrelay.wire.overlay import ID_BYTES, NO_EXTRAS, DataType, Envelope, new_envelope

SEEDS = range(5)
FEW_SEEDS = range(2)
BUCKET = 20


def gap(one: bytes, other: bytes) -> int:
    """XOR distance."""
    return int.from_bytes(one) ^ int.from_bytes(other)


class Node(Protocol):
    """A peer of a simulated network."""

    node_id: bytes
    links: set[bytes]

    def link(self, peer_id: bytes, is_own: bool) -> bool:
        """There is a link now. False: it is closed again."""

    def send(self, envelope: Envelope) -> tuple[bytes, ...]:
        """Where an envelope of its own goes."""

    def receive(self, envelope: Envelope, link: bytes, is_hex: bool) -> tuple[bool, tuple[bytes, ...]]:
        """Whether an envelope is for it, and where it goes on to."""


class JsNode:
    """A model of npm's package."""

    def __init__(self, node_id: bytes) -> None:
        self.node_id = node_id
        #: Open channels; some of them deaf.
        self.links: set[bytes] = set()
        self._heard: dict[int, list[bytes]] = {}
        self._seen: set[tuple[bytes, str]] = set()
        self._learned: dict[bytes, bytes] = {}

    def link(self, peer_id: bytes, is_own: bool) -> bool:
        """See `Node`. Of what it has no room for it hears nothing: ours notice that and close."""
        bucket = self._heard.setdefault(gap(self.node_id, peer_id).bit_length(), [])
        is_heard = len(bucket) < BUCKET
        if is_heard:
            bucket.append(peer_id)
        if is_heard or not is_own:
            self.links.add(peer_id)
        return is_heard or not is_own

    def _nearest(self, target: bytes, count: int) -> list[bytes]:
        heard = [peer_id for bucket in self._heard.values() for peer_id in bucket]
        return sorted(heard, key=lambda peer_id: gap(peer_id, target))[:count]

    def _choose(self, envelope: Envelope) -> list[bytes]:
        path = (*envelope.path, self.node_id)
        return [peer_id for peer_id in self._nearest(envelope.to, 20) if peer_id not in path][:2]

    def send(self, envelope: Envelope) -> tuple[bytes, ...]:
        """See `Node`."""
        self._seen.add((envelope.sender, envelope.nonce))
        hops = self._choose(envelope)
        learned = self._learned.get(envelope.to)
        if learned is not None and self._nearest(learned, 1)[0] not in hops:
            hops.insert(0, self._nearest(learned, 1)[0])
        if envelope.to in hops:
            del hops[hops.index(envelope.to) + 1 :]
        return tuple(hops)

    def receive(self, envelope: Envelope, link: bytes, is_hex: bool) -> tuple[bool, tuple[bytes, ...]]:
        """See `Node`."""
        key = (envelope.sender, envelope.nonce)
        if key in self._seen or link not in self._heard[gap(self.node_id, link).bit_length()]:
            return False, ()
        self._seen.add(key)
        if is_hex:
            self._learned[envelope.sender] = envelope.path[-1]
        if envelope.to == self.node_id:
            return True, ()
        return False, tuple(self._choose(envelope)) if len(envelope.path) < 20 else ()


class OwnNode:
    """One of ours."""

    def __init__(self, node_id: bytes, seed: int) -> None:
        self.node_id = node_id
        self.links: set[bytes] = set()
        self.table = LinkTable()
        self.router = Router(node_id, self.table, Random(seed))
        self.now = 0.0

    def link(self, peer_id: bytes, is_own: bool) -> bool:
        """See `Node`."""
        self.links.add(peer_id)
        self.table.add(peer_id, is_own=is_own, now=0.0)
        return True

    def send(self, envelope: Envelope) -> tuple[bytes, ...]:
        """See `Node`."""
        return self.router.originate(envelope.to, self.now)

    def receive(self, envelope: Envelope, link: bytes, is_hex: bool) -> tuple[bool, tuple[bytes, ...]]:
        """See `Node`."""
        verdict = self.router.received(envelope, link, self.now)
        return verdict.is_for_us, verdict.hops


class Network:
    """Peers, their links, and all frames on them.

    :param own: peers that are ours; `js` are models of npm's package.
    """

    def __init__(self, seed: int, own: int, js: int) -> None:
        self.rng = Random(seed)
        self.own = [OwnNode(self.rng.randbytes(ID_BYTES), number) for number in range(own)]
        self.js = [JsNode(self.rng.randbytes(ID_BYTES)) for _ in range(js)]
        self.nodes: dict[bytes, Node] = {}
        for own_node in self.own:
            self.nodes[own_node.node_id] = own_node
        for js_node in self.js:
            self.nodes[js_node.node_id] = js_node
        self.frames = 0
        #: Where the last message went first.
        self.hops: tuple[bytes, ...] = ()
        self._nonce = 0

    def link(self, one: Node, other: Node) -> None:
        """Link two peers, once."""
        if one is other or other.node_id in one.links:
            return
        # A table of npm's package may say no, so it is asked first.
        first, second = (other, one) if isinstance(other, JsNode) else (one, other)
        if first.link(second.node_id, isinstance(second, OwnNode)):
            second.link(first.node_id, isinstance(first, OwnNode))

    def link_randomly(self, nodes: Sequence[Node], others: Sequence[Node], count: int) -> None:
        """Link each of some peers with random ones of others."""
        for node in nodes:
            for other in self.rng.sample(others, min(count, len(others))):
                self.link(node, other)

    def link_nearest(self, nodes: Sequence[Node], count: int) -> None:
        """Link each of some peers with those nearest to it, as npm's package does once it knows them."""
        for node in nodes:
            for other in sorted(self.nodes.values(), key=lambda other: gap(other.node_id, node.node_id)):
                if len(node.links) < count:
                    self.link(node, other)

    def tell_holdings(self) -> None:
        """Our peers say to their neighbours of our kind whom they are linked to."""
        for node in self.own:
            for other in self.own:
                if other.node_id in node.links:
                    node.table.set_holdings(other.node_id, other.links - {node.node_id})

    def send(self, sender: Node, to: bytes, now: float, again: bool = False, avoid: tuple[bytes, ...] = ()) -> bool:
        """Send a message; True: it arrived, once."""
        self._nonce += 1
        for own in self.own:
            own.now = now
        extras = {AGAIN_KEY: b"1"} if again else NO_EXTRAS
        envelope = new_envelope(to, sender.node_id, str(self._nonce), DataType.USER, b'"hello"', extras)
        self.hops = sender.send(envelope) if not avoid else self._resend(sender, to, avoid)
        waiting = deque((sender, hop, envelope) for hop in self.hops)
        arrivals = 0
        while waiting:
            self.frames += 1
            last, hop, envelope = waiting.popleft()
            moved = envelope._replace(path=(*envelope.path, last.node_id))
            node = self.nodes[hop]
            is_hex = isinstance(last, OwnNode) or len(moved.path) == 1
            is_there, hops = node.receive(moved, last.node_id, is_hex)
            arrivals += is_there
            waiting.extend((node, next_hop, moved) for next_hop in hops)
        return arrivals == 1

    def _resend(self, sender: Node, to: bytes, avoid: tuple[bytes, ...]) -> tuple[bytes, ...]:
        assert isinstance(sender, OwnNode)
        for link in avoid:
            sender.router.failed(to, link, sender.now)
        return sender.router.originate(to, sender.now, avoid)

    def send_until_there(self, sender: Node, to: bytes, now: float) -> int:
        """Send a message again until it is acknowledged; how often, at most ten times."""
        avoid: tuple[bytes, ...] = ()
        for attempt in range(10):
            if self.send(sender, to, now + attempt, attempt > 0, avoid):
                return attempt + 1
            avoid += self.hops
        return 10

    def send_all(self) -> tuple[float, float]:
        """Send a message for each pair of peers, in random order: share that arrived, frames for each of those."""
        pairs = list(permutations(self.nodes.values(), 2))
        self.rng.shuffle(pairs)
        self.frames = 0
        delivered = sum(self.send(sender, to.node_id, number / 300) for number, (sender, to) in enumerate(pairs))
        return delivered / len(pairs), self.frames / max(delivered, 1)


class Swallower(OwnNode):
    """A peer that claims to be linked to everybody, and passes nothing on."""

    def receive(self, envelope: Envelope, link: bytes, is_hex: bool) -> tuple[bool, tuple[bytes, ...]]:
        """See `Node`."""
        return envelope.to == self.node_id, ()


class DeliveryTests(SynchronousTestCase):
    """All pairs, once."""

    def assert_delivers(
        self, own: int, js: int, wire: Callable[[Network], None], frames: float, seeds: range = FEW_SEEDS
    ) -> None:
        """Everything arrives in any of some networks, with less than so many frames for a message."""
        for seed in seeds:
            network = Network(seed, own, js)
            wire(network)
            network.tell_holdings()
            share, price = network.send_all()
            self.assertEqual(share, 1.0, f"seed {seed}")
            self.assertLess(price, frames, f"seed {seed}")

    def test_own_alone(self) -> None:
        """Fifty meshrelay peers with ten links each lose nothing, for less than two and a half frames a message."""
        self.assert_delivers(50, 0, lambda network: network.link_randomly(network.own, network.own, 5), 2.5, SEEDS)

    def test_own_sparse(self) -> None:
        """With four links each they still lose nothing."""
        self.assert_delivers(50, 0, lambda network: network.link_randomly(network.own, network.own, 2), 7.0)

    def test_hubs(self) -> None:
        """Meshrelay peers that are linked to all who have room carry all messages for less than three frames."""

        def wire(network: Network) -> None:
            network.link_randomly(network.own, network.own, 25)
            network.link_nearest(network.js, 15)
            network.link_randomly(network.own, network.js, 25)

        self.assert_delivers(25, 25, wire, 2.0, SEEDS)

    def test_leaves(self) -> None:
        """JavaScript peers that know two meshrelay peers and nobody else lose nothing, for less than three."""

        def wire(network: Network) -> None:
            network.link_randomly(network.own, network.own, 25)
            network.link_randomly(network.js, network.own, 2)

        self.assert_delivers(25, 25, wire, 3.0, SEEDS)

    def test_one_hub(self) -> None:
        """One meshrelay peer carries everything between forty-nine JavaScript peers."""
        self.assert_delivers(1, 49, lambda network: network.link_randomly(network.js, network.own, 1), 2.0)

    def test_random_links(self) -> None:
        """With random links, some among the JavaScript peers, nothing is lost either; those cost frames."""

        def wire(network: Network) -> None:
            network.link_randomly(network.own, network.own, 5)
            network.link_randomly(network.js, network.own, 3)
            network.link_randomly(network.js, network.js, 1)

        self.assert_delivers(25, 25, wire, 8.5)

    def test_model(self) -> None:
        """The model of npm's package alone loses messages, and sends more than ten frames for each of the others."""
        network = Network(3, 0, 50)
        network.link_randomly(network.js, network.js, 5)
        share, price = network.send_all()
        self.assertLess(share, 1.0)
        self.assertGreater(price, 10.0)


class SwallowerTests(SynchronousTestCase):
    """One of ten peers is false."""

    def setUp(self) -> None:
        """Nine peers in a circle, each linked to the two before it, and to the false one before all others."""
        self.network = network = Network(1, 9, 0)
        self.false = Swallower(network.rng.randbytes(ID_BYTES), 0)
        network.nodes[self.false.node_id] = self.false
        for place, node in enumerate(network.own):
            network.link(node, self.false)
            node.table.set_holdings(self.false.node_id, [other.node_id for other in network.own])
            for other in (network.own[place - 1], network.own[place - 2]):
                network.link(node, other)
        network.tell_holdings()

    def pairs(self) -> list[tuple[OwnNode, OwnNode]]:
        """All pairs of true peers."""
        return list(permutations(self.network.own, 2))

    def test_arrives(self) -> None:
        """What the false peer swallows arrives when it is sent again, at the latest with the third copy."""
        attempts = [self.network.send_until_there(one, other.node_id, 0.0) for one, other in self.pairs()]
        self.assertGreater(max(attempts), 1)
        self.assertLessEqual(max(attempts), 3)

    def test_avoided(self) -> None:
        """For the next minute nothing has to be sent again."""
        for one, other in self.pairs():
            self.network.send_until_there(one, other.node_id, 0.0)
        attempts = [self.network.send_until_there(one, other.node_id, 50.0) for one, other in self.pairs()]
        self.assertEqual(max(attempts), 1)

    def test_behind_a_hub(self) -> None:
        """A peer that knows one true peer only gets through as well, although it has no other way to choose."""
        leaf = OwnNode(self.network.rng.randbytes(ID_BYTES), 0)
        hub, target = self.network.own[0], self.network.own[4]
        self.network.nodes[leaf.node_id] = leaf
        self.network.link(leaf, hub)
        attempts = [self.network.send_until_there(leaf, target.node_id, now) for now in (0.0, 10.0, 20.0)]
        self.assertGreater(attempts[0], 1)
        self.assertEqual(attempts[1:], [1, 1])
