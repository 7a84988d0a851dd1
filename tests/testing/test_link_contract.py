"""The contract of links itself: it must find links that break it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.testing.link_contract import LinksUnderTest, check_links
from meshrelay.testing.memory_mesh import MemoryMesh, RecordingObserver
from meshrelay.wire.node import Message


class ContractTests(SynchronousTestCase):
    """Faults that it finds."""

    def make(self) -> LinksUnderTest:
        """Two good nodes."""
        mesh = MemoryMesh()
        left, right = mesh.add_node("left"), mesh.add_node("right")
        dial = mesh.dialer("left", "right")
        return LinksUnderTest(left.links, right.links, left.observer, right.observer, dial, mesh.cut, mesh.run)

    def test_doubled(self) -> None:
        """A link that hands over a message twice is found."""

        def make() -> LinksUnderTest:
            case = self.make()
            observer = case.right_observer

            def twice(node_id: str, messages: list[Message]) -> None:
                RecordingObserver.messages_received(observer, node_id, [*messages, messages[-1]])

            observer.messages_received = twice  # type: ignore[method-assign]
            return case

        error = self.assertRaises(AssertionError, check_links, make)
        self.assertIn("came otherwise", str(error))

    def test_not_linked(self) -> None:
        """A link that never comes up is found."""

        def make() -> LinksUnderTest:
            mesh = MemoryMesh()
            left, right = mesh.add_node("left"), mesh.add_node("right", secret=b"another")
            dial = mesh.dialer("left", "right")
            return LinksUnderTest(left.links, right.links, left.observer, right.observer, dial, mesh.cut, mesh.run)

        error = self.assertRaises(AssertionError, check_links, make)
        self.assertIn("not up", str(error))

    def test_no_time(self) -> None:
        """A cut that does not cut is found."""

        def make() -> LinksUnderTest:
            case = self.make()
            return LinksUnderTest(
                case.left, case.right, case.left_observer, case.right_observer, case.dial, lambda: None, case.run
            )

        error = self.assertRaises(AssertionError, check_links, make)
        self.assertIn("ups", str(error))
