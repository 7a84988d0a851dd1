"""Meshrelay peers that neighbours of our kind named, and that are not linked: whom else to offer a link to. Pure.

Whoever has a key may name anybody. So each neighbour may name so many; when there are too many in all, who named most
loses its oldest; neighbours take turns when candidates are looked for; and who could not be linked with goes last, and
in the end is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["MAX_FAILURES", "MAX_KIN", "MAX_KIN_OF_NEIGHBOUR", "Kin"]

#: Tries that came to nothing, until it is forgotten.
MAX_FAILURES = 3

#: That one neighbour has named.
MAX_KIN_OF_NEIGHBOUR = 1000

#: In all.
MAX_KIN = 4000


class Kin:
    """See the module. What two neighbours name counts for the first of them."""

    def __init__(self) -> None:
        #: Neighbour -> whom it named, and how often a link to it failed; oldest first.
        self._named: dict[bytes, dict[bytes, int]] = {}
        self._neighbours: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._neighbours)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._neighbours)

    def __contains__(self, peer_id: bytes) -> bool:
        return peer_id in self._neighbours

    def add(self, neighbour: bytes, peer_ids: Iterable[bytes]) -> None:
        """A neighbour names others."""
        for peer_id in peer_ids:
            if peer_id in self._neighbours:
                continue
            named = self._named.setdefault(neighbour, {})
            named[peer_id] = 0
            self._neighbours[peer_id] = neighbour
            if len(named) > MAX_KIN_OF_NEIGHBOUR:
                self.discard(next(iter(named)))
            elif len(self._neighbours) > MAX_KIN:
                most: dict[bytes, int] = max(self._named.values(), key=len)
                self.discard(next(iter(most)))

    def failed(self, peer_id: bytes) -> None:
        """A try to link with it came to nothing."""
        neighbour = self._neighbours.get(peer_id)
        if neighbour is None:
            return
        named = self._named[neighbour]
        failures = named.pop(peer_id) + 1
        named[peer_id] = failures
        if failures >= MAX_FAILURES:
            self.discard(peer_id)

    def discard(self, peer_id: bytes) -> None:
        """It is linked, or not to be tried any more."""
        neighbour = self._neighbours.pop(peer_id, None)
        if neighbour is not None:
            named = self._named[neighbour]
            del named[peer_id]
            if not named:
                del self._named[neighbour]

    def candidates(self) -> list[bytes]:
        """Return all: one of each neighbour, then a second one of each, and so on."""
        ranked = [(turn, peer_id) for named in self._named.values() for turn, peer_id in enumerate(named)]
        return [peer_id for _, peer_id in sorted(ranked, key=lambda entry: entry[0])]
