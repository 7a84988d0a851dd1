"""What the nodes of one relay tell each other: bytes to values and back.

==============  ====================================================================================================
RELAY_HERE      entries: peer ID (36), u64 stamp. These peers are on the sending node; none: "I am a relay as well"
RELAY_GONE      peer IDs (36 each). These are not on the sending node any more
RELAY_SEND      peer ID (36) of the receiver, then a TRANSPORT as its receiver gets it
==============  ====================================================================================================

Integers are big-endian. A stamp says which of two connections with one peer ID is the newer one: Unix microseconds, and
at least one more than that of the connection which it displaces, whatever the clocks say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from meshrelay.errors import MalformedFrame
from meshrelay.wire.relay import MAX_MESSAGE_BYTES, PEER_ID_BYTES, TRANSPORT_HEADER_BYTES

__all__ = [
    "MAX_ENTRIES",
    "PeerHere",
    "decode_forward",
    "decode_gone",
    "decode_here",
    "encode_forward",
    "encode_gone",
    "encode_here",
]

_ENTRY = Struct(f"!{PEER_ID_BYTES}sQ")

#: Peers of one RELAY_HERE or RELAY_GONE; a batch between nodes holds a few of those.
MAX_ENTRIES = 1000


class PeerHere(NamedTuple):
    """One peer of the sending node."""

    peer_id: bytes
    stamp: int


def encode_here(peers: Iterable[PeerHere]) -> bytes:
    """Return a RELAY_HERE of at most `MAX_ENTRIES` peers."""
    return b"".join([_ENTRY.pack(*peer) for peer in peers])


def decode_here(payload: bytes) -> Iterator[PeerHere]:
    """The reverse of `encode_here`.

    :raises MalformedFrame: it does not hold whole entries, or too many; the other node's fault.
    """
    if len(payload) % _ENTRY.size or len(payload) > MAX_ENTRIES * _ENTRY.size:
        raise MalformedFrame(f"RELAY_HERE of {len(payload)} bytes")
    return map(PeerHere._make, _ENTRY.iter_unpack(payload))


def encode_gone(peer_ids: Iterable[bytes]) -> bytes:
    """Return a RELAY_GONE of at most `MAX_ENTRIES` peers."""
    return b"".join(peer_ids)


def decode_gone(payload: bytes) -> list[bytes]:
    """The reverse of `encode_gone`.

    :raises MalformedFrame: as `decode_here`.
    """
    if len(payload) % PEER_ID_BYTES or len(payload) > MAX_ENTRIES * PEER_ID_BYTES:
        raise MalformedFrame(f"RELAY_GONE of {len(payload)} bytes")
    return [payload[start : start + PEER_ID_BYTES] for start in range(0, len(payload), PEER_ID_BYTES)]


def encode_forward(destination: bytes, message: bytes) -> bytes:
    """Return a RELAY_SEND."""
    return destination + message


def decode_forward(payload: bytes) -> tuple[bytes, bytes]:
    """Return receiver and message.

    :raises MalformedFrame: it holds no message that a peer could get; the other node's fault.
    """
    if not PEER_ID_BYTES + TRANSPORT_HEADER_BYTES <= len(payload) <= PEER_ID_BYTES + MAX_MESSAGE_BYTES:
        raise MalformedFrame(f"RELAY_SEND of {len(payload)} bytes")
    return payload[:PEER_ID_BYTES], payload[PEER_ID_BYTES:]
