"""Tests of `meshrelay.directory.watchers`."""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.watchers import LossWatchers


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
