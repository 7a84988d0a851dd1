"""Tests of `meshrelay.session.reception`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config, SessionConfig
from meshrelay.testing.node import make_node


class ReceptionTests(SynchronousTestCase):
    """Who is let in."""

    def test_max_connections(self) -> None:
        """Over max_connections nobody is served; the others do not notice, and a place that is free is given again."""
        node = make_node(Config(session=SessionConfig(max_connections=2)))
        first = node.sign_in("ann")
        node.connect()
        refused = node.connect()
        self.assertTrue(refused.link.is_aborted)
        self.assertIsNone(refused.link.uplink)
        self.assertEqual(node.counters.refused["max_connections"], 1)
        first.lose()
        self.assertFalse(node.connect().link.is_aborted)
