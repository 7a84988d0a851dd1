"""Rooms between nodes: bytes to values and back.

===========  =====================================================================================================
ROOM_ASK     u64 number (0 = no answer wanted), u8 op, u8 flags (1 = reliable), gid, str8 user, str8 sid, data
ROOM_ANSWER  u64 number, u8 flags (1 = more of this answer follows), u16 error code (0 = done), data or text
ROOM_CAST    gid, then to the end entries: u8 flags (1 = reliable), str8 sender, u16 count and str8 each receiver,
             u32 length and joined pushes. Nobody named as receiver = everybody but the sender
ROOM_OUT     gid, str8 user, str8 sid; both empty = all members on the receiving node
===========  =====================================================================================================

Data of an ask is what its op says: pushes (JOIN, LEAVE, BROADCAST; may be empty), a `Receivers` (SEND_TO), facts
(FACTS), nothing. An answer has the str8 owner (JOIN, ADOPT), what the client gets (MEMBERS), a room (SNAPSHOT),
nothing.
Integers are big-endian; a str8 is a u8 length and that many bytes of UTF-8, and may be empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, unique
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from meshrelay.errors import MalformedFrame
from meshrelay.model import Room, RoomMember
from meshrelay.wire.buffer import GROUP_ID_BYTES

__all__ = [
    "MAX_ANSWER_BYTES",
    "RoomAnswer",
    "RoomAsk",
    "RoomCastEntry",
    "RoomOp",
    "RoomOut",
    "RoomReceivers",
    "decode_room_answer",
    "decode_room_ask",
    "decode_room_cast",
    "decode_room_out",
    "decode_room_receivers",
    "decode_snapshot",
    "encode_room_answer",
    "encode_room_ask",
    "encode_room_cast",
    "encode_room_cast_entry",
    "encode_room_out",
    "encode_room_receivers",
    "encode_snapshot",
]

#: Data of one ROOM_ANSWER; what is longer comes in several.
MAX_ANSWER_BYTES = 128 * 1024

_ASK = Struct("!QBB")
_ANSWER = Struct("!QBH")
_SNAPSHOT = Struct("!HBIH")
_U16 = Struct("!H")
_U32 = Struct("!I")

_RELIABLE = 1
_MORE = 1
_ALLOW_EMPTY = 1


@unique
class RoomOp(IntEnum):
    """What a node may want of a room. Numbers are only ever added."""

    #: The user comes in.
    JOIN = 1
    #: The user goes.
    LEAVE = 2
    #: The user's session is over.
    LOST = 3
    #: The user's session goes on at another node, which will say ADOPT.
    MOVED = 4
    #: The user's session goes on at this node.
    ADOPT = 5
    #: To everybody but the user; to everybody without one.
    BROADCAST = 6
    #: To some members.
    SEND_TO = 7
    #: Owner and members, for the client of the user.
    MEMBERS = 8
    #: All there is to know of the room.
    SNAPSHOT = 9
    #: What the node knows of the user.
    FACTS = 10
    #: The room ends.
    CLOSE = 11


class RoomAsk(NamedTuple):
    """What a node wants of a room."""

    #: Given back with the answer; 0 = none is wanted.
    number: int
    #: A `RoomOp`, or one of a later version.
    op: int
    reliable: bool
    room_id: str
    #: "" = the application.
    user_id: str
    sid: str
    data: bytes


class RoomAnswer(NamedTuple):
    """What became of an ask."""

    number: int
    #: More of `data` follows.
    has_more: bool
    #: An `ErrorCode`; 0 = done.
    code: int
    #: The text of the error, or what was asked for.
    data: bytes


class RoomReceivers(NamedTuple):
    """Pushes for some members."""

    user_ids: tuple[str, ...]
    frames: bytes


class RoomCastEntry(NamedTuple):
    """Pushes for members on one node."""

    reliable: bool
    #: Does not get them; "" = nobody of this node.
    sender_id: str
    #: None named = everybody.
    receivers: tuple[str, ...]
    frames: bytes


class RoomOut(NamedTuple):
    """Who is no member any more."""

    room_id: str
    #: "" = all of the receiving node.
    user_id: str
    sid: str


def _str8(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return b"%c%b" % (len(encoded), encoded)


class _Reader:
    """Reads from front to back; whatever is wrong is a MalformedFrame."""

    __slots__ = ("_data", "_what", "offset")

    def __init__(self, what: str, data: bytes, offset: int = 0) -> None:
        self._what = what
        self._data = data
        self.offset = offset

    def take(self, size: int) -> bytes:
        start = self.offset
        self.offset = start + size
        if self.offset > len(self._data):
            raise MalformedFrame(f"{self._what}: cut off")
        return self._data[start : self.offset]

    def numbers(self, fields: Struct) -> tuple[int, ...]:
        start = self.offset
        try:
            found = fields.unpack_from(self._data, start)
        except struct_error as error:
            raise MalformedFrame(f"{self._what}: {error}") from None
        self.offset = start + fields.size
        return found

    def gid(self) -> str:
        try:
            return self.take(GROUP_ID_BYTES).decode("ascii")
        except UnicodeDecodeError:
            raise MalformedFrame(f"{self._what}: room ID is not ASCII") from None

    def str8(self) -> str:
        size = self.take(1)[0]
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedFrame(f"{self._what}: {error}") from None

    def names(self) -> tuple[str, ...]:
        (count,) = self.numbers(_U16)
        return tuple([self.str8() for _ in range(count)])

    def rest(self) -> bytes:
        start, self.offset = self.offset, len(self._data)
        return self._data[start:]

    @property
    def is_empty(self) -> bool:
        return self.offset >= len(self._data)


def encode_room_ask(ask: RoomAsk) -> bytes:
    """Return the payload of a ROOM_ASK."""
    head = _ASK.pack(ask.number, ask.op, _RELIABLE if ask.reliable else 0)
    return b"".join((head, ask.room_id.encode("ascii"), _str8(ask.user_id), _str8(ask.sid), ask.data))


def decode_room_ask(data: bytes) -> RoomAsk:
    """The reverse of `encode_room_ask`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader("ask of a room", data)
    number, op, flags = reader.numbers(_ASK)
    room_id, user_id, sid = reader.gid(), reader.str8(), reader.str8()
    return RoomAsk(number, op, bool(flags & _RELIABLE), room_id, user_id, sid, reader.rest())


