"""Who is connected to this relay, and who wants to know: registrations and subscriptions -> lists of states to send.

One entry for each peer ID that is connected here or watched by somebody. A subscription is two interests of one
watcher in one ID:

* online: told once, when the peer comes; then it is spent, until the watcher subscribes again.
* offline: told every time the peer goes. A peer whose newer connection takes over does not go.

What a watcher is to be told waits in its own queue until `PeerTable.take_changes`. There an ID stands once, with its
last state, so the queue of a watcher that does not read cannot outgrow its subscriptions; and the answer to a
subscription waits in the same queue, so that no older notice can overtake it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from meshrelay.relay.counters import RelayCounters

__all__ = ["PeerChanges", "PeerLimits", "PeerTable", "PeerT"]

PeerT = TypeVar("PeerT", bound=Hashable)


class PeerLimits(NamedTuple):
    """Bounds of the table. NetBird's relay has none; whoever stays below these sees no difference."""

    #: Of one connection; each costs about 450 bytes.
    subscriptions_per_peer: int = 100_000
    #: Of all connections together.
    subscriptions: int = 1_000_000


class PeerChanges(NamedTuple):
    """What one watcher is to be told, each ID once, so that the order does not matter."""

    online: list[bytes]
    offline: list[bytes]


class _Entry(Generic[PeerT]):
    """One peer ID. Invariant: it is in the table while it is connected or watched."""

    __slots__ = ("is_elsewhere", "peer", "peer_id", "watches")

    def __init__(self, peer_id: bytes) -> None:
        self.peer_id = peer_id
        self.peer: PeerT | None = None
        #: Connected to another node of this relay; known only while the ID is watched.
        self.is_elsewhere = False
        #: Who has interest in it going -> whether also in it coming. None = nobody: most peers are watched by none.
        self.watches: dict[_Watch[PeerT], bool] | None = None

    @property
    def is_online(self) -> bool:
        return self.peer is not None or self.is_elsewhere


class _Watch(Generic[PeerT]):
    """What one peer has subscribed to, and what it is to be told."""

    __slots__ = ("changes", "entries", "peer")

    def __init__(self, peer: PeerT) -> None:
        self.peer = peer
        self.entries: set[_Entry[PeerT]] = set()
        #: ID -> its last state.
        self.changes: dict[bytes, bool] = {}


