"""Messages between users and peers of the overlay: what peers see, what nodes tell each other, and whose IDs are whose.

The user ``peer:<40 hex digits>`` is a peer of the overlay. A peer and a node talk by ``user`` messages of the overlay,
whose data is one of these JSON objects:

==================================================  ================================================================
``{"from": user ID, "data": X}``                    a user writes to the peer; "" is the server. A message that the
                                                    application sends under its own numbers has ``ver`` and ``cmd`` too
``{"to": user ID, "data": X}``                      the peer writes to a user
``{"error": text, "to": user ID}``                  the answer to that: the user did not get it
==================================================  ================================================================

X of a message to a peer is a string when the message is UTF-8, else ``{"type": "Buffer", "data": [bytes]}``, which is
what JavaScript makes of bytes. X of a message to a user is either of them, or anything else, whose JSON the user gets.

Nodes of a cluster, in messages of `meshrelay.wire.node_kinds`; integers are big-endian, a str8 is a u8 length and text:

==============  ====================================================================================================
OVERLAY_HERE    20 bytes: the sending node is this peer of the overlay, and hands messages of users to others
OVERLAY_GONE    nothing: it is no more
OVERLAY_SEND    u64 number, 20 bytes peer, u8 flags, u8 ver, u16 cmd, str8 sender, message to the end. flags: 1 = the
                message was sent by the built-in command
OVERLAY_RESULT  u64 number, u8 outcome
==============  ====================================================================================================
"""

from __future__ import annotations

import re
from enum import IntEnum, unique
from struct import Struct
from struct import error as struct_error
from typing import Any, NamedTuple

import msgspec

from meshrelay.errors import MalformedFrame
from meshrelay.model import check_user_id
from meshrelay.wire.buffer import encode_str8
from meshrelay.wire.direct_node import Direct

__all__ = [
    "MAX_BRIDGED_BYTES",
    "PEER_PREFIX",
    "BridgeOutcome",
    "BridgeParcel",
    "Incoming",
    "bridged_size",
    "data_for_peer",
    "decode_bridge_result",
    "decode_bridge_send",
    "decode_overlay_here",
    "encode_bridge_result",
    "encode_bridge_send",
    "encode_overlay_here",
    "error_for_peer",
    "is_peer_user",
    "peer_of_user",
    "read_incoming",
    "user_of_peer",
]

#: How the user IDs of peers begin.
PEER_PREFIX = "peer:"

#: A message to a peer as JSON. Sealed it grows by a third, and the overlay carries 250,000 bytes by WebRTC.
MAX_BRIDGED_BYTES = 180_000

_PEER_ID_BYTES = 20
_PEER_USER = re.compile(r"peer:([0-9a-fA-F]{40})", re.ASCII)
_SEND = Struct(f"!Q{_PEER_ID_BYTES}sBBH")
_RESULT = Struct("!QB")
_BUILT_IN = 1

#: JSON of one byte of text is never longer: ``\u0000``.
_LONGEST_CHARACTER = 6

#: Nor that of one byte in a Buffer: ``255,``.
_LONGEST_NUMBER = 4


@unique
class BridgeOutcome(IntEnum):
    """What became of a message to a peer. Numbers are only ever added; an unknown one reads as FAILED."""

    #: It was handed over; a peer of ours has acknowledged it.
    TAKEN = 0
    #: The overlay knows no way to the peer, or the peer did not acknowledge it.
    NOT_FOUND = 1
    TIMED_OUT = 2
    #: More than `MAX_BRIDGED_BYTES` of JSON.
    TOO_LARGE = 3
    #: The node, or its peer, has too many others that are not done.
    TOO_MANY = 4
    #: The node is no peer of the overlay, or is no more.
    NO_OVERLAY = 5
    FAILED = 6


class Incoming(NamedTuple):
    """What a peer wants a user to get."""

    user_id: str
    message: bytes


class BridgeParcel(NamedTuple):
    """A message to a peer on its way to a node that is in the overlay."""

    #: Given back with the outcome.
    number: int
    peer_id: bytes
    direct: Direct


def is_peer_user(user_id: str) -> bool:
    """Whether no user may sign in under this ID."""
    return user_id.startswith(PEER_PREFIX)


def peer_of_user(user_id: str) -> bytes | None:
    """Return the peer ID in a user ID; None: it holds none."""
    match = _PEER_USER.fullmatch(user_id)
    return bytes.fromhex(match[1]) if match is not None else None


def user_of_peer(peer_id: bytes) -> str:
    """Return the user ID of a peer."""
    return PEER_PREFIX + peer_id.hex()


