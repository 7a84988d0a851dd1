"""Headers of the WebSocket messages that a node sends (RFC 6455, section 5.2).

Only what Autobahn is too slow for is here: a server's data frames are unmasked, so one header and payload serve every
receiver, and nothing is left to do for each of them. Everything else (opening handshake, control frames, close, all of
receiving) stays with Autobahn.
"""

from __future__ import annotations

from struct import Struct

__all__ = ["encode_binary_header", "encode_message"]

_FIN_BINARY = 0x82
_FIN_TEXT = 0x81
_MEDIUM = Struct("!BBH")
_LONG = Struct("!BBQ")


def encode_binary_header(length: int, is_binary: bool = True) -> bytes:
    """Return the header of an unmasked, unfragmented message of `length` bytes: 2, 4 or 10 bytes."""
    opcode = _FIN_BINARY if is_binary else _FIN_TEXT
    if length < 126:
        return bytes((opcode, length))
    if length < 65536:
        return _MEDIUM.pack(opcode, 126, length)
    return _LONG.pack(opcode, 127, length)


def encode_message(payload: bytes, is_binary: bool = True) -> bytes:
    """Return one whole WebSocket message."""
    return encode_binary_header(len(payload), is_binary) + payload
