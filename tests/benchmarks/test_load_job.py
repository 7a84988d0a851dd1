"""Tests for benchmarks.load_job."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.load_job import HISTOGRAM_BITS, percentile
from benchmarks.load_python import slot_of


class PercentileTests(SynchronousTestCase):
    def test_width(self) -> None:
        """A time that was counted is told with at most two percent of error."""
        for nanoseconds in (3, 31, 32, 33, 1000, 123_456, 10**6, 10**9, 5 * 10**9):
            histogram = [0] * (64 << HISTOGRAM_BITS)
            histogram[slot_of(nanoseconds)] = 7
            told = percentile(histogram, 0.5) * 1e6
            self.assertLessEqual(abs(told - nanoseconds), 0.5 + 0.02 * nanoseconds)

    def test_order(self) -> None:
        """One slow message in a hundred moves the greatest percentile only."""
        histogram = [0] * (64 << HISTOGRAM_BITS)
        histogram[slot_of(10**6)] = 99
        histogram[slot_of(10**9)] = 1
        self.assertLess(percentile(histogram, 0.99), 1.1)
        self.assertGreater(percentile(histogram, 1.0), 900)

    def test_nothing(self) -> None:
        """Without any time counted the answer is 0."""
        self.assertEqual(percentile([0] * 64, 0.5), 0.0)
