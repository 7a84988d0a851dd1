"""Rooms: bounded broadcast groups with an owner and one order for all, on one node and reachable from any.

::

    RoomCommands, IRooms --> RoomEdge --> RoomAsks --here or by message--> RoomHome --> RoomTable
                                                                              |
    sessions here <-- RoomSeats <-- here or by ROOM_CAST <-- RoomOutlet <-----'

This module puts the parts together and holds what the application may do. The home of a room holds the truth about
it; other nodes know only which of their sessions are in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import implementer

from meshrelay.background import Alarms
from meshrelay.components.hooks import Command, PlaceHooks
from meshrelay.components.node_post import NodePost
from meshrelay.components.room_asks import RoomAsks
from meshrelay.components.room_commands import RoomCommands
from meshrelay.components.room_edge import RoomEdge
from meshrelay.components.room_home import MAX_FACTS_BYTES, RoomHome, RoomRules
from meshrelay.components.room_losses import RoomLosses
from meshrelay.components.room_nodes import RoomCasts, RoomNodes
from meshrelay.components.room_outlet import OutletWays, RoomOutlet
from meshrelay.components.room_seats import RoomSeats
from meshrelay.components.room_table import RoomTable, RoomWatcher
from meshrelay.errors import InternalError, MalformedFrame, MessageTooLarge, NotSignedIn
from meshrelay.fanout.hub import Hub
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IComponent, INodes, IRooms, ISession, ISessions, MessageMaker
from meshrelay.model import MAX_USER_ID_BYTES, CloseReason, Room, User
from meshrelay.wire.commands import BUILT_IN_VER, pushed_message_overhead
from meshrelay.wire.frame import encode_push
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.room_commands import NewRoom
from meshrelay.wire.room_node import (
    RoomOp,
    RoomOut,
    RoomReceivers,
    decode_snapshot,
    encode_room_out,
    encode_room_receivers,
)

__all__ = ["MAX_RECEIVERS_BYTES", "RoomSurroundings", "Rooms"]

#: User IDs of one `Rooms.send_to`; they go to the home in one message, beside the pushes.
MAX_RECEIVERS_BYTES = 128 * 1024


class RoomSurroundings(NamedTuple):
    """What rooms stand on."""

    nodes: INodes
    sessions: ISessions
    hub: Hub
    turn: Turn
    alarms: Alarms
    #: ``random_bytes(n)`` -> n bytes that nobody can guess.
    random_bytes: Callable[[int], bytes]
    #: Asked at each creation; True: the node is about to stop.
    is_draining: Callable[[], bool]


@implementer(IRooms, IComponent)
class Rooms(PlaceHooks):
    """See `IRooms` and `IComponent`."""

    name = "room"

    def __init__(self, around: RoomSurroundings, rules: RoomRules) -> None:
        nodes, alarms = around.nodes, around.alarms
        self._node_id = nodes.node_id
        self._sessions = around.sessions
        self._rules = rules
        self._post = NodePost(nodes, alarms)
        self._seats = RoomSeats(around.hub, rules.max_rooms_per_user)
        self._casts = RoomCasts(nodes, self._post, alarms)
        ways = OutletWays(nodes.node_id, self._seats, around.turn, alarms, self._casts.send)
        self._table = RoomTable(
            nodes.node_id,
            rules.max_rooms,
            alarms,
            around.random_bytes,
            lambda room_id, interval_ms: RoomOutlet(room_id, interval_ms, ways),
        )
        self._losses = RoomLosses(rules.max_payload_bytes - pushed_message_overhead("x" * MAX_USER_ID_BYTES))
        self._home = RoomHome(
            nodes.node_id, self._table, self._losses, alarms, rules, around.is_draining, self._say_out
        )
        self._casts.home = self._home
        self._asks = RoomAsks(nodes, self._post, alarms, self._home.perform)
        self._edge = RoomEdge(nodes, self._home, self._asks, self._seats, alarms, rules.resume_seconds)
        RoomNodes(nodes, self._home, self._asks, self._edge, self._post)
        self._commands = RoomCommands(self._edge, self._table, self._asks, rules.max_payload_bytes)
        self._is_exposed = False

    def _say_out(self, node_id: str, out: RoomOut) -> None:
        if node_id == self._node_id:
            self._seats.out(out.room_id, out.user_id, out.sid)
        else:
            self._post.tell(node_id, NodeKind.ROOM_OUT, encode_room_out(out))

    # What IComponent asks for.

    def command_table(self) -> Mapping[tuple[int, int], Command]:
        """See `IComponent`; empty unless `expose_commands` was called."""
        return self._commands.table() if self._is_exposed else {}

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`: it stays a member, and what is sent waits for it."""

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        self._edge.session_closed(session)

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._edge.session_moved(session)

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`; rooms come by `adopt`."""

    def statistics(self) -> Mapping[str, int]:
        """See `IComponent`."""
        return {
            "rooms": len(self._table),
            "room_members": self._table.member_count,
            "room_seats": len(self._seats),
            "room_members_lost": self._home.lost,
            "room_outs": self._edge.outs,
            "room_asks_pending": self._asks.pending_count,
            "room_timeouts": self._asks.timeouts,
            "room_casts": self._casts.sent,
            "room_casts_lost": self._casts.lost,
            "room_messages_refused": self._post.refused,
            "room_messages_kept": self._post.kept_count,
            "room_messages_dropped": self._post.dropped,
        }

    def stop(self) -> None:
        """See `IComponent`: the rooms of this node end with it, and other nodes are told."""
        for room in self._table:
            self._home.close(room)

    # What goes with a session to another node.

    def memberships(self, session: ISession) -> list[str]:
        """IDs of the rooms that go with a session to another node, newest last."""
        return self._edge.room_ids(session)

    def recall(self, user_id: str, sid: str) -> list[str]:
        """IDs of rooms of this node that have exactly this session as a member, wherever it is or was."""
        return self._table.recall(user_id, sid)

    def adopt(self, session: ISession, room_ids: list[str]) -> Deferred[None]:
        """Give a session that came from another node its places in rooms; fires when that is done, never fails."""
        return Deferred.fromCoroutine(self._edge.adopt(session, room_ids))

    # What others ask.

    @property
    def table(self) -> RoomTable:
        """The rooms of this node, for those who look at them and change nothing."""
        return self._table

    def watch(self, watcher: RoomWatcher) -> None:
        """Tell `watcher` what becomes of members of the rooms of this node."""
        self._table.watchers.append(watcher)

    def home_of(self, room_id: str) -> str | None:
        """ID of the node that made a room; None: no node that is known."""
        return self._asks.home_of(room_id)

    def has_seat(self, room_id: str, session: ISession) -> bool:
        """Whether this session, of this node, is in the room."""
        return self._seats.has(room_id, session)

    def sessions_in(self, room_id: str) -> list[ISession]:
        """The sessions of this node that are in the room."""
        return self._seats.sessions_in(room_id)

    # What the application may do.

    def create_room(
        self, user: User | None, max_members: int, allow_empty: bool, join: bool, ttl_seconds: int, interval_ms: int
    ) -> str:
        """See `IRooms`."""
        session = self._session_of(user) if user is not None and join else None
        return self._edge.create(session, NewRoom(max_members, allow_empty, join, ttl_seconds, interval_ms))

    async def join_room(self, room_id: str, user: User, ver: int, cmd: int, message: bytes) -> str:
        """See `IRooms`."""
        session = self._session_of(user)
        return await self._edge.join(session, room_id, self._push_of(ver, cmd, message) if message else b"", True)

    async def leave_room(self, room_id: str, user: User, ver: int, cmd: int, message: bytes) -> None:
        """See `IRooms`."""
        session = self._session_of(user)
        await self._edge.leave(session, room_id, self._push_of(ver, cmd, message) if message else b"", True)

    def broadcast(self, room_id: str, sender: User, ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """See `IRooms`."""
        self._asks.submit(RoomOp.BROADCAST, room_id, sender, self._push_of(ver, cmd, message), reliable)

    def announce(self, room_id: str, ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """See `IRooms`."""
        self._asks.submit(RoomOp.BROADCAST, room_id, None, self._push_of(ver, cmd, message), reliable)

    def send_to(
        self, room_id: str, user_ids: Iterable[str], ver: int, cmd: int, message: bytes, reliable: bool
    ) -> None:
        """See `IRooms`."""
        receivers = RoomReceivers(tuple(user_ids), self._push_of(ver, cmd, message))
        data = encode_room_receivers(receivers)
        if len(data) - len(receivers.frames) > MAX_RECEIVERS_BYTES:
            raise MessageTooLarge(f"the receivers take over {MAX_RECEIVERS_BYTES} bytes")
        self._asks.submit(RoomOp.SEND_TO, room_id, None, data, reliable)

    async def members(self, room_id: str) -> list[str]:
        """See `IRooms`."""
        return [member.user_id for member in (await self.get_room(room_id)).members]

    async def owner(self, room_id: str) -> str | None:
        """See `IRooms`."""
        return (await self.get_room(room_id)).owner

    async def get_room(self, room_id: str) -> Room:
        """See `IRooms`."""
        answer = await self._asks.ask(RoomOp.SNAPSHOT, room_id, None)
        try:
            return decode_snapshot(room_id, answer)
        except MalformedFrame as error:
            raise InternalError from error

    async def close_room(self, room_id: str) -> None:
        """See `IRooms`."""
        await self._asks.ask(RoomOp.CLOSE, room_id, None)

    def room_ids(self, user: User) -> list[str]:
        """See `IRooms`."""
        session = self._sessions.find_session(user.sid)
        return self._edge.room_ids(session) if session is not None else []

    def set_member_facts(self, room_id: str, user: User, facts: bytes) -> None:
        """See `IRooms`."""
        if len(facts) > MAX_FACTS_BYTES:
            raise MessageTooLarge(f"{len(facts)} bytes of facts, at most {MAX_FACTS_BYTES}")
        session = self._sessions.find_session(user.sid)
        if session is not None and self._seats.has(room_id, session):
            self._asks.submit(RoomOp.FACTS, room_id, user, facts, True)

    def _push_of(self, ver: int, cmd: int, message: bytes) -> bytes:
        if ver < BUILT_IN_VER:
            raise ValueError("ver 0 is the node's own, pushes have 1 to 255")
        limit = self._rules.max_payload_bytes
        if len(message) > limit:
            raise MessageTooLarge(f"message of {len(message)} bytes, max_payload_bytes is {limit}")
        return encode_push(ver, cmd, message)

    def _session_of(self, user: User) -> ISession:
        session = self._sessions.find_session(user.sid)
        if session is None:
            raise NotSignedIn(f"user {user.user_id!r} is not signed in on this node")
        return session

    # Registration.

    def expose_commands(self) -> None:
        """See `IRooms`."""
        if self._is_exposed:
            raise RuntimeError("the room commands are exposed already")
        self._is_exposed = True
        for command in self.command_table().values():
            command.seal()

    def on_discard_message(self, make: MessageMaker) -> None:
        """See `IRooms`."""
        self._losses.on_discard_message(make)
