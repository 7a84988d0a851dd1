"""Numbered contents from one origin: each once and in order at the receiver, and again from the origin when lost.

Nodes pass casts of groups on along trees; links lose nothing, but a node that dies takes with it what it has not
passed on. `Incoming` stands at the receiver: it drops what it has, holds back what is early and knows what is missing.
`History` stands at the origin and keeps for a while what was given to others to pass on. Pure; time is an argument.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TypeAlias

__all__ = ["ITEM_OVERHEAD_BYTES", "History", "Incoming"]

#: What a content costs in a `History` beside its own bytes, roughly; without it tiny ones would have no bound.
ITEM_OVERHEAD_BYTES = 160

#: What an `Incoming` holds back at most, unless it is told otherwise.
INCOMING_COUNT = 10_000
INCOMING_BYTES = 4 * 1024 * 1024

# Inside of `History` the word `bytes` is a number.
_Content: TypeAlias = bytes


class _Kept:
    """What a `History` has of one key: (number, content, when), ascending in number and in age alike."""

    __slots__ = ("first", "items")

    def __init__(self, first: int) -> None:
        #: All from this number on that were ever added are in `items`.
        self.first = first
        self.items: deque[tuple[int, bytes, float]] = deque()


class History:
    """What this node cast by way of others and may be asked for again; of all its groups together.

    Numbers of one key go up and may have gaps: what was sent to each receiver directly need not be kept, since a
    link loses nothing.

    :param limit_bytes: of contents, with ITEM_OVERHEAD_BYTES for each; above it the oldest ones go, of any key.
    :param keep_seconds: what is older goes as well.
    """

    def __init__(self, limit_bytes: int = 64 * 1024 * 1024, keep_seconds: float = 30.0) -> None:
        self._limit_bytes = limit_bytes
        self._keep_seconds = keep_seconds
        self._kept: dict[tuple[str, int], _Kept] = {}
        # For each content, oldest first, to which key it belongs: the next of that key is the one that is meant.
        self._order: deque[tuple[tuple[str, int], _Kept]] = deque()
        self._bytes = 0
        self._forgotten_count = 0
        #: Contents that were dropped for their age or because others needed the room.
        self.dropped_count = 0

    @property
    def bytes(self) -> int:
        """What is kept, with ITEM_OVERHEAD_BYTES for each content."""
        return self._bytes

    @property
    def item_count(self) -> int:
        """How many contents are kept."""
        return len(self._order) - self._forgotten_count

    def add(self, key: tuple[str, int], number: int, content: _Content, now: float) -> None:
        """Keep one content.

        :param key: group ID and hold.
        :param number: above all that were added with this key.
        :param now: in seconds, of the clock that `drop_old` gets, too.
        """
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _Kept(number)
        kept.items.append((number, content, now))
        self._order.append((key, kept))
        self._bytes += len(content) + ITEM_OVERHEAD_BYTES
        self.drop_old(now)

    def get(self, key: tuple[str, int], first: int, end: int) -> tuple[int, list[tuple[int, _Content]]]:
        """Return what there is from `first` up to, not including, `end`.

        :returns: the number from which on everything that was added, below `end`, is in the list; then the list, in
            order. That number is above `first` when there may have been older ones, and `end` when nothing of
            this key is kept. What is absent from there on was never added: it was sent directly.
        """
        kept = self._kept.get(key)
        if kept is None:
            return end, []
        found = []
        # From the newest on, for what is asked for is rarely old.
        for number, content, _ in reversed(kept.items):
            if number < first:
                break
            if number < end:
                found.append((number, content))
        found.reverse()
        return min(max(first, kept.first), end), found

    def forget(self, key: tuple[str, int]) -> None:
        """Drop all of one key: the group is no longer held. Unknown keys are nothing to drop."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        self._bytes -= sum(len(item[1]) + ITEM_OVERHEAD_BYTES for item in kept.items)
        self._forgotten_count += len(kept.items)
        kept.items.clear()
        # Their places in the order are given back when they are the greater half: then each is paid for by one add.
        if self._forgotten_count * 2 > len(self._order):
            self._order = deque(place for place in self._order if place[1].items)
            self._forgotten_count = 0

    def drop_old(self, now: float) -> None:
        """Drop what is too old or too much. `add` does it, too; call it now and then when nothing is added."""
        oldest = now - self._keep_seconds
        while self._order:
            key, kept = self._order[0]
            if not kept.items:
                self._forgotten_count -= 1
            elif self._bytes > self._limit_bytes or kept.items[0][2] < oldest:
                self._drop_first(key, kept)
            else:
                return
            self._order.popleft()

    def _drop_first(self, key: tuple[str, int], kept: _Kept) -> None:
        number, content, _ = kept.items.popleft()
        kept.first = number + 1
        self._bytes -= len(content) + ITEM_OVERHEAD_BYTES
        self.dropped_count += 1
        if not kept.items:
            del self._kept[key]


