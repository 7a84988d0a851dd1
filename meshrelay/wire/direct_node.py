"""Direct messages between nodes: bytes to values and back.

==============  ====================================================================================================
DIRECT_SEND     u64 number, u32 generation, u8 flags, u8 ver, u16 cmd, str8 sender, str8 sender's sid, str8 peer,
                message to the end. flags: 1 = the message gets the envelope of the built-in command
DIRECT_RESULTS  entries: u64 number, u8 outcome
DIRECT_CLEAR    u8 flags, u8 ver, u16 cmd, str8 user, str8 peer, message to the end
DIRECT_GONE     str8 user, str8 sid, str8 peer, message to the end
==============  ====================================================================================================

Integers are big-endian; a str8 is a u8 length and that many bytes of UTF-8, and may be empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, unique
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from meshrelay.errors import MalformedFrame

__all__ = [
    "Clear",
    "Direct",
    "Gone",
    "Outcome",
    "Parcel",
    "decode_clear",
    "decode_gone",
    "decode_results",
    "decode_send",
    "encode_clear",
    "encode_gone",
    "encode_results",
    "encode_send",
]

_SEND = Struct("!QIBBH")
_CLEAR = Struct("!BBH")
_RESULT = Struct("!QB")
_ENVELOPE = 1


@unique
class Outcome(IntEnum):
    """What became of a direct message. Numbers are only ever added; an unknown one reads as FAILED."""

    #: The node has taken it for the peer's session.
    TAKEN = 0
    #: The peer is not here.
    NOT_HERE = 1
    #: The application declined it.
    DECLINED = 2
    #: A callback of the application raised.
    FAILED = 3
    #: A callback of the application took too long, or too much waits for it.
    TIMED_OUT = 4


class Direct(NamedTuple):
    """One message from one user to another."""

    #: "" = the server.
    sender_id: str
    sender_sid: str
    peer_id: str
    ver: int
    cmd: int
    #: The built-in command puts the sender in front of the message.
    has_envelope: bool
    message: bytes


class Parcel(NamedTuple):
    """A message on its way to the node of the peer."""

    #: Given back with the outcome.
    number: int
    #: Grows each time the sender's node looks the peer up: what was refused must not be overtaken.
    generation: int
    direct: Direct


class Clear(NamedTuple):
    """A user ends the channel to a peer."""

    user_id: str
    peer_id: str
    ver: int
    cmd: int
    has_envelope: bool
    message: bytes


class Gone(NamedTuple):
    """The session of a user is over."""

    user_id: str
    sid: str
    peer_id: str
    #: What the peer is told; empty = nothing.
    message: bytes


def _str8(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return b"%c%b" % (len(encoded), encoded)


def _texts(what: str, data: bytes, offset: int, count: int) -> tuple[list[str], bytes]:
    """Read `count` texts; what is behind them is the message."""
    texts = []
    try:
        for _ in range(count):
            end = offset + 1 + data[offset]
            if end > len(data):
                raise MalformedFrame(f"{what}: a text is cut off")
            texts.append(data[offset + 1 : end].decode("utf-8"))
            offset = end
    except (IndexError, UnicodeDecodeError) as error:
        raise MalformedFrame(f"{what}: {error}") from None
    return texts, data[offset:]


def encode_send(parcel: Parcel) -> bytes:
    """Return the payload of a DIRECT_SEND."""
    direct = parcel.direct
    head = _SEND.pack(parcel.number, parcel.generation, int(direct.has_envelope), direct.ver, direct.cmd)
    return b"".join((head, _str8(direct.sender_id), _str8(direct.sender_sid), _str8(direct.peer_id), direct.message))


def decode_send(data: bytes) -> Parcel:
    """The reverse of `encode_send`.

    :raises MalformedFrame: the peer's fault.
    """
    try:
        number, generation, flags, ver, cmd = _SEND.unpack_from(data)
    except struct_error as error:
        raise MalformedFrame(f"direct message: {error}") from None
    (sender_id, sender_sid, peer_id), message = _texts("direct message", data, _SEND.size, 3)
    direct = Direct(sender_id, sender_sid, peer_id, ver, cmd, bool(flags & _ENVELOPE), message)
    return Parcel(number, generation, direct)


def encode_results(results: Iterable[tuple[int, int]]) -> bytes:
    """Return the payload of a DIRECT_RESULTS: (number, outcome) each."""
    pack = _RESULT.pack
    return b"".join([pack(number, outcome) for number, outcome in results])


def decode_results(data: bytes) -> list[tuple[int, Outcome]]:
    """The reverse of `encode_results`.

    :raises MalformedFrame: the peer's fault.
    """
    if len(data) % _RESULT.size:
        raise MalformedFrame(f"results of direct messages: {len(data)} bytes")
    known = Outcome._value2member_map_
    return [
        (number, Outcome(outcome) if outcome in known else Outcome.FAILED)
        for number, outcome in _RESULT.iter_unpack(data)
    ]


def encode_clear(clear: Clear) -> bytes:
    """Return the payload of a DIRECT_CLEAR."""
    head = _CLEAR.pack(int(clear.has_envelope), clear.ver, clear.cmd)
    return b"".join((head, _str8(clear.user_id), _str8(clear.peer_id), clear.message))


def decode_clear(data: bytes) -> Clear:
    """The reverse of `encode_clear`.

    :raises MalformedFrame: the peer's fault.
    """
    try:
        flags, ver, cmd = _CLEAR.unpack_from(data)
    except struct_error as error:
        raise MalformedFrame(f"clear: {error}") from None
    (user_id, peer_id), message = _texts("clear", data, _CLEAR.size, 2)
    return Clear(user_id, peer_id, ver, cmd, bool(flags & _ENVELOPE), message)


def encode_gone(gone: Gone) -> bytes:
    """Return the payload of a DIRECT_GONE."""
    return b"".join((_str8(gone.user_id), _str8(gone.sid), _str8(gone.peer_id), gone.message))


def decode_gone(data: bytes) -> Gone:
    """The reverse of `encode_gone`.

    :raises MalformedFrame: the peer's fault.
    """
    (user_id, sid, peer_id), message = _texts("gone", data, 0, 3)
    return Gone(user_id, sid, peer_id, message)
