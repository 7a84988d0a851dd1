"""The payloads of what clients ask and are told about history and presence of groups (client protocol, section 3).

=================  ===================================================  =============================================
command            request                                              OK response
=================  ===================================================  =============================================
GROUP_RECOVER      gid, u64 epoch, u64 offset, message                  u8 recovered, u64 epoch, u64 offset
GROUP_HISTORY      gid, u64 after, u16 limit                            u64 epoch, u64 head, u64 first, then each:
                                                                        u32 length, entry
GROUP_PRESENCE     gid, u8 flags, u16 limit, after (user ID or empty)   u32 members, then each: u8 state, str8 user
=================  ===================================================  =============================================

The push GROUP_RECOVER is gid, u64 epoch, u64 offset, entry; an entry is str8 sender (empty = none), u8 ver, u16 cmd,
message. The push GROUP_PRESENCE is gid, u32 members, then each: u8 change, str8 user. Readers raise MalformedPayload.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum, unique
from struct import Struct
from typing import NamedTuple

from meshrelay.errors import MalformedPayload
from meshrelay.model import HistoryMessage, HistoryPage, Presence
from meshrelay.wire.buffer import GROUP_ID_BYTES, PayloadReader, encode_gid, encode_str8

__all__ = [
    "LOGGED_EXTRA_BYTES",
    "PRESENCE_OFF",
    "PRESENCE_ON",
    "AskHistory",
    "AskPresence",
    "AskRecover",
    "LoggedPush",
    "PresenceChange",
    "PresencePush",
    "Recovered",
    "decode_ask_history",
    "decode_ask_presence",
    "decode_ask_recover",
    "decode_history_page",
    "decode_logged_push",
    "decode_presence",
    "decode_presence_push",
    "decode_recovered",
    "encode_ask_history",
    "encode_ask_presence",
    "encode_ask_recover",
    "encode_history_page",
    "encode_logged_push",
    "encode_presence",
    "encode_presence_push",
    "encode_recovered",
]

_RECOVERED = Struct("!BQQ")
_POSITION = Struct("!QQ")
_PAGE = Struct("!QQQ")
_ASK_HISTORY = Struct("!QH")
_ASK_PRESENCE = Struct("!BH")
_COMMAND = Struct("!BH")
_U32 = Struct("!I")
_U64 = Struct("!Q")

#: A push with its offset is so much longer than the GROUP_BROADCAST without.
LOGGED_EXTRA_BYTES = _POSITION.size + _COMMAND.size

#: Flags of GROUP_PRESENCE.
PRESENCE_ON = 1
PRESENCE_OFF = 2


@unique
class PresenceChange(IntEnum):
    """What became of a member, and in a list what it is."""

    #: In a push: it came, or is back. In a list: it is there.
    THERE = 1
    #: Its connection is lost; it is a member as long as it may resume.
    AWAY = 2
    #: It is no member any more. Only in a push.
    GONE = 3


class AskRecover(NamedTuple):
    """Join, and be pushed what came after `offset` of `epoch`. 0 and 0: only from now on."""

    group_id: str
    epoch: int
    offset: int
    message: bytes


class Recovered(NamedTuple):
    """Whether nothing is missing, and where the group is."""

    recovered: bool
    epoch: int
    offset: int


class AskHistory(NamedTuple):
    """A page of at most `limit` messages after an offset."""

    group_id: str
    after: int
    limit: int


class LoggedPush(NamedTuple):
    """A message with its place in the history. Epoch and offset 0: it is not in the history."""

    group_id: str
    epoch: int
    offset: int
    sender: str
    ver: int
    cmd: int
    message: bytes


class AskPresence(NamedTuple):
    """At most `limit` members after a user ID, which may be empty; and notices from now on, or none any more."""

    group_id: str
    flags: int
    limit: int
    after: str


class PresencePush(NamedTuple):
    """What changed."""

    group_id: str
    members: int
    #: (`PresenceChange`, user ID); empty: too many to be named.
    changes: tuple[tuple[int, str], ...]


class _Reader(PayloadReader):
    def u64(self, field: str) -> int:
        value: int = _U64.unpack_from(self._payload, self._take(8, field))[0]
        return value

    def sender(self, field: str) -> str:
        """A user ID, or nothing."""
        if self._payload[self._offset : self._offset + 1] == b"\0":
            self._offset += 1
            return ""
        return self.user_id(field)

    def take(self, size: int, field: str) -> bytes:
        start = self._take(size, field)
        return self._payload[start : self._offset]


def encode_ask_recover(ask: AskRecover) -> bytes:
    """GROUP_RECOVER.

    :raises ValueError: the group ID is not 52 ASCII characters.
    """
    return encode_gid(ask.group_id) + _POSITION.pack(ask.epoch, ask.offset) + ask.message


def decode_ask_recover(payload: bytes) -> AskRecover:
    """The reverse of `encode_ask_recover`."""
    reader = _Reader(payload)
    return AskRecover(reader.gid("group ID"), reader.u64("epoch"), reader.u64("offset"), reader.rest())


def encode_recovered(answer: Recovered) -> bytes:
    """The answer to GROUP_RECOVER."""
    return _RECOVERED.pack(*answer)


def decode_recovered(payload: bytes) -> Recovered:
    """The reverse of `encode_recovered`; what a later version puts behind it is passed over."""
    reader = _Reader(payload)
    return Recovered(bool(reader.u8("recovered")), reader.u64("epoch"), reader.u64("offset"))


def encode_ask_history(ask: AskHistory) -> bytes:
    """GROUP_HISTORY.

    :raises ValueError: the group ID is not 52 ASCII characters.
    """
    return encode_gid(ask.group_id) + _ASK_HISTORY.pack(ask.after, ask.limit)


def decode_ask_history(payload: bytes) -> AskHistory:
    """The reverse of `encode_ask_history`."""
    reader = _Reader(payload)
    ask = AskHistory(reader.gid("group ID"), reader.u64("after"), reader.u16("limit"))
    reader.end("limit")
    return ask


def _encode_message(sender: str, ver: int, cmd: int, message: bytes) -> bytes:
    return encode_str8(sender) + _COMMAND.pack(ver, cmd) + message


def encode_history_page(page: HistoryPage) -> bytes:
    """The answer to GROUP_HISTORY."""
    first = page.messages[0].offset if page.messages else page.head + 1
    parts = [_PAGE.pack(page.epoch, page.head, first)]
    for each in page.messages:
        entry = _encode_message(each.sender, each.ver, each.cmd, each.message)
        parts += [_U32.pack(len(entry)), entry]
    return b"".join(parts)


def decode_history_page(payload: bytes) -> HistoryPage:
    """The reverse of `encode_history_page`."""
    reader = _Reader(payload)
    epoch, head, offset = reader.u64("epoch"), reader.u64("head"), reader.u64("first")
    messages = []
    while not reader.is_empty:
        entry = _Reader(reader.take(reader.u32("length"), "entry"))
        sender, ver, cmd = entry.sender("sender"), entry.u8("ver"), entry.u16("cmd")
        messages.append(HistoryMessage(offset, sender, ver, cmd, entry.rest()))
        offset += 1
    return HistoryPage(epoch, head, tuple(messages))


def encode_logged_push(wire_id: bytes, epoch: int, offset: int, message: tuple[str, int, int, bytes]) -> bytes:
    """The push GROUP_RECOVER.

    :param message: sender, ver, cmd, message.
    """
    return wire_id + _POSITION.pack(epoch, offset) + _encode_message(*message)


def decode_logged_push(payload: bytes) -> LoggedPush:
    """The reverse of `encode_logged_push`."""
    reader = _Reader(payload)
    group_id, epoch, offset = reader.gid("group ID"), reader.u64("epoch"), reader.u64("offset")
    sender, ver, cmd = reader.sender("sender"), reader.u8("ver"), reader.u16("cmd")
    return LoggedPush(group_id, epoch, offset, sender, ver, cmd, reader.rest())


def encode_ask_presence(ask: AskPresence) -> bytes:
    """GROUP_PRESENCE.

    :raises ValueError: the group ID is not 52 ASCII characters.
    """
    return encode_gid(ask.group_id) + _ASK_PRESENCE.pack(ask.flags, ask.limit) + ask.after.encode("utf-8")


def decode_ask_presence(payload: bytes) -> AskPresence:
    """The reverse of `encode_ask_presence`."""
    reader = _Reader(payload)
    group_id, flags, limit = reader.gid("group ID"), reader.u8("flags"), reader.u16("limit")
    if flags & ~(PRESENCE_ON | PRESENCE_OFF) or flags == PRESENCE_ON | PRESENCE_OFF:
        raise MalformedPayload(f"flags: {flags:#04x} is not 0, 1 or 2")
    try:
        return AskPresence(group_id, flags, limit, reader.rest().decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedPayload("after: not UTF-8") from None


def encode_presence(count: int, members: Iterable[tuple[str, bool]]) -> bytes:
    """The answer to GROUP_PRESENCE."""
    parts = [_U32.pack(count)]
    for user_id, is_away in members:
        parts += [bytes((PresenceChange.AWAY if is_away else PresenceChange.THERE,)), encode_str8(user_id)]
    return b"".join(parts)


def decode_presence(payload: bytes) -> Presence:
    """The reverse of `encode_presence`."""
    reader = _Reader(payload)
    count = reader.u32("members")
    members = []
    while not reader.is_empty:
        state = reader.u8("state")
        members.append((reader.user_id("user"), state == PresenceChange.AWAY))
    return Presence(count, tuple(members))


def encode_presence_push(wire_id: bytes, count: int, changes: Sequence[tuple[int, str]]) -> bytes:
    """The push GROUP_PRESENCE."""
    if len(wire_id) != GROUP_ID_BYTES:
        raise ValueError(f"group ID of {len(wire_id)} bytes")
    parts = [wire_id, _U32.pack(count)]
    for change, user_id in changes:
        parts += [bytes((change,)), encode_str8(user_id)]
    return b"".join(parts)


def decode_presence_push(payload: bytes) -> PresencePush:
    """The reverse of `encode_presence_push`."""
    reader = _Reader(payload)
    group_id, count = reader.gid("group ID"), reader.u32("members")
    changes = []
    while not reader.is_empty:
        change = reader.u8("change")
        changes.append((change, reader.user_id("user")))
    return PresencePush(group_id, count, tuple(changes))
