"""Tests of `meshrelay.relay_client.waiting`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay_client.errors import DeadlinePassed, TooManyWaiting
from meshrelay.relay_client.waiting import MAX_WAITING, Waiting


class WaitingTests(SynchronousTestCase):
    """Calls that wait."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.waiting: Waiting[int, str] = Waiting(self.clock)

    def test_cancel_in_callback(self) -> None:
        """A call that fails may cancel another; those behind it fail as well."""
        calls = [self.waiting.add(number) for number in range(3)]
        calls[0].addErrback(lambda _: calls[1].cancel())
        self.waiting.end(ValueError())
        self.failureResultOf(calls[1], CancelledError)
        self.failureResultOf(calls[2], ValueError)

    def test_order(self) -> None:
        """They are taken in the order in which they came; a cancelled one is not."""
        calls = [self.waiting.add(number) for number in range(3)]
        calls[0].cancel()
        self.failureResultOf(calls[0], CancelledError)
        item, done = self.waiting.take()
        done.callback("x")
        self.assertEqual((item, self.successResultOf(calls[1]), len(self.waiting)), (1, "x", 1))

    def test_bound(self) -> None:
        """No more than so many may wait."""
        for number in range(MAX_WAITING):
            self.waiting.add(number).addErrback(lambda _: None)
        self.failureResultOf(self.waiting.add(0), TooManyWaiting)
        self.assertEqual(len(self.waiting), MAX_WAITING)

    def test_deadline(self) -> None:
        """A deadline ends what waits; it can be moved and taken back, and one in the past holds at once."""
        done = self.waiting.add(0)
        self.waiting.set_deadline(5.0)
        self.waiting.set_deadline(None)
        self.clock.advance(6.0)
        self.assertNoResult(done)
        self.assertFalse(self.waiting.is_too_late)
        self.waiting.set_deadline(1.0)
        self.clock.advance(0)
        self.failureResultOf(done, DeadlinePassed)
        self.assertTrue(self.waiting.is_too_late)

    def test_end(self) -> None:
        """At the end all fail, and no timer is left."""
        done = self.waiting.add(0)
        self.waiting.set_deadline(5.0)
        self.waiting.end(ValueError())
        self.failureResultOf(done, ValueError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
