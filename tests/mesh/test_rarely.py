"""What is logged again and again."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.mesh import rarely
from meshrelay.mesh.rarely import PAUSE_SECONDS, Rarely


class RarelyTests(SynchronousTestCase):
    """One thing or many."""

    def setUp(self) -> None:
        """Nothing was said."""
        self.clock = Clock()
        self.rarely = Rarely(self.clock)

    def test_once_a_minute(self) -> None:
        """The same thing is said once a minute; another one is not held up by it."""
        self.assertTrue(self.rarely.is_due("a"))
        self.clock.advance(PAUSE_SECONDS - 1)
        self.assertEqual([self.rarely.is_due(key) for key in "aab"], [False, False, True])
        self.assertEqual(self.rarely.kept_back, 2)
        self.clock.advance(1)
        self.assertEqual([self.rarely.is_due(key) for key in "aab"], [True, False, False])

    def test_bound(self) -> None:
        """So many different things are said in a minute and no more; afterwards they are forgotten."""
        self.patch(rarely, "MAX_KEYS", 2)
        self.assertEqual([self.rarely.is_due(key) for key in "abc"], [True, True, False])
        self.assertEqual((len(self.rarely), self.rarely.kept_back), (2, 1))
        self.clock.advance(PAUSE_SECONDS)
        self.assertTrue(self.rarely.is_due("c"))
        self.assertEqual(len(self.rarely), 1)

    def test_clock_put_back(self) -> None:
        """A clock that was put back silences nothing."""
        self.clock.advance(5000)
        self.rarely.is_due("a")
        self.clock.rightNow = 10.0
        self.assertTrue(self.rarely.is_due("a"))
