"""What users of a peer are told when something fails."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MeshRelayError
from meshrelay.overlay import errors
from meshrelay.overlay.errors import OverlayError, PeerDestroyed


class ErrorTests(SynchronousTestCase):
    """One tree."""

    def test_tree(self) -> None:
        """Whoever catches the errors of the overlay, or all of meshrelay, catches each of them."""
        for name in errors.__all__:
            error = getattr(errors, name)
            self.assertTrue(issubclass(error, OverlayError), name)
            self.assertTrue(issubclass(error, MeshRelayError), name)

    def test_text(self) -> None:
        """A peer that is no more says so."""
        self.assertEqual(str(PeerDestroyed()), "the peer was destroyed")
