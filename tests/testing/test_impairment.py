"""Tests of `meshrelay.testing.impairment`: what a stream feels. The rest of it is tested with the simulated network."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.testing.impairment import STREAM_TRIES, Impairment, LossyPath, StreamPath


class LossyPathTests(SynchronousTestCase):
    """Datagrams."""

    def test_black_hole(self) -> None:
        """A path that is switched to a black hole passes nothing until it is switched back."""
        path = LossyPath(Impairment(), 1)
        numbers = []
        for is_on in (False, True, False):
            path.is_black_hole = is_on
            numbers.append(len(path.arrivals(1, 0.0)))
        self.assertEqual(numbers, [1, 0, 1])
        self.assertEqual(path.counters["blacked_out"], 1)

    def test_overhead(self) -> None:
        """The line carries headers as well."""
        path = LossyPath(Impairment(rate_bytes=1000.0), 1, overhead_bytes=400)
        self.assertEqual(path.arrivals(100, 0.0), [0.5])


class StreamPathTests(SynchronousTestCase):
    """Segments of a byte stream."""

    def test_order(self) -> None:
        """What was sent first arrives first, however much the delay varies."""
        path = StreamPath(Impairment(delay_seconds=0.05, jitter_seconds=0.04, reordering=0.1, loss=0.1), 1)
        times = [path.arrival(100, number / 100) for number in range(1000)]
        self.assertEqual(times, sorted(time or 0.0 for time in times))

    def test_lone_loss_waits_for_the_timer(self) -> None:
        """A lost segment that nothing follows comes 200 ms later; lost again, 400 ms after that."""
        path = StreamPath(Impairment(delay_seconds=0.05, black_outs=((0.0, 0.1),)), 1)
        self.assertAlmostEqual(path.arrival(100, 0.0) or 0.0, 0.25)
        path = StreamPath(Impairment(delay_seconds=0.05, black_outs=((0.0, 0.5),)), 1)
        self.assertAlmostEqual(path.arrival(100, 0.0) or 0.0, 0.65)
        self.assertEqual(path.counters["lost"], 2)

    def test_loss_in_a_busy_stream(self) -> None:
        """Where segments follow closely, a lost one comes a round trip later and holds up those behind it."""
        path = StreamPath(Impairment(delay_seconds=0.05, black_outs=((0.03, 0.035),)), 1)
        times = [path.arrival(100, number / 100) or 0.0 for number in range(6)]
        self.assertEqual([round(time, 3) for time in times], [0.05, 0.06, 0.07, 0.18, 0.18, 0.18])

    def test_given_up(self) -> None:
        """What is lost again and again is given up after the tries of a kernel."""
        path = StreamPath(Impairment(loss=1.0), 1)
        self.assertIsNone(path.arrival(100, 0.0))
        self.assertEqual((path.counters["lost"], path.counters["given_up"]), (STREAM_TRIES + 1, 1))

    def test_rate(self) -> None:
        """A slow line takes its time for each segment and its headers."""
        path = StreamPath(Impairment(rate_bytes=1000.0), 1)
        self.assertEqual([round(path.arrival(448, 0.0) or 0.0, 3) for _ in range(3)], [0.5, 1.0, 1.5])
