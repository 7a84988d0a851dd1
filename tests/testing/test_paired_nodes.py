"""Nodes that hand each other what they have to say."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from meshrelay.errors import MalformedFrame
from meshrelay.interfaces import INodeObserver, INodes
from meshrelay.mesh.errors import CallFailed, LinkLost
from meshrelay.testing.paired_nodes import PairedNodes


@implementer(INodeObserver)
class GoneNodes(list[str]):
    """Keeps which nodes are gone."""

    def node_met(self, node_id: str) -> None:
        """See `INodeObserver`."""

    def node_lost(self, node_id: str) -> None:
        """See `INodeObserver`."""

    def node_back(self, node_id: str) -> None:
        """See `INodeObserver`."""

    def node_gone(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self.append(node_id)


class PairedNodesTests(SynchronousTestCase):
    """Two nodes, and what may happen to them."""

    def setUp(self) -> None:
        """Node b keeps messages and answers one call."""
        self.nodes = PairedNodes(["a", "b", "c"])
        self.a, self.b = self.nodes["a"], self.nodes["b"]
        self.taken: list[tuple[str, bytes]] = []
        self.b.handle(1, lambda node_id, payload: self.taken.append((node_id, payload)))
        self.b.answer("echo.now", lambda node_id, payload: payload)

    def test_contracts(self) -> None:
        """A component cannot tell these nodes from real ones."""
        verifyObject(INodes, self.a)
        verifyObject(INodeObserver, GoneNodes())
        self.assertEqual((self.a.known(), self.a.is_up("b"), self.a.is_lost("b")), (["b", "c"], True, False))
        self.assertEqual((self.a.endpoint_of("b"), self.a.endpoint_of("x")), ("b.example:7000", "x"))

    def test_there(self) -> None:
        """Messages and calls arrive, and the answer comes back."""
        self.assertTrue(self.a.send("b", 1, b"one"))
        self.assertEqual(self.taken, [("a", b"one")])
        self.assertEqual(self.successResultOf(self.a.call("b", "echo.now", b"two")), b"two")
        self.assertEqual(self.b.calls, [("a", "echo.now", b"two")])

    def test_failures(self) -> None:
        """What a handler raises is told to the caller as the failure of the other node."""

        def malformed(node_id: str, payload: bytes) -> bytes:
            raise MalformedFrame("no")

        self.b.answer("fail.now", malformed)
        self.failureResultOf(self.a.call("b", "fail.now", b""), CallFailed)

    def test_twice(self) -> None:
        """Two handlers for one thing are a mistake."""
        self.assertRaises(ValueError, self.b.handle, 1, print)
        self.assertRaises(ValueError, self.b.answer, "echo.now", print)

    def test_cut(self) -> None:
        """Over a link that is cut calls fail at once, and messages wait until it is mended."""
        self.nodes.cut("a", "b")
        self.assertTrue(self.a.send("b", 1, b"one"))
        self.failureResultOf(self.a.call("b", "echo.now", b""), LinkLost)
        self.assertEqual((self.taken, self.a.is_up("b"), self.a.is_up("c")), ([], False, True))
        self.nodes.mend("a", "b")
        self.assertEqual(self.taken, [("a", b"one")])

    def test_dead(self) -> None:
        """A dead node is gone for the others."""
        gone = GoneNodes()
        self.a.add_observer(gone)
        self.nodes.kill("b")
        self.assertEqual((gone, self.a.known(), self.a.send("b", 1, b"")), (["b"], ["c"], False))
        self.failureResultOf(self.a.call("b", "echo.now", b""), LinkLost)

    def test_silent(self) -> None:
        """A silent node seems to be there and answers nothing."""
        self.nodes.silence("b")
        self.assertTrue(self.a.is_up("b"))
        self.assertTrue(self.a.send("b", 1, b"one"))
        self.assertNoResult(self.a.call("b", "echo.now", b""))
        self.assertEqual(self.taken, [])

    def test_later(self) -> None:
        """With a clock everything takes its time, and an answer may be lost on its way."""
        clock = Clock()
        nodes = PairedNodes(["a", "b"], clock, 1.0)
        waiting: Deferred[bytes] = Deferred()
        nodes["b"].answer("wait.now", lambda node_id, payload: waiting)
        first = nodes["a"].call("b", "wait.now", b"")
        clock.advance(1.0)
        waiting.callback(b"done")
        self.assertNoResult(first)
        clock.advance(1.0)
        self.assertEqual(self.successResultOf(first), b"done")
        second = nodes["a"].call("b", "wait.now", b"")
        nodes.cut("a", "b")
        clock.advance(1.0)
        self.failureResultOf(second, LinkLost)
