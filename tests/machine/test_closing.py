from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.closing import Closing


def make_closing() -> Closing:
    """Return an end that wants to finish."""
    closing = Closing()
    closing.is_wanted = True
    return closing


class ClosingTests(SynchronousTestCase):
    def test_not_wanted(self) -> None:
        """Nobody finishes before being asked to, and no ACK means anything until then."""
        closing = Closing()
        self.assertFalse(closing.take_due(0.0, 0.2))
        self.assertFalse(closing.acknowledged(1.0, 0.2, 0.1))
        self.assertIsNone(closing.deadline)

    def test_quiet_session(self) -> None:
        """On a session that was quiet one FIN and its answer are all."""
        closing = make_closing()
        closing.elicited(1.0)
        self.assertTrue(closing.take_due(5.0, 0.2))
        self.assertFalse(closing.take_due(5.1, 0.2))
        self.assertTrue(closing.acknowledged(5.1, 0.2, 0.1))
        self.assertFalse(closing.acknowledged(5.2, 0.2, 0.1))
        self.assertIsNone(closing.deadline)

    def test_repeated(self) -> None:
        """Without an answer the FIN is repeated at doubling distances, and then the peer is gone."""
        closing = make_closing()
        times = [tick / 8 for tick in range(40) if closing.take_due(tick / 8, 0.25)]
        self.assertEqual(times, [0.0, 0.25, 0.75, 1.75, 3.75])
        self.assertFalse(closing.is_exhausted(5, 10.0))
        self.assertTrue(closing.is_exhausted(4, 10.0))

    def test_answer_too_soon(self) -> None:
        """An ACK that was on its way before the FIN does not answer it."""
        closing = make_closing()
        closing.take_due(5.0, 0.2)
        self.assertFalse(closing.acknowledged(5.01, 0.2, 0.1))
        self.assertFalse(closing.acknowledged(5.09, 0.2, 0.1))
        self.assertTrue(closing.acknowledged(5.3, 0.2, 0.1))

    def test_row_of_late_acknowledgements(self) -> None:
        """While ACKs of data keep coming none of them is the answer, however long that takes."""
        closing = make_closing()
        closing.elicited(4.9)
        closing.take_due(5.0, 0.2)
        for tick in range(20):
            self.assertFalse(closing.acknowledged(5.05 + tick / 20, 0.2, 0.1))
        self.assertTrue(closing.acknowledged(6.3, 0.2, 0.1))

    def test_farewells(self) -> None:
        """When data were sent just before, two more FINs follow the answer, and they are no reason to give up."""
        closing = make_closing()
        closing.elicited(4.9)
        closing.take_due(5.0, 0.2)
        self.assertTrue(closing.acknowledged(5.3, 0.2, 0.1))
        times = []
        while (deadline := closing.deadline) is not None:
            self.assertFalse(closing.is_exhausted(0, deadline))
            self.assertTrue(closing.take_due(deadline, 0.2))
            times.append(round(deadline, 3))
        self.assertEqual(times, [5.5, 5.7])
