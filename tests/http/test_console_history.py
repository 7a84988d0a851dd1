"""What a page that is opened now is told of before."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.counters import NodeCounters
from meshrelay.http.console_history import COLUMNS, MAX_SAMPLES, History, Sample


class HistoryTests(SynchronousTestCase):
    """Counters that a test moves."""

    def setUp(self) -> None:
        """Start, with something counted before."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.counters = NodeCounters()
        self.counters.transports["tcp"].messages_received = 500
        self.counters.closes["tcp", "idle"] = 3
        self.history = History(self.clock, self.counters, lambda: 7)
        self.history.startService()

    def test_rates(self) -> None:
        """Messages and bytes of all transports are told for each second, without those from before the start."""
        self.counters.transports["tcp"].messages_received += 30
        self.counters.transports["udp"].messages_received += 12
        self.counters.transports["websocket"].bytes_sent += 900
        self.clock.advance(1)
        self.clock.advance(1)
        first, second = self.history.samples
        self.assertEqual(first, Sample(1001, 42.0, 0.0, 0.0, 900.0, 7, 0.0))
        self.assertEqual(second, Sample(1002, 0.0, 0.0, 0.0, 0.0, 7, 0.0))
        self.assertEqual(COLUMNS[:2], ("at", "messages_received"))

    def test_lag(self) -> None:
        """A turn that comes late shows, and does not make rates look higher."""
        self.counters.transports["tcp"].messages_received += 30
        self.clock.advance(1.5)
        [sample] = self.history.samples
        self.assertEqual((sample.lag_ms, sample.messages_received), (500.0, 20.0))

    def test_bound(self) -> None:
        """Ten minutes are kept, however long the node runs."""
        for _ in range(MAX_SAMPLES + 50):
            self.clock.advance(1)
        self.assertEqual(len(self.history.samples), MAX_SAMPLES)
        self.assertEqual(self.history.samples[0].at, 1051)
        self.assertEqual(self.history.latest, self.history.samples[-1])

    def test_closes(self) -> None:
        """Closes are told since the start and for the last ten minutes; old ones drop out of the latter."""
        self.counters.closes["udp", "kicked"] += 2
        self.assertEqual(
            [tuple(each) for each in self.history.closes()], [("udp", "kicked", 2, 2), ("tcp", "idle", 3, 0)]
        )
        for _ in range(300):
            self.clock.advance(1)
        self.assertEqual(self.history.closes()[0].recent, 2)
        for _ in range(320):
            self.clock.advance(1)
        self.assertEqual([each.recent for each in self.history.closes()], [0, 0])

    def test_stop(self) -> None:
        """A node that has stopped has nothing left to do."""
        self.history.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
