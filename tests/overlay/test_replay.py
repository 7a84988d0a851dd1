"""Which numbers came before."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.replay import WINDOW, Arrival, ReplayWindows

SENDER = b"s" * 20
RUN = b"r" * 16


class ReplayTests(SynchronousTestCase):
    """One sender, unless a test says otherwise."""

    def setUp(self) -> None:
        self.windows = ReplayWindows(max_windows=3)

    def arrived(self, number: int, sender: bytes = SENDER, run: bytes = RUN) -> Arrival:
        return self.windows.arrived(sender, run, number)

    def test_once(self) -> None:
        """A message that comes again is told apart, in whatever order the others come."""
        numbers = [5, 1, 3, 2, 9, 4]
        self.assertEqual({self.arrived(number) for number in numbers}, {Arrival.NEW})
        self.assertEqual({self.arrived(number) for number in numbers}, {Arrival.REPEATED})
        self.assertEqual(self.arrived(6), Arrival.NEW)

    def test_edge(self) -> None:
        """The oldest number of the window is still told apart; the one before it counts as seen."""
        self.arrived(WINDOW + 10)
        self.assertEqual(self.arrived(11), Arrival.NEW)
        self.assertEqual(self.arrived(11), Arrival.REPEATED)
        self.assertEqual(self.arrived(10), Arrival.OLD)

    def test_leap(self) -> None:
        """A number far ahead costs no memory, and what lies behind it counts as seen."""
        self.arrived(7)
        self.assertEqual(self.arrived((1 << 64) - 1), Arrival.NEW)
        self.assertEqual(self.arrived(7), Arrival.OLD)
        self.assertEqual(self.arrived((1 << 64) - 1), Arrival.REPEATED)

    def test_leap_of_a_window(self) -> None:
        """A leap over just the window forgets what fell out, and nothing else."""
        self.arrived(1)
        self.assertEqual(self.arrived(WINDOW), Arrival.NEW)
        self.assertEqual(self.arrived(1), Arrival.REPEATED)
        self.assertEqual(self.arrived(WINDOW + 1), Arrival.NEW)
        self.assertEqual(self.arrived(1), Arrival.OLD)
        self.assertEqual(self.arrived(WINDOW), Arrival.REPEATED)

    def test_runs(self) -> None:
        """A sender that starts again counts from 1 again."""
        self.arrived(1)
        self.assertEqual(self.arrived(1, run=b"R" * 16), Arrival.NEW)
        self.assertEqual(self.arrived(1), Arrival.REPEATED)

    def test_bound(self) -> None:
        """There are no more windows than allowed: the one used longest ago goes, and is counted."""
        for sender in (b"a", b"b", b"c"):
            self.arrived(1, sender=sender)
        self.arrived(2, sender=b"a")
        self.arrived(1, sender=b"d")
        self.assertEqual((len(self.windows), self.windows.forgotten), (3, 1))
        self.assertEqual(self.arrived(1, sender=b"a"), Arrival.REPEATED)
        self.assertEqual(self.arrived(1, sender=b"b"), Arrival.NEW)

    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(st.lists(st.integers(1, 3 * WINDOW), max_size=60))
    def test_never_twice(self, numbers: list[int]) -> None:
        """Whatever comes in whatever order, no number is new twice, and what is called repeated came before."""
        windows = ReplayWindows()
        seen: set[int] = set()
        for number in numbers:
            arrival = windows.arrived(SENDER, RUN, number)
            if number > max(seen, default=0) - WINDOW:
                self.assertEqual(arrival, Arrival.REPEATED if number in seen else Arrival.NEW)
            else:
                self.assertEqual(arrival, Arrival.OLD)
            seen.add(number)
