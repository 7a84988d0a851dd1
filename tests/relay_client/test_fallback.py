"""Tests of `meshrelay.relay_client.fallback`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay_client.fallback import MAX_URLS, TransportFallback


class TransportFallbackTests(SynchronousTestCase):
    """Servers to which datagrams are too small."""

    def setUp(self) -> None:
        self.now = 0.0
        self.fallback = TransportFallback(lambda: self.now)

    def seconds(self, url: str = "a") -> float:
        """How long a record made now lasts."""
        self.fallback.record(url)
        began = self.now
        while self.fallback.is_active(url):
            self.now += 60.0
        return self.now - began

    def test_grows(self) -> None:
        """Ten minutes at first, twice as long each time, an hour at most."""
        self.assertFalse(self.fallback.is_active("a"))
        self.assertEqual([self.seconds() / 60 for _ in range(5)], [10, 20, 40, 60, 60])

    def test_inside(self) -> None:
        """A record inside the window changes nothing."""
        self.fallback.record("a")
        self.now = 599.0
        self.fallback.record("a")
        self.assertTrue(self.fallback.is_active("a"))
        self.now = 600.0
        self.assertFalse(self.fallback.is_active("a"))

    def test_per_server(self) -> None:
        """One server says nothing about another."""
        self.fallback.record("a")
        self.assertFalse(self.fallback.is_active("b"))

    def test_bound(self) -> None:
        """As many servers as may be are remembered, the newest."""
        for number in range(MAX_URLS + 1):
            self.fallback.record(str(number))
        self.assertFalse(self.fallback.is_active("0"))
        self.assertTrue(self.fallback.is_active("1"))
        self.assertTrue(self.fallback.is_active(str(MAX_URLS)))
