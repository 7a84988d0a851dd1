"""What nodes tell each other about groups: payloads of the messages of `meshrelay.wire.node_kinds`, and back.

=========  =============================================================================================================
Cast       gid, u64 hold, u64 number, str8 origin, names of the rest, content to the end
Hold       gid, u64 hold, u64 next_number, u8 1 = asks, u64 of_hold, Settings, names of the holders
Settings   u8 1 = allow_empty 2 = is_static, u32 ttl_seconds, u32 interval_ms, u32 age_seconds
Members    gid, u64 hold, then to the end: str8 user, str8 sid, u8 is_away
NotHeld    gid, u64 of_hold
Exit       gid
Head       gid, u64 hold, u64 next_number
Repair     gid, u64 hold, u64 first, u64 end
Skip       gid, u64 hold, u64 next_number
Forward    gid, content to the end
content    entries: u8 type, u32 length, data
names      u16 count, at most MAX_NODE_NAMES, then that many str8
=========  =============================================================================================================

A gid is 52 bytes of ASCII, a str8 a u8 length and that many bytes of UTF-8, integers are big-endian. A *hold* is the
number that a node gives to one stay in a group, from 1; 0 means none. *Numbers* count what one origin casts during one
hold, from 1. What a later version puts behind the last field is passed over, and so are unknown bits and, by
whoever reads contents, unknown types of entries.

The way: components.groups makes and reads these, `mesh` carries them inside batches. Encoders take the gid as it
goes over the wire and then the fields in their order; decoders give the same fields as a tuple with names. Encoders
raise LocalProtocolError when a field is out of its range, decoders MalformedFrame, which is the other node's fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum, unique
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from meshrelay.errors import LocalProtocolError, MalformedFrame
from meshrelay.model import check_user_id
from meshrelay.wire.buffer import GROUP_ID_BYTES, encode_str8

__all__ = [
    "MAX_MEMBERS_BYTES",
    "MAX_NODE_NAMES",
    "Cast",
    "EntryType",
    "Exit",
    "Forward",
    "Head",
    "Hold",
    "HoldSettings",
    "MemberEntry",
    "Members",
    "NotHeld",
    "Repair",
    "Skip",
    "decode_cast",
    "decode_content",
    "decode_exit",
    "decode_forward",
    "decode_head",
    "decode_hold",
    "decode_member",
    "decode_members",
    "decode_not_held",
    "decode_repair",
    "decode_skip",
    "encode_cast",
    "encode_entry",
    "encode_exit",
    "encode_forward",
    "encode_head",
    "encode_hold",
    "encode_member",
    "encode_members",
    "encode_not_held",
    "encode_repair",
    "encode_skip",
]

#: Names of nodes in one Cast or Hold. With IDs of 64 bytes that is 65 KB, an eighth of what one message may have.
MAX_NODE_NAMES = 1000

#: Largest payload of one Members, in bytes: small enough that it shares a batch with others.
MAX_MEMBERS_BYTES = 64 * 1024

_CAST = Struct(f"!{GROUP_ID_BYTES}sQQB")
_HOLD = Struct(f"!{GROUP_ID_BYTES}sQQBQBIII")
_NUMBERS = tuple(Struct(f"!{GROUP_ID_BYTES}s{count}Q") for count in range(4))
_COUNT = Struct("!H")
_ENTRY = Struct("!BI")

_ASKS = 1
_ALLOW_EMPTY = 1
_IS_STATIC = 2


@unique
class EntryType(IntEnum):
    """What one entry of a content is. Numbers are only ever added; an unknown one is skipped."""

    #: Frames for the members, back to back as `meshrelay.wire.frame.encode_push` makes them; reliable.
    FRAMES = 1
    #: The same, and each may be lost.
    UNRELIABLE = 2
    #: A member joined; the data of this and the next three is made by `encode_member`.
    JOINED = 3
    #: A member left.
    LEFT = 4
    #: The connection of a member is gone, its session may be taken up again.
    AWAY = 5
    #: A member that was away is back.
    BACK = 6
    #: The last of its series: the node does not hold the group any more. No data.
    EXIT = 7
    LOGGED = 8  # Messages of a group with history, see `meshrelay.wire.group_log`.


class Cast(NamedTuple):
    """Something that `origin` published, on its way along a tree."""

    group_id: str
    #: Hold of the origin.
    hold: int
    #: From 1.
    number: int
    #: ID of the node that published it; not always the one that it comes from.
    origin: str
    #: IDs of the nodes that the receiver passes it on to.
    rest: tuple[str, ...]
    #: Entries, see `decode_content`.
    content: bytes


class HoldSettings(NamedTuple):
    """What a node must know of a group to hold it, too."""

    allow_empty: bool
    is_static: bool
    ttl_seconds: int
    interval_ms: int
    #: How long ago the group was made; clocks of two nodes may differ, ages hardly do.
    age_seconds: int


class Hold(NamedTuple):
    """The sender holds the group."""

    group_id: str
    hold: int
    #: Number of the first cast of this hold that is still to come.
    next_number: int
    #: True: answer with a Hold of your own, or a NotHeld.
    asks: bool
    #: Hold of the receiver that this answers; 0 = it answers nothing.
    of_hold: int
    settings: HoldSettings
    #: IDs of all nodes that are known to the sender to hold it, itself included.
    holders: tuple[str, ...]


class MemberEntry(NamedTuple):
    """One member on the sending node."""

    user_id: str
    sid: str
    is_away: bool


class Members(NamedTuple):
    """Members on the sending node: all of them, or a part."""

    group_id: str
    hold: int
    members: tuple[MemberEntry, ...]


class NotHeld(NamedTuple):
    """The sender holds no such group: the answer to a Hold that asked."""

    group_id: str
    #: Hold of the one who asked.
    of_hold: int


class Exit(NamedTuple):
    """The sender does not hold the group any more."""

    group_id: str


class Head(NamedTuple):
    """The number that the sender will use next: all before it are on their way or lost."""

    group_id: str
    hold: int
    next_number: int


class Repair(NamedTuple):
    """The sender misses these numbers of the receiver."""

    group_id: str
    #: Hold of the receiver, who is the origin.
    hold: int
    first: int
    #: Exclusive, > first.
    end: int


class Skip(NamedTuple):
    """What is missing before this number is no longer there: the answer to a Repair."""

    group_id: str
    #: Hold of the sender, who is the origin.
    hold: int
    next_number: int


class Forward(NamedTuple):
    """Publish this for me, who does not hold the group."""

    group_id: str
    #: Entries, see `decode_content`.
    content: bytes


def _check_gid(group_id: bytes) -> bytes:
    # struct would fill up or cut without a word.
    if len(group_id) != GROUP_ID_BYTES:
        raise LocalProtocolError(f"group ID of {len(group_id)} bytes")
    return group_id


def _encode_names(names: Sequence[str]) -> bytes:
    if len(names) > MAX_NODE_NAMES:
        raise LocalProtocolError(f"{len(names)} names of nodes, {MAX_NODE_NAMES} are allowed")
    if "" in names:
        raise LocalProtocolError("empty node ID")
    return _COUNT.pack(len(names)) + b"".join(map(encode_str8, names))


def _decode_names(data: bytes, offset: int) -> tuple[tuple[str, ...], int]:
    """Return the names that begin at `offset`, and where they end. Also raises what struct and indexing raise."""
    count = _COUNT.unpack_from(data, offset)[0]
    offset += _COUNT.size
    if count > MAX_NODE_NAMES:
        raise MalformedFrame(f"{count} names of nodes, {MAX_NODE_NAMES} are allowed")
    names = []
    for _ in range(count):
        name, offset = _decode_str8(data, offset)
        names.append(name)
    return tuple(names), offset


def _decode_str8(data: bytes, offset: int) -> tuple[str, int]:
    """Return a text of at least one byte, and where it ends."""
    start = offset + 1
    end = start + data[offset]
    if not start < end <= len(data):
        raise MalformedFrame(f"a text of {end - start} bytes is empty or cut off")
    return data[start:end].decode("utf-8"), end


def encode_cast(group_id: bytes, hold: int, number: int, origin: str, rest: Sequence[str], content: bytes) -> bytes:
    """Return the payload of a GROUP_CAST."""
    try:
        name = origin.encode("utf-8")
        if not name or not hold or not number:
            raise LocalProtocolError(f"cast {number} of {origin!r}, hold {hold}")
        head = _CAST.pack(_check_gid(group_id), hold, number, len(name))
        return b"".join((head, name, _encode_names(rest), content))
    except (struct_error, ValueError) as error:
        raise LocalProtocolError(f"cast: {error}") from None


def decode_cast(data: bytes) -> Cast:
    """The reverse of `encode_cast`."""
    try:
        group_id, hold, number, size = _CAST.unpack_from(data)
        end = _CAST.size + size
        origin = data[_CAST.size : end].decode("utf-8")
        # Fails when the origin was cut off, too.
        rest, offset = _decode_names(data, end)
        if not hold or not number or not size:
            raise MalformedFrame(f"cast {number} of {origin!r}, hold {hold}")
        return Cast(group_id.decode("ascii"), hold, number, origin, rest, data[offset:])
    except (struct_error, IndexError, UnicodeDecodeError) as error:
        raise MalformedFrame(f"cast: {error}") from None


def encode_entry(type: int, data: bytes) -> bytes:
    """Return one entry of a content; a content is any number of them, joined. `type` is 0 to 255."""
    try:
        return _ENTRY.pack(type, len(data)) + data
    except struct_error as error:
        raise LocalProtocolError(f"entry: {error}") from None


def decode_content(content: bytes) -> list[tuple[int, bytes]]:
    """Return (type, data) of each entry, in order, those of unknown types as they are."""
    entries, offset, size = [], 0, len(content)
    while offset < size:
        start = offset + _ENTRY.size
        if start > size:
            raise MalformedFrame("content: the head of an entry is cut off")
        kind, length = _ENTRY.unpack_from(content, offset)
        offset = start + length
        if offset > size:
            raise MalformedFrame(f"content: an entry of {length} bytes is cut off")
        entries.append((kind, content[start:offset]))
    return entries


def encode_member(user_id: str, sid: str) -> bytes:
    """Return the data of a JOINED, LEFT, AWAY or BACK.

    :param sid: 1 to 255 bytes of UTF-8.
    """
    try:
        if not sid:
            raise LocalProtocolError(f"member {user_id!r} without a session")
        return encode_str8(check_user_id(user_id)) + encode_str8(sid)
    except ValueError as error:
        raise LocalProtocolError(f"member: {error}") from None


def decode_member(data: bytes) -> tuple[str, str]:
    """Return user ID and session ID."""
    user_id, sid, _ = _decode_member(data, 0)
    return user_id, sid


def _decode_member(data: bytes, offset: int) -> tuple[str, str, int]:
    try:
        user_id, offset = _decode_str8(data, offset)
        sid, offset = _decode_str8(data, offset)
        return check_user_id(user_id), sid, offset
    except (IndexError, ValueError) as error:
        raise MalformedFrame(f"member: {error}") from None


def encode_hold(
    group_id: bytes,
    hold: int,
    next_number: int,
    asks: bool,
    of_hold: int,
    settings: HoldSettings,
    holders: Sequence[str],
) -> bytes:
    """Return the payload of a GROUP_HOLD."""
    if not hold or not next_number:
        raise LocalProtocolError(f"hold {hold}, next number {next_number}")
    bits = (_ALLOW_EMPTY if settings.allow_empty else 0) | (_IS_STATIC if settings.is_static else 0)
    try:
        numbers = (hold, next_number, _ASKS if asks else 0, of_hold, bits, *settings[2:])
        head = _HOLD.pack(_check_gid(group_id), *numbers)
        return head + _encode_names(holders)
    except (struct_error, ValueError) as error:
        raise LocalProtocolError(f"hold: {error}") from None


def decode_hold(data: bytes) -> Hold:
    """The reverse of `encode_hold`."""
    try:
        group_id, hold, next_number, asks, of_hold, bits, *numbers = _HOLD.unpack_from(data)
        if not hold or not next_number:
            raise MalformedFrame(f"hold {hold}, next number {next_number}")
        settings = HoldSettings(bool(bits & _ALLOW_EMPTY), bool(bits & _IS_STATIC), *numbers)
        holders, _ = _decode_names(data, _HOLD.size)
        return Hold(group_id.decode("ascii"), hold, next_number, bool(asks & _ASKS), of_hold, settings, holders)
    except (struct_error, IndexError, UnicodeDecodeError) as error:
        raise MalformedFrame(f"hold: {error}") from None


def encode_members(group_id: bytes, hold: int, members: Iterable[tuple[str, str, bool]]) -> list[bytes]:
    """Return the payloads of as many GROUP_MEMBERS as it takes, each of at most MAX_MEMBERS_BYTES.

    :param members: user ID, session ID, is_away.
    :returns: none when there are no members.
    """
    head = _encode_numbers(group_id, hold)
    payloads, parts, size = [], [head], len(head)
    for user_id, sid, is_away in members:
        entry = encode_member(user_id, sid) + (b"\1" if is_away else b"\0")
        if size + len(entry) > MAX_MEMBERS_BYTES:
            payloads.append(b"".join(parts))
            parts, size = [head], len(head)
        parts.append(entry)
        size += len(entry)
    if len(parts) > 1:
        payloads.append(b"".join(parts))
    return payloads


def decode_members(data: bytes) -> Members:
    """The reverse of `encode_members`, of one payload."""
    group_id, (hold,) = _decode_numbers("members", data, 1)
    members, offset = [], _NUMBERS[1].size
    while offset < len(data):
        user_id, sid, offset = _decode_member(data, offset)
        if offset == len(data):
            raise MalformedFrame("members: the last one is cut off")
        members.append(MemberEntry(user_id, sid, data[offset] != 0))
        offset += 1
    return Members(group_id, hold, tuple(members))


def _encode_numbers(group_id: bytes, *numbers: int) -> bytes:
    if not all(numbers):
        raise LocalProtocolError(f"a number of {numbers} is 0")
    try:
        return _NUMBERS[len(numbers)].pack(_check_gid(group_id), *numbers)
    except struct_error as error:
        raise LocalProtocolError(f"{numbers}: {error}") from None


def _decode_numbers(what: str, data: bytes, count: int) -> tuple[str, list[int]]:
    try:
        group_id, *numbers = _NUMBERS[count].unpack_from(data)
        if not all(numbers):
            raise MalformedFrame(f"{what}: a number of {numbers} is 0")
        return group_id.decode("ascii"), numbers
    except (struct_error, UnicodeDecodeError) as error:
        raise MalformedFrame(f"{what}: {error}") from None


def encode_not_held(group_id: bytes, of_hold: int) -> bytes:
    """Return the payload of a GROUP_NOT_HELD."""
    return _encode_numbers(group_id, of_hold)


def decode_not_held(data: bytes) -> NotHeld:
    """The reverse of `encode_not_held`."""
    group_id, (of_hold,) = _decode_numbers("not held", data, 1)
    return NotHeld(group_id, of_hold)


def encode_exit(group_id: bytes) -> bytes:
    """Return the payload of a GROUP_EXIT."""
    return _encode_numbers(group_id)


def decode_exit(data: bytes) -> Exit:
    """The reverse of `encode_exit`."""
    group_id, _ = _decode_numbers("exit", data, 0)
    return Exit(group_id)


def encode_head(group_id: bytes, hold: int, next_number: int) -> bytes:
    """Return the payload of a GROUP_HEAD."""
    return _encode_numbers(group_id, hold, next_number)


def decode_head(data: bytes) -> Head:
    """The reverse of `encode_head`."""
    group_id, (hold, next_number) = _decode_numbers("head", data, 2)
    return Head(group_id, hold, next_number)


def encode_repair(group_id: bytes, hold: int, first: int, end: int) -> bytes:
    """Return the payload of a GROUP_REPAIR; `end` is exclusive."""
    if end <= first:
        raise LocalProtocolError(f"repair from {first} to {end}")
    return _encode_numbers(group_id, hold, first, end)


def decode_repair(data: bytes) -> Repair:
    """The reverse of `encode_repair`."""
    group_id, (hold, first, end) = _decode_numbers("repair", data, 3)
    if end <= first:
        raise MalformedFrame(f"repair from {first} to {end}")
    return Repair(group_id, hold, first, end)


def encode_skip(group_id: bytes, hold: int, next_number: int) -> bytes:
    """Return the payload of a GROUP_SKIP."""
    return _encode_numbers(group_id, hold, next_number)


def decode_skip(data: bytes) -> Skip:
    """The reverse of `encode_skip`."""
    group_id, (hold, next_number) = _decode_numbers("skip", data, 2)
    return Skip(group_id, hold, next_number)


def encode_forward(group_id: bytes, content: bytes) -> bytes:
    """Return the payload of a GROUP_FORWARD."""
    return _check_gid(group_id) + content


def decode_forward(data: bytes) -> Forward:
    """The reverse of `encode_forward`."""
    if len(data) < GROUP_ID_BYTES:
        raise MalformedFrame(f"forward of {len(data)} bytes")
    try:
        return Forward(data[:GROUP_ID_BYTES].decode("ascii"), data[GROUP_ID_BYTES:])
    except UnicodeDecodeError as error:
        raise MalformedFrame(f"forward: {error}") from None
