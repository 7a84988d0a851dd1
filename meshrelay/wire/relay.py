"""Messages of the NetBird-compatible relay: one message is one binary WebSocket message or one QUIC datagram.

======  =====  ==================================================================
offset  bytes  field
======  =====  ==================================================================
0       1      version, always 1
1       1      `MessageType`
2       ...    by type, below
======  =====  ==================================================================

==================  =============================================================================
TRANSPORT           peer ID (36), payload (0 to 8,782); the ID is the receiver's on the way to the
                    server, the sender's on the way from it
CLOSE               nothing; what follows is not looked at
HEALTH_CHECK        nothing; the same both ways
AUTH                21 12 a4 42, peer ID (36), token (0 to 170)
AUTH_RESPONSE       instance URL of the server, text to the end
SUBSCRIBE ...       the four lists: peer IDs of 36 bytes each, to the end
==================  =============================================================================

There is no length field and no integer of more than one byte. A peer ID is ``sha-`` and the SHA-256 of the name of the
peer; the server neither knows names nor looks at the prefix, to it any 36 bytes are an ID. Compatible with NetBird from
0.51 on (types 8 to 11); facts as of its commit ee253fedd.

A decoder raises `MalformedFrame` and nothing else. Which of those end the connection is decided by the machines: the
two ends of this protocol differ in it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from enum import IntEnum, unique
from hashlib import sha256
from typing import NamedTuple

from meshrelay.errors import LocalProtocolError, MalformedFrame

__all__ = [
    "CLOSE_MESSAGE",
    "HEALTH_CHECK_MESSAGE",
    "MAX_AUTH_BYTES",
    "MAX_AUTH_RESPONSE_BYTES",
    "MAX_IDS_PER_MESSAGE",
    "MAX_MESSAGE_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_TOKEN_BYTES",
    "PEER_ID_BYTES",
    "SAFE_DATAGRAM_BYTES",
    "TRANSPORT_HEADER_BYTES",
    "Auth",
    "MessageType",
    "Transport",
    "decode_auth",
    "decode_auth_response",
    "decode_peer_ids",
    "decode_transport",
    "encode_auth",
    "encode_auth_response",
    "encode_peer_ids",
    "encode_transport",
    "peer_id_of",
    "peer_id_text",
    "read_type",
    "transport_header",
]

VERSION = 1
PEER_ID_BYTES = 36

#: An AUTH, and so the first message that a server reads, is not longer.
MAX_AUTH_BYTES = 212
#: An AUTH_RESPONSE, the first message that a client reads, is not longer.
MAX_AUTH_RESPONSE_BYTES = 8192
#: No other message is longer; a NetBird peer loses the connection over one that is.
MAX_MESSAGE_BYTES = 8820

TRANSPORT_HEADER_BYTES = 2 + PEER_ID_BYTES
MAX_PAYLOAD_BYTES = MAX_MESSAGE_BYTES - TRANSPORT_HEADER_BYTES
AUTH_HEADER_BYTES = 6 + PEER_ID_BYTES
MAX_TOKEN_BYTES = MAX_AUTH_BYTES - AUTH_HEADER_BYTES
MAX_IDS_PER_MESSAGE = (MAX_MESSAGE_BYTES - 2) // PEER_ID_BYTES

#: A QUIC datagram of this size gets through before anything is known about the path; NetBird's QUIC sends no longer
#: one until the first acknowledgement.
SAFE_DATAGRAM_BYTES = 1195

_MAGIC = b"\x21\x12\xa4\x42"
_ID_PREFIX = b"sha-"


@unique
class MessageType(IntEnum):
    """Byte 1 of a message. 1 and 2 were a handshake that no server takes any more: never reuse them."""

    TRANSPORT = 3
    CLOSE = 4
    HEALTH_CHECK = 5
    AUTH = 6
    AUTH_RESPONSE = 7
    SUBSCRIBE_PEER_STATE = 8
    UNSUBSCRIBE_PEER_STATE = 9
    PEERS_ONLINE = 10
    PEERS_WENT_OFFLINE = 11


_TYPES = {message_type.value: message_type for message_type in MessageType}

CLOSE_MESSAGE = bytes((VERSION, MessageType.CLOSE))
HEALTH_CHECK_MESSAGE = bytes((VERSION, MessageType.HEALTH_CHECK))
_AUTH_START = bytes((VERSION, MessageType.AUTH)) + _MAGIC
_AUTH_RESPONSE_START = bytes((VERSION, MessageType.AUTH_RESPONSE))
_TRANSPORT_START = bytes((VERSION, MessageType.TRANSPORT))


class Auth(NamedTuple):
    """What a client says first."""

    peer_id: bytes
    #: 0 to 170 bytes; see `meshrelay.relay.auth`.
    token: bytes


class Transport(NamedTuple):
    """Something from one peer to another."""

    #: Of the receiver on the way to the server, of the sender on the way from it.
    peer_id: bytes
    payload: bytes


def peer_id_of(name: str | bytes) -> bytes:
    """Return the 36 bytes that stand for the name of a peer; NetBird's names are WireGuard keys in base64."""
    return _ID_PREFIX + sha256(name.encode("utf-8") if isinstance(name, str) else name).digest()


def peer_id_text(peer_id: bytes) -> str:
    """Return an ID as NetBird's logs show it."""
    return f"sha-{b64encode(peer_id[len(_ID_PREFIX) :]).decode('ascii')}"


