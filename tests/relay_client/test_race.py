"""Tests of `meshrelay.relay_client.race`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay_client.race import Attempt, RaceFailed, race


class RaceTests(SynchronousTestCase):
    """Several ways to one thing."""

    def setUp(self) -> None:
        self.running: dict[str, Deferred[str]] = {}

    def attempts(self, names: str) -> list[Attempt[str]]:
        """One for each letter."""

        def begin(name: str) -> Deferred[str]:
            self.running[name] = Deferred()
            return self.running[name]

        return [(name, lambda name=name: begin(name)) for name in names]  # type: ignore[misc]

    def test_at_once(self) -> None:
        """The first that works wins, the others are cancelled."""
        done = race(self.attempts("abc"), 3)
        self.running["b"].callback("b")
        self.assertEqual(self.successResultOf(done), "b")
        self.assertTrue(self.running["a"].called and self.running["c"].called)

    def test_one_by_one(self) -> None:
        """The second begins when the first has failed, and never when it has worked."""
        done = race(self.attempts("abc"), 1)
        self.running["a"].errback(ValueError("no"))
        self.assertEqual(list(self.running), ["a", "b"])
        self.running["b"].callback("b")
        self.assertEqual(self.successResultOf(done), "b")
        self.assertEqual(list(self.running), ["a", "b"])

    def test_all_fail(self) -> None:
        """The error has all failures in the order in which they began; one without a text has its name."""
        done = race(self.attempts("ab"), 2)
        self.running["b"].errback(ValueError("two"))
        self.running["a"].errback(KeyError())
        error = self.failureResultOf(done, RaceFailed).value
        self.assertEqual(str(error), "a: KeyError; b: two")

    def test_at_hand(self) -> None:
        """What is there at once wins without the others having begun."""
        attempts: list[Attempt[str]] = [("x", lambda: fail(ValueError())), ("y", lambda: succeed("y"))]
        done = race([*attempts, *self.attempts("a")], 1)
        self.assertEqual(self.successResultOf(done), "y")
        self.assertEqual(self.running, {})
        self.failureResultOf(race([], 1), RaceFailed)

    def test_cancel(self) -> None:
        """Cancelling cancels all."""
        done = race(self.attempts("ab"), 2)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertTrue(self.running["a"].called and self.running["b"].called)
