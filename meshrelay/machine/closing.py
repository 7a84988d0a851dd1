"""The FIN of one end: when it is sent, and which ACK answers it.

A FIN takes no sequence number, and what answers it is an ACK like any other. A late ACK to data looks the same; to take
it for the answer while the FIN was lost would leave the peer waiting for ever. So an ACK counts when it comes no sooner
than a round trip after the FIN, a timeout after the last data, and not in a row with others that were too soon. Where
data were sent shortly before, two more FINs follow at the distance of a timeout, answered or not.
"""

from __future__ import annotations

from math import inf

from meshrelay.machine.repeat import Repeat

__all__ = ["Closing"]

#: FINs that follow an answer which may have been none.
FAREWELLS = 2

#: Data sent this many timeouts ago leave no doubt.
QUIET_TIMEOUTS = 4

#: An answer takes at least this share of the fastest round trip; jitter may have made even that one slow.
ANSWER_SHARE = 0.75


class Closing:
    """The end of what this end sends. Invariant: answered at most once, and then only farewells are due."""

    __slots__ = ("_doubtful_at", "_elicited_at", "_farewells", "_repeat", "is_answered", "is_wanted")

    def __init__(self) -> None:
        self._repeat = Repeat()
        self.is_wanted = False
        self.is_answered = False
        self._farewells = 0
        # When something other than a FIN was last sent that is answered with an ACK.
        self._elicited_at = -inf
        # When an ACK last came that may have answered a FIN or not.
        self._doubtful_at = -inf

    @property
    def deadline(self) -> float | None:
        """When the FIN is to be repeated; None = not begun, or done."""
        return self._repeat.at

    def elicited(self, now: float) -> None:
        """Note that a SYN or DAT was sent, which the peer will acknowledge."""
        self._elicited_at = now

    def take_due(self, now: float, timeout_seconds: float) -> bool:
        """Tell whether a FIN is to be sent now; the caller sends it. Only when all data were acknowledged."""
        repeat = self._repeat
        is_due = not repeat.tries if repeat.at is None else now >= repeat.at
        if not self.is_wanted or not is_due:
            return False
        repeat.sent(now, timeout_seconds)
        if self.is_answered:
            self._farewells -= 1
            repeat.at = now + timeout_seconds if self._farewells else None
        return True

    def acknowledged(self, now: float, timeout_seconds: float, fastest_seconds: float) -> bool:
        """Take an ACK of everything that was sent.

        :param fastest_seconds: the fastest round trip so far.
        :returns: True when it is the first one that answers the FIN.
        """
        repeat = self._repeat
        if not repeat.tries or self.is_answered:
            return False
        quiet_from = max(
            repeat.first_sent_at, self._elicited_at + timeout_seconds, self._doubtful_at + timeout_seconds / 2
        )
        if now < quiet_from + fastest_seconds * ANSWER_SHARE:
            self._doubtful_at = now
            return False
        self.is_answered = True
        last_doubt = max(self._doubtful_at, self._elicited_at + QUIET_TIMEOUTS * timeout_seconds)
        self._farewells = FAREWELLS if last_doubt >= repeat.first_sent_at else 0
        repeat.at = now + timeout_seconds if self._farewells else None
        return True

    def is_exhausted(self, max_tries: int, now: float) -> bool:
        """Tell whether the peer has not answered after that many repetitions."""
        return not self.is_answered and self._repeat.is_exhausted(max_tries, now)