def read_type(message: bytes) -> MessageType:
    """Return what kind of message this is.

    :raises MalformedFrame: it is shorter than 2 bytes, of another version or of no known type.
    """
    if len(message) < 2:
        raise MalformedFrame(f"a relay message of {len(message)} bytes has no header")
    if message[0] != VERSION:
        raise MalformedFrame(f"relay message of version {message[0]}")
    message_type = _TYPES.get(message[1])
    if message_type is None:
        raise MalformedFrame(f"relay message of unknown type {message[1]}")
    return message_type


def encode_auth(peer_id: bytes, token: bytes) -> bytes:
    """Return an AUTH.

    :raises LocalProtocolError: the ID has not 36 bytes, or the token more than 170.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise LocalProtocolError(f"relay token of {len(token)} bytes, {MAX_TOKEN_BYTES} fit")
    return _AUTH_START + _checked_id(peer_id) + token


def decode_auth(message: bytes) -> Auth:
    """The reverse of `encode_auth`.

    :raises MalformedFrame: the client's fault.
    """
    if not AUTH_HEADER_BYTES <= len(message) <= MAX_AUTH_BYTES:
        raise MalformedFrame(f"AUTH of {len(message)} bytes")
    if not message.startswith(_AUTH_START):
        raise MalformedFrame("AUTH without its magic number")
    return Auth(message[6:AUTH_HEADER_BYTES], message[AUTH_HEADER_BYTES:])


def encode_auth_response(instance_url: str) -> bytes:
    """Return an AUTH_RESPONSE.

    :raises LocalProtocolError: the URL is empty or does not fit.
    """
    message = _AUTH_RESPONSE_START + instance_url.encode("utf-8")
    if not 2 < len(message) <= MAX_AUTH_RESPONSE_BYTES:
        raise LocalProtocolError(f"instance URL of {len(message) - 2} bytes, 1 to {MAX_AUTH_RESPONSE_BYTES - 2} fit")
    return message


def decode_auth_response(message: bytes) -> str:
    """Return the instance URL.

    :raises MalformedFrame: the server's fault.
    """
    if not message.startswith(_AUTH_RESPONSE_START) or not 2 < len(message) <= MAX_AUTH_RESPONSE_BYTES:
        raise MalformedFrame(f"AUTH_RESPONSE of {len(message)} bytes")
    try:
        return message[2:].decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedFrame("AUTH_RESPONSE with a URL that is no text") from None


def transport_header(peer_id: bytes) -> bytes:
    """Return what stands before the payload of every TRANSPORT of, or to, one peer.

    :raises LocalProtocolError: the ID has not 36 bytes.
    """
    return _TRANSPORT_START + _checked_id(peer_id)


def encode_transport(peer_id: bytes, payload: bytes) -> bytes:
    """Return a TRANSPORT.

    :raises LocalProtocolError: the ID has not 36 bytes, or the payload more than 8,782.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise LocalProtocolError(f"relay payload of {len(payload)} bytes, {MAX_PAYLOAD_BYTES} fit")
    return transport_header(peer_id) + payload


def decode_transport(message: bytes) -> Transport:
    """The reverse of `encode_transport`.

    :raises MalformedFrame: the other end's fault.
    """
    if not message.startswith(_TRANSPORT_START) or not TRANSPORT_HEADER_BYTES <= len(message) <= MAX_MESSAGE_BYTES:
        raise MalformedFrame(f"TRANSPORT of {len(message)} bytes")
    return Transport(message[2:TRANSPORT_HEADER_BYTES], message[TRANSPORT_HEADER_BYTES:])


def encode_peer_ids(
    message_type: MessageType, peer_ids: Sequence[bytes], max_bytes: int = MAX_MESSAGE_BYTES
) -> list[bytes]:
    """Return one of the four lists, cut into as many messages as it takes; the order is kept.

    :param max_bytes: what one message may have: `SAFE_DATAGRAM_BYTES` or what is known of the path for datagrams.
    :raises LocalProtocolError: the list is empty, an ID has not 36 bytes, or `max_bytes` leaves no room for one.
    """
    per_message = (min(max_bytes, MAX_MESSAGE_BYTES) - 2) // PEER_ID_BYTES
    if not peer_ids or per_message < 1:
        raise LocalProtocolError(f"list of {len(peer_ids)} peer IDs in messages of {max_bytes} bytes")
    start = bytes((VERSION, message_type))
    ids = [_checked_id(peer_id) for peer_id in peer_ids]
    return [start + b"".join(ids[first : first + per_message]) for first in range(0, len(ids), per_message)]


def decode_peer_ids(message: bytes) -> list[bytes]:
    """Return the IDs of one of the four lists, as they came: none, or the same one twice, are possible.

    :raises MalformedFrame: it does not hold whole IDs, or is too long; the other end's fault.
    """
    size = len(message)
    if size < 2 or size > MAX_MESSAGE_BYTES or (size - 2) % PEER_ID_BYTES:
        raise MalformedFrame(f"list of peer IDs of {size} bytes")
    return [message[start : start + PEER_ID_BYTES] for start in range(2, size, PEER_ID_BYTES)]


def _checked_id(peer_id: bytes) -> bytes:
    if len(peer_id) != PEER_ID_BYTES:
        raise LocalProtocolError(f"peer ID of {len(peer_id)} bytes, it has {PEER_ID_BYTES}")
    return peer_id
