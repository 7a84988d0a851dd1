"""Nodes hand messages to the overlay for each other: whole nodes in memory, some of which are peers of the overlay."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.errors import ErrorCode
from meshrelay.interfaces import INodeObserver
from meshrelay.mesh.alone import Alone
from meshrelay.model import Status
from meshrelay.overlay.bridge import Bridge, BridgeLimits
from meshrelay.overlay.bridge_nodes import BRIDGE_SECONDS, BridgeNodes
from meshrelay.overlay.errors import NotDelivered, UnusableData
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.node import MemoryClient, make_node
from meshrelay.wire.commands import Command, decode_error, encode_direct
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.overlay_bridge import BridgeOutcome, encode_bridge_result, user_of_peer
from tests.components.test_direct import told
from tests.overlay.bridge_kit import ALICE, BOB, MemoryPeer

NOT_FOUND, TIMED_OUT = ErrorCode.USER_NOT_FOUND, ErrorCode.TIMED_OUT


class OneNodeTests(SynchronousTestCase):
    """A node that is alone."""

    def setUp(self) -> None:
        """Ann is signed in."""
        self.node = make_node()
        self.alone = BridgeNodes(Alone("n1"), self.node.alarms)
        self.node.direct.use_outside(self.alone)
        self.peer = MemoryPeer()
        self.ann = self.node.sign_in("ann")

    def join_overlay(self) -> None:
        """Be a peer."""
        limits = BridgeLimits()
        self.alone.bridge = Bridge(self.peer, self.node.direct, self.node.clock.seconds, limits)

    def refusal(self, peer: str) -> tuple[int, str]:
        """Code and text of the answer to a message."""
        _, code, text = self.ann.refusal(Command.DM_SEND, encode_direct(peer, b"hi"))
        return code, text

    def test_contract(self) -> None:
        """It hears of nodes as others do."""
        verifyObject(INodeObserver, self.alone)

    def test_sent(self) -> None:
        """A user writes to a peer as to any user."""
        self.join_overlay()
        answer = self.ann.request(Command.DM_SEND, encode_direct(user_of_peer(BOB), b"hi"))
        self.assertEqual((answer.status, answer.payload), (Status.OK, b""))
        self.assertEqual(self.peer.take(), [(BOB, {"from": "ann", "data": "hi"})])
        self.assertEqual(self.alone.statistics()["pending"], 0)

    def test_received(self) -> None:
        """A peer writes to a user, who sees who it was and can answer."""
        self.join_overlay()
        self.peer.hear({"to": "ann", "data": "hi"}, BOB)
        self.assertEqual(told(self.ann), [(user_of_peer(BOB), b"hi")])
        self.peer.hear({"to": "nobody", "data": "hi"}, BOB)
        self.assertEqual(self.peer.take(), [(BOB, {"error": "user not found", "to": "nobody"})])

    def test_largest(self) -> None:
        """A message that would not fit into a push is refused with its limit."""
        self.join_overlay()
        limit = 65536 - 1 - len(user_of_peer(BOB))
        self.peer.hear({"to": "ann", "data": "x" * limit}, BOB)
        self.assertEqual(len(told(self.ann)), 1)
        self.peer.hear({"to": "ann", "data": "x" * (limit + 1)}, BOB)
        [(_, answer)] = self.peer.take()
        self.assertIn(str(limit), answer["error"])
        self.peer.hear({"to": "ann", "data": ""}, BOB)
        [(_, answer)] = self.peer.take()
        self.assertEqual(answer["error"], "the message is empty")

    def test_no_overlay(self) -> None:
        """Without an overlay no peer is there."""
        self.assertEqual(
            self.refusal(user_of_peer(BOB)), (NOT_FOUND, "no such user: no node of the cluster is in the overlay")
        )

    def test_no_peer_id(self) -> None:
        """An ID that is none says what one looks like."""
        self.join_overlay()
        code, text = self.refusal("peer:bob")
        self.assertEqual(code, NOT_FOUND)
        self.assertIn("40 hexadecimal digits", text)

    def test_outcomes(self) -> None:
        """What goes wrong in the overlay is told as it would be of a user."""
        self.join_overlay()
        for error, expected in (
            (NotDelivered("lost"), NOT_FOUND),
            (UnusableData("long"), ErrorCode.MESSAGE_TOO_LARGE),
        ):
            self.peer.error = error
            self.assertEqual(self.refusal(user_of_peer(BOB))[0], expected)

    def test_timeout(self) -> None:
        """Who gets no answer hears so before a client gives up by itself; a late answer changes nothing."""
        self.join_overlay()
        self.peer.is_slow = True
        asked = self.ann.ask(Command.DM_SEND, encode_direct(user_of_peer(BOB), b"hi"))
        self.node.clock.advance(BRIDGE_SECONDS - 0.1)
        self.node.settle()
        self.assertIsNone(self.ann.answer_to(asked))
        self.node.clock.advance(0.5)
        self.node.settle()
        answer = self.ann.answer_to(asked)
        assert answer is not None
        self.assertEqual((answer.status, decode_error(answer.payload)[0]), (Status.ERROR, TIMED_OUT))
        self.peer.finish()
        self.assertEqual((self.alone.statistics()["timeouts"], self.alone.statistics()["pending"]), (1, 0))

    def test_bound(self) -> None:
        """No more messages wait than the limit says."""
        self.alone = BridgeNodes(Alone("n2"), self.node.alarms, max_pending=2)
        self.node.direct.use_outside(self.alone)
        self.join_overlay()
        self.peer.is_slow = True
        for _ in range(2):
            self.ann.ask(Command.DM_SEND, encode_direct(user_of_peer(BOB), b"hi"))
        code, text = self.refusal(user_of_peer(BOB))
        self.assertEqual((code, "2 messages" in text), (TIMED_OUT, True))
        self.peer.finish()
        self.assertEqual(self.alone.statistics()["pending"], 0)


class ClusterTestCase(SynchronousTestCase):
    """Nodes a, b and c."""

    def start(self, in_overlay: Iterable[str]) -> None:
        """Start the nodes, some of which are in the overlay. Ann is on a."""
        self.cluster = GroupCluster(())
        self.nodes: dict[str, BridgeNodes] = {}
        self.peers: dict[str, MemoryPeer] = {}
        for node_id in "abc":
            node = self.cluster.add(node_id)
            bridge_nodes = self.nodes[node_id] = BridgeNodes(self.cluster.links[node_id].nodes, node.alarms)
            node.direct.use_outside(bridge_nodes)
            if node_id in in_overlay:
                peer = self.peers[node_id] = MemoryPeer(node_id.upper().encode() * 20)
                bridge_nodes.bridge = Bridge(peer, node.direct, self.cluster.clock.seconds, BridgeLimits())
        self.cluster.links.linked()
        self.cluster.run(0.1)
        self.ann = self.cluster["a"].sign_in("ann")
        self.cluster.run(0.1)

    def ask(self, peer_id: bytes = BOB, message: bytes = b"hi", seconds: float = 0.1) -> int:
        """Let ann write to a peer."""
        asked = self.ann.ask(Command.DM_SEND, encode_direct(user_of_peer(peer_id), message))
        self.cluster.run(seconds)
        return asked

    def code(self, request_id: int, client: MemoryClient | None = None) -> int | None:
        """Error code of an answer; 0 = OK, None = there is none yet."""
        answer = (client or self.ann).answer_to(request_id)
        if answer is None:
            return None
        return 0 if answer.status == Status.OK else decode_error(answer.payload)[0]

    def sent(self) -> dict[str, list[object]]:
        """Node -> what its peer has sent since the last call; nodes whose peer has sent nothing are left out."""
        return {node_id: taken for node_id, peer in self.peers.items() if (taken := [d for _, d in peer.take()])}


class ClusterTests(ClusterTestCase):
    """Messages to peers, from a node that is none."""

    def test_through_another(self) -> None:
        """A node that is not in the overlay sends through one that is."""
        self.start("b")
        self.assertEqual(self.code(self.ask()), 0)
        self.assertEqual(self.sent(), {"b": [{"from": "ann", "data": "hi"}]})

    def test_own_first(self) -> None:
        """A node that is in the overlay needs no other."""
        self.start("abc")
        self.assertEqual(self.code(self.ask()), 0)
        self.assertEqual(list(self.sent()), ["a"])

    def test_one_for_each_peer(self) -> None:
        """All messages to one peer go through one node, those to many through all that there are."""
        self.start("bc")
        for number in range(20):
            peer_id = bytes([number]) * 20
            self.ask(peer_id)
            first = self.sent()
            self.ask(peer_id)
            self.assertEqual((len(first), self.sent()), (1, first))
        for number in range(20):
            self.ask(bytes([number]) * 20)
        self.assertEqual(sorted(self.sent()), ["b", "c"])

    def test_from_peer(self) -> None:
        """A peer reaches a user of any node through any node that is in the overlay."""
        self.start("bc")
        self.peers["b"].hear({"to": "ann", "data": "one"}, ALICE)
        self.peers["c"].hear({"to": "ann", "data": "two"}, BOB)
        self.cluster.run(0.3)
        self.assertEqual(sorted(told(self.ann)), [(user_of_peer(ALICE), b"one"), (user_of_peer(BOB), b"two")])
        self.peers["c"].hear({"to": "nobody", "data": "x"}, BOB)
        self.cluster.run(0.5)
        self.assertEqual(self.sent(), {"c": [{"error": "user not found", "to": "nobody"}]})

    def test_outcomes(self) -> None:
        """What went wrong at the other node is told to the sender."""
        self.start("b")
        for error, expected in (
            (NotDelivered("lost"), NOT_FOUND),
            (UnusableData("long"), ErrorCode.MESSAGE_TOO_LARGE),
        ):
            self.peers["b"].error = error
            self.assertEqual(self.code(self.ask()), expected)

    def test_timeout(self) -> None:
        """An answer that does not come from the other node is not waited for for ever."""
        self.start("b")
        self.peers["b"].is_slow = True
        asked = self.ask()
        self.assertIsNone(self.code(asked))
        self.cluster.run(BRIDGE_SECONDS, 0.1)
        self.cluster.run(0.5)
        self.assertEqual(self.code(asked), TIMED_OUT)
        self.peers["b"].finish()
        self.cluster.run(0.1)
        self.assertEqual(self.nodes["a"].statistics()["pending"], 0)

    def test_nobody(self) -> None:
        """Where no node is in the overlay there are no peers."""
        self.start("")
        self.assertEqual(self.code(self.ask()), NOT_FOUND)

    def test_user_gone(self) -> None:
        """The end of a user whom a peer had written to is nobody's concern, and breaks nothing."""
        self.start("b")
        self.peers["b"].hear({"to": "ann", "data": "hi"}, BOB)
        self.cluster.run(0.3)
        self.ann.lose()
        self.cluster.run(200, 1.0)
        self.assertEqual(self.sent(), {})


