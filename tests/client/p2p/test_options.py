"""Tests of `meshrelay.client.p2p.options`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client import ClientOptions
from meshrelay.client.p2p.options import P2POptions


class P2POptionsTests(SynchronousTestCase):
    """Defaults."""

    def test_careful(self) -> None:
        """By default everything is tried but loopback, and messages keep their order."""
        options = P2POptions()
        self.assertEqual((options.is_ordered, options.allow_private, options.allow_search), (True, True, True))
        self.assertFalse(options.allow_loopback)

    def test_one_random_each(self) -> None:
        """No two clients share a source of chance."""
        self.assertIsNot(P2POptions().random, P2POptions().random)
        self.assertIsNone(ClientOptions().p2p)
