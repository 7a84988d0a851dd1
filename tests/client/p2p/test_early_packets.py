"""Tests of `meshrelay.client.p2p.early_packets`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.p2p.early_packets import EARLY_SECONDS, MAX_EARLY_PACKETS, EarlyPackets


class EarlyPacketsTests(SynchronousTestCase):
    """Packets that wait for their start."""

    def setUp(self) -> None:
        self.early = EarlyPackets()

    def test_kept(self) -> None:
        """What waits comes out once, in its order."""
        self.early.keep("r", "ann", b"1", 0.0)
        self.early.keep("r", "bob", b"2", 0.1)
        expected = [("r", "ann", b"1"), ("r", "bob", b"2")]
        self.assertEqual((self.early.waiting(), self.early.take(1.0), self.early.take(1.0)), (expected, expected, []))

    def test_old(self) -> None:
        """What is too old is thrown away."""
        self.early.keep("r", "ann", b"1", 0.0)
        self.early.keep("r", "ann", b"2", EARLY_SECONDS)
        self.assertEqual(self.early.take(EARLY_SECONDS + 0.1), [("r", "ann", b"2")])

    def test_bound(self) -> None:
        """More than fit push the oldest out, and are counted."""
        for number in range(MAX_EARLY_PACKETS + 3):
            self.early.keep("r", "ann", b"%d" % number, 0.0)
        self.assertEqual((len(self.early), self.early.dropped), (MAX_EARLY_PACKETS, 3))
        self.assertEqual(self.early.take(0.0)[0][2], b"3")
