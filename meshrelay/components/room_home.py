"""The home of rooms: takes what clients of this and of other nodes want of them, one after the other.

Nothing is reserved and nothing waits: who asks first gets the last place. What a command causes is sent in the order in
which it was taken, the change of members included::

    RoomAsks (this node, or by ROOM_ASK another one) --perform--> RoomTable --> RoomOutlet --> members everywhere
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from meshrelay.background import Alarms
from meshrelay.components.room_losses import RoomLosses
from meshrelay.components.room_table import LiveMember, LiveRoom, RoomSettings, RoomTable
from meshrelay.config.schema import MIN_INTERVAL_MS, Config
from meshrelay.errors import (
    AlreadyMember,
    EmptyAndNotJoined,
    InvalidTTL,
    MalformedPayload,
    MessageTooLarge,
    NodeOffline,
    NotInRoom,
    RoomFull,
    RoomNotFound,
    UnknownCommand,
)
from meshrelay.model import User
from meshrelay.wire.buffer import encode_str8
from meshrelay.wire.commands import BUILT_IN_VER, Command
from meshrelay.wire.frame import count_frames, encode_push
from meshrelay.wire.room_commands import NewRoom, encode_pushed_owner, encode_room_list
from meshrelay.wire.room_node import RoomAsk, RoomOp, RoomOut, decode_room_receivers, encode_snapshot

__all__ = ["MAX_FACTS_BYTES", "MAX_SNAPSHOT_BYTES", "MIN_TTL_SECONDS", "RoomHome", "RoomRules"]

#: A lifetime must be greater, as that of a group.
MIN_TTL_SECONDS = 10

#: Of one member.
MAX_FACTS_BYTES = 512

#: A room with more cannot be told to another node; half of what a link may hold.
MAX_SNAPSHOT_BYTES = 4 * 1024 * 1024


class RoomRules(NamedTuple):
    """What must be known of the configuration."""

    #: A push is never longer, so that a client can take what it may send.
    max_payload_bytes: int
    max_members: int
    max_rooms: int
    max_rooms_per_user: int
    #: How long a member whose node cannot be reached, or whose home cannot be, counts as one.
    resume_seconds: float

    @classmethod
    def of(cls, config: Config) -> RoomRules:
        """Return what the configuration says."""
        session, room = config.session, config.room
        return cls(
            session.max_payload_bytes,
            room.max_members,
            room.max_rooms,
            room.max_rooms_per_user,
            session.resume_seconds,
        )


class RoomHome:
    """See the module.

    :param is_draining: asked at each creation; True: the node is about to stop.
    :param say_out: ``say_out(node_id, out)`` tells members on a node, this one too, that they are out.
    :ivar lost: members that were lost without leaving.
    """

    def __init__(
        self,
        node_id: str,
        table: RoomTable,
        losses: RoomLosses,
        alarms: Alarms,
        rules: RoomRules,
        is_draining: Callable[[], bool],
        say_out: Callable[[str, RoomOut], object],
    ) -> None:
        self._node_id = node_id
        self._table = table
        self._losses = losses
        self._alarms = alarms
        self._rules = rules
        self._is_draining = is_draining
        self._say_out = say_out
        #: Node ID -> the absence of its members since it was lost.
        self._absences: dict[str, object] = {}
        self.lost = 0
        self._ops: Mapping[int, Callable[[LiveRoom, str, RoomAsk], bytes]] = {
            RoomOp.JOIN: self._join,
            RoomOp.LEAVE: self._leave,
            RoomOp.LOST: self._member_lost,
            RoomOp.MOVED: self._member_moved,
            RoomOp.ADOPT: self._adopt,
            RoomOp.BROADCAST: self._broadcast,
            RoomOp.SEND_TO: self._send_to,
            RoomOp.MEMBERS: self._members,
            RoomOp.SNAPSHOT: self._snapshot,
            RoomOp.FACTS: self._facts,
            RoomOp.CLOSE: self._close,
        }

    def create(self, user: User | None, wanted: NewRoom) -> LiveRoom:
        """Make a room; `user` is its first member, on this node. None = it has none yet.

        :raises CommandError: as `IRooms.create_room` says.
        """
        limit = self._rules.max_members
        if wanted.max_members > limit:
            raise MalformedPayload(f"max_members: {wanted.max_members}, this node allows {limit}")
        if wanted.ttl_seconds <= MIN_TTL_SECONDS:
            raise InvalidTTL
        if not wanted.allow_empty and user is None:
            raise EmptyAndNotJoined
        if self._is_draining():
            raise NodeOffline
        self._table.check_room()
        interval_ms = wanted.interval_ms if wanted.interval_ms >= MIN_INTERVAL_MS else 0
        settings = RoomSettings(wanted.max_members or limit, wanted.allow_empty, wanted.ttl_seconds, interval_ms)
        room = self._table.create(settings)
        if user is not None:
            self._table.add(room, LiveMember(user.user_id, user.sid, self._node_id))
        return room

    def interval_ms(self, room_id: str) -> int:
        """The merging interval of a room of this node; of any other 0, as its home merges."""
        room = self._table.find(room_id)
        return room.settings.interval_ms if room is not None else 0

    def perform(self, node_id: str, ask: RoomAsk) -> bytes:
        """Do what a node wants of a room.

        :param node_id: of that node; this one too.
        :returns: data of the answer, see `meshrelay.wire.room_node`.
        :raises CommandError: what the caller is to be told.
        :raises MalformedFrame: the node's fault.
        """
        room = self._table.find(ask.room_id)
        if room is None:
            raise RoomNotFound
        run = self._ops.get(ask.op)
        if run is None:
            raise UnknownCommand(f"the room's node does not know operation {ask.op}")
        return run(room, node_id, ask)

    def _join(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        member = room.members.get(ask.user_id)
        if member is not None and member.sid == ask.sid and member.node_id == node_id and member.absence is None:
            raise AlreadyMember("already in the room")
        count = count_frames(ask.data)
        if member is not None:
            # Of an earlier session, or one that its node has given up.
            room.is_pinned = True
            self.lose(room, [member])
            room.is_pinned = False
        if len(room.members) >= room.settings.max_members:
            raise RoomFull(f"the room is full: {room.settings.max_members} members")
        if count:
            room.outlet.publish(ask.data, None, ask.reliable, count)
        self._table.add(room, LiveMember(ask.user_id, ask.sid, node_id))
        return encode_str8(room.owner or ask.user_id)

    def _member_of(self, room: LiveRoom, ask: RoomAsk) -> LiveMember:
        member = room.members.get(ask.user_id)
        if member is None or member.sid != ask.sid:
            raise NotInRoom
        return member

    def _leave(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        member = self._member_of(room, ask)
        count = count_frames(ask.data)
        owner = room.owner
        self._table.remove(room, member)
        if count:
            room.outlet.publish(ask.data, None, ask.reliable, count)
        self._pass_on(room, owner)
        self._table.settle(room)
        return b""

    def _pass_on(self, room: LiveRoom, owner: str | None) -> None:
        """Tell the members if the room has another owner than `owner` now."""
        if room.owner is not None and room.owner != owner:
            body = encode_pushed_owner(room.id, room.owner)
            room.outlet.publish(encode_push(BUILT_IN_VER, Command.ROOM_OWNER, body), None, True)

    def lose(self, room: LiveRoom, members: Iterable[LiveMember]) -> None:
        """These members are lost; the others are told, and who the owner is if that was one of them."""
        owner = room.owner
        lost = list(members)
        for member in lost:
            self._table.remove(room, member)
        self.lost += len(lost)
        for member in lost:
            self._losses.tell(room, member.user_id, member.sid)
        self._pass_on(room, owner)
        self._table.settle(room)

    def put_out(self, room: LiveRoom, members: Iterable[LiveMember]) -> None:
        """Lose members whose nodes do not know of it, and tell these."""
        out = list(members)
        for member in out:
            self._say_out(member.node_id, RoomOut(room.id, member.user_id, member.sid))
        self.lose(room, out)

    def _member_lost(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        member = self._member_of(room, ask)
        # What a node says that had the session before it went on elsewhere means nothing any more.
        if member.node_id == node_id:
            self.lose(room, [member])
        return b""

    def _member_moved(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        member = self._member_of(room, ask)
        if member.node_id == node_id:
            self._expect([(room, member)])
        return b""

    def _adopt(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        member = self._member_of(room, ask)
        self._table.move(room, member, node_id)
        return encode_str8(room.owner or member.user_id)

    def _broadcast(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        sender = self._member_of(room, ask).place if ask.user_id else None
        count = count_frames(ask.data)
        if count:
            room.outlet.publish(ask.data, sender, ask.reliable, count)
        return b""

    def _send_to(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        receivers = decode_room_receivers(ask.data)
        count = count_frames(receivers.frames)
        found = [
            room.members[user_id].place for user_id in dict.fromkeys(receivers.user_ids) if user_id in room.members
        ]
        if found and count:
            room.outlet.push_to(found, receivers.frames, ask.reliable, count)
        return b""

    def _members(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        self._member_of(room, ask)
        answer = encode_room_list(room.owner or "", room.members)
        if len(answer) > self._rules.max_payload_bytes:
            raise MessageTooLarge(f"the list has {len(answer)} bytes, a frame holds {self._rules.max_payload_bytes}")
        return answer

    def _snapshot(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        snapshot = encode_snapshot(room.snapshot())
        if len(snapshot) > MAX_SNAPSHOT_BYTES:
            raise MessageTooLarge(f"the room takes {len(snapshot)} bytes, at most {MAX_SNAPSHOT_BYTES} are told")
        return snapshot

    def _facts(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        member = self._member_of(room, ask)
        if len(ask.data) > MAX_FACTS_BYTES:
            raise MessageTooLarge(f"{len(ask.data)} bytes of facts, at most {MAX_FACTS_BYTES}")
        member.facts = ask.data
        return b""

    def _close(self, room: LiveRoom, node_id: str, ask: RoomAsk) -> bytes:
        self.close(room)
        return b""

    def close(self, room: LiveRoom) -> None:
        """End a room; its members are told that they are out."""
        room.outlet.flush()
        for node_id in (self._node_id, *room.outlet.node_ids):
            self._say_out(node_id, RoomOut(room.id, "", ""))
        for member in list(room.members.values()):
            self._table.remove(room, member)
        self._table.discard(room)

    # Members whose node cannot be reached, or who are on their way to another one.

    def _expect(self, members: Iterable[tuple[LiveRoom, LiveMember]]) -> object:
        """Lose these members unless their nodes come back, or their sessions elsewhere, within resume_seconds."""
        absence = object()
        expected = list(members)
        for _, member in expected:
            member.absence = absence
        if expected:
            self._alarms.call_later(self._rules.resume_seconds, lambda: self._give_up(expected, absence))
        return absence

    def _give_up(self, expected: list[tuple[LiveRoom, LiveMember]], absence: object) -> None:
        lost: dict[LiveRoom, list[LiveMember]] = {}
        for room, member in expected:
            if member.absence is absence:
                lost.setdefault(room, []).append(member)
        for room, members in lost.items():
            self.put_out(room, members)

    def node_lost(self, node_id: str) -> None:
        """A node cannot be reached."""
        here = self._table.members_at(node_id)
        self._absences[node_id] = self._expect((room, member) for room, member in here if member.absence is None)

    def node_back(self, node_id: str) -> None:
        """A lost node is back, with its sessions; who was on the way to another one is still expected there."""
        absence = self._absences.pop(node_id, None)
        for _, member in self._table.members_at(node_id) if absence is not None else ():
            if member.absence is absence:
                member.absence = None

    def node_gone(self, node_id: str) -> None:
        """A node will not come back; its sessions may, on another one."""
        self.node_lost(node_id)
        del self._absences[node_id]

    def link_full(self, room_id: str, node_id: str) -> None:
        """What was sent in a room was not taken for a node: its members there have missed something, and are out."""
        room = self._table.find(room_id)
        if room is not None:
            self.put_out(room, [member for member in room.members.values() if member.node_id == node_id])
