"""The WebSocket of a relay peer, frame by frame."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.wire.relay import MAX_MESSAGE_BYTES
from meshrelay.wire.relay_websocket import UNSUPPORTED_DATA, RelayWebSocketDecoder
from meshrelay.wire.websocket_decoder import OVERSIZED, PROTOCOL_VIOLATION, BrokenWebSocket, unmask

MASK = b"\x01\x02\x03\x04"


def masked(payload: bytes, first: int = 0x82) -> bytes:
    """One frame of a client."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((first,)) + length + MASK + unmask(payload, MASK)


def read(data: bytes, cut: int = 0) -> list[tuple[int, bytes]]:
    """Kinds and payloads of what comes out, the pieces of one message joined; `data` comes in two reads."""
    decoder = RelayWebSocketDecoder()
    out: list[tuple[int, bytes]] = []
    held = b""
    for part in (data[:cut], data[cut:]):
        for kind, payload, is_end in decoder.pieces(part):
            held += payload
            if is_end or kind == OVERSIZED:
                out.append((kind, held))
                held = b""
    return out


class DecoderTests(SynchronousTestCase):
    """What passes and what does not."""

    def test_messages(self) -> None:
        """Messages of any length that fits come out, wherever a read cuts them."""
        data = masked(b"") + masked(b"short") + masked(bytes(300))
        for cut in range(len(data)):
            self.assertEqual(read(data, cut), [(2, b""), (2, b"short"), (2, bytes(300))])
        self.assertEqual(read(masked(bytes(MAX_MESSAGE_BYTES))), [(2, bytes(MAX_MESSAGE_BYTES))])

    def test_oversized(self) -> None:
        """A longer message is told of before it has come."""
        self.assertEqual(read(masked(bytes(MAX_MESSAGE_BYTES + 1)))[0], (OVERSIZED, b""))

    def test_control(self) -> None:
        """Pings and close frames come out between messages."""
        self.assertEqual(read(masked(b"p", 0x89) + masked(b"m") + masked(b"", 0x88)), [(9, b"p"), (2, b"m"), (8, b"")])

    def test_text_and_parts(self) -> None:
        """A text message, and a message in several frames, break the connection after what came before."""
        for wrong in (masked(b"text", 0x81), masked(b"part", 0x02), masked(b"part", 0x01)):
            decoder = RelayWebSocketDecoder()
            pieces = decoder.pieces(masked(b"good") + wrong)
            self.assertEqual(next(pieces), (2, b"good", True))
            error = self.assertRaises(BrokenWebSocket, next, pieces)
            self.assertEqual(error.code, UNSUPPORTED_DATA)

    def test_broken(self) -> None:
        """What breaks RFC 6455 breaks it here as well."""
        for wrong in (b"\x82\x01x", masked(b"x", 0xC2), masked(b"x", 0x80)):
            error = self.assertRaises(BrokenWebSocket, list, RelayWebSocketDecoder().pieces(wrong + bytes(8)))
            self.assertEqual(error.code, PROTOCOL_VIOLATION)