def encode_room_answer(answer: RoomAnswer) -> bytes:
    """Return the payload of a ROOM_ANSWER."""
    return _ANSWER.pack(answer.number, _MORE if answer.has_more else 0, answer.code) + answer.data


def decode_room_answer(data: bytes) -> RoomAnswer:
    """The reverse of `encode_room_answer`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader("answer of a room", data)
    number, flags, code = reader.numbers(_ANSWER)
    return RoomAnswer(number, bool(flags & _MORE), code, reader.rest())


def encode_room_receivers(receivers: RoomReceivers) -> bytes:
    """Return the data of a SEND_TO: u16 count and str8 each user, pushes to the end."""
    return _names(receivers.user_ids) + receivers.frames


def decode_room_receivers(data: bytes) -> RoomReceivers:
    """The reverse of `encode_room_receivers`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader("receivers in a room", data)
    return RoomReceivers(reader.names(), reader.rest())


def _names(names: Iterable[str]) -> bytes:
    encoded = [_str8(name) for name in names]
    return _U16.pack(len(encoded)) + b"".join(encoded)


def encode_room_cast_entry(entry: RoomCastEntry) -> bytes:
    """Return one entry of a ROOM_CAST."""
    head = b"\1" if entry.reliable else b"\0"
    size = _U32.pack(len(entry.frames))
    return b"".join((head, _str8(entry.sender_id), _names(entry.receivers), size, entry.frames))


def encode_room_cast(room_id: str, entries: Iterable[bytes]) -> bytes:
    """Return the payload of a ROOM_CAST; `entries` as `encode_room_cast_entry` makes them."""
    return b"".join((room_id.encode("ascii"), *entries))


def decode_room_cast(data: bytes) -> tuple[str, list[RoomCastEntry]]:
    """The reverse of `encode_room_cast`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader("cast of a room", data)
    room_id = reader.gid()
    entries = []
    while not reader.is_empty:
        flags = reader.take(1)[0]
        sender_id, receivers = reader.str8(), reader.names()
        (size,) = reader.numbers(_U32)
        entries.append(RoomCastEntry(bool(flags & _RELIABLE), sender_id, receivers, reader.take(size)))
    return room_id, entries


def encode_room_out(out: RoomOut) -> bytes:
    """Return the payload of a ROOM_OUT."""
    return b"".join((out.room_id.encode("ascii"), _str8(out.user_id), _str8(out.sid)))


def decode_room_out(data: bytes) -> RoomOut:
    """The reverse of `encode_room_out`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader("end in a room", data)
    return RoomOut(reader.gid(), reader.str8(), reader.str8())


def encode_snapshot(room: Room) -> bytes:
    """Return the answer to SNAPSHOT: u16 max members, u8 flags, u32 ttl, u16 interval, members in join order.

    A member is str8 user, str8 sid, str8 node, u16 length and facts.
    """
    flags = _ALLOW_EMPTY if room.allow_empty else 0
    parts = [_SNAPSHOT.pack(room.max_members, flags, room.ttl_seconds, room.interval_ms)]
    for member in room.members:
        parts += (_str8(member.user_id), _str8(member.sid), _str8(member.node_id))
        parts += (_U16.pack(len(member.facts)), member.facts)
    return b"".join(parts)


def decode_snapshot(room_id: str, data: bytes) -> Room:
    """The reverse of `encode_snapshot`.

    :raises MalformedFrame: the peer's fault.
    """
    reader = _Reader("snapshot of a room", data)
    max_members, flags, ttl_seconds, interval_ms = reader.numbers(_SNAPSHOT)
    members = []
    while not reader.is_empty:
        user_id, sid, node_id = reader.str8(), reader.str8(), reader.str8()
        (size,) = reader.numbers(_U16)
        members.append(RoomMember(user_id, sid, node_id, reader.take(size)))
    return Room(room_id, max_members, bool(flags & _ALLOW_EMPTY), ttl_seconds, interval_ms, tuple(members))
