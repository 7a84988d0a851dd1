"""Pushes kept for a resume: bounded, and honest about what it no longer has.

A client that acknowledges says how many pushes it has received, and is sent exactly the rest. The count goes over
all pushes of ver >= 1 of a session, mod 2^32 (client protocol, section 2, ACK).
"""

from __future__ import annotations

from collections import deque

from meshrelay.wire.frame import split_frames

__all__ = ["ReplayBuffer"]

_MOD = 1 << 32


class ReplayBuffer:
    """Numbered pushes, the oldest given up first when there are too many.

    :param limit_bytes: what is kept at most.
    :param first: number of pushes that came before the first one kept.
    :param is_whole: False: something was given up before.
    """

    __slots__ = ("_entries", "_first", "_is_broken", "_last", "_limit_bytes", "_size_bytes")

    def __init__(self, limit_bytes: int, first: int = 0, is_whole: bool = True) -> None:
        self._limit_bytes = limit_bytes
        #: Joined frames and how many there are in each; shared with the other receivers of the same turn.
        self._entries: deque[tuple[bytes, int]] = deque()
        self._first = first
        self._last = first
        self._size_bytes = 0
        self._is_broken = not is_whole

    @property
    def size_bytes(self) -> int:
        """What is kept now."""
        return self._size_bytes

    @property
    def first(self) -> int:
        """Number of pushes before the first one kept, not mod 2^32."""
        return self._first

    @property
    def last(self) -> int:
        """Number of pushes so far, not mod 2^32."""
        return self._last

    @property
    def is_whole(self) -> bool:
        """True: nothing was given up since the first push."""
        return not self._is_broken

    @property
    def is_counted(self) -> bool:
        """False: after `break_off`."""
        return self._limit_bytes >= 0

    def append(self, entry: tuple[bytes, int]) -> None:
        """Keep joined frames.

        :param entry: the frames and how many there are; kept as it is, so that all receivers of a batch share one.
        """
        data, count = entry
        self._last += count
        self._size_bytes += len(data)
        self._entries.append(entry)
        while self._size_bytes > self._limit_bytes and self._entries:
            dropped, frames = self._entries.popleft()
            self._size_bytes -= len(dropped)
            self._first += frames
            self._is_broken = True

    def break_off(self) -> None:
        """A push was dropped on its way, so that the client's count and ours are about different pushes."""
        self._entries.clear()
        self._size_bytes = 0
        self._is_broken = True
        # Nothing is kept from here on, and no count is one of ours.
        self._limit_bytes = -1

    def acknowledge(self, received: int) -> bool:
        """Forget what the client has.

        :param received: the client's count, mod 2^32.
        :returns: False when the count is not one of what is kept; then nothing changes.
        """
        ahead = (received - self._first) % _MOD
        if ahead > self._last - self._first or self._limit_bytes < 0:
            return False
        while self._entries and self._entries[0][1] <= ahead:
            data, count = self._entries.popleft()
            self._size_bytes -= len(data)
            self._first += count
            ahead -= count
        if ahead:
            # The count ends inside a join; the rest of it stays.
            data, count = self._entries.popleft()
            rest = b"".join(split_frames(data)[ahead:])
            self._entries.appendleft((rest, count - ahead))
            self._size_bytes -= len(data) - len(rest)
            self._first += ahead
        return True

    def frames(self) -> list[bytes]:
        """All frames kept, oldest first."""
        return [frame for data, _ in self._entries for frame in split_frames(data)]
