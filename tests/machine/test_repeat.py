from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.repeat import Repeat


class RepeatTests(SynchronousTestCase):
    def test_doubles_up_to_a_minute(self) -> None:
        """Each repetition waits twice as long as the one before, at most a minute."""
        repeat = Repeat()
        waits = []
        for _ in range(8):
            repeat.sent(100.0, 1.0)
            assert repeat.at is not None
            waits.append(repeat.at - 100.0)
        self.assertEqual(waits, [1, 2, 4, 8, 16, 32, 60, 60])

    def test_exhausted(self) -> None:
        """After the first time and two repetitions the third unanswered wait is the end."""
        repeat = Repeat()
        for now in (0.0, 1.0, 3.0):
            repeat.sent(now, 1.0)
        self.assertFalse(repeat.is_exhausted(2, 6.9))
        self.assertTrue(repeat.is_exhausted(2, 7.0))
        self.assertFalse(repeat.is_exhausted(3, 7.0))

    def test_answered(self) -> None:
        """What was answered is never exhausted."""
        repeat = Repeat()
        repeat.sent(0.0, 1.0)
        repeat.at = None
        self.assertFalse(repeat.is_exhausted(0, 1e9))
