"""Which numbered messages came before: what is resent or replayed is delivered once.

A sender numbers its messages to one receiver from 1 upwards and starts a new *run*, 16 random bytes, with each process.
For each (sender, run) there is a window of `WINDOW` numbers below the highest that came. What is older counts as
seen: a sender never has more than a window between its oldest unacknowledged message and its newest.

Windows are bounded; the one that was used longest ago goes first. Only what is authentic may be asked here, otherwise
anybody could push the windows of others out. A message can come a second time if its window was forgotten, that is
after `MAX_WINDOWS` other runs, or after a restart of the receiver.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum, unique

__all__ = ["MAX_WINDOWS", "WINDOW", "Arrival", "ReplayWindows"]

#: Numbers that are told apart behind the highest one.
WINDOW = 4096

#: Runs remembered; each costs half a kilobyte and its names.
MAX_WINDOWS = 20_000

_MASK = (1 << WINDOW) - 1


@unique
class Arrival(Enum):
    """What a number is."""

    NEW = "new"
    #: It came before.
    REPEATED = "repeated"
    #: Too far behind the highest to know.
    OLD = "old"


class _Window:
    """Bit n is set: the number ``highest - n`` came."""

    __slots__ = ("highest", "seen")

    def __init__(self) -> None:
        self.highest = 0
        self.seen = 0


class ReplayWindows:
    """The windows of all senders.

    :param max_windows: how many there are at most.
    """

    def __init__(self, max_windows: int = MAX_WINDOWS) -> None:
        self._windows: OrderedDict[tuple[bytes, bytes], _Window] = OrderedDict()
        self._max_windows = max_windows
        #: Windows that were forgotten to make room.
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._windows)

    def arrived(self, sender: bytes, run: bytes, number: int) -> Arrival:
        """Note that a number came, and tell whether it came before. O(1).

        :param number: from 1.
        """
        key = sender, run
        window = self._windows.get(key)
        if window is None:
            window = self._add(key)
        else:
            self._windows.move_to_end(key)
        ahead = number - window.highest
        if ahead > 0:
            # A number may be anywhere up to 2^64: never shift by more than the window is wide.
            window.seen = (window.seen << ahead | 1) & _MASK if ahead < WINDOW else 1
            window.highest = number
            return Arrival.NEW
        if ahead <= -WINDOW:
            return Arrival.OLD
        bit = 1 << -ahead
        if window.seen & bit:
            return Arrival.REPEATED
        window.seen |= bit
        return Arrival.NEW

    def _add(self, key: tuple[bytes, bytes]) -> _Window:
        if len(self._windows) >= self._max_windows:
            self._windows.popitem(last=False)
            self.forgotten += 1
        window = self._windows[key] = _Window()
        return window
