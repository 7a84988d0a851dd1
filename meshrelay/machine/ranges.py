"""A set of whole numbers kept as ranges: what arrived out of order, and what the peer says arrived.

Both halves of `machine.reliability` hold one. A window has few holes, so the list stays short; adding costs one
binary search, and adding what is already there costs nothing else.
"""

from __future__ import annotations

from bisect import bisect_right

__all__ = ["RangeSet"]


class RangeSet:
    """Numbers as sorted ranges that neither touch nor overlap."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __len__(self) -> int:
        """Return the number of ranges, not of numbers."""
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def ranges(self) -> list[tuple[int, int]]:
        """Return every (first, last), ascending."""
        return list(zip(self._firsts, self._lasts, strict=True))

    def lowest(self, limit: int, containing: int) -> list[tuple[int, int]]:
        """Return at most `limit` ranges, ascending: the lowest, and the one that holds `containing` if there is one.

        The range that changed last is news and must be among what is told; the lowest ones hold up the stream.
        """
        firsts, lasts = self._firsts, self._lasts
        if len(firsts) <= limit:
            return list(zip(firsts, lasts, strict=True))
        told = list(zip(firsts[:limit], lasts[:limit], strict=True))
        at = bisect_right(firsts, containing) - 1
        if at >= limit and containing <= lasts[at]:
            told[-1] = (firsts[at], lasts[at])
        return told

    def add(self, first: int, last: int) -> list[tuple[int, int]]:
        """Add the numbers from `first` to `last` and return the parts that were not there before, ascending."""
        firsts, lasts = self._firsts, self._lasts
        low = bisect_right(firsts, first) - 1
        if low >= 0 and lasts[low] >= last:
            return []
        # From here `low` is the first range that touches the new one, `high` is behind the last that does.
        if low < 0 or lasts[low] < first - 1:
            low += 1
        high = bisect_right(firsts, last + 1)
        fresh: list[tuple[int, int]] = []
        begin = first
        for at in range(low, high):
            if firsts[at] > begin:
                fresh.append((begin, firsts[at] - 1))
            begin = max(begin, lasts[at] + 1)
        if begin <= last:
            fresh.append((begin, last))
        if low < high:
            first = min(first, firsts[low])
            last = max(last, lasts[high - 1])
        firsts[low:high] = [first]
        lasts[low:high] = [last]
        return fresh

    def remove_below(self, number: int) -> None:
        """Forget everything below `number`."""
        if not self._firsts or self._firsts[0] >= number:
            return
        at = bisect_right(self._firsts, number - 1)
        if self._lasts[at - 1] >= number:
            at -= 1
            self._firsts[at] = number
        del self._firsts[:at]
        del self._lasts[:at]
