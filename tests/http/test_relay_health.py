"""The health page of the relay."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.relay_health import RelayHealth
from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import SiteUnderTest


class RelayHealthTests(SynchronousTestCase):
    """What NetBird's operators ask."""

    def setUp(self) -> None:
        """A relay that is well."""
        self.listeners = ["ws", "quic"]
        self.is_open = True
        self.ends_at = 0.0
        health = RelayHealth(
            lambda: self.listeners, lambda: self.is_open, lambda: self.ends_at, lambda: 1_893_456_000.5
        )
        self.under_test = SiteUnderTest(OpenAuthenticator(), relay=health)

    def test_healthy(self) -> None:
        """A relay that takes peers says so in NetBird's words."""
        response = self.under_test.ask("/health/relay")
        expected = {
            "status": "healthy",
            "timestamp": "2030-01-01T00:00:00Z",
            "listeners": ["ws", "quic"],
            "certificate_valid": False,
        }
        self.assertEqual((response.status, response.json), (200, expected))

    def test_certificate(self) -> None:
        """A certificate is valid up to its last second."""
        for ends_at, is_valid in ((1_893_456_001.0, True), (1_893_456_000.0, False)):
            self.ends_at = ends_at
            self.assertEqual(self.under_test.ask("/health/relay").json["certificate_valid"], is_valid)

    def test_stopping(self) -> None:
        """A relay that stops answers 503."""
        self.is_open = False
        response = self.under_test.ask("/health/relay")
        self.assertEqual((response.status, response.json["status"]), (503, "unhealthy"))

    def test_no_listener(self) -> None:
        """Without a listener it answers 503, and names none."""
        self.listeners = []
        response = self.under_test.ask("/health/relay")
        self.assertEqual((response.status, response.json["listeners"]), (503, None))

    def test_no_relay(self) -> None:
        """A node without a relay has no such page."""
        self.assertEqual(SiteUnderTest(OpenAuthenticator()).ask("/health/relay").status, 404)
