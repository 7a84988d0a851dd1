"""Tests of `meshrelay.client.unsent`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.errors import NotConnected, UnsentFull
from meshrelay.client.unsent import Unsent


class UnsentTests(SynchronousTestCase):
    """What waits to be sent."""

    def setUp(self) -> None:
        self.unsent = Unsent(100)

    def test_nothing_waits(self) -> None:
        """While the transport takes everything there is no limit."""
        self.unsent.wrote([bytes(1000)])
        self.unsent.check(1000)
        self.successResultOf(self.unsent.when_drained())

    def test_bound(self) -> None:
        """After a pause so many bytes are taken and no more."""
        self.unsent.pause()
        self.unsent.wrote([bytes(60)])
        self.unsent.check(40)
        error = self.assertRaises(UnsentFull, self.unsent.check, 41)
        self.assertEqual((error.unsent_bytes, error.limit_bytes), (60, 100))

    def test_hopeless(self) -> None:
        """What is written without asking has a bound as well."""
        self.unsent.pause()
        self.unsent.wrote([bytes(200)])
        self.assertFalse(self.unsent.is_hopeless)
        self.unsent.wrote([b"x"])
        self.assertTrue(self.unsent.is_hopeless)
        self.unsent.broken()
        self.assertFalse(self.unsent.is_hopeless)

    def test_resume(self) -> None:
        """When the transport has caught up everybody who waits goes on, and the count begins anew."""
        self.unsent.pause()
        self.unsent.wrote([bytes(100)])
        first, second = self.unsent.when_drained(), self.unsent.when_drained()
        self.assertNoResult(first)
        self.unsent.resume()
        self.successResultOf(first)
        self.successResultOf(second)
        self.unsent.pause()
        self.unsent.check(100)

    def test_cancelled_by_another(self) -> None:
        """Who goes on, or hears of the end, may end the waiting of somebody else."""
        for end in (self.unsent.resume, self.unsent.broken):
            self.unsent.pause()
            self.check_cancelled(end, self.unsent.when_drained(), self.unsent.when_drained())

    def check_cancelled(self, end: Callable[[], None], first: Deferred[None], second: Deferred[None]) -> None:
        """Let the second be cancelled by whoever waits for the first."""

        def give_up(_: object) -> None:
            second.cancel()

        second.addErrback(lambda _: None)
        first.addCallbacks(give_up, give_up)
        end()
        self.successResultOf(first)

    def test_broken(self) -> None:
        """When the connection is gone nobody waits for ever."""
        self.unsent.pause()
        done = self.unsent.when_drained()
        self.unsent.broken()
        self.failureResultOf(done, NotConnected)

    def test_cancelled(self) -> None:
        """Who waits no more is not called."""
        self.unsent.pause()
        done = self.unsent.when_drained()
        done.addErrback(lambda _: None)
        done.cancel()
        self.unsent.resume()
