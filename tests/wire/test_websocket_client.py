"""The client's end of a WebSocket."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.transport.websocket_mask import fastest_unmask
from meshrelay.wire.websocket import Opcode, encode_header, encode_message, encode_pong
from meshrelay.wire.websocket_client import MASK_BYTES, ServerFrameDecoder, encode_masked
from meshrelay.wire.websocket_decoder import OVERSIZED, BrokenWebSocket, WebSocketDecoder


class MaskedTests(SynchronousTestCase):
    """What a client sends."""

    def test_example(self) -> None:
        """The example of RFC 6455, section 5.7."""
        frame = encode_masked(b"Hello", Opcode.TEXT, bytes.fromhex("37fa213d"))
        self.assertEqual(frame, bytes.fromhex("818537fa213d7f9f4d5158"))

    def test_read_by_a_server(self) -> None:
        """A server reads every length as it was, however it was masked."""
        random = Random(1)
        for mask_long in (None, fastest_unmask()):
            for size in (0, 1, 125, 126, 191, 192, 65535, 65536, 200_001):
                payload = random.randbytes(size)
                mask = random.randbytes(MASK_BYTES)
                frame = (
                    encode_masked(payload, 2, mask) if mask_long is None else encode_masked(payload, 2, mask, mask_long)
                )
                pieces = list(WebSocketDecoder(1 << 20).pieces(frame))
                self.assertEqual(pieces[-1][2], True)
                self.assertEqual(b"".join(piece for _, piece, _ in pieces), payload)


class ServerFrameTests(SynchronousTestCase):
    """What a client reads."""

    def read(self, *reads: bytes) -> list[tuple[int, bytes, bool]]:
        """The pieces of a stream."""
        decoder = ServerFrameDecoder(70_000)
        return [piece for data in reads for piece in decoder.pieces(data)]

    def test_messages(self) -> None:
        """Text, binary and control frames of every length come as they were sent."""
        for size in (0, 1, 125, 126, 65535, 65536):
            payload = Random(size).randbytes(size)
            self.assertEqual(self.read(encode_message(payload)), [(Opcode.BINARY, payload, True)])
        stream = encode_message(b"text", False) + encode_pong(b"ping") + encode_message(b"more")
        self.assertEqual(self.read(stream), [(1, b"text", True), (10, b"ping", True), (2, b"more", True)])

    def test_every_cut(self) -> None:
        """It does not matter where the network cuts the stream."""
        stream = encode_message(b"text", False) + encode_pong(b"ping") + encode_message(b"x" * 300)
        for cut in range(len(stream) + 1):
            pieces = self.read(stream[:cut], stream[cut:])
            for kind, payload in ((1, b"text"), (10, b"ping"), (2, b"x" * 300)):
                self.assertEqual(b"".join(piece for each, piece, _ in pieces if each == kind), payload, cut)

    def test_masked(self) -> None:
        """A frame of a server has no mask."""
        with self.assertRaises(BrokenWebSocket) as caught:
            self.read(encode_masked(b"Hello", Opcode.TEXT, b"1234"))
        self.assertEqual((caught.exception.code, caught.exception.problem), (1002, "a frame of a server is masked"))

    def test_mistakes(self) -> None:
        """The other rules are those for both ends."""
        for frame in (b"\xf1\x00", b"\x83\x00", b"\x80\x00", b"\x09\x00", b"\x89\x7e\x00\x7e", b"\x81\x7e\x00\x01"):
            with self.assertRaises(BrokenWebSocket):
                self.read(frame)

    def test_too_long(self) -> None:
        """A message over the bound is told when it is announced."""
        kinds = [kind for kind, _, _ in self.read(encode_header(70_001, Opcode.TEXT))]
        self.assertEqual(kinds, [OVERSIZED, Opcode.TEXT])
