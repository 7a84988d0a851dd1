"""A set of peer IDs that answers who is nearest to a target, whatever their number.

IDs that begin with the same bits stand side by side when sorted, so the sorted list is a binary trie: one search finds
where a stretch of it parts at the first bit in which its ends differ, and the target's side comes first. An answer
takes some searches for the way down and a few steps for each ID found; adding moves the pointers behind it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Iterator
from typing import Final

from meshrelay.wire.overlay import ID_BYTES

__all__ = ["NearIds"]

#: Shorter stretches are sorted at once; that is cheaper than to part them further.
_SHORT: Final = 8

_NONE: Final[frozenset[bytes]] = frozenset()


class NearIds:
    """Peer IDs, each once."""

    def __init__(self, ids: Iterable[bytes] = ()) -> None:
        self._ids = set(ids)
        self._sorted = sorted(map(int.from_bytes, self._ids))

    def __contains__(self, peer_id: object) -> bool:
        return peer_id in self._ids

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, peer_id: bytes) -> None:
        """Take one in; one that is there stays."""
        if peer_id not in self._ids:
            self._ids.add(peer_id)
            insort(self._sorted, int.from_bytes(peer_id))

    def discard(self, peer_id: bytes) -> None:
        """Take one out, if it is there."""
        if peer_id in self._ids:
            self._ids.remove(peer_id)
            del self._sorted[bisect_left(self._sorted, int.from_bytes(peer_id))]

    def closest(self, target: bytes, count: int, exclude: Container[bytes] = _NONE) -> list[bytes]:
        """Return up to `count` IDs, the nearest first; the target itself is the nearest of all if it is there."""
        found: list[bytes] = []
        if count <= 0:
            return found
        for number in self._by_distance(int.from_bytes(target)):
            peer_id = number.to_bytes(ID_BYTES)
            if peer_id not in exclude:
                found.append(peer_id)
                if len(found) == count:
                    break
        return found

    def _by_distance(self, target: int) -> Iterator[int]:
        """All IDs, the nearest to the target first."""
        numbers = self._sorted
        stretches = [(0, len(numbers))]
        while stretches:
            start, stop = stretches.pop()
            if stop - start <= _SHORT:
                yield from sorted(numbers[start:stop], key=target.__xor__)
                continue
            last = numbers[stop - 1]
            # The first bit that is not the same in all of them: those before it make no difference between them.
            bit = (numbers[start] ^ last).bit_length() - 1
            middle = bisect_left(numbers, last >> bit << bit, start, stop)
            near, far = (start, middle), (middle, stop)
            if target >> bit & 1:
                near, far = far, near
            stretches += (far, near)
