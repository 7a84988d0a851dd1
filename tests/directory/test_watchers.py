"""Tests of `meshrelay.directory.watchers`."""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.watchers import EpochWatch, LossWatchers


class LossWatchersTests(SynchronousTestCase):
    """Who is told of a loss."""

    def test_order(self) -> None:
        """All are told at each loss, in the order in which they asked to be."""
        told: list[int] = []
        watchers = LossWatchers()
        for number in range(3):
            watchers.add(partial(told.append, number))
        watchers.notify()
        watchers.notify()
        self.assertEqual((told, watchers.losses), ([0, 1, 2, 0, 1, 2], 2))

    def test_failures(self) -> None:
        """A watcher that fails, now or later, is logged and keeps nobody from being told."""
        later: Deferred[None] = Deferred()
        told: list[str] = []
        watchers = LossWatchers()
        watchers.add(lambda: 1 // 0)
        watchers.add(lambda: later)
        watchers.add(lambda: told.append("told"))
        watchers.notify()
        later.errback(KeyError("later"))
        self.assertEqual(told, ["told"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError, KeyError)), 2)

    def test_added_meanwhile(self) -> None:
        """Who asks while the others are told is told the next time."""
        told: list[str] = []
        watchers = LossWatchers()
        watchers.add(lambda: watchers.add(lambda: told.append("late")))
        watchers.notify()
        self.assertEqual(told, [])


class EpochWatchTests(SynchronousTestCase):
    """A directory elsewhere whose data may be lost."""

    def setUp(self) -> None:
        """A watch."""
        self.watchers = LossWatchers()
        self.watch = EpochWatch(self.watchers)

    def test_first(self) -> None:
        """The first epoch is no news, nor is the same one again."""
        self.watch.heard("a")
        self.watch.heard("a")
        self.assertEqual(self.watchers.losses, 0)

    def test_other(self) -> None:
        """Another epoch is a loss, once."""
        for epoch in "abb":
            self.watch.heard(epoch)
        self.assertEqual(self.watchers.losses, 1)

    def test_away(self) -> None:
        """Being back after it was away is one, even with the same epoch."""
        self.watch.heard("a")
        self.watch.went_away()
        self.assertTrue(self.watch.was_away)
        self.watch.heard("a")
        self.assertEqual((self.watchers.losses, self.watch.was_away), (1, False))