class NodeLossTests(ClusterTestCase):
    """Nodes of the overlay that go."""

    def test_left(self) -> None:
        """A node that leaves the overlay is not asked any more."""
        self.start("bc")
        self.ask()
        [node_id] = self.sent()
        self.nodes[node_id].say_gone()
        self.cluster.run(0.1)
        self.assertEqual(self.code(self.ask()), 0)
        self.assertNotIn(node_id, self.sent())

    def test_own_users_stay(self) -> None:
        """The users of a node that leaves can write to peers as long as they are there."""
        self.start("ab")
        self.nodes["a"].say_gone()
        self.assertEqual(self.code(self.ask()), 0)
        self.assertEqual(list(self.sent()), ["a"])

    def test_left_before_it_was_heard(self) -> None:
        """A message that a leaving node gets, as the other one had not heard of it yet, goes to another node."""
        self.start("bc")
        self.ask()
        [node_id] = self.sent()
        self.nodes[node_id].say_gone()
        self.assertEqual(self.code(self.ask()), 0)
        self.assertNotIn(node_id, self.sent())

    def test_left_meanwhile(self) -> None:
        """A message that comes to a node which has just left goes on to another one."""
        self.start("bc")
        self.ask()
        [node_id] = self.sent()
        self.nodes[node_id].bridge = None
        self.assertEqual(self.code(self.ask()), 0)
        self.assertEqual(len(self.sent()), 1)
        self.assertEqual(self.nodes["a"].statistics()["nodes"], 1)

    def test_all_left_meanwhile(self) -> None:
        """When all have left, the sender hears that there is no overlay."""
        self.start("bc")
        self.nodes["b"].bridge = self.nodes["c"].bridge = None
        self.assertEqual(self.code(self.ask()), NOT_FOUND)

    def test_killed(self) -> None:
        """Nobody waits for a node that died, and the other one is asked from then on."""
        self.start("bc")
        self.ask()
        [node_id] = self.sent()
        self.peers[node_id].is_slow = True
        asked = self.ask()
        self.assertIsNone(self.code(asked))
        self.cluster.kill(node_id)
        for _ in range(80):
            if self.code(asked) is not None:
                break
            self.cluster.run(0.1, 0.05)
        self.assertEqual(self.code(asked), TIMED_OUT)
        self.assertEqual(self.code(self.ask()), 0)

    def test_only_one_cut(self) -> None:
        """A message to a peer behind a node that cannot be reached fails as one to a user there does."""
        self.start("b")
        self.cluster.kill("b")
        self.cluster.run(8.0, 0.05)
        self.assertIn(self.code(self.ask()), (NOT_FOUND, TIMED_OUT))

    def test_strange_results(self) -> None:
        """Results of messages that this node never sent, or sent to another node, change nothing."""
        self.start("bc")
        self.ask()
        [node_id] = self.sent()
        [other] = {"b", "c"} - {node_id}
        self.peers[node_id].is_slow = True
        asked = self.ask()
        for number in range(10):
            result = encode_bridge_result(number, BridgeOutcome.TAKEN)
            self.cluster.links[other].nodes.send("a", NodeKind.OVERLAY_RESULT, result)
        self.cluster.run(0.1)
        self.assertIsNone(self.code(asked))
        self.peers[node_id].finish()
        self.cluster.run(0.1)
        self.assertEqual(self.code(asked), 0)
