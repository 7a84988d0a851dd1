"""Linked nodes are one relay."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedFrame
from meshrelay.relay.auth import AnyToken
from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.nodes import RelayNodes
from meshrelay.relay.server import RelayClocks, RelayPeer, RelayServer
from meshrelay.relay.server_machine import ServerOptions
from meshrelay.testing.memory_nodes import ClusterNode, MemoryCluster
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.relay import (
    MessageType,
    encode_auth,
    encode_peer_ids,
    encode_transport,
    peer_id_of,
)
from meshrelay.wire.relay_node import PeerHere, encode_gone, encode_here
from tests.relay.relay_kit import URL, MemoryRelayLink

ALICE, BOB = peer_id_of("alice"), peer_id_of("bob")
ONLINE = encode_peer_ids(MessageType.PEERS_ONLINE, [BOB])[0]
OFFLINE = encode_peer_ids(MessageType.PEERS_WENT_OFFLINE, [BOB])[0]
SUBSCRIBE = encode_peer_ids(MessageType.SUBSCRIBE_PEER_STATE, [BOB])[0]


def void(_: object) -> None:
    """Say nothing of what a call returns."""


class RelayAtNode:
    """A relay server on one node of a memory cluster.

    :param clock_error: what the node's clock is wrong by, in seconds.
    """

    def __init__(self, node: ClusterNode, cluster: MemoryCluster, max_peers: int = 1000) -> None:
        self.cluster = cluster
        self.clock_error = 1_000_000.0
        self.is_link_full = False
        self.counters = RelayCounters()
        links, clock = node.links, cluster.clock

        def forward(node_id: str, payload: bytes) -> bool:
            link = links.find(node_id)
            assert link is not None
            return not self.is_link_full and link.send(NodeKind.RELAY_SEND, payload, is_reliable=False)

        def unix() -> float:
            return clock.seconds() + self.clock_error

        self.others = RelayNodes(
            node.nodes, forward, lambda: void(clock.callLater(0, self.others.flush)), unix, max_peers
        )
        self.server = RelayServer(
            ServerOptions(URL),
            AnyToken(),
            RelayClocks(clock.seconds, unix),
            lambda: void(clock.callLater(0, self.server.flush)),
            self.counters,
            elsewhere=self.others,
        )
        self.others.server = self.server

    def sign_in(self, peer_id: bytes) -> tuple[RelayPeer, MemoryRelayLink]:
        """Return a peer that has signed in here."""
        link = MemoryRelayLink()
        peer = self.server.accept(link)
        peer.message_received(encode_auth(peer_id, b""))
        link.take()
        return peer, link


class RelayNodesTests(SynchronousTestCase):
    """Relay servers on nodes a, b and c; c is added where it is needed."""

    def setUp(self) -> None:
        """Two linked nodes."""
        self.cluster = MemoryCluster(["a", "b"])
        self.a = RelayAtNode(self.cluster["a"], self.cluster)
        self.b = RelayAtNode(self.cluster["b"], self.cluster)
        self.cluster.linked()
        self.cluster.run(0.5)

    def run_a_while(self) -> None:
        """Let messages arrive."""
        self.cluster.run(0.2)

    def test_message(self) -> None:
        """A message reaches a peer of another node, with its sender in it."""
        alice, _ = self.a.sign_in(ALICE)
        _, bob_link = self.b.sign_in(BOB)
        self.run_a_while()
        alice.message_received(encode_transport(BOB, b"hello"))
        self.run_a_while()
        self.assertEqual(bob_link.take(), [encode_transport(ALICE, b"hello")])
        self.assertEqual((self.a.counters.dropped, self.b.counters.messages_sent), ({}, 1))

    def test_absent(self) -> None:
        """A message for nobody is dropped where it came in, one for somebody who has just left where they were."""
        alice, _ = self.a.sign_in(ALICE)
        bob, _ = self.b.sign_in(BOB)
        self.run_a_while()
        bob.connection_lost()
        alice.message_received(encode_transport(BOB, b"too late"))
        self.run_a_while()
        self.assertEqual((self.a.counters.dropped["absent"], self.b.counters.dropped["absent"]), (0, 1))
        alice.message_received(encode_transport(BOB, b"much too late"))
        self.assertEqual(self.a.counters.dropped["absent"], 1)

    def test_full_link(self) -> None:
        """What a link to a node has no room for is dropped and counted."""
        alice, _ = self.a.sign_in(ALICE)
        self.b.sign_in(BOB)
        self.run_a_while()
        self.a.is_link_full = True
        alice.message_received(encode_transport(BOB, b"x"))
        self.assertEqual(self.a.others.statistics()["dropped_to_nodes"], 1)

    def test_states(self) -> None:
        """Who watches a peer is told when it comes to another node and when it goes from there."""
        alice, alice_link = self.a.sign_in(ALICE)
        alice.message_received(SUBSCRIBE)
        self.assertEqual(alice_link.take(), [])
        bob, _ = self.b.sign_in(BOB)
        self.run_a_while()
        self.assertEqual(alice_link.take(), [ONLINE])
        bob.connection_lost()
        self.run_a_while()
        self.assertEqual(alice_link.take(), [OFFLINE])

    def test_answer(self) -> None:
        """Who subscribes is told at once of a peer that is on another node already."""
        self.b.sign_in(BOB)
        self.run_a_while()
        alice, alice_link = self.a.sign_in(ALICE)
        alice.message_received(SUBSCRIBE)
        self.assertEqual(alice_link.take(), [ONLINE])

    def test_eviction(self) -> None:
        """A peer that connects to another node loses its older connection, and nobody hears that it went."""
        alice, alice_link = self.a.sign_in(ALICE)
        _, older = self.a.sign_in(BOB)
        alice.message_received(SUBSCRIBE)
        alice_link.take()
        _, newer = self.b.sign_in(BOB)
        self.run_a_while()
        self.assertEqual((older.ended, newer.ended), ("abort", ""))
        self.assertNotIn(OFFLINE, alice_link.take())
        self.assertEqual(self.a.others.statistics()["evictions_by_nodes"], 1)
        alice.message_received(encode_transport(BOB, b"there"))
        self.run_a_while()
        self.assertEqual(newer.take(), [encode_transport(ALICE, b"there")])

    def test_wrong_clock(self) -> None:
        """The newer connection wins even where the clock of its node is behind."""
        _, older = self.a.sign_in(BOB)
        self.run_a_while()
        self.b.clock_error -= 1000
        _, newer = self.b.sign_in(BOB)
        self.run_a_while()
        self.assertEqual((older.ended, newer.ended), ("abort", ""))

    def test_same_moment(self) -> None:
        """Of two connections at the same moment exactly one stays, and both nodes agree which."""
        _, at_a = self.a.sign_in(BOB)
        _, at_b = self.b.sign_in(BOB)
        self.run_a_while()
        self.assertEqual((at_a.ended, at_b.ended), ("abort", ""))
        alice, _ = self.a.sign_in(ALICE)
        alice.message_received(encode_transport(BOB, b"x"))
        self.run_a_while()
        self.assertEqual(len(at_b.take()), 1)

    def test_late_node(self) -> None:
        """A node that joins later knows the peers of the others, more than fit one message, and they know its own."""
        count = 2500
        for number in range(count):
            self.a.sign_in(peer_id_of(str(number)))
        late = RelayAtNode(self.cluster.add("c"), self.cluster, max_peers=5000)
        _, bob_link = late.sign_in(BOB)
        self.cluster.linked()
        self.cluster.run(0.5)
        self.assertEqual(late.others.statistics()["peers_elsewhere"], count)
        alice, _ = self.a.sign_in(ALICE)
        alice.message_received(encode_transport(BOB, b"x"))
        self.run_a_while()
        self.assertEqual(len(bob_link.take()), 1)

    def test_bound(self) -> None:
        """Beyond the bound peers of other nodes are counted and not known."""
        for number in range(1001):
            self.a.sign_in(peer_id_of(str(number)))
        self.run_a_while()
        told = self.b.others.statistics()
        self.assertEqual((told["peers_elsewhere"], told["peers_not_known"]), (1000, 1))

    def test_lost_and_back(self) -> None:
        """A node that cannot be reached takes its peers along, and brings them when it is back."""
        alice, alice_link = self.a.sign_in(ALICE)
        self.b.sign_in(BOB)
        alice.message_received(SUBSCRIBE)
        self.run_a_while()
        alice_link.take()
        self.a.others.node_lost("b")
        self.run_a_while()
        self.assertEqual(alice_link.take(), [OFFLINE])
        alice.message_received(encode_transport(BOB, b"x"))
        self.assertEqual(self.a.counters.dropped["absent"], 1)
        alice.message_received(SUBSCRIBE)
        self.a.others.node_back("b")
        self.run_a_while()
        self.assertEqual(alice_link.take(), [ONLINE])

    def test_killed(self) -> None:
        """The peers of a node that died are gone, and known again once it is back with them."""
        alice, alice_link = self.a.sign_in(ALICE)
        self.b.sign_in(BOB)
        alice.message_received(SUBSCRIBE)
        self.run_a_while()
        alice_link.take()
        self.cluster.kill("b")
        self.cluster.run(40, 0.1)
        self.assertEqual(alice_link.take(), [OFFLINE])
        self.assertEqual(self.a.others.statistics()["peers_elsewhere"], 0)
        again = RelayAtNode(self.cluster.add("b"), self.cluster)
        self.cluster.linked()
        again.sign_in(BOB)
        alice.message_received(SUBSCRIBE)
        self.run_a_while()
        self.assertEqual(alice_link.take(), [ONLINE])

    def test_no_relay(self) -> None:
        """A node that has no relay is not told of peers."""
        self.cluster.add("c")
        self.cluster.linked()
        self.cluster.run(0.5)
        self.a.sign_in(ALICE)
        self.run_a_while()
        self.assertEqual(self.a.others.statistics()["nodes"], 1)

    def test_malformed(self) -> None:
        """What cannot be read is refused, and what is known stays."""
        self.b.sign_in(BOB)
        self.run_a_while()
        others = self.a.others
        for handler in (others._here_came, others._gone_came, others._message_came):
            self.assertRaises(MalformedFrame, handler, "b", b"x")
        self.assertEqual(others.statistics()["peers_elsewhere"], 1)

    def test_old_news(self) -> None:
        """An older connection elsewhere, and its end, do not hide the newer one."""
        others = self.a.others
        others._here_came("c", encode_here([PeerHere(BOB, 10)]))
        others._here_came("d", encode_here([PeerHere(BOB, 9)]))
        others._gone_came("d", encode_gone([BOB]))
        self.assertEqual(others._places[BOB].node_id, "c")
        others.node_gone("d")
        others.node_gone("c")
        self.assertEqual(others.statistics()["peers_elsewhere"], 0)
