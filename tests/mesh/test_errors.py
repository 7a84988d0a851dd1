"""What goes wrong between nodes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MeshError, MeshRelayError
from meshrelay.mesh.errors import CallFailed, LinkLost, LinkRefused, TooManyCalls
from meshrelay.wire.node import CallStatus, Refusal


class TextTests(SynchronousTestCase):
    """What people read."""

    def test_texts(self) -> None:
        """Each error says which node, what, and who said so; all are of one tree."""
        errors = {
            LinkRefused(Refusal.SECRET, "n1 and n2 differ"): "SECRET: n1 and n2 differ",
            LinkRefused(Refusal.BUSY, "full", is_peers=True): "BUSY: full (said the other node)",
            LinkLost("n1", "cut"): "link to n1: cut",
            LinkLost("", "cut"): "link to a node: cut",
            CallFailed(CallStatus.TIMED_OUT, "5 seconds"): "TIMED_OUT: 5 seconds",
            TooManyCalls("n1", 256): "link to n1: 256 calls wait for an answer",
        }
        for error, text in errors.items():
            self.assertEqual(str(error), text)
            self.assertIsInstance(error, MeshError)
            self.assertIsInstance(error, MeshRelayError)
