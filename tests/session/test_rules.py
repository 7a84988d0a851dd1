"""What connections keep to."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import SessionConfig
from meshrelay.session.rules import ConnectionRules


class ConnectionRulesTests(SynchronousTestCase):
    """Read from [session]."""

    def test_ttl(self) -> None:
        """Silence ends a UDP client sooner than others."""
        rules = ConnectionRules.of(SessionConfig(tcp_ttl_seconds=100, udp_ttl_seconds=7), 5)
        self.assertEqual([rules.ttl_seconds(name) for name in ("tcp", "websocket", "udp")], [100, 100, 7])

    def test_max_connections(self) -> None:
        """0 stands for what the system allows."""
        self.assertEqual(ConnectionRules.of(SessionConfig(), 5).max_connections, 5)
        self.assertEqual(ConnectionRules.of(SessionConfig(max_connections=9), 5).max_connections, 9)
