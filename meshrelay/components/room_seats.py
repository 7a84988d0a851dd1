"""The sessions of this node that are in rooms, of this node or of others, and the channels that deliver to them."""

from __future__ import annotations

from collections.abc import Iterable

from meshrelay.errors import NotSignedIn, TooManyRooms
from meshrelay.fanout.hub import Channel, Hub
from meshrelay.interfaces import ISession
from meshrelay.wire.commands import BUILT_IN_VER, Command, encode_pushed_message
from meshrelay.wire.prepared import Batch

__all__ = ["RoomSeats", "SeatedRoom"]


class SeatedRoom:
    """A room as seen by the members on this node. Invariant: `sessions` and the channel's subscribers are the same."""

    __slots__ = ("channel", "home", "id", "sessions")

    def __init__(self, room_id: str, home: str, channel: Channel) -> None:
        self.id = room_id
        #: ID of the node that has the room.
        self.home = home
        self.channel = channel
        #: By user ID.
        self.sessions: dict[str, ISession] = {}


class RoomSeats:
    """See the module.

    :param max_rooms_per_user: rooms that one session may be in.
    """

    def __init__(self, hub: Hub, max_rooms_per_user: int) -> None:
        self._hub = hub
        self._max_rooms_per_user = max_rooms_per_user
        self._rooms: dict[str, SeatedRoom] = {}
        self._rooms_of: dict[ISession, dict[str, SeatedRoom]] = {}

    def __len__(self) -> int:
        return sum(len(rooms) for rooms in self._rooms_of.values())

    def has(self, room_id: str, session: ISession) -> bool:
        """Whether `session` is in the room."""
        return room_id in self._rooms_of.get(session, ())

    def sessions_in(self, room_id: str) -> list[ISession]:
        """The sessions here that are in the room."""
        room = self._rooms.get(room_id)
        return list(room.sessions.values()) if room is not None else []

    def rooms_of(self, session: ISession) -> list[SeatedRoom]:
        """The rooms that `session` is in, newest last."""
        return list(self._rooms_of.get(session, {}).values())

    def at_home(self, node_id: str) -> list[SeatedRoom]:
        """All rooms with members here whose home is that node."""
        return [room for room in self._rooms.values() if room.home == node_id]

    def check_room_of(self, session: ISession) -> None:
        """Whether one more room fits.

        :raises NotSignedIn: the session is over.
        :raises TooManyRooms: the limit of one user is reached.
        """
        if session.is_over:
            raise NotSignedIn("the session is over")
        if len(self._rooms_of.get(session, ())) >= self._max_rooms_per_user:
            raise TooManyRooms(f"in {self._max_rooms_per_user} rooms, the limit of one user")

    def add(self, room_id: str, home: str, interval_ms: int, session: ISession) -> None:
        """Deliver to `session` what is published in the room from now on.

        :param interval_ms: merging interval; 0 where the home is another node, which merges itself.
        """
        room = self._rooms.get(room_id)
        if room is None:
            room = self._rooms[room_id] = SeatedRoom(room_id, home, self._hub.open_channel(interval_ms / 1000))
        room.channel.subscribe(session)
        room.sessions[session.user.user_id] = session
        self._rooms_of.setdefault(session, {})[room_id] = room

    def remove(self, room_id: str, session: ISession) -> bool:
        """Deliver no more to `session`, after what was published before. False: it was not there."""
        rooms = self._rooms_of.get(session, {})
        room = rooms.pop(room_id, None)
        if room is None:
            return False
        if not rooms:
            del self._rooms_of[session]
        room.channel.unsubscribe(session)
        del room.sessions[session.user.user_id]
        if not room.sessions:
            self._hub.close_channel(room.channel)
            del self._rooms[room_id]
        return True

    def remove_user(self, room_id: str, user_id: str, sid: str) -> None:
        """Like `remove`, for the session of this user; nothing when it is another one."""
        room = self._rooms.get(room_id)
        session = room.sessions.get(user_id) if room is not None else None
        if session is not None and session.user.sid == sid:
            self.remove(room_id, session)

    def publish(self, room_id: str, frames: bytes, sender_id: str, reliable: bool, count: int) -> None:
        """Push `count` joined frames to all members here but the sender ("" = none)."""
        room = self._rooms.get(room_id)
        if room is not None:
            room.channel.publish(frames, room.sessions.get(sender_id), reliable, count)

    def push_to(self, room_id: str, user_ids: Iterable[str], frames: bytes, reliable: bool, count: int) -> None:
        """Push `count` joined frames to these members, behind all that was published before."""
        room = self._rooms.get(room_id)
        if room is None:
            return
        room.channel.flush()
        batch = Batch([frames], [reliable], [count])
        for user_id in user_ids:
            session = room.sessions.get(user_id)
            if session is not None:
                session.deliver(batch)

    def out(self, room_id: str, user_id: str = "", sid: str = "") -> int:
        """This member, or all of the room, are members no more, and are told so.

        :returns: how many they were.
        """
        room = self._rooms.get(room_id)
        if room is None:
            return 0
        those = [
            session
            for name, session in room.sessions.items()
            if not user_id or (name == user_id and session.user.sid == sid)
        ]
        for session in those:
            if self.remove(room_id, session):
                self.tell_out(room_id, session)
        return len(those)

    def tell_out(self, room_id: str, session: ISession) -> None:
        """Push ROOM_LOST with the member's own name: it is out, and perhaps there is no room any more."""
        body = encode_pushed_message(room_id, session.user.user_id, b"")
        session.push(BUILT_IN_VER, Command.ROOM_LOST, body, True)
