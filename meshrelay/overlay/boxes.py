"""What is inside a sealed box: messages and acknowledgements, as bytes.

A box is a row of parts, each ``u8 kind, u32 length, body``:

=======  ===================================================================================================
kind     body
=======  ===================================================================================================
1 DATA   u64 number, raw JSON
2 ACK    run (16 bytes) whose messages came, then ranges of numbers: u64 first, u16 how many more follow it
3 EMPTY  u64 number: a message without a value, as JavaScript sends for undefined
=======  ===================================================================================================

Numbers count from 1. Other kinds are for later versions and are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from meshrelay.overlay.signing import MAX_NUMBER, RUN_BYTES
from meshrelay.wire.overlay import BadFrame, decode_value
from meshrelay.wire.overlay_data import check_depth

__all__ = [
    "MAX_ACK_BYTES",
    "MAX_RANGES",
    "Acknowledged",
    "BadBox",
    "Numbered",
    "decode_box",
    "encode_ack",
    "encode_message",
]

#: Ranges in one acknowledgement.
MAX_RANGES = 256

_DATA = 1
_ACK = 2
_EMPTY = 3

_PART = Struct("!BI")
_NUMBER = Struct("!Q")
_RANGE = Struct("!QH")
_MAX_MORE = 0xFFFF

#: No acknowledgement that `encode_ack` makes is longer.
MAX_ACK_BYTES = _PART.size + RUN_BYTES + MAX_RANGES * _RANGE.size


class BadBox(ValueError):
    """What a peer sealed makes no sense."""


class Numbered(NamedTuple):
    """One message."""

    number: int
    #: Raw JSON; None: no value.
    raw: bytes | None


class Acknowledged(NamedTuple):
    """What came of the messages of one run."""

    run: bytes
    #: First and last of each range.
    ranges: tuple[tuple[int, int], ...]


def encode_message(message: Numbered) -> bytes:
    """Return the part that carries a message."""
    number = _NUMBER.pack(message.number)
    if message.raw is None:
        return _PART.pack(_EMPTY, len(number)) + number
    return b"%b%b%b" % (_PART.pack(_DATA, len(number) + len(message.raw)), number, message.raw)


def encode_ack(run: bytes, numbers: Iterable[int]) -> bytes:
    """Return the part that acknowledges messages; the newest, if there are more than fit.

    :param run: the one that numbered them, `RUN_BYTES`.
    """
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1 and number - ranges[-1][0] <= _MAX_MORE:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    body = run + b"".join([_RANGE.pack(first, last - first) for first, last in ranges[-MAX_RANGES:]])
    return _PART.pack(_ACK, len(body)) + body


def decode_box(content: bytes) -> list[Numbered | Acknowledged]:
    """Return what is in a box, in its order.

    :raises BadBox: the peer that sealed it made a mistake; nothing of it is used.
    """
    parts: list[Numbered | Acknowledged] = []
    offset = 0
    while offset < len(content):
        if len(content) - offset < _PART.size:
            raise BadBox("a part is cut off")
        kind, length = _PART.unpack_from(content, offset)
        offset += _PART.size
        body = content[offset : offset + length]
        if len(body) < length:
            raise BadBox("a part is cut off")
        offset += length
        if kind in (_DATA, _EMPTY):
            parts.append(_message(kind, body))
        elif kind == _ACK:
            parts.append(_acknowledgement(body))
    return parts


def _message(kind: int, body: bytes) -> Numbered:
    if len(body) < _NUMBER.size or (kind == _EMPTY and len(body) > _NUMBER.size):
        raise BadBox("a message has no number")
    (number,) = _NUMBER.unpack_from(body)
    if not 1 <= number <= MAX_NUMBER:
        raise BadBox(f"number {number} is not 1 to {MAX_NUMBER}")
    if kind == _EMPTY:
        return Numbered(number, None)
    raw = body[_NUMBER.size :]
    try:
        # Sealed, but by whom? What is handed on is JSON, as it is when it comes in the clear.
        check_depth(raw)
        decode_value(raw)
    except BadFrame as error:
        raise BadBox(str(error)) from None
    return Numbered(number, raw)


def _acknowledgement(body: bytes) -> Acknowledged:
    run, ranges = body[:RUN_BYTES], body[RUN_BYTES:]
    if len(run) < RUN_BYTES or len(ranges) % _RANGE.size or len(ranges) > MAX_RANGES * _RANGE.size:
        raise BadBox("an acknowledgement is cut off, or too long")
    return Acknowledged(run, tuple([(first, first + more) for first, more in _RANGE.iter_unpack(ranges)]))
