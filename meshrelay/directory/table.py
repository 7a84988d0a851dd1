"""The directory as a plain table: every question is answered at once, in a time that does not grow with the table.

A lease holds the names of what hangs on it. When it is over, its node is forgotten at once and its users and groups
are hidden by it; their memory is given back a few at a time by the calls that follow, so that the death of a node with
a million users stops nobody.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sized

from twisted.internet.interfaces import IReactorTime

from meshrelay.directory.errors import DirectoryFull, NodeIdInUse, NodeUnknown, UserTakenOver
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import (
    GroupRecord,
    NodeRecord,
    UserRecord,
    check_group_id,
    check_name,
    check_settings,
)
from meshrelay.model import check_user_id

__all__ = ["DirectoryTable"]

#: Entries of dead nodes that each call gives back: more than a call can add.
_SWEEP_PER_CALL = 4
#: The same when a bound is reached, before saying so.
_SWEEP_AT_BOUND = 1_000


class _Lease:
    """The life of one node in the table."""

    __slots__ = ("ends_at", "groups", "is_over", "record", "users")

    def __init__(self, record: NodeRecord) -> None:
        self.record = record
        self.ends_at = 0.0
        self.is_over = False
        #: Keys only; a dict because it keeps an order and pops in a constant time.
        self.users: dict[str, None] = {}
        self.groups: dict[str, None] = {}


class _Group:
    """Settings, and the lease of each node that holds the group."""

    __slots__ = ("leases", "settings")

    def __init__(self, settings: bytes) -> None:
        self.settings = settings
        self.leases: dict[str, _Lease] = {}


class DirectoryTable:
    """What `IDirectory` promises, synchronously; the errors are raised.

    :param clock: for the leases. A clock that is set back does not make them longer.
    """

    def __init__(self, clock: IReactorTime, options: DirectoryOptions) -> None:
        self._clock = clock
        self._options = options
        self._last_seconds = clock.seconds()
        self._elapsed_seconds = 0.0
        #: In order of their ends, as all leases have the same length.
        self._leases: OrderedDict[str, _Lease] = OrderedDict()
        self._users: dict[str, tuple[UserRecord, _Lease]] = {}
        self._groups: dict[str, _Group] = {}
        self._over: deque[_Lease] = deque()
        self._leases_ended = 0
        self._refused_full = 0

    def register_node(self, record: NodeRecord) -> bool:
        """As `IDirectory.register_node`."""
        now = self._begin()
        lease = self._leases.get(record.node_id)
        if lease is not None and lease.record.incarnation != record.incarnation:
            raise NodeIdInUse(record.node_id)
        is_renewed = lease is not None
        if lease is None:
            if len(self._leases) >= self._options.max_nodes:
                self._refuse("nodes", self._options.max_nodes)
            lease = self._leases[record.node_id] = _Lease(record)
        lease.record = record
        lease.ends_at = now + self._options.lease_seconds
        self._leases.move_to_end(record.node_id)
        return is_renewed

    def withdraw_node(self, node_id: str, incarnation: str) -> bool:
        """As `IDirectory.withdraw_node`."""
        check_name(node_id, "node ID")
        self._begin()
        lease = self._leases.get(node_id)
        if lease is None or lease.record.incarnation != incarnation:
            return False
        self._end(node_id)
        return True

    def nodes(self) -> list[NodeRecord]:
        """As `IDirectory.nodes`."""
        self._begin()
        return [self._leases[node_id].record for node_id in sorted(self._leases)]

    def claim_user(self, record: UserRecord) -> UserRecord | None:
        """As `IDirectory.claim_user`."""
        self._begin()
        lease = self._lease_of(record.node_id)
        held = self._held(record.user_id)
        displaced = None
        if held is None:
            if record.user_id not in self._users and self._is_full(self._users, self._options.max_users):
                self._refuse("users", self._options.max_users)
        elif held.is_same_session(record):
            record = held if held.is_newer_than(record) else record
        elif held.is_newer_than(record):
            raise UserTakenOver(held)
        else:
            displaced = held
        self._forget_user(record.user_id)
        self._users[record.user_id] = (record, lease)
        lease.users[record.user_id] = None
        return displaced

    def release_user(self, user_id: str, sid: str, node_id: str) -> bool:
        """As `IDirectory.release_user`."""
        check_user_id(user_id)
        check_name(sid, "session ID")
        check_name(node_id, "node ID")
        self._begin()
        held = self._held(user_id)
        if held is None or (held.sid, held.node_id) != (sid, node_id):
            return False
        self._forget_user(user_id)
        return True

    def find_user(self, user_id: str) -> UserRecord | None:
        """As `IDirectory.find_user`."""
        check_user_id(user_id)
        self._begin()
        return self._held(user_id)

    def join_group(self, group_id: str, node_id: str, settings: bytes) -> GroupRecord:
        """As `IDirectory.join_group`."""
        check_group_id(group_id)
        check_settings(settings)
        self._begin()
        lease = self._lease_of(node_id)
        self._drop_dead_nodes(group_id)
        group = self._groups.get(group_id)
        if group is None:
            if self._is_full(self._groups, self._options.max_groups):
                self._refuse("groups", self._options.max_groups)
            group = self._groups[group_id] = _Group(settings)
        group.leases[node_id] = lease
        lease.groups[group_id] = None
        return self._group_record(group_id, group)

    def leave_group(self, group_id: str, node_id: str) -> bool:
        """As `IDirectory.leave_group`."""
        check_group_id(group_id)
        check_name(node_id, "node ID")
        self._begin()
        self._drop_dead_nodes(group_id)
        group = self._groups.get(group_id)
        lease = group.leases.pop(node_id, None) if group is not None else None
        if group is None or lease is None:
            return False
        lease.groups.pop(group_id, None)
        if not group.leases:
            del self._groups[group_id]
        return True

    def find_group(self, group_id: str) -> GroupRecord | None:
        """As `IDirectory.find_group`."""
        check_group_id(group_id)
        self._begin()
        self._drop_dead_nodes(group_id)
        group = self._groups.get(group_id)
        return None if group is None else self._group_record(group_id, group)

    def refresh(
        self, node_id: str, users: Iterable[UserRecord], groups: Iterable[tuple[str, bytes]]
    ) -> list[UserRecord]:
        """As `IDirectory.refresh`, for one batch."""
        self._begin()
        self._lease_of(node_id)
        newer = []
        for record in users:
            if record.node_id != node_id:
                raise ValueError(f"a user of node {record.node_id} in the refresh of node {node_id}")
            try:
                self.claim_user(record)
            except UserTakenOver as error:
                newer.append(error.current)
        for group_id, settings in groups:
            self.join_group(group_id, node_id, settings)
        return newer

    def clear(self) -> None:
        """Forget everything."""
        self._leases.clear()
        self._users.clear()
        self._groups.clear()
        self._over.clear()

    def statistics(self) -> dict[str, int]:
        """Numbers of entries, those of dead nodes that are not given back yet included, and counters."""
        return {
            "nodes": len(self._leases),
            "users": len(self._users),
            "groups": len(self._groups),
            "leases_ended": self._leases_ended,
            "refused_full": self._refused_full,
        }

    def _begin(self) -> float:
        """End the leases that are due; returns the seconds of a clock that never goes back."""
        seconds = self._clock.seconds()
        self._elapsed_seconds += max(0.0, seconds - self._last_seconds)
        self._last_seconds = seconds
        while self._leases:
            node_id, lease = next(iter(self._leases.items()))
            if lease.ends_at > self._elapsed_seconds:
                break
            self._end(node_id)
        self._sweep(_SWEEP_PER_CALL)
        return self._elapsed_seconds

    def _end(self, node_id: str) -> None:
        lease = self._leases.pop(node_id)
        lease.is_over = True
        self._leases_ended += 1
        self._over.append(lease)

    def _sweep(self, count: int) -> None:
        """Give back up to `count` entries of dead nodes."""
        while self._over and count > 0:
            lease = self._over[0]
            count -= 1
            if lease.users:
                user_id, _ = lease.users.popitem()
                self._users.pop(user_id, None)
            elif lease.groups:
                group_id, _ = lease.groups.popitem()
                self._drop_dead_nodes(group_id)
            else:
                self._over.popleft()

    def _lease_of(self, node_id: str) -> _Lease:
        check_name(node_id, "node ID")
        lease = self._leases.get(node_id)
        if lease is None:
            raise NodeUnknown(node_id)
        return lease

    def _is_full(self, entries: Sized, limit: int) -> bool:
        if len(entries) >= limit:
            self._sweep(_SWEEP_AT_BOUND)
        return len(entries) >= limit

    def _refuse(self, what: str, limit: int) -> None:
        self._refused_full += 1
        raise DirectoryFull(what, limit)

    def _held(self, user_id: str) -> UserRecord | None:
        held = self._users.get(user_id)
        return None if held is None or held[1].is_over else held[0]

    def _forget_user(self, user_id: str) -> None:
        held = self._users.pop(user_id, None)
        if held is not None:
            held[1].users.pop(user_id, None)

    def _drop_dead_nodes(self, group_id: str) -> None:
        group = self._groups.get(group_id)
        if group is None:
            return
        for node_id in [node_id for node_id, lease in group.leases.items() if lease.is_over]:
            group.leases.pop(node_id).groups.pop(group_id, None)
        if not group.leases:
            del self._groups[group_id]

    def _group_record(self, group_id: str, group: _Group) -> GroupRecord:
        return GroupRecord(group_id=group_id, settings=group.settings, nodes=tuple(sorted(group.leases)))
