"""Which envelopes have been here."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.seen import MAX_NONCES, NONCE_SECONDS, NonceWindow

ANN, BOB = b"a" * 20, b"b" * 20
NEAR, FAR = b"n" * 20, b"f" * 20


class NonceWindowTests(SynchronousTestCase):
    """Time, number, and who pays."""

    def test_once(self) -> None:
        """A second copy is known, whichever link brings it."""
        window = NonceWindow()
        self.assertTrue(window.is_new(ANN, "1", NEAR, 0.0))
        self.assertFalse(window.is_new(ANN, "1", NEAR, 1.0))
        self.assertFalse(window.is_new(ANN, "1", FAR, 1.0))

    def test_other_sender(self) -> None:
        """Two senders may choose the same nonce."""
        window = NonceWindow()
        self.assertTrue(window.is_new(ANN, "1", NEAR, 0.0))
        self.assertTrue(window.is_new(BOB, "1", NEAR, 0.0))

    def test_any_text(self) -> None:
        """A nonce may be any text, half characters too."""
        window = NonceWindow()
        for nonce in ("", "toString", "\ud800", "é"):
            self.assertTrue(window.is_new(ANN, nonce, NEAR, 0.0), nonce)
            self.assertFalse(window.is_new(ANN, nonce, NEAR, 0.0), nonce)

    def test_two_minutes(self) -> None:
        """After two minutes it counts as new, and is known again from then on."""
        window = NonceWindow()
        window.is_new(ANN, "1", NEAR, 0.0)
        self.assertFalse(window.is_new(ANN, "1", FAR, NONCE_SECONDS - 0.1))
        self.assertTrue(window.is_new(ANN, "1", FAR, NONCE_SECONDS))
        self.assertFalse(window.is_new(ANN, "1", FAR, NONCE_SECONDS + 100.0))

    def test_forgets_as_it_goes(self) -> None:
        """A link that goes on bringing envelopes pays for two minutes of them."""
        window = NonceWindow()
        for second in range(1000):
            window.is_new(ANN, str(second), NEAR, float(second))
        self.assertEqual(len(window), NONCE_SECONDS)

    def test_expire(self) -> None:
        """What a silent link brought is let go as well."""
        window = NonceWindow()
        window.is_new(ANN, "1", NEAR, 0.0)
        window.is_new(ANN, "2", FAR, 60.0)
        window.expire(NONCE_SECONDS)
        self.assertEqual((len(window), window.link_count), (1, 1))
        window.expire(NONCE_SECONDS + 60.0)
        self.assertEqual((len(window), window.link_count), (0, 0))

    def test_after_expiry(self) -> None:
        """What was new for a second time is let go after its second time."""
        window = NonceWindow()
        window.is_new(ANN, "1", NEAR, 0.0)
        window.is_new(ANN, "1", FAR, 130.0)
        window.expire(200.0)
        self.assertEqual(len(window), 1)
        window.expire(250.0)
        self.assertEqual(len(window), 0)

    def test_flood(self) -> None:
        """A link that floods loses its own envelopes; those of the others stay known."""
        window = NonceWindow(1000)
        for number in range(100):
            window.is_new(ANN, str(number), NEAR, 0.0)
        for number in range(10_000):
            window.is_new(BOB, str(number), FAR, 0.0)
        self.assertFalse(any(window.is_new(ANN, str(number), NEAR, 0.0) for number in range(100)))
        self.assertLessEqual(len(window), 1000)
        self.assertGreaterEqual(window.evicted, 9_100)

    def test_one_entry(self) -> None:
        """The smallest window knows the last envelope."""
        window = NonceWindow(1)
        for nonce in ("1", "2", "3"):
            self.assertTrue(window.is_new(ANN, nonce, NEAR, 0.0))
            self.assertFalse(window.is_new(ANN, nonce, NEAR, 0.0))
        self.assertEqual((len(window), window.evicted), (1, 2))

    def test_bound(self) -> None:
        """However much comes at once, there are a hundred thousand entries at most."""
        window = NonceWindow()
        for number in range(MAX_NONCES + 1000):
            window.is_new(ANN, str(number), (NEAR, FAR, ANN)[number % 3], 0.0)
        self.assertLessEqual(len(window), MAX_NONCES)
        self.assertGreater(len(window), MAX_NONCES - 1000)
