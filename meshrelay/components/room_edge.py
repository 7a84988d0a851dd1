"""What sessions of this node do in rooms, and what becomes of their places when they or nodes come and go.

The home says who is a member; this node delivers to a session from the moment at which the home has said so::

    session --join--> RoomAsks --JOIN--> home --owner--> RoomSeats --frames--> session
    session ends --------------LOST--->       <--ROOM_OUT-- a member is none any more
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger

from meshrelay.background import Alarms, start
from meshrelay.components.room_asks import RoomAsks
from meshrelay.components.room_home import RoomHome
from meshrelay.components.room_seats import RoomSeats
from meshrelay.errors import (
    AlreadyMember,
    CommandError,
    InternalError,
    MalformedPayload,
    NotInRoom,
    RoomNotFound,
    RoomTimeout,
)
from meshrelay.interfaces import INodes, ISession
from meshrelay.wire.frame import count_frames
from meshrelay.wire.room_commands import NewRoom, decode_owner
from meshrelay.wire.room_node import RoomOp, decode_room_cast, decode_room_out

__all__ = ["ADOPT_TRIES", "RoomEdge"]

#: How often a session that came from another node asks for its place in a room, and the pause between.
ADOPT_TRIES = 5
ADOPT_PAUSE_SECONDS = 1.0


class RoomEdge:
    """See the module.

    :param resume_seconds: how long the home of a room may be lost before its members here are out.
    :ivar outs: members here that the home, or its death, has put out.
    """

    _log = Logger()

    def __init__(
        self,
        nodes: INodes,
        home: RoomHome,
        asks: RoomAsks,
        seats: RoomSeats,
        alarms: Alarms,
        resume_seconds: float,
    ) -> None:
        self._nodes = nodes
        self._home = home
        self._asks = asks
        self._seats = seats
        self._alarms = alarms
        self._resume_seconds = resume_seconds
        #: Homes that are lost, with the moment of it: any object, another one each time.
        self._lost_homes: dict[str, object] = {}
        #: Sessions that came from another node -> rooms whose homes have not let them in again yet.
        self._coming: dict[ISession, dict[str, None]] = {}
        self.outs = 0

    # What sessions do.

    def create(self, session: ISession | None, wanted: NewRoom) -> str:
        """Make a room of this node; `session` is its first member. Raises as `IRooms.create_room` says."""
        if session is not None:
            self._seats.check_room_of(session)
        room = self._home.create(session.user if session is not None else None, wanted)
        if session is not None:
            self._seats.add(room.id, self._nodes.node_id, room.settings.interval_ms, session)
        return room.id

    async def join(self, session: ISession, room_id: str, frame: bytes, reliable: bool) -> str:
        """Join a room.

        :param frame: the push for the others; empty = none.
        :returns: the owner's user ID.
        :raises RoomJoinError: AlreadyMember, RoomFull, RoomNotFound, TooManyRooms, RoomTimeout.
        :raises NotSignedIn: the session is over.
        """
        if self._seats.has(room_id, session):
            raise AlreadyMember("already in the room")
        self._seats.check_room_of(session)
        try:
            answer = await self._asks.ask(RoomOp.JOIN, room_id, session.user, frame, reliable)
        except (RoomTimeout, CancelledError):
            # It may be in all the same, and nobody here would know.
            self._asks.tell(RoomOp.LOST, room_id, session.user)
            raise
        try:
            owner = decode_owner(answer)
        except MalformedPayload as error:
            self._asks.tell(RoomOp.LOST, room_id, session.user)
            raise InternalError("the room's node answered what cannot be read") from error
        self._sit(room_id, session)
        return owner

    def _sit(self, room_id: str, session: ISession) -> None:
        try:
            self._seats.check_room_of(session)
        except CommandError:
            # It ended, or came into others, while it waited.
            self._asks.tell(RoomOp.LOST, room_id, session.user)
            raise
        home = self._asks.home_of(room_id)
        if home is None:
            raise RoomNotFound
        self._seats.add(room_id, home, self._home.interval_ms(room_id), session)

    async def leave(self, session: ISession, room_id: str, frame: bytes, reliable: bool) -> None:
        """Leave a room.

        :param frame: the push for those who stay; empty = none.
        :raises RoomLeaveError: NotInRoom, RoomNotFound, RoomTimeout.
        """
        try:
            await self._asks.ask(RoomOp.LEAVE, room_id, session.user, frame, reliable)
        except (NotInRoom, RoomNotFound):
            self._seats.remove(room_id, session)
            raise
        except (RoomTimeout, CancelledError):
            # It may be out by now; a seat of which the home knows nothing would keep it from coming in again.
            self._asks.tell(RoomOp.LOST, room_id, session.user)
            if self._seats.remove(room_id, session):
                self._seats.tell_out(room_id, session)
            raise
        self._seats.remove(room_id, session)

    # What becomes of sessions.

    def room_ids(self, session: ISession) -> list[str]:
        """IDs of the rooms that `session` is in, newest last, and of those that it is about to be in again."""
        return [*(room.id for room in self._seats.rooms_of(session)), *self._coming.get(session, ())]

    def session_closed(self, session: ISession) -> None:
        """The user is lost to all its rooms."""
        self._go(session, RoomOp.LOST)

    def session_moved(self, session: ISession) -> None:
        """The user is expected at another node."""
        self._go(session, RoomOp.MOVED)

    def _go(self, session: ISession, op: RoomOp) -> None:
        for room_id in self.room_ids(session):
            self._seats.remove(room_id, session)
            self._asks.tell(op, room_id, session.user)
        self._coming.pop(session, None)

    async def adopt(self, session: ISession, room_ids: list[str]) -> None:
        """Give a session that came from another node its places again; where it has none any more it is told so."""
        coming = self._coming[session] = dict.fromkeys(room_ids)

        async def come(room_id: str) -> None:
            try:
                await self._adopt(session, room_id)
            finally:
                coming.pop(room_id, None)

        await DeferredList([start(come(room_id), self._log, "a move in a room") for room_id in room_ids])
        if self._coming.get(session) is coming:
            del self._coming[session]

    async def _adopt(self, session: ISession, room_id: str) -> None:
        for _ in range(ADOPT_TRIES):
            if session.is_over or self._seats.has(room_id, session):
                return
            try:
                await self._asks.ask(RoomOp.ADOPT, room_id, session.user)
                if session.is_over:
                    # The home was told what became of it, behind this.
                    return
                self._sit(room_id, session)
            except RoomTimeout:
                await self._pause(ADOPT_PAUSE_SECONDS)
                continue
            except CommandError:
                break
            return
        if not session.is_over:
            self._asks.tell(RoomOp.LOST, room_id, session.user)
            self._seats.tell_out(room_id, session)

    async def _pause(self, seconds: float) -> None:
        over: Deferred[None] = Deferred()
        self._alarms.call_later(seconds, lambda: over.callback(None))
        await over

    # What homes say, and when they are gone.

    def cast_received(self, node_id: str, payload: bytes) -> None:
        """ROOM_CAST: frames for the members here."""
        room_id, entries = decode_room_cast(payload)
        if self._asks.home_of(room_id) != node_id:
            return
        for entry in entries:
            count = count_frames(entry.frames)
            if count and entry.receivers:
                self._seats.push_to(room_id, entry.receivers, entry.frames, entry.reliable, count)
            elif count:
                self._seats.publish(room_id, entry.frames, entry.sender_id, entry.reliable, count)

    def out_received(self, node_id: str, payload: bytes) -> None:
        """ROOM_OUT: members here are none any more."""
        out = decode_room_out(payload)
        if self._asks.home_of(out.room_id) == node_id:
            self.outs += self._seats.out(out.room_id, out.user_id, out.sid)

    def home_lost(self, node_id: str) -> None:
        """A node cannot be reached: after a while its rooms are over for the members here."""
        lost = self._lost_homes[node_id] = object()

        def look() -> None:
            if self._lost_homes.get(node_id) is lost:
                self.home_gone(node_id)

        self._alarms.call_later(self._resume_seconds, look)

    def home_back(self, node_id: str) -> None:
        """A lost node is back."""
        self._lost_homes.pop(node_id, None)

    def home_gone(self, node_id: str) -> None:
        """The rooms of a node are over for the members here. If it lives it is told when it can be reached again."""
        self._lost_homes.pop(node_id, None)
        for room in self._seats.at_home(node_id):
            for session in room.sessions.values():
                self._asks.tell(RoomOp.LOST, room.id, session.user)
            self.outs += self._seats.out(room.id)
