"""The numbers of all commands, and the payloads of those for groups and direct messages (client protocol, 2 and 3).

Readers raise MalformedPayload, the sender's fault, with the name of the field. Both ends use this module: what the
daemon reads the client library writes, and the other way round.
"""

from __future__ import annotations

from enum import IntEnum, unique
from struct import Struct
from typing import NamedTuple

from meshrelay.errors import MalformedPayload
from meshrelay.wire.buffer import PayloadReader, encode_gid, encode_str8

__all__ = [
    "BUILT_IN_VER",
    "CORE_VER",
    "FIRST_APPLICATION_VER",
    "MAX_PING_BYTES",
    "MAX_TEXT_BYTES",
    "Command",
    "CoreCommand",
    "DirectMessage",
    "GroupMessage",
    "JoinRandom",
    "NewGroup",
    "PushedDirect",
    "PushedMessage",
    "decode_created",
    "decode_direct",
    "decode_error",
    "decode_gid_list",
    "decode_gid_message",
    "decode_goodbye",
    "decode_join_random",
    "decode_new_group",
    "decode_pushed_direct",
    "decode_pushed_message",
    "encode_created",
    "encode_direct",
    "encode_error",
    "encode_gid_message",
    "encode_goodbye",
    "encode_join_random",
    "encode_new_group",
    "encode_pushed_message",
    "pushed_message_overhead",
]

#: ver of the core commands.
CORE_VER = 0
#: ver of the built-in commands.
BUILT_IN_VER = 1
#: ver 2 to 255 belong to the application.
FIRST_APPLICATION_VER = 2

#: Longest text of an error or GOODBYE; an application may raise anything.
MAX_TEXT_BYTES = 1024

#: PING and PONG carry 0 to this many opaque bytes.
MAX_PING_BYTES = 64


@unique
class CoreCommand(IntEnum):
    """ver 0 (client protocol, section 2)."""

    HELLO = 1
    PING = 2
    PONG = 3
    GOODBYE = 4
    ACK = 5


@unique
class Command(IntEnum):
    """ver 1 (client protocol, section 3)."""

    ROOM_CREATE = 100
    ROOM_JOIN = 101
    ROOM_LEAVE = 102
    ROOM_BROADCAST = 103
    ROOM_MEMBERS = 104
    ROOM_OWNER = 105
    ROOM_LOST = 106
    GROUP_CREATE = 110
    GROUP_JOIN = 111
    GROUP_LEAVE = 112
    GROUP_BROADCAST = 113
    GROUP_JOIN_RANDOM = 114
    GROUP_LIST = 115
    GROUP_LOST = 116
    GROUP_BACK = 117
    GROUP_RECOVER = 118
    GROUP_HISTORY = 119
    DM_SEND = 120
    DM_CLEAR = 121
    DM_PEER_GONE = 122
    LINK_ADDRESSES = 130
    LINK_START = 131
    LINK_RELAY = 132
    LINK_STATE = 133
    LINK_FORWARD = 134
    #: 140 to 149 are for groups as well: those from 110 on are all in use.
    GROUP_PRESENCE = 140
    #: 150 to 159 are for the pages of the node itself.
    CONSOLE_WATCH = 150


_ALLOW_EMPTY = 1
_JOIN = 2

_NEW_GROUP = Struct("!BIH")
_JOIN_RANDOM = Struct("!IBH")
_U16 = Struct("!H")

#: A str8 without text.
_NO_USER = b"\0"


class NewGroup(NamedTuple):
    """What GROUP_CREATE asks for: lifetime in seconds, merging interval in milliseconds."""

    allow_empty: bool
    join: bool
    ttl_seconds: int
    interval_ms: int


class JoinRandom(NamedTuple):
    """What GROUP_JOIN_RANDOM asks for; all but `message` serve when a group has to be made."""

    ttl_seconds: int
    allow_empty: bool
    interval_ms: int
    message: bytes


class GroupMessage(NamedTuple):
    """A group ID and the bytes behind it."""

    group_id: str
    message: bytes


class PushedMessage(NamedTuple):
    """What the other members are pushed: the group, who sent it, and what."""

    group_id: str
    user_id: str
    message: bytes


class DirectMessage(NamedTuple):
    """What DM_SEND and DM_CLEAR ask for: the peer, 1 to 128 bytes, and the bytes for it."""

    user_id: str
    message: bytes


class PushedDirect(NamedTuple):
    """What the peer is pushed: who sent it ("" is the node's application), or in DM_PEER_GONE who is gone, and what."""

    user_id: str
    message: bytes


def _flags(value: int, known: int, field: str) -> int:
    if value & ~known:
        raise MalformedPayload(f"{field}: unknown bits in {value:#04x}")
    return value


def encode_new_group(request: NewGroup) -> bytes:
    """GROUP_CREATE: u8 flags, u32 ttl seconds, u16 interval ms."""
    flags = (_ALLOW_EMPTY if request.allow_empty else 0) | (_JOIN if request.join else 0)
    return _NEW_GROUP.pack(flags, request.ttl_seconds, request.interval_ms)


