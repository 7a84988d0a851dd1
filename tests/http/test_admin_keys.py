"""Guesses at the admin key."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.counters import NodeCounters
from meshrelay.http.admin_keys import MAX_ADDRESSES, WRONG_KEY_SECONDS, WRONG_KEYS_AT_ONCE, WrongKeys


class WrongKeysTests(SynchronousTestCase):
    """Who guesses has to wait."""

    def setUp(self) -> None:
        """Nobody was wrong yet."""
        self.clock = Clock()
        self.counters = NodeCounters()
        self.keys = WrongKeys(self.clock, self.counters)

    def guess(self, host: str, times: int) -> int:
        """Guess so often, and return how many guesses were looked at."""
        looked_at = 0
        for _ in range(times):
            if not self.keys.wait_seconds(host):
                looked_at += 1
                self.keys.was_wrong(host)
        return looked_at

    def test_burst(self) -> None:
        """Ten wrong keys are looked at, then one in ten seconds; all are counted."""
        self.assertEqual(self.guess("192.0.2.1", 50), WRONG_KEYS_AT_ONCE)
        self.assertEqual(self.counters.refused, {"admin_key": 10, "admin_key_rate": 40})
        self.assertAlmostEqual(self.keys.wait_seconds("192.0.2.1"), WRONG_KEY_SECONDS)
        self.clock.advance(WRONG_KEY_SECONDS * 1.01)
        self.assertEqual(self.guess("192.0.2.1", 5), 1)

    def test_others(self) -> None:
        """Others need not wait for it; the addresses of one IPv6 network and both spellings of IPv4 are one."""
        self.guess("192.0.2.1", 20)
        self.assertEqual(self.keys.wait_seconds("192.0.2.2"), 0.0)
        self.assertGreater(self.keys.wait_seconds("::ffff:192.0.2.1"), 0.0)
        self.guess("2001:db8::1", 20)
        self.assertGreater(self.keys.wait_seconds("2001:db8::2"), 0.0)
        self.assertEqual(self.keys.wait_seconds("2001:db8:0:1::1"), 0.0)

    def test_no_address(self) -> None:
        """Callers without an address are one."""
        self.guess("", 20)
        self.assertGreater(self.keys.wait_seconds("/run/socket"), 0.0)

    def test_bound(self) -> None:
        """However many addresses are wrong, so many are remembered, those that were wrong last."""
        for number in range(MAX_ADDRESSES + 10):
            self.guess(f"10.0.{number >> 8}.{number & 255}", 11)
        self.assertEqual(len(self.keys), MAX_ADDRESSES)
        self.assertEqual(self.keys.wait_seconds("10.0.0.0"), 0.0)
        self.assertGreater(self.keys.wait_seconds("10.0.0.10"), 0.0)
