"""The opened contents of the reliable UDP packets: bytes <-> values, nothing remembered.

`machine.reliability` reads and writes its packets with these functions; sealing, packet numbers and addresses are
somebody else's. All integers are big-endian (client protocol, section 5)::

    SYN   u32 first sequence, u16 window; in an answer then u32 acknowledged
    DAT   u32 sequence, u16 fragment index, u16 fragment count, bytes
    ACK   u32 next expected sequence, u16 window
    EACK  as ACK, then u8 n and n times (u32 first, u32 last)
    RST   u16 close code, text
    FIN   u32 last sequence

Sequence numbers wrap at 2^32 on the wire only. Inside they are plain integers that never wrap: `unwrap` finds the one
nearest to what is expected, so no other module compares modulo anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from meshrelay.errors import PacketRejected
from meshrelay.wire.datagram import MAX_DATAGRAM_BYTES, PacketKind

__all__ = [
    "DAT_HEADER_BYTES",
    "MAX_CONTENT_BYTES",
    "MAX_FRAGMENT_BYTES",
    "REJECT_REASONS",
    "SEQUENCE_MASK",
    "Acknowledgement",
    "Fragment",
    "Synchronisation",
    "decode_acknowledgement",
    "decode_dat",
    "decode_fin",
    "decode_rst",
    "decode_syn",
    "encode_acknowledgement",
    "encode_dat_header",
    "encode_fin",
    "encode_rst",
    "encode_syn",
    "unwrap",
]

#: 26 bytes of a datagram are the clear header and 16 the tag of the seal.
MAX_CONTENT_BYTES = MAX_DATAGRAM_BYTES - 26 - 16

DAT_HEADER_BYTES = 8

#: What of a message fits one DAT.
MAX_FRAGMENT_BYTES = MAX_CONTENT_BYTES - DAT_HEADER_BYTES

SEQUENCE_MASK = 0xFFFFFFFF

#: Every reason that `PacketRejected` carries out of this package's reliable machine. They are metric labels.
REJECT_REASONS = frozenset(
    {
        "bad_length",  # shorter or longer than its kind can be
        "bad_kind",  # a kind that the reliable machine does not know
        "bad_fragment",  # index, count or neighbours contradict each other
        "bad_range",  # an EACK range that is reversed, or not beyond the number acknowledged
        "ack_of_unsent",  # acknowledges what was never sent
        "outside_window",  # a sequence number that was not on offer
        "unexpected_syn",  # a SYN of the wrong form or with other numbers than before
        "bad_fin",  # a last sequence that contradicts what was received
        "not_open",  # data before the SYN exchange
        "closed",  # the session is over
    }
)

_HALF = 1 << 31

_SYN = Struct("!IH")
_SYN_ANSWER = Struct("!IHI")
_DAT = Struct("!IHH")
_ACK = Struct("!IH")
_EACK = Struct("!IHB")
_RANGE = Struct("!II")
_RST = Struct("!H")
_FIN = Struct("!I")


class Synchronisation(NamedTuple):
    """A SYN. `acknowledged` is None in the first one, the node's answer has it."""

    first: int
    window: int
    acknowledged: int | None


class Fragment(NamedTuple):
    """A DAT: piece number `piece`, from 0, of the `pieces` of a message; `sequence` as on the wire."""

    sequence: int
    piece: int
    pieces: int
    payload: bytes


class Acknowledgement(NamedTuple):
    """An ACK or EACK: everything before `expected` has arrived, and the `ranges` (first, last) beyond it."""

    expected: int
    window: int
    ranges: Sequence[tuple[int, int]]


def unwrap(sequence: int, near: int) -> int:
    """Return the unwrapped number whose low 32 bits are `sequence` and which lies nearest to `near`."""
    return near + ((sequence - near + _HALF) & SEQUENCE_MASK) - _HALF


