"""Payloads of the room commands that no group command has (client protocol, section 3).

=============  =========================================================================================
ROOM_CREATE    u16 max members, u8 flags (1 allow_empty, 2 join), u32 ttl seconds, u16 interval ms
ROOM_JOIN      answered with str8 owner
ROOM_MEMBERS   answered with str8 owner, then str8 each member in join order
ROOM_OWNER     pushed: gid, str8 new owner
=============  =========================================================================================

The rest is as with groups, see `meshrelay.wire.commands`. Readers raise MalformedPayload, the sender's fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from meshrelay.errors import MalformedPayload
from meshrelay.wire.buffer import PayloadReader, encode_gid, encode_str8

__all__ = [
    "NewRoom",
    "PushedOwner",
    "RoomList",
    "decode_new_room",
    "decode_owner",
    "decode_pushed_owner",
    "decode_room_id",
    "decode_room_list",
    "encode_new_room",
    "encode_pushed_owner",
    "encode_room_list",
]

_ALLOW_EMPTY = 1
_JOIN = 2

_NEW_ROOM = Struct("!HBIH")


class NewRoom(NamedTuple):
    """What ROOM_CREATE asks for: lifetime in seconds, merging interval in milliseconds."""

    #: 0 = as many as the node allows.
    max_members: int
    allow_empty: bool
    join: bool
    ttl_seconds: int
    interval_ms: int


class RoomList(NamedTuple):
    """The answer to ROOM_MEMBERS."""

    owner: str
    #: In join order.
    members: list[str]


class PushedOwner(NamedTuple):
    """Whose the room is from now on."""

    room_id: str
    owner: str


def encode_new_room(request: NewRoom) -> bytes:
    """ROOM_CREATE."""
    flags = (_ALLOW_EMPTY if request.allow_empty else 0) | (_JOIN if request.join else 0)
    return _NEW_ROOM.pack(request.max_members, flags, request.ttl_seconds, request.interval_ms)


def decode_new_room(payload: bytes) -> NewRoom:
    """The reverse of `encode_new_room`."""
    reader = PayloadReader(payload)
    max_members = reader.u16("max_members")
    flags = reader.u8("flags")
    if flags & ~(_ALLOW_EMPTY | _JOIN):
        raise MalformedPayload(f"flags: unknown bits in {flags:#04x}")
    ttl_seconds, interval_ms = reader.u32("ttl"), reader.u16("interval")
    reader.end("interval")
    return NewRoom(max_members, bool(flags & _ALLOW_EMPTY), bool(flags & _JOIN), ttl_seconds, interval_ms)


def decode_room_id(payload: bytes) -> str:
    """A gid and nothing else: ROOM_MEMBERS, and the answer to ROOM_CREATE."""
    reader = PayloadReader(payload)
    room_id = reader.gid("room ID")
    reader.end("room ID")
    return room_id


def decode_owner(payload: bytes) -> str:
    """The answer to ROOM_JOIN; its encoder is `encode_str8`."""
    reader = PayloadReader(payload)
    owner = reader.user_id("owner")
    reader.end("owner")
    return owner


def encode_room_list(owner: str, members: Iterable[str]) -> bytes:
    """The answer to ROOM_MEMBERS."""
    return b"".join([encode_str8(owner), *map(encode_str8, members)])


def decode_room_list(payload: bytes) -> RoomList:
    """The reverse of `encode_room_list`."""
    reader = PayloadReader(payload)
    owner = reader.user_id("owner")
    members = []
    while not reader.is_empty:
        members.append(reader.user_id("member"))
    return RoomList(owner, members)


def encode_pushed_owner(room_id: str, owner: str) -> bytes:
    """The push ROOM_OWNER."""
    return encode_gid(room_id) + encode_str8(owner)


def decode_pushed_owner(payload: bytes) -> PushedOwner:
    """The reverse of `encode_pushed_owner`."""
    reader = PayloadReader(payload)
    pushed = PushedOwner(reader.gid("room ID"), reader.user_id("owner"))
    reader.end("owner")
    return pushed
