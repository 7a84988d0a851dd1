"""What is known of one other node: linked, cut off for a moment, or lost. Pure.

::

                 down                     nobody sees it
    --> LINKED --------> CUT ----------------------------> LOST --gone_seconds--> forgotten
          ^ ^  `---------|------said goodbye----------------^ |
          | `-----up-----'                                    |
          `---------------------up----------------------------'

`PRESENCE_MOVES` is the whole table. Time is counted in ticks of `meshrelay.mesh.nodes`, never in seconds of the clock:
a clock that is set, or a process that was stopped and goes on, must not make nodes look gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, unique

from meshrelay.errors import LocalProtocolError

__all__ = ["PRESENCE_MOVES", "Presence", "PresenceInput", "PresenceState"]


@unique
class PresenceState(Enum):
    """Where a node that was met stands."""

    LINKED = "linked"
    CUT = "cut"
    LOST = "lost"


@unique
class PresenceInput(Enum):
    """What happens to a node."""

    UP = "up"
    DOWN = "down"
    GOODBYE = "said goodbye"
    UNSEEN = "nobody sees it"


#: What is not here is a bug of ours.
PRESENCE_MOVES: Mapping[tuple[PresenceState, PresenceInput], PresenceState] = {
    (PresenceState.LINKED, PresenceInput.DOWN): PresenceState.CUT,
    # A node that stops cleanly need not be looked for.
    (PresenceState.LINKED, PresenceInput.GOODBYE): PresenceState.LOST,
    (PresenceState.CUT, PresenceInput.UP): PresenceState.LINKED,
    (PresenceState.CUT, PresenceInput.UNSEEN): PresenceState.LOST,
    (PresenceState.LOST, PresenceInput.UP): PresenceState.LINKED,
}


class Presence:
    """One node that was met.

    :ivar down_ticks: since its link broke.
    :ivar question_tick: the value of `down_ticks` at which others are asked for it; None = they are being asked.
    :ivar down_count: how often its link broke; tells an answer that comes too late.
    :ivar malformed: messages and calls of it that could not be read.
    """

    __slots__ = ("down_count", "down_ticks", "malformed", "node_id", "question_tick", "state")

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.state = PresenceState.LINKED
        self.down_ticks = 0
        self.question_tick: int | None = None
        self.down_count = 0
        self.malformed = 0

    def move(self, happened: PresenceInput) -> PresenceState:
        """Go where the table says.

        :returns: the state before.
        :raises LocalProtocolError: the table says nothing; the state stays.
        """
        before = self.state
        state = PRESENCE_MOVES.get((before, happened))
        if state is None:
            raise LocalProtocolError(f"node {self.node_id}: {happened.value} while {before.value}")
        self.state = state
        return before

    def cut(self, is_goodbye: bool, question_tick: int) -> None:
        """Its link broke; ask others for it in `question_tick` ticks."""
        self.move(PresenceInput.GOODBYE if is_goodbye else PresenceInput.DOWN)
        self.down_ticks = 0
        self.down_count += 1
        self.question_tick = question_tick

    def is_question_due(self) -> bool:
        """Whether others are to be asked for it now."""
        return (
            self.state is PresenceState.CUT and self.question_tick is not None and self.down_ticks >= self.question_tick
        )
