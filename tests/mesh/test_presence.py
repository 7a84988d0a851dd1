"""One other node: its states."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError
from meshrelay.mesh.presence import PRESENCE_MOVES, Presence, PresenceInput, PresenceState


class TableTests(SynchronousTestCase):
    """All states, all inputs."""

    def test_table(self) -> None:
        """Each input leads where the table says; what it does not name is refused and changes nothing."""
        for state, happened in product(PresenceState, PresenceInput):
            presence = Presence("b")
            presence.state = state
            if (state, happened) in PRESENCE_MOVES:
                self.assertEqual(presence.move(happened), state)
                self.assertEqual(presence.state, PRESENCE_MOVES[state, happened])
            else:
                self.assertRaises(LocalProtocolError, presence.move, happened)
                self.assertEqual(presence.state, state)


class QuestionTests(SynchronousTestCase):
    """When others are asked."""

    def test_due(self) -> None:
        """Others are asked once, when the link was down for long enough, and never for a node that said goodbye."""
        presence = Presence("b")
        presence.cut(False, 2)
        due = []
        for presence.down_ticks in range(4):
            due.append(presence.is_question_due())
        self.assertEqual(due, [False, False, True, True])
        presence.question_tick = None
        self.assertFalse(presence.is_question_due())
        stopped = Presence("c")
        stopped.cut(True, 0)
        self.assertEqual((stopped.state, stopped.is_question_due()), (PresenceState.LOST, False))
