"""A node without links."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.mesh.alone import Alone
from meshrelay.mesh.nodes import Nodes
from meshrelay.testing.memory_nodes import RecordingNodeObserver, check_nodes


class AloneTests(SynchronousTestCase):
    """Nobody is there."""

    def test_contract(self) -> None:
        """A node without links promises what one with links does, and takes observers that hear nothing."""
        alone = Alone("a")
        check_nodes(alone)
        observer = RecordingNodeObserver()
        alone.add_observer(observer)
        self.assertEqual((alone.known(), alone.mesh_endpoint, observer.events), ([], "a", []))

    def test_statistics(self) -> None:
        """The metrics page has the same counts with and without links, all 0."""
        self.assertEqual(Alone("a").statistics(), Nodes("a", "", None).statistics())  # type: ignore[arg-type]
