"""Peers that this one has heard of: whom to offer a link to, and whom to name when somebody looks for peers.

Most of it is hearsay: any neighbour may name any IDs. The table is therefore poor in what it keeps (k-buckets: for each
number of bits shared with the own ID at most `BUCKET_SIZE` contacts; all IDs that share `MAX_SPLITS` bits or more fill
one bucket, or IDs invented near the own one would fill a hundred), and fair in what it keeps: a source has at
most `MAX_PER_SOURCE` contacts, and in a full bucket a source with few displaces one with many. Contacts that a link has
been open to, called live, come first everywhere, and only they are named to others; one that was told only must become
live in time.

Links themselves are in `meshrelay.overlay.links`, and outlast whatever happens here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Final

from meshrelay.overlay.distance import distance, shared_bits
from meshrelay.overlay.near import NearIds

__all__ = [
    "BUCKET_SIZE",
    "DEAD_SECONDS",
    "LIVE_SECONDS",
    "MAX_CONTACTS",
    "MAX_DEAD",
    "MAX_FAILURES",
    "MAX_PER_SOURCE",
    "MAX_SPLITS",
    "RoutingTable",
    "TOLD_SECONDS",
]

#: Contacts that share the same number of bits with the own ID.
BUCKET_SIZE = 20
#: The own side of the table splits so often. Only with 300 million peers do twenty share 24 bits with the own ID.
MAX_SPLITS = 24
#: What follows from both.
MAX_CONTACTS = BUCKET_SIZE * (MAX_SPLITS + 1)
#: Contacts that one neighbour has told of and that have not been live since.
MAX_PER_SOURCE = 100
#: A contact that never was live is forgotten after this time, however often it is told again.
TOLD_SECONDS = 30 * 60.0
#: A contact that was live is forgotten after this time.
LIVE_SECONDS = 24 * 60 * 60.0
#: A contact is forgotten after so many failed offers or dials in a row.
MAX_FAILURES = 3
#: An ID that was forgotten for its failures is not heard again for this time, unless it proves to be live ...
DEAD_SECONDS = 10 * 60.0
#: ... and so many are remembered, the first ones forgotten first.
MAX_DEAD = 1000
#: The first failure makes a contact wait for this time, each further one for twice as long.
_RETRY_SECONDS: Final = 15.0

_NOBODY: Final[frozenset[bytes]] = frozenset()


class _Contact:
    """One peer that somebody has told of, or that was linked."""

    __slots__ = ("failures", "heard_at", "is_live", "peer_id", "retry_at", "source")

    def __init__(self, peer_id: bytes, source: bytes | None, now: float, *, is_live: bool) -> None:
        self.peer_id = peer_id
        #: Whose word it stands on; None: on nobody's.
        self.source = source
        #: When it was told first, or was live last.
        self.heard_at = now
        self.is_live = is_live
        self.failures = 0
        self.retry_at = 0.0

    def expires_at(self) -> float:
        return self.heard_at + (LIVE_SECONDS if self.is_live else TOLD_SECONDS)


class RoutingTable:
    """The k-buckets of one peer, at most `MAX_CONTACTS` in all.

    :param own_id: never in the table.
    """

    def __init__(self, own_id: bytes) -> None:
        self._own_id = own_id
        self._buckets: tuple[dict[bytes, _Contact], ...] = tuple({} for _ in range(MAX_SPLITS + 1))
        self._told_by: dict[bytes, int] = {}
        #: Those without a failure since they were heard of, by what they are worth.
        self._live = NearIds()
        self._told = NearIds()
        self._dead: OrderedDict[bytes, float] = OrderedDict()
        #: Newcomers that found no room.
        self.refused_count = 0
        #: Contacts that made room for a better one.
        self.replaced_count = 0
        #: Contacts that were too old.
        self.expired_count = 0
        #: Contacts that failed too often.
        self.dead_count = 0

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def __contains__(self, peer_id: bytes) -> bool:
        return peer_id in self._bucket(peer_id)

    def add_contact(self, peer_id: bytes, source: bytes | None, now: float, *, is_live: bool = False) -> bool:
        """Take in a peer.

        :param source: the neighbour that told of it; None: the caller knows it by itself.
        :param is_live: there is, or was until now, a link to it.
        :returns: it is in the table now.
        """
        if peer_id == self._own_id or (not is_live and self._is_dead(peer_id, now)):
            return False
        bucket = self._bucket(peer_id)
        contact = bucket.get(peer_id)
        if contact is not None:
            if is_live:
                self._drop(contact)
                self._put(_Contact(peer_id, None, now, is_live=True))
            return True
        if not is_live and source is not None and self._told_by.get(source, 0) >= MAX_PER_SOURCE:
            self.refused_count += 1
            return False
        if len(bucket) >= BUCKET_SIZE:
            victim = self._worst(bucket) if is_live else self._unfair(bucket, source)
            if victim is None:
                self.refused_count += 1
                return False
            self.replaced_count += 1
            self._drop(victim)
        self._dead.pop(peer_id, None)
        self._put(_Contact(peer_id, None if is_live else source, now, is_live=is_live))
        return True

    def remove_contact(self, peer_id: bytes) -> None:
        """Forget a peer, if it is there."""
        contact = self._bucket(peer_id).get(peer_id)
        if contact is not None:
            self._drop(contact)

    def failed(self, peer_id: bytes, now: float) -> None:
        """An offer to a peer, or a dial, came to nothing: it waits, and is forgotten at the third time in a row."""
        contact = self._bucket(peer_id).get(peer_id)
        if contact is None:
            return
        contact.failures += 1
        contact.retry_at = now + _RETRY_SECONDS * 2 ** (contact.failures - 1)
        self._live.discard(peer_id)
        self._told.discard(peer_id)
        if contact.failures >= MAX_FAILURES:
            self._drop(contact)
            self.dead_count += 1
            self._dead[peer_id] = now + DEAD_SECONDS
            if len(self._dead) > MAX_DEAD:
                self._dead.popitem(last=False)

    def closest(self, target: bytes, count: int, now: float) -> list[bytes]:
        """Return up to `count` peers for a user to see: the closest live ones, and if these are too few, the closest
        that were told only. None of them has failed lately.
        """
        found = self.closest_live(target, count, now)
        # One that is over is as rare as the calls of `expire`; the answer is then short by it.
        more = self._told.closest(target, count - len(found))
        return found + [peer_id for peer_id in more if not self._is_over(peer_id, now)]

    def closest_live(self, target: bytes, count: int, now: float) -> list[bytes]:
        """Return up to `count` peers to name to another peer that looks for `target`: the closest that a link has been
        open to and that have not failed lately.

        Hearsay is not passed on: fourteen IDs that somebody invented keep a peer of npm's package from offering links
        for good, and it would name them to the next.
        """
        return [peer_id for peer_id in self._live.closest(target, count) if not self._is_over(peer_id, now)]

    def candidates(self, now: float, count: int, exclude: Container[bytes] = _NOBODY) -> list[bytes]:
        """Return up to `count` peers to offer a link to, the closest to the own ID first.

        As long as there are live ones, at most half of the answer was told only; each source has an equal part of it.

        :param exclude: those linked already, say.
        """
        live: list[_Contact] = []
        told: dict[bytes | None, list[_Contact]] = {}
        for bucket in self._buckets:
            for contact in bucket.values():
                if contact.retry_at > now or contact.expires_at() <= now or contact.peer_id in exclude:
                    continue
                (live if contact.is_live else told.setdefault(contact.source, [])).append(contact)
        live.sort(key=self._distance)
        news = self._in_turn(told)[: max(count - len(live), (count + 1) // 2)]
        chosen = [*live[: count - len(news)], *news]
        return [contact.peer_id for contact in sorted(chosen, key=self._distance)]

    def expire(self, now: float) -> int:
        """Forget what is too old; call it every few seconds.

        :returns: how many contacts.
        """
        old = [contact for bucket in self._buckets for contact in bucket.values() if contact.expires_at() <= now]
        for contact in old:
            self._drop(contact)
        self.expired_count += len(old)
        while self._dead and next(iter(self._dead.values())) <= now:
            self._dead.popitem(last=False)
        return len(old)

    def _bucket(self, peer_id: bytes) -> dict[bytes, _Contact]:
        return self._buckets[min(shared_bits(peer_id, self._own_id), MAX_SPLITS)]

    def _distance(self, contact: _Contact) -> int:
        return distance(contact.peer_id, self._own_id)

    def _is_dead(self, peer_id: bytes, now: float) -> bool:
        return self._dead.get(peer_id, now) > now

    def _is_over(self, peer_id: bytes, now: float) -> bool:
        return self._bucket(peer_id)[peer_id].expires_at() <= now

    def _put(self, contact: _Contact) -> None:
        self._bucket(contact.peer_id)[contact.peer_id] = contact
        (self._live if contact.is_live else self._told).add(contact.peer_id)
        if contact.source is not None:
            self._told_by[contact.source] = self._told_by.get(contact.source, 0) + 1

    def _drop(self, contact: _Contact) -> None:
        del self._bucket(contact.peer_id)[contact.peer_id]
        self._live.discard(contact.peer_id)
        self._told.discard(contact.peer_id)
        if contact.source is not None:
            left = self._told_by.pop(contact.source) - 1
            if left:
                self._told_by[contact.source] = left

    def _worst(self, bucket: dict[bytes, _Contact]) -> _Contact | None:
        """Who makes room for a live one: those told only, then those that were live and fail; of them who failed most,
        then the oldest. None: all are live and well.
        """
        worst = min(bucket.values(), key=lambda contact: (contact.is_live, -contact.failures, contact.heard_at))
        return None if worst.is_live and not worst.failures else worst

    def _unfair(self, bucket: dict[bytes, _Contact], source: bytes | None) -> _Contact | None:
        """Who makes room for one told by `source`: one told that fails, else the oldest of the source with most in this
        bucket, as long as the newcomer's will not have more. None: nobody.
        """
        told = [contact for contact in bucket.values() if not contact.is_live]
        failing = [contact for contact in told if contact.failures]
        if failing:
            return max(failing, key=lambda contact: contact.failures)
        shares: dict[bytes | None, int] = {}
        for contact in told:
            shares[contact.source] = shares.get(contact.source, 0) + 1
        if not shares:
            return None
        most = max(shares, key=shares.__getitem__)
        if shares[most] <= shares.get(source, 0) + 1:
            return None
        return min((contact for contact in told if contact.source == most), key=lambda contact: contact.heard_at)

    def _in_turn(self, told: dict[bytes | None, list[_Contact]]) -> list[_Contact]:
        """The contacts of all sources: the closest of each, then the second of each, and so on."""
        ranked: list[tuple[int, int, _Contact]] = []
        for contacts in told.values():
            contacts.sort(key=self._distance)
            ranked += [(turn, self._distance(contact), contact) for turn, contact in enumerate(contacts)]
        # No two contacts are at the same distance, so that contacts are never compared.
        ranked.sort(key=lambda entry: entry[:2])
        return [contact for _, _, contact in ranked]