class Incoming:
    """What comes from one origin in one group. Invariant: everything below `next_number` was given out or given up.

    Before `start` it is not known where the receiver begins, and all is held back.

    :param hold: of the origin; kept for whoever asks, never read here.
    :param limit_count: how many contents are held back at most.
    :param limit_bytes: the same in bytes of contents.
    """

    __slots__ = (
        "_early",
        "_end",
        "_held",
        "_held_bytes",
        "_limit_bytes",
        "_limit_count",
        "duplicates",
        "hold",
        "is_started",
        "lost_count",
        "next_number",
        "overflows",
    )

    def __init__(self, hold: int, limit_count: int = INCOMING_COUNT, limit_bytes: int = INCOMING_BYTES) -> None:
        self.hold = hold
        self._limit_count = limit_count
        self._limit_bytes = limit_bytes
        self.is_started = False
        #: The first number that was neither given out nor given up; no meaning before `start`.
        self.next_number = 1
        # The origin has used all numbers below this one; it may lag behind `next_number`.
        self._end = 1
        self._held: dict[int, bytes] = {}
        # The numbers of `_held`, as a heap.
        self._early: list[int] = []
        self._held_bytes = 0
        #: Contents that came once more.
        self.duplicates = 0
        #: Numbers that were given up.
        self.lost_count = 0
        #: How often there was no room to hold more.
        self.overflows = 0

    def widen(self) -> None:
        """Hold back as much as usual from now on, where less was asked for before."""
        self._limit_count = INCOMING_COUNT
        self._limit_bytes = INCOMING_BYTES

    @property
    def held_count(self) -> int:
        """How many contents are held back."""
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        """Bytes of the contents that are held back."""
        return self._held_bytes

    @property
    def missing(self) -> tuple[int, int] | None:
        """The first gap that is known: its first number, and its end, exclusive. None = none, or not started."""
        if not self.is_started:
            return None
        if self._early:
            return self.next_number, self._early[0]
        return (self.next_number, self._end) if self._end > self.next_number else None

    def receive(self, number: int, content: bytes) -> list[bytes]:
        """Take one content.

        When that is more than may be held, the oldest gap is given up. Before `start` there is none to give up: then
        it is dropped, and asked for again later as if it had never come.

        :param number: from 1.
        :returns: all that are now in order; none for a duplicate.
        """
        if number == self.next_number and self.is_started:
            self.next_number = number + 1
            return self._followed_by([content]) if self._early else [content]
        if (number < self.next_number and self.is_started) or number in self._held:
            self.duplicates += 1
            return []
        if not self.is_started and self._is_over(1, len(content)):
            self.overflows += 1
            self._end = max(self._end, number + 1)
            return []
        self._held[number] = content
        self._held_bytes += len(content)
        heappush(self._early, number)
        return self._make_room() if self._is_over() else []

    def start(self, next_number: int) -> list[bytes]:
        """Begin at this number; what is held from before it is dropped, as the receiver came later.

        Once started it only says what `head` says.

        :returns: what is now in order.
        """
        if self.is_started:
            self.head(next_number)
            return []
        self.is_started = True
        self.next_number = next_number
        self._take_below(next_number)
        return self._followed_by([])

    def head(self, next_number: int) -> None:
        """Note which number the origin will use next: what is below it and not here is missing."""
        self._end = max(self._end, next_number)

    def skip_to(self, number: int) -> list[bytes]:
        """Give up what is missing below `number`, and count it. Nothing happens before `start`.

        :returns: what is now in order: what was held below `number`, and what follows.
        """
        if not self.is_started or number <= self.next_number:
            return []
        contents = self._take_below(number)
        self.lost_count += number - self.next_number - len(contents)
        self.next_number = number
        return self._followed_by(contents)

    def _is_over(self, more_count: int = 0, more_bytes: int = 0) -> bool:
        count, size = len(self._held) + more_count, self._held_bytes + more_bytes
        return count > self._limit_count or size > self._limit_bytes

    def _make_room(self) -> list[bytes]:
        contents = []
        self.overflows += 1
        while self._is_over():
            contents += self.skip_to(self._early[0])
        return contents

    def _take(self) -> bytes:
        content = self._held.pop(heappop(self._early))
        self._held_bytes -= len(content)
        return content

    def _take_below(self, number: int) -> list[bytes]:
        contents = []
        while self._early and self._early[0] < number:
            contents.append(self._take())
        return contents

    def _followed_by(self, contents: list[bytes]) -> list[bytes]:
        """Return `contents` and behind them what is held and comes next."""
        while self._early and self._early[0] == self.next_number:
            contents.append(self._take())
            self.next_number += 1
        return contents
