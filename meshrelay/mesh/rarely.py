"""How often the same thing is worth a line in the log: once a minute.

::

    what is about to be logged --its key--> Rarely --> now, or kept back and counted

A node that is refused comes again every few seconds, for days if nobody looks after it.
"""

from __future__ import annotations

from collections.abc import Hashable

from twisted.internet.interfaces import IReactorTime

__all__ = ["MAX_KEYS", "PAUSE_SECONDS", "Rarely"]

#: The same thing is said again after this.
PAUSE_SECONDS = 60.0

#: Different things that are said in that time: names of nodes are what anybody who connects says they are.
MAX_KEYS = 1000


class Rarely:
    """Tells when to log.

    :ivar kept_back: times that the answer was no.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        #: Key -> when it was said, the oldest first.
        self._said_at: dict[Hashable, float] = {}
        self.kept_back = 0

    def __len__(self) -> int:
        return len(self._said_at)

    def is_due(self, key: Hashable) -> bool:
        """Tell whether what `key` stands for is to be said now; if so it is not for the next `PAUSE_SECONDS`."""
        now = self._clock.seconds()
        self._forget(now)
        if key in self._said_at or len(self._said_at) >= MAX_KEYS:
            self.kept_back += 1
            return False
        self._said_at[key] = now
        return True

    def _forget(self, now: float) -> None:
        while self._said_at:
            oldest = next(iter(self._said_at))
            # A clock that was put back must not silence anything for hours.
            if 0 <= now - self._said_at[oldest] < PAUSE_SECONDS:
                return
            del self._said_at[oldest]
