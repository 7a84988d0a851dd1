from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.rtt import RoundTrip


class RoundTripTests(SynchronousTestCase):
    def test_before_the_first_sample(self) -> None:
        """Nothing is known at first: one second, as RFC 6298 has it."""
        self.assertEqual(RoundTrip(0.05, 1.0).timeout_seconds, 1.0)

    def test_first_and_second_sample(self) -> None:
        """The timeout follows the formulas of RFC 6298, section 2."""
        round_trip = RoundTrip(0.05, 1.0)
        round_trip.add_sample(0.1)
        self.assertAlmostEqual(round_trip.timeout_seconds, 0.1 + 4 * 0.05)
        round_trip.add_sample(0.2)
        self.assertAlmostEqual(round_trip.variation, 0.75 * 0.05 + 0.25 * 0.1)
        self.assertAlmostEqual(round_trip.smoothed or 0, 0.1 * 7 / 8 + 0.2 / 8)

    def test_floor_and_bound(self) -> None:
        """On a fast path the timeout stays at the floor, on a hopeless one at a minute."""
        fast, slow = RoundTrip(0.05, 1.0), RoundTrip(0.05, 1.0)
        for _ in range(50):
            fast.add_sample(0.001)
            slow.add_sample(100.0)
        self.assertEqual(fast.timeout_seconds, 0.05)
        self.assertEqual(slow.timeout_seconds, 60.0)

    def test_patience_on_a_steady_path(self) -> None:
        """Where nothing comes late, a packet is missed after an eighth more than the round trip."""
        round_trip = RoundTrip(0.05, 1.0)
        for _ in range(100):
            round_trip.add_sample(0.1)
        self.assertAlmostEqual(round_trip.patience_seconds, 0.1125 + 0.001)

    def test_patience_on_a_jittery_path(self) -> None:
        """Where packets come up to 40 % late, fewer than one in 300 of them is given up too early."""
        draw = random.Random(1)
        round_trip = RoundTrip(0.05, 1.0)
        early = 0
        for _ in range(6000):
            took = 0.1 + draw.uniform(-0.02, 0.02) + draw.uniform(-0.02, 0.02)
            early += round_trip.samples > 100 and took > round_trip.patience_seconds
            round_trip.add_sample(took)
        self.assertLess(early, 20)
        self.assertLess(round_trip.patience_seconds, 0.16)

    def test_patience_is_bounded(self) -> None:
        """One packet that took very long does not stop losses from being found: at most two round trips."""
        round_trip = RoundTrip(0.05, 1.0)
        for _ in range(20):
            round_trip.add_sample(0.1)
        round_trip.add_late(5.0)
        self.assertAlmostEqual(round_trip.patience_seconds, 0.2 + 0.001)

    def test_reset(self) -> None:
        """On a new path the old round trips are forgotten, but we do not start more slowly than we were."""
        round_trip = RoundTrip(0.05, 1.0)
        for _ in range(50):
            round_trip.add_sample(0.1)
        before = round_trip.timeout_seconds
        round_trip.reset()
        self.assertIsNone(round_trip.smoothed)
        self.assertEqual(round_trip.timeout_seconds, before)
