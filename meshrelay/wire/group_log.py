"""Messages of groups with history: how one is kept, how it goes from node to node, and how nodes ask for what is kept.

=========  =============================================================================================================
entry      u8 1 = reliable, u64 id, str8 sender (empty = none), u8 ver, u16 cmd, message to the end
run        u64 epoch, u64 offset of the first entry, then to the end: u32 length, entry
append     gid, u64 known epoch, u32 size, u32 ttl in milliseconds, then to the end: u32 length, entry
placed     u64 epoch, u64 offset of the first entry
read       gid, u64 known epoch, u64 after, u32 entries, u32 bytes, u32 ttl in milliseconds
page       u64 epoch, u64 head, u64 offset of the first entry, then to the end: u32 length, entry
=========  =============================================================================================================

Runs are the data of an `meshrelay.wire.group_node.EntryType.LOGGED`; the rest are arguments and answers of calls. In
the entry of a GROUP_BROADCAST the message has no envelope: group and sender stand elsewhere. Encoders raise
LocalProtocolError when a field is out of its range, decoders MalformedFrame, which is the other node's fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from meshrelay.errors import LocalProtocolError, MalformedFrame
from meshrelay.wire.buffer import GROUP_ID_BYTES, encode_gid

__all__ = [
    "ENTRY_OVERHEAD_BYTES",
    "AppendCall",
    "LogEntry",
    "LogPage",
    "LogRun",
    "ReadCall",
    "decode_append",
    "decode_entry",
    "decode_page",
    "decode_placed",
    "decode_read",
    "decode_run",
    "encode_append",
    "encode_entry",
    "encode_page",
    "encode_placed",
    "encode_read",
    "encode_run",
    "entry_id",
]

_ENTRY = Struct("!BQB")
_COMMAND = Struct("!BH")
_LENGTH = Struct("!I")
_RUN = Struct("!QQ")
_APPEND = Struct(f"!{GROUP_ID_BYTES}sQII")
_READ = Struct(f"!{GROUP_ID_BYTES}sQQIII")
_PAGE = Struct("!QQQ")

_RELIABLE = 1

#: Of an entry beside sender and message.
ENTRY_OVERHEAD_BYTES = _ENTRY.size + _COMMAND.size


class LogEntry(NamedTuple):
    """One message."""

    is_reliable: bool
    #: Random enough to tell two messages apart, wherever they were made.
    id: int
    #: User ID; empty: the application.
    sender: str
    ver: int
    cmd: int
    message: bytes


class LogRun(NamedTuple):
    """Neighbours in the history of one group."""

    #: Names one life of the history; a later one is greater. 0 with offset 0: these messages were not kept.
    epoch: int
    #: Of the first one, from 1.
    offset: int
    #: Encoded.
    entries: tuple[bytes, ...]


class LogPage(NamedTuple):
    """What is kept of a group, or a part of it."""

    epoch: int
    #: Offset of the last message ever; 0: there was none in this epoch.
    head: int
    #: Offset of the first of these entries.
    first: int
    #: Encoded; they follow each other without a gap.
    entries: tuple[bytes, ...]


class AppendCall(NamedTuple):
    """Give these entries their offsets and keep them."""

    group_id: str
    #: The caller has seen this epoch; it must not be an older one that goes on.
    known_epoch: int
    size: int
    ttl_ms: int
    entries: tuple[bytes, ...]


class ReadCall(NamedTuple):
    """Give what follows an offset."""

    group_id: str
    known_epoch: int
    after: int
    max_entries: int
    max_bytes: int
    ttl_ms: int


def encode_entry(entry: LogEntry) -> bytes:
    """Return an entry as it is kept."""
    sender = entry.sender.encode("utf-8")
    try:
        head = _ENTRY.pack(_RELIABLE if entry.is_reliable else 0, entry.id, len(sender))
        return b"".join((head, sender, _COMMAND.pack(entry.ver, entry.cmd), entry.message))
    except struct_error as error:
        raise LocalProtocolError(f"log entry: {error}") from None


def decode_entry(data: bytes) -> LogEntry:
    """The reverse of `encode_entry`."""
    try:
        bits, number, size = _ENTRY.unpack_from(data)
        end = _ENTRY.size + size
        ver, cmd = _COMMAND.unpack_from(data, end)
        sender = data[_ENTRY.size : end].decode("utf-8")
        return LogEntry(bool(bits & _RELIABLE), number, sender, ver, cmd, data[end + _COMMAND.size :])
    except (struct_error, UnicodeDecodeError) as error:
        raise MalformedFrame(f"log entry: {error}") from None


def entry_id(data: bytes) -> int:
    """The ID of an encoded entry."""
    return decode_entry(data).id


def _encode_items(head: bytes, items: Sequence[bytes]) -> bytes:
    parts = [head]
    for item in items:
        parts.append(_LENGTH.pack(len(item)))
        parts.append(item)
    return b"".join(parts)


def _decode_items(data: bytes, offset: int) -> tuple[bytes, ...]:
    items, size = [], len(data)
    while offset < size:
        start = offset + _LENGTH.size
        if start > size:
            raise MalformedFrame("log: the length of an entry is cut off")
        offset = start + _LENGTH.unpack_from(data, offset)[0]
        if offset > size:
            raise MalformedFrame("log: an entry is cut off")
        items.append(data[start:offset])
    return tuple(items)


def _unpack(shape: Struct, data: bytes) -> list[int]:
    try:
        return list(shape.unpack_from(data))
    except struct_error as error:
        raise MalformedFrame(f"log: {error}") from None


def _unpack_of_group(shape: Struct, data: bytes) -> tuple[str, list[int]]:
    try:
        group_id, *numbers = shape.unpack_from(data)
        return group_id.decode("ascii"), numbers
    except (struct_error, UnicodeDecodeError) as error:
        raise MalformedFrame(f"log: {error}") from None


def _pack(shape: Struct, *fields: bytes | int) -> bytes:
    try:
        return shape.pack(*fields)
    except struct_error as error:
        raise LocalProtocolError(f"log: {error}") from None


def encode_run(run: LogRun) -> bytes:
    """Return the data of a LOGGED."""
    return _encode_items(_pack(_RUN, run.epoch, run.offset), run.entries)


def decode_run(data: bytes) -> LogRun:
    """The reverse of `encode_run`."""
    epoch, offset = _unpack(_RUN, data)
    return LogRun(epoch, offset, _decode_items(data, _RUN.size))


def encode_append(call: AppendCall) -> bytes:
    """Return the argument of a call that appends."""
    head = _pack(_APPEND, encode_gid(call.group_id), call.known_epoch, call.size, call.ttl_ms)
    return _encode_items(head, call.entries)


def decode_append(data: bytes) -> AppendCall:
    """The reverse of `encode_append`."""
    group_id, (known_epoch, size, ttl_ms) = _unpack_of_group(_APPEND, data)
    return AppendCall(group_id, known_epoch, size, ttl_ms, _decode_items(data, _APPEND.size))


def encode_placed(epoch: int, offset: int) -> bytes:
    """Return the answer to a call that appends."""
    return _pack(_RUN, epoch, offset)


def decode_placed(data: bytes) -> tuple[int, int]:
    """The reverse of `encode_placed`."""
    epoch, offset = _unpack(_RUN, data)
    return epoch, offset


def encode_read(call: ReadCall) -> bytes:
    """Return the argument of a call that reads."""
    return _pack(_READ, encode_gid(call.group_id), *call[1:])


def decode_read(data: bytes) -> ReadCall:
    """The reverse of `encode_read`."""
    group_id, numbers = _unpack_of_group(_READ, data)
    return ReadCall(group_id, *numbers)


def encode_page(page: LogPage) -> bytes:
    """Return the answer to a call that reads."""
    return _encode_items(_pack(_PAGE, page.epoch, page.head, page.first), page.entries)


def decode_page(data: bytes) -> LogPage:
    """The reverse of `encode_page`."""
    epoch, head, first = _unpack(_PAGE, data)
    return LogPage(epoch, head, first, _decode_items(data, _PAGE.size))
