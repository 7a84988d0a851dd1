"""Tests of `meshrelay.cli.bench_latency`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.bench_latency import MAX_SECONDS, Latencies


class LatenciesTests(SynchronousTestCase):
    """Percentiles without keeping what they are made of."""

    def test_percentiles(self) -> None:
        """They are right to one in a hundred."""
        latencies = Latencies()
        for number in range(1, 1001):
            latencies.add(number / 1000)
        for share in (0.5, 0.9, 0.99, 1.0):
            self.assertLess(abs(latencies.percentile(share) - share), share * 0.0101)
        self.assertEqual((latencies.count, latencies.longest), (1000, 1.0))

    def test_none(self) -> None:
        """Of nothing they are 0."""
        self.assertEqual((Latencies().percentile(0.5), Latencies().longest), (0.0, 0.0))

    def test_bound(self) -> None:
        """However many there are and however strange, the memory stays small."""
        latencies = Latencies()
        for number in range(20_000):
            latencies.add(1.002**number * 1e-7 - 1e-6)
        self.assertLess(len(latencies._buckets), 2100)
        self.assertEqual(latencies.count, 20_000)
        self.assertLess(abs(latencies.percentile(1.0) - MAX_SECONDS), MAX_SECONDS * 0.02)