def decode_new_group(payload: bytes) -> NewGroup:
    """The reverse of `encode_new_group`."""
    reader = PayloadReader(payload)
    flags = _flags(reader.u8("flags"), _ALLOW_EMPTY | _JOIN, "flags")
    request = NewGroup(bool(flags & _ALLOW_EMPTY), bool(flags & _JOIN), reader.u32("ttl"), reader.u16("interval"))
    reader.end("interval")
    return request


def encode_join_random(request: JoinRandom) -> bytes:
    """GROUP_JOIN_RANDOM: u32 ttl, u8 allow_empty, u16 interval, message."""
    return _JOIN_RANDOM.pack(request.ttl_seconds, request.allow_empty, request.interval_ms) + request.message


def decode_join_random(payload: bytes) -> JoinRandom:
    """The reverse of `encode_join_random`."""
    reader = PayloadReader(payload)
    ttl_seconds = reader.u32("ttl")
    allow_empty = bool(_flags(reader.u8("allow_empty"), 1, "allow_empty"))
    return JoinRandom(ttl_seconds, allow_empty, reader.u16("interval"), reader.rest())


def encode_gid_message(group_id: str, message: bytes) -> bytes:
    """GROUP_JOIN, GROUP_LEAVE and GROUP_BROADCAST: gid, message.

    :raises ValueError: the group ID is not 52 ASCII characters.
    """
    return encode_gid(group_id) + message


def decode_gid_message(payload: bytes) -> GroupMessage:
    """The reverse of `encode_gid_message`."""
    reader = PayloadReader(payload)
    return GroupMessage(reader.gid("group ID"), reader.rest())


def encode_pushed_message(group_id: str, user_id: str, message: bytes) -> bytes:
    """The pushes 111, 112, 113, 116 and 117: gid, str8 user, message."""
    return group_id.encode("ascii") + encode_str8(user_id) + message


def pushed_message_overhead(user_id: str) -> int:
    """Bytes that `encode_pushed_message` puts in front of the message of `user_id`."""
    return 53 + len(user_id.encode("utf-8"))


def decode_pushed_message(payload: bytes) -> PushedMessage:
    """The reverse of `encode_pushed_message`."""
    reader = PayloadReader(payload)
    return PushedMessage(reader.gid("group ID"), reader.user_id("user"), reader.rest())


def encode_created(created: bool, group_id: str) -> bytes:
    """The answer to GROUP_JOIN_RANDOM: u8 created (0 joined, 1 created), gid."""
    return bytes((created,)) + encode_gid(group_id)


def decode_created(payload: bytes) -> tuple[bool, str]:
    """The reverse of `encode_created`."""
    reader = PayloadReader(payload)
    created = bool(_flags(reader.u8("created"), 1, "created"))
    group_id = reader.gid("group ID")
    reader.end("group ID")
    return created, group_id


def decode_gid_list(payload: bytes) -> list[str]:
    """The answer to GROUP_LIST: group IDs back to back, newest last."""
    reader = PayloadReader(payload)
    group_ids = []
    while not reader.is_empty:
        group_ids.append(reader.gid("group ID"))
    return group_ids


def encode_direct(user_id: str, message: bytes) -> bytes:
    """DM_SEND and DM_CLEAR, and the pushes 120, 121 and 122: str8 user, message.

    :param user_id: the peer in a request, 1 to 128 bytes; in a push the sender, "" for the node's application.
    :raises ValueError: it has more than 255 bytes or is not Unicode; the limit of user IDs is for the reader to keep.
    """
    return encode_str8(user_id) + message


def decode_direct(payload: bytes) -> DirectMessage:
    """Read a request; the message may be empty here, which of the commands allows it is not the codec's business."""
    reader = PayloadReader(payload)
    return DirectMessage(reader.user_id("peer"), reader.rest())


def decode_pushed_direct(payload: bytes) -> PushedDirect:
    """Read a push; unlike in a request, the user may be empty."""
    if payload[:1] == _NO_USER:
        return PushedDirect("", payload[1:])
    reader = PayloadReader(payload)
    return PushedDirect(reader.user_id("user"), reader.rest())


def encode_error(code: int, text: str) -> bytes:
    """The payload of a BAD or ERROR response: u16 code, text of at most `MAX_TEXT_BYTES`; the rest is cut off."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) > MAX_TEXT_BYTES:
        encoded = encoded[:MAX_TEXT_BYTES].decode("utf-8", "ignore").encode("utf-8")
    return _U16.pack(code) + encoded


def decode_error(payload: bytes) -> tuple[int, str]:
    """The reverse of `encode_error`."""
    reader = PayloadReader(payload)
    return reader.u16("code"), reader.rest().decode("utf-8", "replace")


def encode_goodbye(code: int, text: str) -> bytes:
    """The push GOODBYE: u16 close code, text."""
    return encode_error(code, text)


def decode_goodbye(payload: bytes) -> tuple[int, str]:
    """The reverse of `encode_goodbye`."""
    return decode_error(payload)
