"""Tests of `meshrelay.directory.history`."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.history import MemoryHistory, new_epoch
from meshrelay.machine.message_logs import LogLimits

LIMITS = LogLimits(10, 5.0)


class MemoryHistoryTests(SynchronousTestCase):
    """The store in memory."""

    def test_answers_at_once(self) -> None:
        """Nothing waits, and what is kept comes back until it is too old."""
        clock = Clock()
        clock.advance(1000.0)
        store = MemoryHistory(1 << 20, clock, Random(1).randrange)
        epoch, first = self.successResultOf(store.append("a", 0, [b"x"], LIMITS))
        self.assertEqual(first, 1)
        page = self.successResultOf(store.read("a", 0, 0, (9, 99), LIMITS))
        self.assertEqual((page.epoch, page.entries), (epoch, (b"x",)))
        clock.advance(6.0)
        self.assertEqual(self.successResultOf(store.read("a", 0, 0, (9, 99), LIMITS)).entries, ())
        self.assertEqual(store.statistics()["group_log_dropped"], 1)
        self.successResultOf(store.stop())

    def test_epochs_grow(self) -> None:
        """A later epoch is greater, two of one moment differ, and each fits 64 bits for a long time."""
        random = Random(1)
        epochs = [new_epoch(seconds, random.randrange) for seconds in (0.0, 1.0, 2e9)]
        self.assertEqual(epochs, sorted(epochs))
        self.assertGreater(epochs[0], 0)
        self.assertLess(epochs[-1], 1 << 63)
        self.assertNotEqual(new_epoch(5.0, random.randrange), new_epoch(5.0, random.randrange))
