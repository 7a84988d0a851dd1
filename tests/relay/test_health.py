"""Is the other end alive."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.health import HealthWatch, attempt_threshold


def looks(watch: HealthWatch, heard_before: list[bool]) -> list[bool]:
    """Look when it is time; return what was found, each time."""
    found = []
    for is_heard in heard_before:
        if is_heard:
            watch.heard()
        found.append(watch.is_gone(watch.next_look_at))
    return found


class ThresholdTests(SynchronousTestCase):
    """NB_RELAY_HC_ATTEMPT_THRESHOLD."""

    def test_values(self) -> None:
        """A number above 0 counts, everything else is 1."""
        for text, threshold in ((None, 1), ("", 1), ("3", 3), ("invalid", 1), ("0", 1), ("-2", 1), (" 2 ", 2)):
            self.assertEqual(attempt_threshold(text), threshold, text)


class HealthWatchTests(SynchronousTestCase):
    """The looks of one end."""

    def test_silent(self) -> None:
        """Who says nothing is gone at the first look."""
        watch = HealthWatch(45.0, 1, 100.0)
        self.assertEqual(watch.next_look_at, 145.0)
        self.assertTrue(watch.is_gone(145.0))

    def test_alive(self) -> None:
        """Who says something before each look stays; a word counts for one look."""
        watch = HealthWatch(35.0, 1, 0.0)
        self.assertEqual(looks(watch, [True, True, True, False]), [False, False, False, True])

    def test_threshold(self) -> None:
        """As many looks in a row must fail as were allowed; a word begins the count again."""
        self.assertEqual(looks(HealthWatch(1.0, 3, 0.0), [False] * 3), [False, False, True])
        watch = HealthWatch(1.0, 2, 0.0)
        self.assertEqual(looks(watch, [False, True, False, False]), [False, False, False, True])

    def test_slept(self) -> None:
        """A look that comes minutes late counts once, and the next one is a whole interval later."""
        watch = HealthWatch(45.0, 2, 0.0)
        self.assertFalse(watch.is_gone(1000.0))
        self.assertEqual(watch.next_look_at, 1045.0)
