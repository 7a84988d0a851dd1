"""Packets between two peers: whose they are, how they are sealed, and what a PROBE says (client protocol, section 5).

The packets are those of `meshrelay.wire.datagram`: the sid is the start of the SHA-256 of the sender's user ID, the
direction 0 for the user ID that sorts first by its UTF-8 bytes, and the key is made of the 48 bytes of the sync bytes.

All pairs of a link group share that key, and the nonce is made of direction and number, so each pair and side takes its
numbers from a range of its own: `pair_numbers`. A peer that counts from 1 is understood all the same; a packet from the
range of another pair is not, since that is one that was meant for somebody else and sent on to us.

The opened content of a PROBE, kind 8:

==========  ===========  ===============================================================================
field       bytes        meaning
==========  ===========  ===============================================================================
flags       1            bit 0: the sender hears its peer by this path; other bits 0, passed over by readers
mapping     1            `Mapping`: how the NAT of the sender chooses public ports
step        2, signed    from the public port of one destination to that of the next; 0 unless mapping is 2
question    4            number of this PROBE, from 1; 0: no answer is wanted
answer      4            number of the PROBE that this one answers; 0: none
seen        str8         where the peer's PROBE came from, "ip:port"; empty: by the relay, or none came
count       1            of the following
public      str8 each    "ip:port" by which others have seen the sender, newest first
padding     the rest     anything; an answer is as long as its question
==========  ===========  ===============================================================================

An answer goes back to where its question came from, by the socket it came in, and is never longer. A question that was
answered from where it was sent to proves both directions of that path; a question of full length proves that packets of
full length pass as well. Questions may also travel by the relay: they tell the peer what NAT there is to be beaten.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum, unique
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

from meshrelay.errors import PacketRejected
from meshrelay.wire.addresses import MAX_ADDRESS_BYTES, UdpAddress, parse_address
from meshrelay.wire.buffer import encode_str8
from meshrelay.wire.datagram import (
    MAX_DATAGRAM_BYTES,
    TO_CLIENT,
    TO_NODE,
    OpenedPacket,
    PacketCodec,
    packet_number,
    session_key,
)
from meshrelay.wire.sync_bytes import KEY_BYTES, SECRET_BYTES

__all__ = [
    "MAX_PROBE_BYTES",
    "MAX_PUBLIC_ADDRESSES",
    "NUMBERS_OF_A_PAIR",
    "Mapping",
    "PeerCodec",
    "Probe",
    "decode_probe",
    "encode_probe",
    "is_first",
    "pair_numbers",
    "peer_key",
    "peer_sid",
]

#: Of a PROBE's content: it then fills the longest datagram.
MAX_PROBE_BYTES = MAX_DATAGRAM_BYTES - 26 - 16

#: That one PROBE tells.
MAX_PUBLIC_ADDRESSES = 4

#: Packets of one side of a pair under one key: 138 days of a gigabit a second.
NUMBERS_OF_A_PAIR = 1 << 40

_INFO = b"meshrelay p2p 1"
_MEMBERS = 256
_HEARS = 1
_HEAD = Struct("!BBhII")


@unique
class Mapping(IntEnum):
    """How a NAT chooses the public port of a socket (RFC 4787, section 4.1)."""

    #: Not enough was seen.
    UNKNOWN = 0
    #: The same for all destinations, or there is no NAT.
    SAME = 1
    #: Another one for each destination, in steps of one size.
    STEADY = 2
    #: Another one for each destination, and no telling which.
    RANDOM = 3


_MAPPINGS = {mapping.value: mapping for mapping in Mapping}


class Probe(NamedTuple):
    """See the module."""

    question: int = 0
    answer: int = 0
    hears: bool = False
    mapping: Mapping = Mapping.UNKNOWN
    step: int = 0
    seen: UdpAddress | None = None
    public: tuple[UdpAddress, ...] = ()


def peer_sid(user_id: str) -> bytes:
    """Return the 16 bytes that stand for the sender in its packets."""
    return sha256(user_id.encode("utf-8")).digest()[:16]


def peer_key(secret: bytes) -> bytes:
    """Return the packet key of a link group.

    :param secret: the 48 bytes at the head of the sync bytes.
    """
    key, iv, mac_key = (secret[start : start + KEY_BYTES] for start in range(0, SECRET_BYTES, KEY_BYTES))
    return session_key(key, iv, mac_key, _INFO)


def is_first(own_id: str, peer_id: str) -> bool:
    """Whether this end seals with direction 0, and opens the reliable stream with the first SYN."""
    return own_id.encode("utf-8") < peer_id.encode("utf-8")


def pair_numbers(sender_id: str, receiver_id: str, members: Collection[str]) -> range:
    """Return the numbers of the packets that one member of a link group sends to another.

    :param members: user IDs of the link group, 255 at most, these two among them.
    """
    ranks = sorted(members, key=lambda user_id: user_id.encode("utf-8"))
    first = ((ranks.index(sender_id) * _MEMBERS + ranks.index(receiver_id)) * NUMBERS_OF_A_PAIR) + 1
    return range(first, first + NUMBERS_OF_A_PAIR)


class PeerCodec(PacketCodec):
    """Seals and opens the packets between two members of a link group, at the end of `own_id`.

    :param members: as for `pair_numbers`.
    """

    __slots__ = ("_expected",)

    def __init__(self, own_id: str, peer_id: str, secret: bytes, members: Collection[str]) -> None:
        direction = TO_NODE if is_first(own_id, peer_id) else TO_CLIENT
        numbers = pair_numbers(own_id, peer_id, members)
        super().__init__(peer_sid(own_id), peer_key(secret), direction, peer_sid(peer_id), numbers)
        self._expected = pair_numbers(peer_id, own_id, members)

    def open(self, datagram: bytes) -> OpenedPacket:
        """See `PacketCodec.open`.

        :raises PacketRejected: also ``pair``: the peer has sealed it for another member.
        """
        number = packet_number(datagram)
        if number > NUMBERS_OF_A_PAIR and number not in self._expected:
            raise PacketRejected("pair")
        return super().open(datagram)


def encode_probe(probe: Probe, size: int = 0) -> bytes:
    """Return the content of a PROBE.

    :param size: pad it with zeros to this length, at most `MAX_PROBE_BYTES`; a longer one stays as it is.
    """
    parts = [
        _HEAD.pack(_HEARS if probe.hears else 0, probe.mapping, probe.step, probe.question, probe.answer),
        encode_str8("" if probe.seen is None else str(probe.seen)),
        bytes((len(probe.public),)),
        *(encode_str8(str(address)) for address in probe.public),
    ]
    return b"".join(parts).ljust(min(size, MAX_PROBE_BYTES), b"\0")


def decode_probe(content: bytes) -> Probe:
    """Read a PROBE.

    :raises PacketRejected: ``bad_probe``.
    """
    if not _HEAD.size < len(content) <= MAX_PROBE_BYTES:
        raise PacketRejected("bad_probe")
    flags, value, step, question, answer = _HEAD.unpack_from(content)
    mapping = _MAPPINGS.get(value)
    if mapping is None:
        raise PacketRejected("bad_probe")
    seen, offset = _read_address(content, _HEAD.size)
    if offset >= len(content) or content[offset] > MAX_PUBLIC_ADDRESSES:
        raise PacketRejected("bad_probe")
    count = content[offset]
    offset += 1
    public: list[UdpAddress] = []
    for _ in range(count):
        address, offset = _read_address(content, offset)
        if address is None:
            raise PacketRejected("bad_probe")
        public.append(address)
    return Probe(question, answer, bool(flags & _HEARS), mapping, step, seen, tuple(public))


def _read_address(content: bytes, offset: int) -> tuple[UdpAddress | None, int]:
    """Return the address at `offset`, None for an empty one, and where the next field begins."""
    size = content[offset] if offset < len(content) else 0
    text = content[offset + 1 : offset + 1 + size]
    if offset >= len(content) or len(text) != size or size > MAX_ADDRESS_BYTES:
        raise PacketRejected("bad_probe")
    if not text:
        return None, offset + 1
    try:
        return parse_address(str(text, "ascii")), offset + 1 + size
    except ValueError:
        raise PacketRejected("bad_probe") from None
