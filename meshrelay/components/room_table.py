"""The rooms whose home is this node, and their members wherever they are: the truth about them, without commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hmac import compare_digest
from typing import NamedTuple, Protocol

from meshrelay.background import Alarm, Alarms
from meshrelay.components.place_ids import new_place_id, node_key
from meshrelay.components.room_outlet import RoomOutlet
from meshrelay.errors import TooManyRooms
from meshrelay.model import Room, RoomMember

__all__ = ["LiveMember", "LiveRoom", "RoomSettings", "RoomTable", "RoomWatcher"]


class RoomSettings(NamedTuple):
    """How a room is made."""

    max_members: int
    allow_empty: bool
    #: From creation; an empty room with `allow_empty` is discarded then.
    ttl_seconds: int
    #: 0 = no merging.
    interval_ms: int


class LiveMember:
    """One member.

    :ivar absence: set while its node cannot be reached, or its session is between two nodes; another one each time.
    """

    __slots__ = ("absence", "facts", "node_id", "sid", "user_id")

    def __init__(self, user_id: str, sid: str, node_id: str) -> None:
        self.user_id = user_id
        self.sid = sid
        self.node_id = node_id
        self.facts = b""
        self.absence: object | None = None

    @property
    def place(self) -> tuple[str, str]:
        """User and node ID, as an outlet takes them."""
        return self.user_id, self.node_id


class LiveRoom:
    """One room. Members are in join order; the first one is the owner."""

    __slots__ = ("id", "is_expired", "is_gone", "is_pinned", "members", "outlet", "settings", "ttl_alarm", "wire_id")

    def __init__(self, room_id: str, settings: RoomSettings, outlet: RoomOutlet) -> None:
        self.id = room_id
        self.wire_id = room_id.encode("ascii")
        self.settings = settings
        self.outlet = outlet
        self.members: dict[str, LiveMember] = {}
        self.ttl_alarm: Alarm | None = None
        #: The lifetime is over; the room lives on until it is empty.
        self.is_expired = False
        self.is_gone = False
        #: It is not discarded while somebody is about to come in.
        self.is_pinned = False

    @property
    def owner(self) -> str | None:
        """User ID; None: nobody is in."""
        return next(iter(self.members), None)

    def snapshot(self) -> Room:
        """What the application sees."""
        max_members, allow_empty, ttl_seconds, interval_ms = self.settings
        members = [RoomMember(each.user_id, each.sid, each.node_id, each.facts) for each in self.members.values()]
        return Room(self.id, max_members, allow_empty, ttl_seconds, interval_ms, tuple(members))


class RoomWatcher(Protocol):
    """Who is told what becomes of members of the rooms of this node. It is called in the midst of a change."""

    def member_gone(self, room_id: str, user_id: str, sid: str) -> None:
        """This session is not in the room any more."""

    def member_moved(self, room_id: str, user_id: str, node_id: str) -> None:
        """The member is at another node now."""

    def room_gone(self, room_id: str) -> None:
        """There is no such room any more."""


class RoomTable:
    """All rooms of this node, by ID and by member.

    :param max_rooms: one more is refused.
    :param random_bytes: ``random_bytes(n)`` -> n bytes that nobody can guess.
    :param make_outlet: ``make_outlet(room_id, interval_ms)``.
    :ivar watchers: are told what becomes of members.
    """

    def __init__(
        self,
        node_id: str,
        max_rooms: int,
        alarms: Alarms,
        random_bytes: Callable[[int], bytes],
        make_outlet: Callable[[str, int], RoomOutlet],
    ) -> None:
        self._node_key = node_key(node_id)
        self._max_rooms = max_rooms
        self._alarms = alarms
        self._random_bytes = random_bytes
        self._make_outlet = make_outlet
        self._rooms: dict[str, LiveRoom] = {}
        self._rooms_of: dict[str, dict[str, LiveRoom]] = {}
        self.watchers: list[RoomWatcher] = []

    def __len__(self) -> int:
        return len(self._rooms)

    def __iter__(self) -> Iterator[LiveRoom]:
        return iter(list(self._rooms.values()))

    @property
    def member_count(self) -> int:
        """Memberships in all rooms."""
        return sum(len(rooms) for rooms in self._rooms_of.values())

    def find(self, room_id: str) -> LiveRoom | None:
        """The room of this ID."""
        return self._rooms.get(room_id)

    def recall(self, user_id: str, sid: str) -> list[str]:
        """IDs of the rooms that have exactly this session as a member."""
        given = sid.encode("utf-8", "replace")
        return [
            room.id
            for room in self._rooms_of.get(user_id, {}).values()
            if compare_digest(room.members[user_id].sid.encode("utf-8", "replace"), given)
        ]

    def members_at(self, node_id: str) -> list[tuple[LiveRoom, LiveMember]]:
        """All members on another node. It looks at all rooms: for the loss of a node."""
        return [
            (room, member)
            for room in self._rooms.values()
            if node_id in room.outlet.node_ids
            for member in room.members.values()
            if member.node_id == node_id
        ]

    def check_room(self) -> None:
        """Whether one more room fits.

        :raises TooManyRooms: it does not.
        """
        if len(self._rooms) >= self._max_rooms:
            raise TooManyRooms(f"this node has {self._max_rooms} rooms, its limit")

    def create(self, settings: RoomSettings) -> LiveRoom:
        """Add an empty room. The caller has called `check_room`, and adds a member unless it may be empty."""
        room_id = new_place_id(self._node_key, self._random_bytes)
        room = LiveRoom(room_id, settings, self._make_outlet(room_id, settings.interval_ms))
        self._rooms[room_id] = room
        if settings.allow_empty:
            room.ttl_alarm = self._alarms.call_later(settings.ttl_seconds, lambda: self._expire(room))
        return room

    def _expire(self, room: LiveRoom) -> None:
        room.is_expired = True
        self.settle(room)

    def add(self, room: LiveRoom, member: LiveMember) -> None:
        """Make somebody the last member; what was sent before is not for it. The caller has looked whether it fits."""
        room.outlet.member_came(member.node_id)
        room.members[member.user_id] = member
        self._rooms_of.setdefault(member.user_id, {})[room.id] = room

    def remove(self, room: LiveRoom, member: LiveMember) -> None:
        """End a membership; what was sent before is still delivered. Call `settle` behind it."""
        room.outlet.member_went(member.node_id, member.user_id, member.sid)
        del room.members[member.user_id]
        member.absence = None
        rooms = self._rooms_of[member.user_id]
        del rooms[room.id]
        if not rooms:
            del self._rooms_of[member.user_id]
        for watcher in self.watchers:
            watcher.member_gone(room.id, member.user_id, member.sid)

    def move(self, room: LiveRoom, member: LiveMember, node_id: str) -> None:
        """The session of a member is at another node now, or still at the same one."""
        room.outlet.member_went(member.node_id, member.user_id, member.sid)
        room.outlet.member_came(node_id)
        member.node_id = node_id
        member.absence = None
        for watcher in self.watchers:
            watcher.member_moved(room.id, member.user_id, node_id)

    def settle(self, room: LiveRoom) -> None:
        """Discard the room if it is empty and may not be so."""
        if not room.members and not room.is_pinned and (room.is_expired or not room.settings.allow_empty):
            self.discard(room)

    def discard(self, room: LiveRoom) -> None:
        """Forget an empty room, and what may wait in it."""
        if self._rooms.pop(room.id, None) is None:
            return
        room.is_gone = True
        if room.ttl_alarm is not None:
            room.ttl_alarm.cancel()
        for watcher in self.watchers:
            watcher.room_gone(room.id)
