"""Alive and ready."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import SiteUnderTest


class HealthTests(SynchronousTestCase):
    """What balancers ask."""

    def setUp(self) -> None:
        """Make a site."""
        self.under_test = SiteUnderTest(OpenAuthenticator())

    def test_live(self) -> None:
        """A node that turns is live, draining or not."""
        for is_ready in (True, False):
            self.under_test.is_ready = is_ready
            response = self.under_test.ask("/health/live")
            self.assertEqual((response.status, response.json), (200, {"status": "live"}))

    def test_ready(self) -> None:
        """A node that takes clients is ready and says its name."""
        response = self.under_test.ask("/health/ready")
        self.assertEqual((response.status, response.json), (200, {"status": "ready", "node": "node-1"}))

    def test_draining(self) -> None:
        """A node that drains answers 503, so that a balancer sends nobody any more."""
        self.under_test.is_ready = False
        response = self.under_test.ask("/health/ready")
        self.assertEqual((response.status, response.json), (503, {"status": "draining", "node": "node-1"}))
