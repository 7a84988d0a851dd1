"""What is put off until all reads of this reactor turn were handled.

Joining and writing once a turn is what makes fan-out fast: under load a turn takes longer, more frames meet in it, and
each costs less; without load nothing waits. Joins come before writes, so that an answer and the pushes of the same
turn leave in one write.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

__all__ = ["Flushable", "Turn"]


class Flushable(Protocol):
    """Something that has work for the end of the turn."""

    def flush(self) -> None:
        """Do the work. Called once for each time it was scheduled."""


class Turn:
    """The end of the current reactor turn."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._joins: list[Flushable] = []
        self._writes: list[Flushable] = []
        self._is_scheduled = False

    def join(self, flushable: Flushable) -> None:
        """Flush `flushable` at the end of the turn, before all writes."""
        self._joins.append(flushable)
        if not self._is_scheduled:
            self._schedule()

    def write(self, flushable: Flushable) -> None:
        """Flush `flushable` at the end of the turn, after all joins."""
        self._writes.append(flushable)
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._clock.callLater(0, self.end)

    def end(self) -> None:
        """Do everything that was put off. What is scheduled meanwhile belongs to the next turn."""
        self._is_scheduled = False
        # Joins first: they add to the writes of this same turn.
        joins, self._joins = self._joins, []
        self._flush(joins)
        writes, self._writes = self._writes, []
        self._flush(writes)

    def _flush(self, flushables: list[Flushable]) -> None:
        for flushable in flushables:
            try:
                flushable.flush()
            except Exception:  # one receiver's error must never reach another
                self._log.failure("flushing {flushable} failed", flushable=flushable)
