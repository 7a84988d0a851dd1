"""The cluster in memory, and the observer that checks what nodes are told."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.mesh.alone import Alone
from meshrelay.testing.memory_nodes import MemoryCluster, RecordingNodeObserver, check_nodes, endpoint


class ClusterTests(SynchronousTestCase):
    """Nodes in memory."""

    def test_linked(self) -> None:
        """All nodes of a cluster are linked to all, also one that comes later."""
        cluster = MemoryCluster("abc")
        cluster.linked()
        cluster.add("d")
        cluster.linked()
        for node in cluster:
            self.assertEqual(node.nodes.known(), [each for each in "abcd" if each != node.node_id])
        self.assertEqual(cluster["a"].nodes.mesh_endpoint, endpoint("a"))

    def test_not_linked(self) -> None:
        """Waiting for nodes that cannot reach each other ends with an error."""
        cluster = MemoryCluster("ab")
        cluster.mesh.part("a", "b")
        self.assertRaises(AssertionError, cluster.linked, 2.0)

    def test_killed(self) -> None:
        """A killed node says no goodbye, connects to nobody, and hears nothing; one that stops says it."""
        cluster = MemoryCluster("abc")
        cluster.linked()
        killed, stopped = cluster["a"], cluster["b"]
        cluster.kill("a")
        cluster.run(1)
        self.assertEqual(cluster["c"].observer.of("a"), ["met"])
        cluster.stop("b")
        self.assertEqual(cluster["c"].observer.of("b"), ["met", "lost"])
        cluster.run(10, 0.05)
        self.assertEqual([node.node_id for node in cluster], ["c"])
        for node in (killed, stopped):
            self.assertNotIn(("lost", "c"), node.observer.events)
            self.assertFalse(node.nodes.is_up("c"))
        self.assertEqual(cluster.mesh.open_connections(), [])


class ObserverTests(SynchronousTestCase):
    """What is told of nodes."""

    def test_order(self) -> None:
        """An order that is not promised is an error."""
        for wrong in (["lost"], ["back"], ["gone"], ["met", "met"], ["met", "back"], ["met", "lost", "lost"]):
            observer = RecordingNodeObserver()
            tell: dict[str, Any] = {
                "met": observer.node_met,
                "lost": observer.node_lost,
                "back": observer.node_back,
                "gone": observer.node_gone,
            }
            for event in wrong[:-1]:
                tell[event]("b")
            self.assertRaises(AssertionError, tell[wrong[-1]], "b")
            self.assertEqual(observer.knows("b"), len(wrong) > 1)


class CheckTests(SynchronousTestCase):
    """The contract of INodes."""

    def test_broken(self) -> None:
        """Whatever breaks a promise is found."""

        class Known(Alone):
            """Knows itself."""

            def known(self) -> list[str]:
                """See `INodes`."""
                return [self.node_id]

        class Takes(Alone):
            """Takes messages to nobody."""

            def send(self, node_id: str, kind: int, payload: bytes) -> bool:
                """See `INodes`."""
                return True

        class Doubled(Alone):
            """Takes two handlers of one kind."""

            def handle(self, kind: int, handler: Any) -> None:
                """See `INodes`."""

        for broken in (Known, Takes, Doubled):
            self.assertRaises(AssertionError, check_nodes, broken("a"))
