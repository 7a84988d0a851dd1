"""What a node sends by WebSocket."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.wire.websocket import (
    Opcode,
    encode_binary_header,
    encode_close,
    encode_header,
    encode_message,
    encode_pong,
)

#: Length of the message -> header, from RFC 6455, section 5.2 and the examples of 5.7.
HEADERS = {
    0: "8200",
    1: "8201",
    125: "827d",
    126: "827e007e",
    256: "827e0100",
    65535: "827effff",
    65536: "827f0000000000010000",
    1 << 32: "827f0000000100000000",
}

OPCODES = {"CONTINUATION": 0, "TEXT": 1, "BINARY": 2, "CLOSE": 8, "PING": 9, "PONG": 10}


class HeaderTests(SynchronousTestCase):
    """The three lengths of a header."""

    def test_lengths(self) -> None:
        """Each length has the shortest header that RFC 6455 allows, final, unmasked and binary."""
        for length, header in HEADERS.items():
            self.assertEqual(encode_binary_header(length).hex(), header, length)

    def test_kinds(self) -> None:
        """A frame of any kind has such a header."""
        self.assertEqual(encode_header(126, Opcode.TEXT).hex(), "817e007e")
        self.assertEqual(encode_header(5, Opcode.PING).hex(), "8905")

    def test_text(self) -> None:
        """A text message differs in its opcode alone; this is the unmasked "Hello" of the RFC."""
        self.assertEqual(encode_message(b"Hello", is_binary=False).hex(), "810548656c6c6f")

    def test_message(self) -> None:
        """A message is its header and the payload as it is."""
        self.assertEqual(encode_message(b"abc"), b"\x82\x03abc")
        self.assertEqual(encode_message(b"x" * 256)[:4].hex(), "827e0100")
        self.assertEqual(encode_message(b"x" * 256)[4:], b"x" * 256)


class ControlTests(SynchronousTestCase):
    """What is no message."""

    def test_pong(self) -> None:
        """A pong carries what the ping carried; this is the unmasked one of RFC 6455, section 5.7, and the longest."""
        self.assertEqual(encode_pong(b"Hello").hex(), "8a0548656c6c6f")
        self.assertEqual(encode_pong(b""), b"\x8a\x00")
        self.assertEqual(encode_pong(b"x" * 125), b"\x8a\x7d" + b"x" * 125)

    def test_close(self) -> None:
        """A close frame has its code and as much of the reason as fits, whole characters only."""
        self.assertEqual(encode_close(1000), b"\x03\xe8")
        self.assertEqual(encode_close(1009, "too long"), b"\x03\xf1too long")
        self.assertEqual(encode_close(1002, "ü" * 100), b"\x03\xea" + "ü".encode() * 61)

    def test_opcodes(self) -> None:
        """The opcodes are those of RFC 6455, section 11.8."""
        self.assertEqual({each.name: each.value for each in Opcode}, OPCODES)
