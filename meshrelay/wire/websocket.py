"""Opcodes, and headers of the WebSocket messages that a node sends (RFC 6455, section 5.2).

A server's data frames are unmasked, so one header and payload serve every receiver, and nothing is left to do for each
of them. What clients send is read by `meshrelay.wire.websocket_decoder`; the handshakes are Autobahn's.
"""

from __future__ import annotations

from enum import IntEnum, unique
from struct import Struct

__all__ = ["Opcode", "encode_binary_header", "encode_close", "encode_header", "encode_message", "encode_pong"]


@unique
class Opcode(IntEnum):
    """Kinds of frames (RFC 6455, section 11.8)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_FIN = 0x80
_FIN_BINARY = _FIN | Opcode.BINARY.value
_FIN_TEXT = _FIN | Opcode.TEXT.value
_FIN_PONG = _FIN | Opcode.PONG.value
_MEDIUM = Struct("!BBH")
_LONG = Struct("!BBQ")
_CODE = Struct("!H")

#: A control frame holds 125 bytes, and the code takes two of them.
_MAX_REASON_BYTES = 123


def encode_binary_header(length: int, is_binary: bool = True) -> bytes:
    """Return the header of an unmasked, unfragmented message of `length` bytes: 2, 4 or 10 bytes."""
    return _header(_FIN_BINARY if is_binary else _FIN_TEXT, length)


def encode_header(length: int, opcode: int) -> bytes:
    """Return the header of an unmasked, unfragmented frame of any kind: 2, 4 or 10 bytes."""
    return _header(_FIN | opcode, length)


def _header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, length))
    if length < 65536:
        return _MEDIUM.pack(first, 126, length)
    return _LONG.pack(first, 127, length)


def encode_message(payload: bytes, is_binary: bool = True) -> bytes:
    """Return one whole WebSocket message."""
    return _header(_FIN_BINARY if is_binary else _FIN_TEXT, len(payload)) + payload


def encode_pong(payload: bytes) -> bytes:
    """Return the answer to a ping that carried `payload`, which is at most 125 bytes long."""
    return bytes((_FIN_PONG, len(payload))) + payload


def encode_close(code: int, reason: str = "") -> bytes:
    """Return the payload of a close frame.

    :param reason: what is over 123 bytes of UTF-8 is cut off.
    """
    text = reason.encode("utf-8")[:_MAX_REASON_BYTES].decode("utf-8", "ignore")
    return _CODE.pack(code) + text.encode("utf-8")
