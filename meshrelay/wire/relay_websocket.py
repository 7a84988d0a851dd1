"""Reads the WebSocket of a relay peer: RFC 6455, less what the relay's protocol does not have.

One message of the relay is one binary frame. A text message, or a message in several frames, ends the connection, as
it does with NetBird's server; pings, pongs and close frames are read as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from meshrelay.wire.relay import MAX_MESSAGE_BYTES
from meshrelay.wire.websocket import Opcode
from meshrelay.wire.websocket_decoder import WebSocketDecoder, unmask

__all__ = ["UNSUPPORTED_DATA", "RelayWebSocketDecoder"]

#: Close code (RFC 6455, section 7.4.1) for data of a kind that is not taken.
UNSUPPORTED_DATA = 1003

_FIN = 0x80
_BINARY = Opcode.BINARY.value


class RelayWebSocketDecoder(WebSocketDecoder):
    """See `WebSocketDecoder`; a message that is not one binary frame breaks the connection."""

    __slots__ = ()

    def __init__(self, unmask_long: Callable[[bytes, bytes], bytes] = unmask) -> None:
        super().__init__(MAX_MESSAGE_BYTES, unmask_long)

    def _check_header(self, first: int, size: int) -> None:
        super()._check_header(first, size)
        opcode = first & 15
        if opcode < Opcode.CLOSE and (opcode != _BINARY or first < _FIN):
            error = self._broken("a relay message is one binary frame")
            error.code = UNSUPPORTED_DATA
            raise error