def data_for_peer(direct: Direct) -> dict[str, object]:
    """Return what a peer gets of a message."""
    data: dict[str, object] = {"from": direct.sender_id, "data": _shown(direct.message)}
    if not direct.has_envelope:
        data["ver"], data["cmd"] = direct.ver, direct.cmd
    return data


def _shown(message: bytes) -> object:
    try:
        return message.decode("utf-8")
    except UnicodeDecodeError:
        return {"type": "Buffer", "data": list(message)}


def bridged_size(data: dict[str, object]) -> int:
    """Return how many bytes of JSON `data_for_peer` has made, or a number that is not less and is within the limit."""
    shown = data["data"]
    if isinstance(shown, str):
        most = len(shown.encode("utf-8")) * _LONGEST_CHARACTER
    elif isinstance(shown, dict):
        most = len(shown["data"]) * _LONGEST_NUMBER
    else:
        most = MAX_BRIDGED_BYTES
    # What is around it has less than a thousand bytes, also where each byte of the sender's ID takes six.
    return most if most < MAX_BRIDGED_BYTES - 1000 else len(msgspec.json.encode(data))


def error_for_peer(text: str, user_id: str) -> dict[str, object]:
    """Return what a peer is told whose message did not reach a user."""
    return {"error": text, "to": user_id}


def read_incoming(data: Any) -> Incoming | None:
    """Return what a peer wants a user to get; None: the data is not of that form, and must not be answered.

    :param data: decoded JSON.
    :raises ValueError: it has the form, and nothing that a user could get; the text is fit for the peer's eyes.
    """
    if not isinstance(data, dict) or "error" in data or "data" not in data:
        return None
    user_id = data.get("to")
    if not isinstance(user_id, str):
        return None
    try:
        check_user_id(user_id)
    except ValueError:
        return None
    return Incoming(user_id, _message_of(data["data"]))


def _message_of(value: object) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("data is not valid Unicode") from None
    if isinstance(value, dict) and value.get("type") == "Buffer" and isinstance(value.get("data"), list):
        try:
            return bytes(value["data"])
        except (TypeError, ValueError):
            raise ValueError("data is a Buffer with something else than bytes") from None
    try:
        return msgspec.json.encode(value)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"data cannot be written as JSON: {error}") from None


def encode_overlay_here(peer_id: bytes) -> bytes:
    """Return the payload of an OVERLAY_HERE."""
    return peer_id


def decode_overlay_here(payload: bytes) -> bytes:
    """The reverse of `encode_overlay_here`.

    :raises MalformedFrame: the other node's fault.
    """
    if len(payload) != _PEER_ID_BYTES:
        raise MalformedFrame(f"OVERLAY_HERE of {len(payload)} bytes")
    return payload


def encode_bridge_send(parcel: BridgeParcel) -> bytes:
    """Return the payload of an OVERLAY_SEND."""
    direct = parcel.direct
    flags = _BUILT_IN if direct.has_envelope else 0
    head = _SEND.pack(parcel.number, parcel.peer_id, flags, direct.ver, direct.cmd)
    return head + encode_str8(direct.sender_id) + direct.message


def decode_bridge_send(payload: bytes) -> BridgeParcel:
    """The reverse of `encode_bridge_send`; the sender's sid does not travel.

    :raises MalformedFrame: the other node's fault.
    """
    try:
        number, peer_id, flags, ver, cmd = _SEND.unpack_from(payload)
        start = _SEND.size + 1
        end = start + payload[_SEND.size]
        sender_id = payload[start:end].decode("utf-8")
    except (struct_error, IndexError, UnicodeDecodeError) as error:
        raise MalformedFrame(f"OVERLAY_SEND: {error}") from None
    if end > len(payload):
        raise MalformedFrame("OVERLAY_SEND: the sender is cut off")
    direct = Direct(sender_id, "", user_of_peer(peer_id), ver, cmd, bool(flags & _BUILT_IN), payload[end:])
    return BridgeParcel(number, peer_id, direct)


def encode_bridge_result(number: int, outcome: BridgeOutcome) -> bytes:
    """Return the payload of an OVERLAY_RESULT."""
    return _RESULT.pack(number, outcome)


def decode_bridge_result(payload: bytes) -> tuple[int, BridgeOutcome]:
    """The reverse of `encode_bridge_result`.

    :raises MalformedFrame: the other node's fault.
    """
    try:
        number, outcome = _RESULT.unpack(payload)
    except struct_error as error:
        raise MalformedFrame(f"OVERLAY_RESULT: {error}") from None
    known = BridgeOutcome._value2member_map_
    return number, BridgeOutcome(outcome) if outcome in known else BridgeOutcome.FAILED
