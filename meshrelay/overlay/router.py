"""One envelope -> is it for this peer, and where does it go next?

=====================================================  ===============================================
what is known of the target                            copies
=====================================================  ===============================================
it is a neighbour                                      one, to it
a neighbour of ours says that it is linked to it       one, to that neighbour
an envelope of it came within the last minute          one, to where that came from
nothing                                                two, to the neighbours nearest to it
nothing, and no neighbour is nearer than this peer     one more, to any neighbour
the best of the first three failed lately              one that way, and one as the next of them says
all of the first three that there are failed lately    one that way, and two as if nothing were known
=====================================================  ===============================================

Never back, nor to anybody who had it; never twice; never further than twenty peers. A way fails when its target did not
acknowledge: the originator says so (`Router.failed`), and the next peers see it in the envelope that is sent again,
which has the key `AGAIN_KEY`. So neither a path that somebody made up nor a neighbour that claims to be linked to
everybody swallows messages for long.

Npm's package dies of a signal that it does not expect, so signals go to a neighbour only if it speaks WebRTC for sure.

Source: npm peer-relay 0.0.2, `lib/router.js`, as the notes on its protocol say; the first three rows are our own.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, unique
from random import Random
from typing import NamedTuple

from meshrelay.overlay.distance import is_closer
from meshrelay.overlay.links import LinkTable
from meshrelay.overlay.paths import LearnedPaths
from meshrelay.overlay.seen import NonceWindow
from meshrelay.wire.overlay import MAX_HOPS, DataType, Envelope, decode_answer

__all__ = ["AGAIN_KEY", "COPIES", "Dropped", "Router", "Verdict"]

#: Copies to the nearest neighbours when nothing is known of a target; the package sends as many.
COPIES = 2

#: Key of an envelope that is sent again because nobody acknowledged it; npm's package passes it on untouched.
AGAIN_KEY = "meshrelay-again"

_NOBODY: frozenset[bytes] = frozenset()


@unique
class Dropped(Enum):
    """Why an envelope goes no further; the value is a metric label."""

    #: A copy of it has been here.
    DUPLICATE = "duplicate"
    #: It is this peer's own, or says so.
    OWN = "own"
    #: This peer is in its path.
    LOOP = "loop"
    #: It has gone through as many peers as it may.
    HOP_LIMIT = "hop_limit"
    #: All neighbours had it, or there is none.
    NO_ROUTE = "no_route"
    #: A signal for a peer that may not expect it.
    NO_WRTC = "no_wrtc"
    #: Holdings are for neighbours only.
    HOLDINGS = "holdings"


class Verdict(NamedTuple):
    """What becomes of an envelope."""

    is_for_us: bool = False
    #: Neighbours that get a copy.
    hops: tuple[bytes, ...] = ()
    #: None: delivered or passed on.
    dropped: Dropped | None = None


_FOR_US = Verdict(is_for_us=True)


class Router:
    """See the module.

    :param own_id: ID of this peer.
    :param rng: picks neighbours when nobody is nearer.
    """

    def __init__(self, own_id: bytes, links: LinkTable, rng: Random) -> None:
        self._own_id = own_id
        self._links = links
        self._rng = rng
        self.seen = NonceWindow()
        self.paths = LearnedPaths()

    def originate(self, to: bytes, now: float, avoid: Collection[bytes] = _NOBODY) -> tuple[bytes, ...]:
        """Where an envelope of this peer goes first.

        :param to: not this peer.
        :param avoid: neighbours that were tried in vain; used again only if there is nobody else.
        :returns: neighbours, at most three; empty: there is none.
        """
        hops = self._choose(to, frozenset(avoid), now, is_again=False) if avoid else ()
        return hops or self._choose(to, _NOBODY, now, is_again=bool(avoid))

    def received(self, envelope: Envelope, link: bytes, now: float, *, is_verified: bool = False) -> Verdict:
        """Decide on an envelope that came.

        :param link: ID of the neighbour that it came from.
        :param is_verified: the signature of its sender is there, and right.
        """
        sender = envelope.sender
        if sender == self._own_id:
            return Verdict(dropped=Dropped.OWN)
        if not self.seen.is_new(sender, envelope.nonce, link, now):
            return Verdict(dropped=Dropped.DUPLICATE)
        if sender != link:
            self.paths.learn(sender, link, now, is_verified=is_verified)
        if sender == link or is_verified:
            self._note_wrtc(envelope)
        if envelope.type == DataType.HOLDINGS and (envelope.to != self._own_id or sender != link):
            return Verdict(dropped=Dropped.HOLDINGS)
        if envelope.to == self._own_id:
            return _FOR_US
        return self._forward(envelope, link, now)

    def failed(self, target: bytes, link: bytes, now: float) -> None:
        """What went to a target over a link was not acknowledged; that way is not used alone for a minute."""
        self.paths.failed(target, link, now)

    def worked(self, target: bytes, link: bytes) -> None:
        """What went to a target over a link was acknowledged; that way is in doubt no more."""
        self.paths.worked(target, link)

    def verified(self, sender: bytes, link: bytes, now: float) -> None:
        """An envelope that came for this peer over a link is its sender's for sure, so that way is a good one."""
        if sender == link:
            self.paths.worked(sender, link)
        else:
            self.paths.learn(sender, link, now, is_verified=True)

    def link_lost(self, peer_id: bytes) -> None:
        """A neighbour is gone; it is out of the links already."""
        self.paths.forget(peer_id)

    def expire(self, now: float) -> None:
        """Forget what is too old; to be called every minute or so."""
        self.seen.expire(now)
        self.paths.expire(now)

    def _forward(self, envelope: Envelope, link: bytes, now: float) -> Verdict:
        path = envelope.path
        if len(path) >= MAX_HOPS:
            return Verdict(dropped=Dropped.HOP_LIMIT)
        if self._own_id in path:
            return Verdict(dropped=Dropped.LOOP)
        had_it = frozenset((*path, link, envelope.sender))
        if envelope.type == DataType.SIGNAL and envelope.to in self._links and not self._may_signal(envelope.to):
            # Another neighbour may know better than this peer; nobody else is asked, for they may not care.
            hops = tuple(holder for holder in self._links.holders(envelope.to) if holder not in had_it)[:1]
            return Verdict(hops=hops) if hops else Verdict(dropped=Dropped.NO_WRTC)
        hops = self._choose(envelope.to, had_it, now, is_relay=True, is_again=AGAIN_KEY in envelope.extras)
        return Verdict(hops=hops) if hops else Verdict(dropped=Dropped.NO_ROUTE)

    def _choose(
        self, target: bytes, exclude: frozenset[bytes], now: float, *, is_again: bool, is_relay: bool = False
    ) -> tuple[bytes, ...]:
        # Where the target itself is for certain, nobody else can do better, though it may be sent again.
        if self._links.is_proved(target) and target not in exclude:
            return (target,)
        ways = self._known_ways(target, exclude, now)
        sure = self._first_sure(target, ways, now)
        if sure is not None and sure == ways[0] and not is_again:
            return (sure,)
        if sure is not None and is_again:
            # The sender had no answer, perhaps because of this way.
            self.paths.failed(target, sure, now)
            sure = self._first_sure(target, ways, now)
        hops = dict.fromkeys(way for way in (*ways[:1], sure) if way is not None)
        if sure is None or is_again:
            self._add_nearest(hops, target, exclude, is_relay=is_relay)
        return tuple(hops)

    def _known_ways(self, target: bytes, exclude: frozenset[bytes], now: float) -> list[bytes]:
        """Neighbours that are said to lead to a target, those first that know best; some may be in doubt."""
        links = self._links
        ways = [target] if target in links and target not in exclude else []
        ways += [holder for holder in links.holders(target) if holder not in exclude]
        learned = self.paths.find(target, now)
        if learned is not None and learned in links and learned not in exclude and learned not in ways:
            ways.append(learned)
        return ways

    def _first_sure(self, target: bytes, ways: list[bytes], now: float) -> bytes | None:
        for way in ways:
            if not self.paths.is_doubtful(target, way, now):
                return way
        return None

    def _add_nearest(
        self, hops: dict[bytes, None], target: bytes, exclude: frozenset[bytes], *, is_relay: bool
    ) -> None:
        nearest = self._links.closest(target, COPIES, exclude.union(hops) if hops else exclude)
        # At the most one copy more than npm's package sends, whatever was said about the target.
        for peer_id in nearest:
            if len(hops) <= COPIES:
                hops[peer_id] = None
        if is_relay and nearest and len(hops) <= COPIES and is_closer(self._own_id, nearest[0], target):
            anybody = self._links.random_link(self._rng, exclude.union(hops))
            if anybody is not None:
                hops[anybody] = None

    def _note_wrtc(self, envelope: Envelope) -> None:
        # Only on the peer's own link, or signed: else anybody could name a peer that then dies of the next signal.
        if envelope.type == DataType.SIGNAL:
            self._links.mark_wrtc(envelope.sender)
        elif envelope.type == DataType.ANSWER and envelope.data is not None:
            answer = decode_answer(envelope.data)
            if answer is not None and answer.wrtc:
                self._links.mark_wrtc(envelope.sender)

    def _may_signal(self, peer_id: bytes) -> bool:
        return self._links.is_own(peer_id) or self._links.takes_signals(peer_id)
