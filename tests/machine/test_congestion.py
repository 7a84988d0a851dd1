from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.congestion import INITIAL_WINDOW, MINIMUM_WINDOW, CongestionWindow, Pacer
from meshrelay.machine.rtt import RoundTrip


def make_window(samples: int = 20, max_window: int = 256) -> tuple[CongestionWindow, RoundTrip]:
    """Return a window on a path of 100 ms, and the path."""
    round_trip = RoundTrip(0.05, 1.0)
    for _ in range(samples):
        round_trip.add_sample(0.1)
    return CongestionWindow(round_trip, max_window), round_trip


class CongestionWindowTests(SynchronousTestCase):
    def test_slow_start_doubles(self) -> None:
        """A round trip in which all of the window was used doubles it, up to the bound."""
        window, _ = make_window(max_window=30)
        window.acknowledged(10, 10, INITIAL_WINDOW, 0.0)
        self.assertEqual(window.window, 20)
        window.acknowledged(20, 30, 20, 0.1)
        self.assertEqual(window.window, 30)

    def test_idle_does_not_grow(self) -> None:
        """A window of which less than half is used proves nothing and stays."""
        window, _ = make_window()
        window.acknowledged(1, 1, 4, 0.0)
        self.assertEqual(window.window, INITIAL_WINDOW)

    def test_few_losses_are_the_path(self) -> None:
        """Five per cent of losses at random, and no queue, leave the window alone."""
        window, _ = make_window()
        window.window = 200.0
        draw = random.Random(2)
        for number in range(1, 20000):
            if draw.random() < 0.05:
                window.lost(number, number + 100)
            else:
                window.acknowledged(1, number, 200, number / 1000)
        self.assertEqual(window.reductions, 0)
        self.assertEqual(window.window, 256)

    def test_many_losses_reduce_once_a_round(self) -> None:
        """When every second packet is lost the window shrinks to 0.7, once for all losses of one round."""
        window, _ = make_window()
        window.window = 100.0
        for number in range(1, 100):
            window.lost(number, 100)
        self.assertEqual(window.window, 70)
        self.assertEqual(window.reductions, 1)
        window.lost(101, 170)
        self.assertAlmostEqual(window.window, 49)

    def test_queue_and_loss_reduce(self) -> None:
        """A single loss while the round trip is twice the usual one means a full queue."""
        window, round_trip = make_window()
        window.acknowledged(1, 1, 10, 0.0)
        for _ in range(60):
            round_trip.add_sample(0.2)
        window.lost(2, 10)
        self.assertEqual(window.reductions, 1)

    def test_queue_ends_slow_start(self) -> None:
        """The first sign of a queue ends the doubling, before anything is lost."""
        window, round_trip = make_window()
        window.acknowledged(1, 1, 10, 0.0)
        for _ in range(60):
            round_trip.add_sample(0.2)
        window.acknowledged(1, 2, 10, 0.1)
        self.assertFalse(window.in_slow_start)

    def test_recovery_does_not_grow(self) -> None:
        """Acknowledgements of what was sent before the reduction do not make up for it."""
        window, _ = make_window()
        for number in range(1, 60):
            window.lost(number, 100)
        reduced = window.window
        window.acknowledged(5, 100, 100, 0.0)
        self.assertEqual(window.window, reduced)
        window.acknowledged(1, 101, 100, 0.1)
        self.assertGreater(window.window, reduced)
        self.assertLess(window.window, reduced + 1)

    def test_late_packets_undo(self) -> None:
        """When all the packets that seemed lost turn up, the window is what it was."""
        window, round_trip = make_window()
        window.acknowledged(1, 1, 5, 0.0)
        for _ in range(60):
            round_trip.add_sample(0.2)
        before = window.window
        window.lost(2, 10)
        window.lost(3, 10)
        window.loss_was_wrong(2)
        self.assertLess(window.window, before)
        window.loss_was_wrong(3)
        self.assertEqual(window.window, before)

    def test_collapse(self) -> None:
        """When nothing comes back at all the window starts from its minimum, and never goes below."""
        window, _ = make_window()
        window.window = 100.0
        window.collapse(7)
        self.assertEqual(window.window, MINIMUM_WINDOW)
        self.assertTrue(window.in_slow_start)
        for number in range(8, 400):
            window.lost(number, number)
        self.assertEqual(window.window, MINIMUM_WINDOW)

    def test_interval(self) -> None:
        """Packets leave a little faster than one window per round trip, and freely before the first sample."""
        window, _ = make_window()
        window.threshold = 10.0
        self.assertAlmostEqual(window.packet_interval_seconds(), 0.1 / 12.5)
        unknown, _ = make_window(samples=0)
        self.assertEqual(unknown.packet_interval_seconds(), 0.0)


class PacerTests(SynchronousTestCase):
    def test_burst_then_even(self) -> None:
        """Ten packets may leave together, the rest evenly spaced; the deadline is when the next one may."""
        pacer = Pacer()
        times: list[float] = []
        now = 5.0
        while len(times) < 14:
            if pacer.may_send(now):
                pacer.sent(now, 0.01)
                times.append(now)
            else:
                self.assertGreater(pacer.deadline(), now)
                now = pacer.deadline()
        self.assertEqual(times[:10], [5.0] * 10)
        for got, wanted in zip(times[10:], (5.005, 5.015, 5.025, 5.035), strict=True):
            self.assertAlmostEqual(got, wanted)

    def test_tiny_interval(self) -> None:
        """At high rates several packets share a wake-up of a millisecond."""
        pacer = Pacer()
        for _ in range(10):
            pacer.sent(1.0, 0.0001)
        self.assertFalse(pacer.may_send(1.0))
        self.assertEqual(pacer.deadline(), 1.001)
