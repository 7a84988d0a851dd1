"""At the home of a room: what is sent in it -> the members here, and one cast a turn for each other node with members.

Everything passes through here one after the other, so all members on all nodes see the same order. What waits for a
node is sent before a member there comes or goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from meshrelay.background import Alarm, Alarms
from meshrelay.components.room_seats import RoomSeats
from meshrelay.fanout.turn import Turn
from meshrelay.wire.room_node import RoomCastEntry, encode_room_cast, encode_room_cast_entry

__all__ = ["MAX_CAST_BYTES", "OutletWays", "RoomOutlet"]

#: A branch that has this much waiting is flushed at once.
MAX_CAST_BYTES = 128 * 1024


class OutletWays(NamedTuple):
    """How the outlets of a node reach members."""

    #: Of this node.
    node_id: str
    seats: RoomSeats
    turn: Turn
    alarms: Alarms
    #: ``send(room_id, node_id, cast, reliable)``; `reliable`: not all of it may be lost.
    send: Callable[[str, str, bytes, bool], object]


class _Branch:
    """The members on one other node."""

    __slots__ = ("entries", "is_reliable", "members", "size")

    def __init__(self) -> None:
        self.members = 0
        self.entries: list[bytes] = []
        self.size = 0
        self.is_reliable = False


class RoomOutlet:
    """One for each room of this node.

    :param interval_ms: merging interval; 0 = once a turn.
    """

    __slots__ = ("_alarm", "_branches", "_interval_ms", "_is_scheduled", "_room_id", "_ways")

    def __init__(self, room_id: str, interval_ms: int, ways: OutletWays) -> None:
        self._room_id = room_id
        self._interval_ms = interval_ms
        self._ways = ways
        #: By node ID.
        self._branches: dict[str, _Branch] = {}
        self._alarm: Alarm | None = None
        self._is_scheduled = False

    @property
    def node_ids(self) -> list[str]:
        """The other nodes with members."""
        return list(self._branches)

    def member_came(self, node_id: str) -> None:
        """There is one more member on a node. What was published before is not for it."""
        if node_id != self._ways.node_id:
            self.flush_node(node_id)
            branch = self._branches.get(node_id)
            if branch is None:
                branch = self._branches[node_id] = _Branch()
            branch.members += 1

    def member_went(self, node_id: str, user_id: str, sid: str) -> None:
        """A member on a node is none any more. It is still sent what was published before."""
        if node_id == self._ways.node_id:
            self._ways.seats.remove_user(self._room_id, user_id, sid)
            return
        self.flush_node(node_id)
        branch = self._branches[node_id]
        branch.members -= 1
        if not branch.members:
            del self._branches[node_id]

    def publish(self, frames: bytes, sender: tuple[str, str] | None, reliable: bool, count: int = 1) -> None:
        """Push `count` joined frames to all members but the sender.

        :param sender: user and node ID; None = everybody gets them.
        """
        sender_id, sender_node = sender if sender is not None else ("", "")
        here = self._ways.node_id
        self._ways.seats.publish(self._room_id, frames, sender_id if sender_node == here else "", reliable, count)
        if not self._branches:
            return
        entry = encode_room_cast_entry(RoomCastEntry(reliable, "", (), frames))
        for node_id, branch in list(self._branches.items()):
            if node_id == sender_node:
                own = encode_room_cast_entry(RoomCastEntry(reliable, sender_id, (), frames))
                self._add(node_id, branch, own, reliable)
            else:
                self._add(node_id, branch, entry, reliable)

    def push_to(self, receivers: Iterable[tuple[str, str]], frames: bytes, reliable: bool, count: int = 1) -> None:
        """Push `count` joined frames to some members.

        :param receivers: user and node ID of each.
        """
        by_node: dict[str, list[str]] = {}
        for user_id, node_id in receivers:
            by_node.setdefault(node_id, []).append(user_id)
        for node_id, user_ids in by_node.items():
            if node_id == self._ways.node_id:
                self._ways.seats.push_to(self._room_id, user_ids, frames, reliable, count)
            else:
                entry = encode_room_cast_entry(RoomCastEntry(reliable, "", tuple(user_ids), frames))
                self._add(node_id, self._branches[node_id], entry, reliable)

    def _add(self, node_id: str, branch: _Branch, entry: bytes, reliable: bool) -> None:
        if branch.entries and branch.size + len(entry) > MAX_CAST_BYTES:
            self.flush_node(node_id)
        branch.entries.append(entry)
        branch.size += len(entry)
        branch.is_reliable = branch.is_reliable or reliable
        if branch.size >= MAX_CAST_BYTES:
            self.flush_node(node_id)
        elif not self._is_scheduled:
            self._is_scheduled = True
            if self._interval_ms:
                self._alarm = self._ways.alarms.call_later(self._interval_ms / 1000, self.flush)
            else:
                self._ways.turn.join(self)

    def flush_node(self, node_id: str) -> None:
        """Send what waits for one node."""
        branch = self._branches.get(node_id)
        if branch is not None and branch.entries:
            entries, branch.entries = branch.entries, []
            is_reliable, branch.is_reliable = branch.is_reliable, False
            branch.size = 0
            self._ways.send(self._room_id, node_id, encode_room_cast(self._room_id, entries), is_reliable)

    def flush(self) -> None:
        """Send what waits for all nodes. Called at the end of the turn or of the interval."""
        self._is_scheduled = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for node_id in list(self._branches):
            self.flush_node(node_id)
