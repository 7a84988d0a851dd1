"""What peers sent too early."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.early_messages import EARLY_SECONDS, MAX_EARLY_PEERS, EarlyMessages


class EarlyMessagesTests(SynchronousTestCase):
    """The newest message of each peer, for five seconds."""

    def setUp(self) -> None:
        """Nothing is kept."""
        self.early = EarlyMessages()

    def test_once(self) -> None:
        """A message is taken once, and nothing is there of somebody who sent none."""
        self.assertTrue(self.early.put(b"a", b"hello", 0.0))
        self.assertIsNone(self.early.take(b"b", 0.0))
        self.assertEqual(self.early.take(b"a", 1.0), b"hello")
        self.assertIsNone(self.early.take(b"a", 1.0))

    def test_newest(self) -> None:
        """The newest message of a peer takes the place of its older one, and the time begins again."""
        self.early.put(b"a", b"old", 0.0)
        self.early.put(b"b", b"other", 1.0)
        self.early.put(b"a", b"new", 4.0)
        self.assertEqual((len(self.early), self.early.next_deadline()), (2, 6.0))
        self.early.expire(8.9)
        self.assertEqual((len(self.early), self.early.take(b"a", 8.9)), (1, b"new"))

    def test_expiry(self) -> None:
        """After five seconds a message is gone, also when nobody looked; younger ones stay."""
        self.early.put(b"a", b"1", 0.0)
        self.early.put(b"b", b"2", 2.5)
        self.assertEqual(self.early.next_deadline(), EARLY_SECONDS)
        self.early.expire(5.0)
        self.assertEqual((len(self.early), self.early.next_deadline()), (1, 7.5))
        self.assertIsNone(self.early.take(b"b", 7.5))
        self.assertIsNone(self.early.next_deadline())

    def test_bound(self) -> None:
        """10,000 peers have room; a new one is refused then, an old one may still replace its message."""
        for number in range(MAX_EARLY_PEERS):
            self.assertTrue(self.early.put(number.to_bytes(2, "big"), b"x", 0.0))
        self.assertFalse(self.early.put(b"new", b"x", 1.0))
        self.assertTrue(self.early.put(b"\x00\x00", b"y", 1.0))
        self.assertEqual((len(self.early), self.early.dropped), (MAX_EARLY_PEERS, 1))
        self.early.take(b"\x00\x01", 1.0)
        self.assertTrue(self.early.put(b"new", b"x", 1.0))
        # What is too old makes room by itself.
        self.assertTrue(self.early.put(b"newer", b"x", 5.5))
        self.assertEqual(len(self.early), 3)

    def test_clear(self) -> None:
        """Everything can be forgotten, also twice."""
        self.early.put(b"a", b"x", 0.0)
        for _ in range(2):
            self.early.clear()
            self.assertIsNone(self.early.take(b"a", 0.0))
