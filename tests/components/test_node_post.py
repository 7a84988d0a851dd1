"""What components send to other nodes, and must arrive."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.components import node_post
from meshrelay.components.node_post import NodePost
from meshrelay.testing.paired_nodes import PairedNode, PairedNodes
from meshrelay.wire.node_kinds import NodeKind


class FullNode(PairedNode):
    """A node whose links can be full."""

    is_full = False

    def send(self, node_id: str, kind: int, payload: bytes) -> bool:
        """See `INodes`."""
        return not self.is_full and super().send(node_id, kind, payload)


class NodePostTests(SynchronousTestCase):
    """A link that takes no more, and does so again."""

    def setUp(self) -> None:
        """Nodes a and b."""
        self.clock = Clock()
        nodes = PairedNodes("ab")
        self.node = FullNode(nodes, "a")
        self.came: list[bytes] = []
        nodes["b"].handle(NodeKind.ROOM_ASK, lambda node_id, payload: self.came.append(payload))
        self.post = NodePost(self.node, Alarms(self.clock))

    def test_send(self) -> None:
        """What is taken arrives; what is not is told to be lost."""
        self.assertTrue(self.post.send("b", NodeKind.ROOM_ASK, b"1"))
        self.node.is_full = True
        self.assertFalse(self.post.send("b", NodeKind.ROOM_ASK, b"2"))
        self.assertEqual((self.came, self.post.refused), ([b"1"], 1))

    def test_tell(self) -> None:
        """What must arrive does so when the link takes it again, in order, and nothing overtakes it."""
        self.node.is_full = True
        self.post.tell("b", NodeKind.ROOM_ASK, b"1")
        self.clock.advance(2)
        self.node.is_full = False
        self.assertFalse(self.post.send("b", NodeKind.ROOM_ASK, b"overtakes"))
        self.post.tell("b", NodeKind.ROOM_ASK, b"2")
        self.assertEqual((self.came, self.post.kept_count), ([], 2))
        self.clock.advance(1)
        self.assertEqual((self.came, self.post.kept_count), ([b"1", b"2"], 0))
        self.assertTrue(self.post.send("b", NodeKind.ROOM_ASK, b"3"))

    def test_unknown(self) -> None:
        """Nothing is kept for a node that is not known, or is gone."""
        self.post.tell("c", NodeKind.ROOM_ASK, b"1")
        self.assertEqual(self.post.kept_count, 0)
        self.node.is_full = True
        self.post.tell("b", NodeKind.ROOM_ASK, b"1")
        self.post.node_gone("b")
        self.node.is_full = False
        self.clock.advance(1)
        self.assertEqual(self.came, [])

    def test_bound(self) -> None:
        """So much is kept, and one more is counted as dropped."""
        self.patch(node_post, "MAX_KEPT", 3)
        self.node.is_full = True
        for number in range(4):
            self.post.tell("b", NodeKind.ROOM_ASK, b"%d" % number)
        self.assertEqual((self.post.kept_count, self.post.dropped), (3, 1))
