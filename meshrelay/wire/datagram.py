"""UDP packets: what stands in the clear, what is sealed, and which numbers were seen (client protocol, section 5).

======  =====  =======  ===============================================================================
offset  bytes  field    meaning
======  =====  =======  ===============================================================================
0       1      kind     `PacketKind`
1       1      version  1
2       16     sid      names the session
18      8      number   from 1 (P2P: see `meshrelay.wire.peer_packet`), +1 for each packet of this side in this session,
                        never reused
26      ...    sealed   AES-256-GCM; nonce = u32 direction + number, associated data = bytes 0 to 25
======  =====  =======  ===============================================================================

A packet that does not open never causes an answer: `PacketCodec.open` raises `PacketRejected`, whose reason is a metric
label and nothing else. AES-GCM is safe for 2^48 packets of this size under one key and far fewer are sent in the life
of a session, so keys are never changed within one; `PacketCodec.seal` refuses to go beyond.
"""

from __future__ import annotations

from enum import IntEnum, unique
from struct import Struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meshrelay.errors import LocalProtocolError, PacketRejected

__all__ = [
    "ALL_NUMBERS",
    "MAX_DATAGRAM_BYTES",
    "REJECT_REASONS",
    "TO_CLIENT",
    "TO_NODE",
    "OpenedPacket",
    "PacketCodec",
    "PacketKind",
    "packet_number",
    "packet_sid",
    "session_key",
]

#: No datagram is longer.
MAX_DATAGRAM_BYTES = 1400

PACKET_VERSION = 1

#: Values of the u32 in front of the number in the nonce.
TO_NODE = 0
TO_CLIENT = 1

#: A packet may be this many numbers behind the highest.
REPLAY_WINDOW = 1024

#: Packets that one key may seal.
MAX_NUMBER = 1 << 48
ALL_NUMBERS = range(1, MAX_NUMBER + 1)

REJECT_REASONS = ("short", "long", "version", "kind", "sid", "seal", "replayed", "old")

_HEADER = Struct("!BB16sQ")
_NONCE = Struct("!IQ")
_HEADER_BYTES = 26
_TAG_BYTES = 16
_MAX_CONTENT_BYTES = MAX_DATAGRAM_BYTES - _HEADER_BYTES - _TAG_BYTES
_SEEN_MASK = (1 << (REPLAY_WINDOW + 1)) - 1


@unique
class PacketKind(IntEnum):
    """Byte 0 of a packet."""

    DATA = 1
    SYN = 2
    DAT = 3
    ACK = 4
    RST = 5
    EACK = 6
    FIN = 7
    PROBE = 8


_KINDS = {kind.value: kind for kind in PacketKind}


def session_key(key: bytes, iv: bytes, mac_key: bytes, info: bytes = b"meshrelay udp 1") -> bytes:
    """Return the 32-byte packet key: HKDF-SHA256 (RFC 5869) over the three secrets of the endpoint answer."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key + iv + mac_key)


def packet_sid(datagram: bytes) -> bytes:
    """Return the 16 bytes that name the session of a datagram.

    :raises PacketRejected: it cannot be a packet of ours.
    """
    size = len(datagram)
    if size < _HEADER_BYTES + _TAG_BYTES:
        raise PacketRejected("short")
    if size > MAX_DATAGRAM_BYTES:
        raise PacketRejected("long")
    if datagram[1] != PACKET_VERSION:
        raise PacketRejected("version")
    return datagram[2:18]


def packet_number(datagram: bytes) -> int:
    """Return the number of a datagram, whoever may have written it; 0 when it has none."""
    number: int = _HEADER.unpack_from(datagram)[3] if len(datagram) >= _HEADER_BYTES else 0
    return number


class OpenedPacket(NamedTuple):
    """A packet that opened."""

    kind: PacketKind
    content: bytes
    #: True: no packet of a higher number was opened before.
    is_newest: bool


class PacketCodec:
    """Seals and opens the packets of one session at one end.

    :param sid: 16 bytes; what this end puts in its packets.
    :param key: 32 bytes, see `session_key`.
    :param sends: direction of what this end seals: `TO_NODE` or `TO_CLIENT`. It opens the other one.
    :param peer_sid: what the other end puts in its packets; None = the same.
    :param numbers: what this end may use, `MAX_NUMBER` of them from 1 on; each once, under this key.
    """

    __slots__ = ("_aead", "_end", "_highest", "_last_number", "_opens", "_peer_sid", "_seen", "_sends", "_sid")

    def __init__(
        self, sid: bytes, key: bytes, sends: int, peer_sid: bytes | None = None, numbers: range = ALL_NUMBERS
    ) -> None:
        self._sid = sid
        self._peer_sid = sid if peer_sid is None else peer_sid
        self._aead = AESGCM(key)
        self._sends = sends
        self._opens = TO_NODE if sends == TO_CLIENT else TO_CLIENT
        self._last_number = numbers.start - 1
        self._end = numbers.stop
        self._highest = 0
        #: Bit n is set when the number `_highest` - n was seen.
        self._seen = 0

    def seal(self, kind: PacketKind, content: bytes) -> bytes:
        """Return the next packet of this end.

        :param content: at most 1,358 bytes.
        :raises LocalProtocolError: the content is too long, or the numbers are used up.
        """
        self._last_number = number = self._last_number + 1
        if number >= self._end or len(content) > _MAX_CONTENT_BYTES:
            raise LocalProtocolError(f"cannot seal packet {number} of {len(content)} bytes")
        header = _HEADER.pack(kind, PACKET_VERSION, self._sid, number)
        return header + self._aead.encrypt(_NONCE.pack(self._sends, number), content, header)

    def open(self, datagram: bytes) -> OpenedPacket:
        """Return what is in a packet of the other end; each is opened once.

        :raises PacketRejected: the state is unchanged.
        """
        sid = packet_sid(datagram)
        kind = _KINDS.get(datagram[0])
        if kind is None:
            raise PacketRejected("kind")
        if sid != self._peer_sid:
            raise PacketRejected("sid")
        number: int = _HEADER.unpack_from(datagram)[3]
        behind = self._highest - number
        if behind > REPLAY_WINDOW or number == 0:
            raise PacketRejected("old")
        if behind >= 0 and self._seen >> behind & 1:
            raise PacketRejected("replayed")
        try:
            content = self._aead.decrypt(
                _NONCE.pack(self._opens, number), datagram[_HEADER_BYTES:], datagram[:_HEADER_BYTES]
            )
        except InvalidTag:
            raise PacketRejected("seal") from None
        if behind >= 0:
            self._seen |= 1 << behind
        else:
            # A shift by more than the window would only make a large integer of zeros.
            self._seen = (self._seen << -behind | 1) & _SEEN_MASK if -behind <= REPLAY_WINDOW else 1
            self._highest = number
        return OpenedPacket(kind, content, behind < 0)