def encode_syn(first: int, window: int, acknowledged: int | None = None) -> bytes:
    """Return the content of a SYN; with `acknowledged` the answer to one."""
    if acknowledged is None:
        return _SYN.pack(first & SEQUENCE_MASK, window)
    return _SYN_ANSWER.pack(first & SEQUENCE_MASK, window, acknowledged & SEQUENCE_MASK)


def decode_syn(content: bytes) -> Synchronisation:
    """Read a SYN.

    :raises PacketRejected: ``bad_length``.
    """
    if len(content) == _SYN.size:
        first, window = _SYN.unpack(content)
        return Synchronisation(first, window, None)
    if len(content) == _SYN_ANSWER.size:
        first, window, acknowledged = _SYN_ANSWER.unpack(content)
        return Synchronisation(first, window, acknowledged)
    raise PacketRejected("bad_length")


def encode_dat_header(sequence: int, index: int, count: int) -> bytes:
    """Return what stands before the bytes of one fragment."""
    return _DAT.pack(sequence & SEQUENCE_MASK, index, count)


def decode_dat(content: bytes) -> Fragment:
    """Read a DAT.

    :raises PacketRejected: ``bad_length`` (also when it carries no byte at all), ``bad_fragment`` when the index is not
        below the count.
    """
    if not DAT_HEADER_BYTES < len(content) <= MAX_CONTENT_BYTES:
        raise PacketRejected("bad_length")
    sequence, index, count = _DAT.unpack_from(content)
    if index >= count:
        raise PacketRejected("bad_fragment")
    return Fragment(sequence, index, count, content[DAT_HEADER_BYTES:])


def encode_acknowledgement(expected: int, window: int, ranges: Sequence[tuple[int, int]]) -> tuple[PacketKind, bytes]:
    """Return an ACK, or an EACK when there are ranges (at most 168, more do not fit a packet)."""
    if not ranges:
        return PacketKind.ACK, _ACK.pack(expected & SEQUENCE_MASK, window)
    parts = [_EACK.pack(expected & SEQUENCE_MASK, window, len(ranges))]
    parts.extend(_RANGE.pack(first & SEQUENCE_MASK, last & SEQUENCE_MASK) for first, last in ranges)
    return PacketKind.EACK, b"".join(parts)


def decode_acknowledgement(kind: PacketKind, content: bytes) -> Acknowledgement:
    """Read an ACK or EACK; what its numbers mean is checked by the sender of the data.

    :raises PacketRejected: ``bad_length``, also when an EACK announces more or fewer ranges than it has.
    """
    if kind is PacketKind.ACK:
        if len(content) != _ACK.size:
            raise PacketRejected("bad_length")
        expected, window = _ACK.unpack(content)
        return Acknowledgement(expected, window, ())
    if len(content) < _EACK.size:
        raise PacketRejected("bad_length")
    expected, window, count = _EACK.unpack_from(content)
    if len(content) != _EACK.size + count * _RANGE.size or len(content) > MAX_CONTENT_BYTES:
        raise PacketRejected("bad_length")
    return Acknowledgement(expected, window, list(_RANGE.iter_unpack(content[_EACK.size :])))


def encode_rst(code: int, text: str) -> bytes:
    """Return the content of an RST."""
    return _RST.pack(code) + text.encode("utf-8")


def decode_rst(content: bytes) -> tuple[int, str]:
    """Read an RST; text that is not UTF-8 is made readable, for the session is over in any case.

    :raises PacketRejected: ``bad_length``.
    """
    if not _RST.size <= len(content) <= MAX_CONTENT_BYTES:
        raise PacketRejected("bad_length")
    return _RST.unpack_from(content)[0], content[_RST.size :].decode("utf-8", "replace")


def encode_fin(last: int) -> bytes:
    """Return the content of a FIN; `last` is the number before the first one when no DAT was sent."""
    return _FIN.pack(last & SEQUENCE_MASK)


def decode_fin(content: bytes) -> int:
    """Read a FIN: the sequence number of the last DAT.

    :raises PacketRejected: ``bad_length``.
    """
    if len(content) != _FIN.size:
        raise PacketRejected("bad_length")
    last: int = _FIN.unpack(content)[0]
    return last
