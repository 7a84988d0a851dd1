"""How late turns come."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.counters import NodeCounters
from meshrelay.http.lag import INTERVAL_SECONDS, LagMeter


class LagTests(SynchronousTestCase):
    """A clock that is advanced too far is a reactor that was busy."""

    def setUp(self) -> None:
        """Start a meter."""
        self.clock = Clock()
        self.counters = NodeCounters()
        self.meter = LagMeter(self.clock, self.counters)
        self.meter.startService()

    def test_on_time(self) -> None:
        """A reactor that comes round in time has no lag."""
        self.clock.pump([INTERVAL_SECONDS] * 4)
        self.assertEqual(self.counters.reactor_lag_seconds, 0.0)
        self.assertEqual(self.meter.delays.buckets()[0], ("0.001", 4.0))

    def test_greatest(self) -> None:
        """The greatest lag is kept."""
        for late in (0.02, 0.75, 0.1):
            self.clock.advance(INTERVAL_SECONDS + late)
        self.assertAlmostEqual(self.counters.reactor_lag_seconds, 0.75)
        self.assertAlmostEqual(self.meter.delays.sum_seconds, 0.87)

    def test_buckets(self) -> None:
        """Each bucket counts what is at most its bound; the last one counts all."""
        for late in (0.0, 0.03, 0.3, 9.0):
            self.clock.advance(INTERVAL_SECONDS + late)
        buckets = dict(self.meter.delays.buckets())
        wanted = {"0.001": 1.0, "0.025": 1.0, "0.05": 2.0, "0.5": 3.0, "2.5": 3.0, "+Inf": 4.0}
        self.assertEqual({bound: buckets[bound] for bound in wanted}, wanted)

    def test_stop(self) -> None:
        """A stopped meter leaves no timer; stopping twice does nothing."""
        self.meter.stopService()
        self.meter.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