class PeerTable(Generic[PeerT]):
    """The peers of one relay server, by ID.

    :param limits: what subscriptions may take.
    """

    def __init__(self, limits: PeerLimits, counters: RelayCounters) -> None:
        self._limits = limits
        self._counters = counters
        self._entries: dict[bytes, _Entry[PeerT]] = {}
        self._watches: dict[PeerT, _Watch[PeerT]] = {}
        #: Watches with something to tell; a dict, because it keeps the order.
        self._changed: dict[_Watch[PeerT], None] = {}
        self._peer_count = 0

    @property
    def peer_count(self) -> int:
        """Peers connected here."""
        return self._peer_count

    @property
    def id_count(self) -> int:
        """IDs connected here or watched."""
        return len(self._entries)

    @property
    def has_changes(self) -> bool:
        """True: `take_changes` has something; to be called before the turn ends."""
        return bool(self._changed)

    def find(self, peer_id: bytes) -> PeerT | None:
        """Return the peer connected here under this ID."""
        entry = self._entries.get(peer_id)
        return None if entry is None else entry.peer

    def peers(self) -> Iterator[PeerT]:
        """All peers connected here. The table must not be changed meanwhile."""
        return (entry.peer for entry in self._entries.values() if entry.peer is not None)

    def is_watched(self, peer_id: bytes) -> bool:
        """Tell whether somebody here subscribes to this ID."""
        entry = self._entries.get(peer_id)
        return entry is not None and entry.watches is not None

    def register(self, peer_id: bytes, peer: PeerT) -> PeerT | None:
        """Let `peer` be the one that has this ID, and tell those who wait for it.

        :returns: the older connection that had the ID; the caller closes it, and unregisters it as any other.
        """
        entry = self._entries.get(peer_id)
        if entry is None:
            entry = self._entries[peer_id] = _Entry(peer_id)
        displaced, entry.peer = entry.peer, peer
        if displaced is None:
            self._peer_count += 1
        else:
            self._counters.reconnections += 1
        self._tell_online(entry)
        return displaced

    def unregister(self, peer_id: bytes, peer: PeerT) -> bool:
        """Forget a connection and all that it subscribed to; tell those who watch it, if it still had its ID.

        :returns: False: the ID belongs to a newer connection, and nobody was told.
        """
        self.unsubscribe_all(peer)
        entry = self._entries.get(peer_id)
        if entry is None or entry.peer is not peer:
            return False
        entry.peer = None
        self._peer_count -= 1
        if not entry.is_elsewhere:
            self._tell_offline(entry)
        self._discard_if_idle(entry)
        return True

    def set_elsewhere(self, peer_id: bytes, is_online: bool) -> None:
        """Note that another node of this relay has the peer, or no longer; nothing if nobody here watches it."""
        entry = self._entries.get(peer_id)
        if entry is None or entry.watches is None or entry.is_elsewhere is is_online:
            return
        entry.is_elsewhere = is_online
        if is_online:
            self._tell_online(entry)
        elif entry.peer is None:
            self._tell_offline(entry)

    def subscribe(self, peer: PeerT, peer_ids: Sequence[bytes]) -> list[bytes]:
        """Let `peer` be told of these IDs from now on, and at once of those that are online.

        Over a limit an ID is counted and not watched; whether it is online now is told all the same.

        :returns: the IDs that nobody watched before.
        """
        watch = self._watches.get(peer)
        if watch is None:
            watch = self._watches[peer] = _Watch(peer)
        newly_watched = []
        for peer_id in peer_ids:
            entry = self._entries.get(peer_id)
            if entry is None or entry not in watch.entries:
                if not self._has_room(watch):
                    self._counters.subscriptions_refused += 1
                    if entry is not None and entry.is_online:
                        self._queue(watch, peer_id, True)
                    continue
                if entry is None:
                    entry = self._entries[peer_id] = _Entry(peer_id)
                if entry.watches is None:
                    entry.watches = {}
                    newly_watched.append(entry.peer_id)
                watch.entries.add(entry)
                self._counters.subscriptions += 1
            assert entry.watches is not None
            # A peer that is online already is told of again when it next comes, as by NetBird.
            entry.watches[watch] = True
            if entry.is_online:
                self._queue(watch, entry.peer_id, True)
        return newly_watched

    def unsubscribe(self, peer: PeerT, peer_ids: Sequence[bytes]) -> list[bytes]:
        """Tell `peer` of these IDs no more, not even what already waits.

        :returns: the IDs that nobody watches any longer.
        """
        watch = self._watches.get(peer)
        if watch is None:
            return []
        unwatched = []
        for peer_id in peer_ids:
            watch.changes.pop(peer_id, None)
            entry = self._entries.get(peer_id)
            if entry is not None and entry in watch.entries:
                watch.entries.discard(entry)
                if self._unwatch(entry, watch):
                    unwatched.append(entry.peer_id)
        if not watch.changes:
            self._changed.pop(watch, None)
        if not watch.entries and not watch.changes:
            del self._watches[peer]
        return unwatched

    def unsubscribe_all(self, peer: PeerT) -> list[bytes]:
        """Forget all subscriptions of a peer, and what it was to be told.

        :returns: as `unsubscribe`.
        """
        watch = self._watches.pop(peer, None)
        if watch is None:
            return []
        self._changed.pop(watch, None)
        watch.changes.clear()
        entries, watch.entries = watch.entries, set()
        return [entry.peer_id for entry in entries if self._unwatch(entry, watch)]

    def take_changes(self) -> list[tuple[PeerT, PeerChanges]]:
        """Return what is to be told to whom, once."""
        changed, self._changed = self._changed, {}
        return [(watch.peer, self._drain(watch)) for watch in changed]

    def take_changes_of(self, peer: PeerT) -> PeerChanges:
        """Return what is to be told to one peer, once."""
        watch = self._watches.get(peer)
        if watch is None:
            return PeerChanges([], [])
        self._changed.pop(watch, None)
        return self._drain(watch)

    def _drain(self, watch: _Watch[PeerT]) -> PeerChanges:
        changes, watch.changes = watch.changes, {}
        if not watch.entries:
            self._watches.pop(watch.peer, None)
        online = [peer_id for peer_id, is_online in changes.items() if is_online]
        return PeerChanges(online, [peer_id for peer_id, is_online in changes.items() if not is_online])

    def _has_room(self, watch: _Watch[PeerT]) -> bool:
        limits = self._limits
        return (
            len(watch.entries) < limits.subscriptions_per_peer and self._counters.subscriptions < limits.subscriptions
        )

    def _queue(self, watch: _Watch[PeerT], peer_id: bytes, is_online: bool) -> None:
        watch.changes[peer_id] = is_online
        self._changed[watch] = None

    def _tell_online(self, entry: _Entry[PeerT]) -> None:
        watches = entry.watches
        if watches is not None:
            for watch, is_due in watches.items():
                if is_due:
                    # The keys stay the same, so this may happen inside the loop.
                    watches[watch] = False
                    self._queue(watch, entry.peer_id, True)

    def _tell_offline(self, entry: _Entry[PeerT]) -> None:
        for watch in entry.watches or ():
            self._queue(watch, entry.peer_id, False)

    def _unwatch(self, entry: _Entry[PeerT], watch: _Watch[PeerT]) -> bool:
        """Take one watcher from an entry; tell whether it was the last."""
        assert entry.watches is not None
        del entry.watches[watch]
        self._counters.subscriptions -= 1
        if entry.watches:
            return False
        entry.watches = None
        entry.is_elsewhere = False
        self._discard_if_idle(entry)
        return True

    def _discard_if_idle(self, entry: _Entry[PeerT]) -> None:
        if entry.peer is None and entry.watches is None:
            del self._entries[entry.peer_id]
