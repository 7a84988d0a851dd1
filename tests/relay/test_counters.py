"""What one relay server counts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.counters import BUCKETS_MS, Durations, RelayCounters


class DurationsTests(SynchronousTestCase):
    """How long something took."""

    def test_buckets(self) -> None:
        """A time counts in the first bucket whose end it is not over; what is longer than all counts apart."""
        durations = Durations()
        for seconds in (0.0, 0.0001, 0.00011, 0.004, 10.0, 10.1, 1e9, -1.0):
            durations.add(seconds)
        self.assertEqual(durations.counts, [3, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2])
        self.assertEqual(len(durations.counts), len(BUCKETS_MS) + 1)
        self.assertAlmostEqual(durations.total_ms, 0.1 + 0.11 + 4 + 10_000 + 10_100 + 1e12, places=3)


class RelayCountersTests(SynchronousTestCase):
    """All counters."""

    def test_zero(self) -> None:
        """Everything starts at zero, for each server by itself."""
        first, second = RelayCounters(), RelayCounters()
        for name in RelayCounters.__slots__:
            value = getattr(first, name)
            self.assertFalse(sum(value.counts) if isinstance(value, Durations) else value, name)
        first.peers["ws"] += 1
        first.authentication.add(1.0)
        self.assertEqual((dict(second.peers), sum(second.authentication.counts)), ({}, 0))
