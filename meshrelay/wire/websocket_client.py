"""The client's end of a WebSocket: what it sends is masked, what it reads is not (RFC 6455, sections 5.1 to 5.3).

`meshrelay.wire.websocket` and `meshrelay.wire.websocket_decoder` are the server's end. The handshakes are Autobahn's.
"""

from __future__ import annotations

from collections.abc import Callable

from meshrelay.wire.websocket import encode_header
from meshrelay.wire.websocket_decoder import LONG_BYTES, WebSocketDecoder, unmask

__all__ = ["MASK_BYTES", "ServerFrameDecoder", "encode_masked"]

#: Length of a mask; each frame has a fresh one that nobody can foresee.
MASK_BYTES = 4

_MASKED = 0x80


def encode_masked(
    payload: bytes, opcode: int, mask: bytes, mask_long: Callable[[bytes, bytes], bytes] = unmask
) -> bytes:
    """Return one unfragmented frame of a client.

    :param mask: `MASK_BYTES` long.
    :param mask_long: does what `unmask` does to payloads of `LONG_BYTES` and more; to mask is to unmask.
    """
    size = len(payload)
    header = encode_header(size, opcode)
    masked = unmask(payload, mask) if size < LONG_BYTES else mask_long(payload, mask)
    return b"%c%c%b%b%b" % (header[0], header[1] | _MASKED, header[2:], mask, masked)


class ServerFrameDecoder(WebSocketDecoder):
    """See `WebSocketDecoder`; reads what a server sends, in which a mask is a mistake."""

    __slots__ = ()

    _mask_bit = 0
    _mask_bytes = 0

    def _whole_messages(self, data: bytes, start: int) -> tuple[list[bytes], int]:
        return [], start

    def _unmask(self, data: bytes, mask: bytes) -> bytes:
        return data

    def _check_header(self, first: int, size: int) -> None:
        if size >= _MASKED:
            raise self._broken("a frame of a server is masked")
        super()._check_header(first, size)
