"""One direct path to a peer: is it there, does it carry full datagrams, is it still alive.

::

    HEARD --answer--> OPEN --full answer--> VERIFIED --no answer for 3 s--> DEAD
      |                |
      | 8 questions    | 8 questions of full length
      v                v
     DEAD            NARROW --full answer--> VERIFIED

An answer proves both directions at once: the question arrived, and so did the answer, at the socket and from the
address that the question went to. A second one of full length comes before data do, because a path that lets small
packets through only (a tunnel, a broken path MTU discovery) would swallow the stream. While data move a verified path
is asked every second, otherwise often enough to keep the mapping of a NAT.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.peer_packet import MAX_PROBE_BYTES

__all__ = ["DEATH_SECONDS", "KEEP_ALIVE_SECONDS", "Path", "PathCheck", "PathStage"]

#: Between questions while data move, and while they do not: routers forget silent UDP after 30 s (RFC 4787 asks for
#: two minutes, not all listen).
_ACTIVE_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 15.0

#: An unanswered question is repeated at this distance.
_RETRY_SECONDS = 0.5

#: From the first unanswered question on. With the second before it the end of a path is noticed in four, and seven
#: questions or their answers have to be lost for a false alarm.
DEATH_SECONDS = 3.0

#: So long unanswered, data go by the relay as well.
_SUSPECT_SECONDS = 0.75

#: Questions before a path is verified.
_FIRST_TRIES = 8
_FIRST_RETRY_SECONDS = 0.1
_MAX_FIRST_RETRY_SECONDS = 1.0

#: A narrow path may get wider, when the route changes.
_NARROW_SECONDS = 30.0

_RTT_GAIN = 1 / 4


class Path(NamedTuple):
    """Where packets go: the peer's address, and by which of our sockets; 0 is the one the node knows."""

    address: UdpAddress
    socket: int = 0


class PathStage(Enum):
    """See the module."""

    HEARD = "heard"
    OPEN = "open"
    NARROW = "narrow"
    VERIFIED = "verified"
    DEAD = "dead"


class PathCheck:
    """The checks of one path; the owner sends the questions and hands the answers over."""

    __slots__ = ("_asked_at", "_tries", "_unanswered_since", "ask_at", "path", "round_trip_seconds", "stage")

    def __init__(self, path: Path, now: float) -> None:
        self.path = path
        self.stage = PathStage.HEARD
        #: When the next question is due.
        self.ask_at = now
        #: Smoothed; 0 before the first answer.
        self.round_trip_seconds = 0.0
        self._asked_at = now
        self._tries = 0
        self._unanswered_since: float | None = None

    def ask(self, now: float) -> int:
        """Note that a question leaves.

        :returns: how long it shall be, in bytes; 0: as short as it can be.
        """
        self._asked_at = now
        self._tries += 1
        if self.stage is PathStage.VERIFIED:
            if self._unanswered_since is None:
                self._unanswered_since = now
            self.ask_at = now + _RETRY_SECONDS
            return 0
        delay = min(_FIRST_RETRY_SECONDS * 2.0 ** (self._tries - 1), _MAX_FIRST_RETRY_SECONDS)
        # A path over half the world must not be given up before its answers can be here.
        self.ask_at = now + max(delay, 1.5 * self.round_trip_seconds)
        return MAX_PROBE_BYTES if self.stage in (PathStage.OPEN, PathStage.NARROW) else 0

    def answered(self, asked_at: float, is_full: bool, is_active: bool, now: float) -> None:
        """Take the answer to a question of this path.

        :param is_full: the question filled a datagram.
        :param is_active: data move.
        """
        took = now - asked_at
        if self.stage is PathStage.DEAD:
            return
        self.round_trip_seconds += (took - self.round_trip_seconds) * (_RTT_GAIN if self.round_trip_seconds else 1.0)
        self._unanswered_since = None
        if is_full or self.stage is PathStage.VERIFIED:
            self.stage = PathStage.VERIFIED
            self.ask_at = now + (_ACTIVE_SECONDS if is_active else KEEP_ALIVE_SECONDS)
        elif self.stage is PathStage.HEARD:
            self.stage = PathStage.OPEN
            self._tries = 0
            self.ask_at = now

    def data_moved(self, now: float) -> None:
        """Ask within a second, for data shall not go into the void for long."""
        if self.stage is PathStage.VERIFIED:
            self.ask_at = min(self.ask_at, max(now, self._asked_at + _ACTIVE_SECONDS))

    def doubt(self, now: float) -> None:
        """Ask at once: one of the ends may be elsewhere."""
        if self.stage is PathStage.VERIFIED and self._unanswered_since is None:
            self.ask_at = now

    def expire(self, now: float) -> None:
        """Draw the conclusion when nobody answered; called when `ask_at` is reached, before `ask`."""
        if self.stage is PathStage.VERIFIED:
            if self._unanswered_since is not None and now >= self._unanswered_since + DEATH_SECONDS:
                self.stage = PathStage.DEAD
        elif self._tries >= _FIRST_TRIES:
            self._tries = 0
            if self.stage is PathStage.HEARD:
                self.stage = PathStage.DEAD
            else:
                self.stage = PathStage.NARROW
                self.ask_at = now + _NARROW_SECONDS

    def is_suspect(self, now: float) -> bool:
        """Whether an answer is overdue."""
        since = self._unanswered_since
        return since is not None and now >= since + max(_SUSPECT_SECONDS, 2 * self.round_trip_seconds)
