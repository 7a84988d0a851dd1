"""Whom this peer is linked with, and what those say about their own links: what the router chooses from.

All open links are here, whatever the k-buckets of `meshrelay.overlay.table` have room for. Neighbours of our own kind
tell whom they are linked to (`DataType.HOLDINGS`), which makes any peer within two links a known one.

Anybody may claim to hold anything. Claims are bounded for each neighbour and for all together, and of those who claim
the same peer, proved ones come first, then those linked longest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator
from random import Random

from meshrelay.overlay.near import NearIds

__all__ = ["MAX_ALL_HOLDINGS", "MAX_HOLDERS", "MAX_HOLDINGS", "MAX_PLAIN_PEERS", "MAX_WRTC_PEERS", "LinkTable"]

#: Peers that one neighbour may say it is linked to.
MAX_HOLDINGS = 10_000

#: The same for all neighbours together; beyond it, who claims most loses first.
MAX_ALL_HOLDINGS = 200_000

#: Holders of one peer that are worth an answer.
MAX_HOLDERS = 3

#: Peers known to speak WebRTC, linked now or never yet; the one named longest ago goes first.
MAX_WRTC_PEERS = 10_000

#: Peers said to be of npm's package; the one named longest ago goes first.
MAX_PLAIN_PEERS = 20_000

_NOBODY: frozenset[bytes] = frozenset()

#: Random picks before all links are looked at.
_PICKS = 8


class _Link:
    """One open link."""

    __slots__ = ("holdings", "is_own", "is_proved", "since")

    def __init__(self, is_own: bool, since: float) -> None:
        self.is_own = is_own
        self.is_proved = False
        self.since = since
        self.holdings: set[bytes] = set()

    def rank(self) -> tuple[bool, float]:
        """Smaller is better."""
        return (not self.is_proved, self.since)


class LinkTable:
    """See the module.

    :param max_all_holdings: claims of all neighbours together.
    """

    def __init__(self, max_holdings: int = MAX_HOLDINGS, max_all_holdings: int = MAX_ALL_HOLDINGS) -> None:
        self._max_holdings = max_holdings
        self._max_all_holdings = max_all_holdings
        self._links: dict[bytes, _Link] = {}
        self._near = NearIds()
        # All links again, for a random one in no time.
        self._order: list[bytes] = []
        self._places: dict[bytes, int] = {}
        #: Peer -> the neighbours that claim it, best first.
        self._holders: dict[bytes, tuple[bytes, ...]] = {}
        self._holding_count = 0
        self._wrtc: OrderedDict[bytes, None] = OrderedDict()
        self._plain: OrderedDict[bytes, None] = OrderedDict()
        #: Claims beyond the bounds.
        self.holdings_refused = 0

    def __contains__(self, peer_id: object) -> bool:
        return peer_id in self._links

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._links)

    @property
    def holding_count(self) -> int:
        """Claims of all neighbours together."""
        return self._holding_count

    @property
    def plain_count(self) -> int:
        """Peers said to be of npm's package."""
        return len(self._plain)

    @property
    def wrtc_count(self) -> int:
        """Peers known to speak WebRTC."""
        return len(self._wrtc)

    def add(self, peer_id: bytes, *, is_own: bool, now: float) -> None:
        """A link is open. A second one to the same peer changes nothing.

        :param is_own: the other end says that it is meshrelay.
        """
        if peer_id in self._links:
            return
        self._links[peer_id] = _Link(is_own, now)
        self._near.add(peer_id)
        self._places[peer_id] = len(self._order)
        self._order.append(peer_id)

    def remove(self, peer_id: bytes) -> None:
        """The last link to a peer is gone, and with it what that peer claimed."""
        link = self._links.pop(peer_id, None)
        if link is None:
            return
        # Who comes under this ID next may be somebody else, whom a signal kills.
        self._wrtc.pop(peer_id, None)
        self._near.discard(peer_id)
        place, last = self._places.pop(peer_id), self._order.pop()
        if last != peer_id:
            self._order[place] = last
            self._places[last] = place
        for held in link.holdings:
            self._unclaim(peer_id, held)

    def mark_proved(self, peer_id: bytes) -> None:
        """A neighbour has proved that its ID is its own."""
        link = self._links.get(peer_id)
        if link is not None and not link.is_proved:
            link.is_proved = True
            for held in link.holdings:
                self._holders[held] = self._ranked(self._holders[held])

    def is_own(self, peer_id: bytes) -> bool:
        """Whether a peer is a neighbour that says it is meshrelay."""
        link = self._links.get(peer_id)
        return link is not None and link.is_own

    def is_proved(self, peer_id: bytes) -> bool:
        """Whether a peer is a neighbour that has proved its ID."""
        link = self._links.get(peer_id)
        return link is not None and link.is_proved

    def closest(self, target: bytes, count: int, exclude: Container[bytes] = _NOBODY) -> list[bytes]:
        """Neighbours nearest to a target, nearest first."""
        return self._near.closest(target, count, exclude)

    def random_link(self, rng: Random, exclude: Container[bytes] = _NOBODY) -> bytes | None:
        """Any neighbour, each as likely as the others."""
        order = self._order
        if not order:
            return None
        for _ in range(_PICKS):
            picked = order[int(rng.random() * len(order))]
            if picked not in exclude:
                return picked
        left = [peer_id for peer_id in order if peer_id not in exclude]
        return rng.choice(left) if left else None

    def set_holdings(self, neighbour: bytes, added: Iterable[bytes], removed: Iterable[bytes] = ()) -> None:
        """A neighbour says whom it is linked to now, and no more.

        What is beyond the bounds is refused and counted. What peers that are not linked say is ignored.
        """
        link = self._links.get(neighbour)
        if link is None:
            return
        for peer_id in removed:
            if peer_id in link.holdings:
                link.holdings.remove(peer_id)
                self._unclaim(neighbour, peer_id)
        loser = b""
        for peer_id in added:
            if peer_id in link.holdings or peer_id == neighbour:
                continue
            if len(link.holdings) >= self._max_holdings:
                self.holdings_refused += 1
                continue
            if self._holding_count >= self._max_all_holdings:
                self.holdings_refused += 1
                # Looked up once a message: with many links it takes its time.
                loser = loser or self._largest()
                if len(self._links[loser].holdings) <= len(link.holdings) + 1:
                    continue
                self._unclaim(loser, self._links[loser].holdings.pop())
            link.holdings.add(peer_id)
            self._holders[peer_id] = self._ranked((*self._holders.get(peer_id, ()), neighbour))
            self._holding_count += 1

    def holders(self, target: bytes) -> tuple[bytes, ...]:
        """Neighbours that say they are linked to a target, best first, at most `MAX_HOLDERS`."""
        return self._holders.get(target, ())[:MAX_HOLDERS]

    def _ranked(self, holders: tuple[bytes, ...]) -> tuple[bytes, ...]:
        # Here and not for each message: holders change seldom.
        return tuple(sorted(holders, key=lambda holder: self._links[holder].rank()))

    def mark_wrtc(self, peer_id: bytes) -> None:
        """A peer speaks WebRTC for sure."""
        _mark(self._wrtc, peer_id, MAX_WRTC_PEERS)

    def mark_plain(self, peer_id: bytes) -> None:
        """A neighbour says that a peer it is linked to is one of npm's package."""
        _mark(self._plain, peer_id, MAX_PLAIN_PEERS)

    def is_plain(self, peer_id: bytes) -> bool:
        """Whether a peer seems to acknowledge nothing. What it signs proves the contrary."""
        return peer_id in self._plain

    def takes_signals(self, peer_id: bytes) -> bool:
        """Whether a signal does a peer no harm: npm's package without WebRTC dies of one."""
        return peer_id in self._wrtc

    def _largest(self) -> bytes:
        return max(self._links, key=lambda peer_id: len(self._links[peer_id].holdings))

    def _unclaim(self, neighbour: bytes, peer_id: bytes) -> None:
        self._holding_count -= 1
        left = tuple(holder for holder in self._holders[peer_id] if holder != neighbour)
        if left:
            self._holders[peer_id] = left
        else:
            del self._holders[peer_id]


def _mark(peers: OrderedDict[bytes, None], peer_id: bytes, most: int) -> None:
    peers[peer_id] = None
    peers.move_to_end(peer_id)
    if len(peers) > most:
        peers.popitem(last=False)
