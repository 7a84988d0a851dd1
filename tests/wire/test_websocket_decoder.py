"""What clients send by WebSocket, cut anywhere, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.model import CloseReason
from meshrelay.testing.contracts import check_stream_decoder
from meshrelay.wire.websocket import Opcode
from meshrelay.wire.websocket_decoder import (
    INVALID_PAYLOAD,
    LONG_BYTES,
    MAX_HELD_BYTES,
    OVERSIZED,
    PROTOCOL_VIOLATION,
    BrokenWebSocket,
    WebSocketDecoder,
    close_code_and_reason,
    unmask,
)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = Opcode

#: Four different bytes: a mask that is turned wrongly shows.
MASK = b"\x37\xfa\x21\x3d"

#: Name -> bytes, and the messages in them. The masked "Hello" is the example of RFC 6455, section 5.7; the others are
#: its unmasked examples, and a few more, with that mask.
VECTORS: dict[str, tuple[str, list[tuple[int, bytes]]]] = {
    "text": ("818537fa213d7f9f4d5158", [(TEXT, b"Hello")]),
    "fragmented text": ("018337fa213d7f9f4d808237fa213d5b95", [(TEXT, b"Hello")]),
    "ping": ("898537fa213d7f9f4d5158", [(PING, b"Hello")]),
    "pong": ("8a8537fa213d7f9f4d5158", [(PONG, b"Hello")]),
    "binary": ("828337fa213d36f822", [(BINARY, b"\x01\x02\x03")]),
    "empty": ("828037fa213d", [(BINARY, b"")]),
    "empty at the end of a message": ("028137fa213d76808037fa213d", [(BINARY, b"A")]),
    "ping inside a message": (
        "028137fa213d76898037fa213d808137fa213d75",
        [(PING, b""), (BINARY, b"AB")],
    ),
    "close": ("888437fa213d34124e56", [(CLOSE, b"\x03\xe8ok")]),
}


def masked(payload: bytes, opcode: int = BINARY, is_last: bool = True, mask: bytes = MASK) -> bytes:
    """One frame of a client."""
    size = len(payload)
    head = bytes((0x80 * is_last | opcode,))
    if size < 126:
        head += bytes((0x80 | size,))
    elif size < 65536:
        head += b"\xfe" + pack("!H", size)
    else:
        head += b"\xff" + pack("!Q", size)
    return head + mask + bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload))


def assemble(decoder: WebSocketDecoder) -> Callable[[bytes], list[tuple[int, bytes]]]:
    """Return a function that takes bytes and returns the messages that are now whole."""
    parts: list[bytes] = []

    def decode(data: bytes) -> list[tuple[int, bytes]]:
        messages = []
        for kind, payload, is_end in decoder.pieces(data):
            if kind > BINARY:
                messages.append((kind, payload))
                continue
            parts.append(payload)
            if is_end:
                messages.append((kind, b"".join(parts)))
                parts.clear()
        return messages

    return decode


def in_pieces(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Cut `data`; the rest after the last size is one piece."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


class VectorTests(SynchronousTestCase):
    """Frames as the standard shows them."""

    def test_vectors(self) -> None:
        """Each example of the standard is read as it says."""
        for name, (data, messages) in VECTORS.items():
            self.assertEqual(assemble(WebSocketDecoder(100))(bytes.fromhex(data)), messages, name)

    def test_lengths(self) -> None:
        """Each form of the length is read, at both of its ends."""
        for size in (0, 1, 125, 126, 191, 192, 193, 65535, 65536, 65537):
            payload = bytes(index & 255 for index in range(size))
            for is_last in (True, False):
                pieces = list(WebSocketDecoder(1 << 20).pieces(masked(payload, is_last=is_last)))
                self.assertEqual(pieces, [(BINARY, payload, is_last)], size)


class UnmaskTests(SynchronousTestCase):
    """Payloads come out as they were before the mask."""

    def test_every_remainder(self) -> None:
        """Whatever the length, each byte meets its byte of the mask."""
        for size in (*range(10), 255, 256, 257):
            payload = bytes((index * 7) & 255 for index in range(size))
            self.assertEqual(unmask(masked(payload)[len(masked(payload)) - size :], MASK), payload)

    def test_long_payloads(self) -> None:
        """What is handed in unmasks the long payloads, whole or in parts, and no others."""
        seen = []

        def unmask_long(data: bytes, mask: bytes) -> bytes:
            seen.append(len(data))
            return unmask(data, mask)

        decoder = WebSocketDecoder(1 << 20, unmask_long)
        payload = bytes(range(256))
        short = payload[: LONG_BYTES - 1]
        data = masked(short) + masked(short, is_last=False) + masked(payload[:LONG_BYTES], CONTINUATION)
        whole = assemble(decoder)(data + masked(payload[:LONG_BYTES]) + masked(payload))
        self.assertEqual(
            [body for _, body in whole], [short, short + payload[:LONG_BYTES], payload[:LONG_BYTES], payload]
        )
        self.assertEqual(seen, [LONG_BYTES, LONG_BYTES, 256])


class CutTests(SynchronousTestCase):
    """A stream arrives in pieces of any size."""

    def test_every_cut(self) -> None:
        """Wherever a stream is cut, the same messages come out, each as soon as it is whole."""
        stream, ends = b"", []
        for data, messages in (
            vector for name, vector in VECTORS.items() if name not in ("close", "ping inside a message")
        ):
            stream += bytes.fromhex(data)
            ends.append((len(stream), messages[0]))
        for size in (126, 200):
            stream += masked(bytes(range(size)))
            ends.append((len(stream), (int(BINARY), bytes(range(size)))))
        check_stream_decoder(lambda: assemble(WebSocketDecoder(1000)), stream, ends)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from([TEXT, BINARY, PING, PONG]), st.binary(max_size=125), st.integers(1, 3)),
            max_size=6,
        ),
        st.binary(min_size=4, max_size=4),
        st.lists(st.integers(0, 40), max_size=20),
    )
    def test_random(self, messages: list[tuple[int, bytes, int]], mask: bytes, sizes: list[int]) -> None:
        """Messages in any number of parts, with control frames between the parts, survive reads of any size."""
        stream, expected = b"", []
        for opcode, payload, count in messages:
            if opcode > BINARY:
                stream += masked(payload, opcode, mask=mask)
                expected.append((int(opcode), payload))
                continue
            step = len(payload) // count + 1
            parts = [payload[start : start + step] for start in range(0, step * count, step)]
            for index, part in enumerate(parts):
                stream += masked(part, CONTINUATION if index else opcode, index == len(parts) - 1, mask)
                if index < len(parts) - 1:
                    stream += masked(b"?", PING, mask=mask)
                    expected.append((int(PING), b"?"))
            expected.append((int(opcode), payload))
        decode = assemble(WebSocketDecoder(1000))
        self.assertEqual([each for data in in_pieces(stream, sizes) for each in decode(data)], expected)

    def test_not_gathered(self) -> None:
        """What has come of a message goes on at once; a first piece comes with the header."""
        decoder = WebSocketDecoder(1 << 20)
        data = masked(b"x" * 70_000, TEXT)
        self.assertEqual(list(decoder.pieces(data[:14])), [(TEXT, b"", False)])
        self.assertEqual(list(decoder.pieces(data[14:15])), [(TEXT, b"x", False)])
        self.assertEqual(list(decoder.pieces(b"")), [])
        self.assertEqual(list(decoder.pieces(data[15:-1])), [(TEXT, b"x" * 69_998, False)])
        self.assertEqual(list(decoder.pieces(data[-1:])), [(TEXT, b"x", True)])
        self.assertEqual(decoder.held_bytes, 0)


#: First two bytes that are refused before a third one comes -> a word of the text.
HEADS = {
    b"\xc2\x80": "reserved",
    b"\xa2\x80": "reserved",
    b"\x92\x80": "reserved",
    b"\x82\x00": "not masked",
    b"\x82\x7f": "not masked",
    b"\x89\x00": "not masked",
    b"\x83\x80": "opcode 3",
    b"\x87\x80": "opcode 7",
    b"\x8b\x80": "opcode 11",
    b"\x8f\x80": "opcode 15",
    b"\x08\x80": "in parts",
    b"\x09\x80": "in parts",
    b"\x0a\x80": "in parts",
    b"\x88\xfe": "125 bytes",
    b"\x89\xff": "125 bytes",
    b"\x80\x80": "not begun",
    b"\x00\x80": "not begun",
}

#: Headers with a length that is refused when it is there.
LENGTHS = {
    b"\x82\xfe\x00\x7d\0\0\0\0": "more bytes than it needs",
    b"\x02\xfe\x00\x00\0\0\0\0": "more bytes than it needs",
    b"\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0": "more bytes than it needs",
    b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0": "2^63",
}

#: Payload of a close frame -> code and reason, or the code to close with.
CLOSES: dict[bytes, tuple[int | None, bytes | None] | int] = {
    b"": (None, None),
    b"\x03": PROTOCOL_VIOLATION,
    b"\x03\xe8": (1000, None),
    b"\x03\xe8\xc3\xbc": (1000, b"\xc3\xbc"),
    b"\x03\xe8\xc3": INVALID_PAYLOAD,
    b"\x03\xe8\xed\xa0\x80": INVALID_PAYLOAD,
    b"\x03\xe8\xf4\x90\x80\x80": INVALID_PAYLOAD,
    **{pack("!H", code): (code, None) for code in (1001, 1003, 1007, 1011, 1013, 3000, 3999, 4000, 4999)},
    **{pack("!H", code): PROTOCOL_VIOLATION for code in (0, 999, 1004, 1005, 1006, 1014, 1015, 2999, 5000, 65535)},
}


class TogetherTests(SynchronousTestCase):
    """Whole messages of one read come together."""

    def runs(self, data: bytes) -> list[tuple[int, list[bytes], bool]]:
        """Decode what one read brought."""
        return list(WebSocketDecoder(1 << 20).runs(data))

    def test_sizes(self) -> None:
        """Each comes out as it was sent, with its own mask, long or short or empty, among few or many."""
        many = [0, 1, 2, 3, 4, 5, 125, 126, 127, LONG_BYTES - 1, LONG_BYTES, 5000]
        for sizes in ([7] * 50, many, many[::-1], [5000, 5001], [125, 126], [0, 0]):
            payloads = [bytes((index + size) & 255 for index in range(size)) for size in sizes]
            masks = [pack("!I", 0x01020304 * (index + 1) & 0xFFFFFFFF) for index in range(len(sizes))]
            data = b"".join(masked(payload, mask=mask) for payload, mask in zip(payloads, masks, strict=True))
            self.assertEqual(self.runs(data), [(BINARY, payloads, True)])

    def test_others_between(self) -> None:
        """What is no whole binary message stands alone, in its place."""
        data = masked(b"one") + masked(b"two") + masked(b"", PING) + masked(b"three")
        data += masked(b"fo", is_last=False) + masked(b"ur", 0) + masked(b"five") + masked(b"six") + masked(b"cut")[:-1]
        expected = [
            (BINARY, [b"one", b"two"], True),
            (PING, [b""], True),
            (BINARY, [b"three"], True),
            (BINARY, [b"fo"], False),
            (BINARY, [b"ur"], True),
            (BINARY, [b"five", b"six"], True),
            (BINARY, [b"cu"], False),
        ]
        self.assertEqual(self.runs(data), expected)

    def test_before_a_mistake(self) -> None:
        """The good ones in front of a mistake come first."""
        runs = iter(WebSocketDecoder(1000).runs(masked(b"one") + masked(b"two") + b"\x82\x00"))
        self.assertEqual(next(runs), (BINARY, [b"one", b"two"], True))
        self.assertRaises(BrokenWebSocket, next, runs)

    def test_too_long_between(self) -> None:
        """A message over the limit is told in its place."""
        decoder = WebSocketDecoder(200)
        data = masked(b"one") + masked(b"x" * 201) + masked(b"two")
        kinds = [(kind, len(payloads[0])) for kind, payloads, _ in decoder.runs(data)]
        self.assertEqual(kinds, [(BINARY, 3), (OVERSIZED, 0), (BINARY, 201), (BINARY, 3)])

    def test_compiled_code(self) -> None:
        """Long ones are unmasked by the function that was handed in, short ones never."""
        seen: list[int] = []

        def record(data: bytes, mask: bytes) -> bytes:
            seen.append(len(data))
            return unmask(data, mask)

        for sizes in ([300, 400], [300], [10] * 20, [10]):
            list(WebSocketDecoder(1000, record).runs(b"".join(masked(bytes(size)) for size in sizes)))
        self.assertEqual(seen, [300, 400, 300])


class RefusalTests(SynchronousTestCase):
    """What no client may send."""

    def refused(self, data: bytes, good: int = 0) -> BrokenWebSocket:
        """Decode `data` in every cut; `good` pieces come first, then the same error, then nothing ever."""
        errors = set()
        for offset in range(len(data) + 1):
            decoder = WebSocketDecoder(1000)
            pieces = []
            with self.assertRaises(BrokenWebSocket) as caught:
                for part in (data[:offset], data[offset:]):
                    for piece in decoder.pieces(part):
                        pieces.append(piece)  # noqa: PERF402 what came before the error counts
            errors.add((caught.exception.problem, caught.exception.code))
            self.assertEqual(len(pieces), good, data.hex())
            self.assertEqual(list(decoder.pieces(masked(b"later"))), [])
            self.assertEqual(decoder.held_bytes, 0)
        self.assertEqual(len(errors), 1)
        self.assertLessEqual(len(caught.exception.problem.encode()), 123)
        self.assertIs(caught.exception.close_reason, CloseReason.PROTOCOL_ERROR)
        error: BrokenWebSocket = caught.exception
        return error

    def test_heads(self) -> None:
        """Reserved bits, no mask, unknown opcodes, broken control frames: refused at their second byte."""
        for head, word in HEADS.items():
            error = self.refused(head)
            self.assertIn(word, error.problem)
            self.assertEqual(error.code, PROTOCOL_VIOLATION)

    def test_lengths(self) -> None:
        """A length must be as short as it can be, and below 2^63."""
        for head, word in LENGTHS.items():
            self.assertIn(word, self.refused(head).problem)

    def test_inside_a_message(self) -> None:
        """A message must end before another one begins, and a mistake between its parts is one as well."""
        begun = masked(b"", is_last=False)
        for head in (b"\x82\x80", b"\x81\x80", b"\x02\x80"):
            self.assertIn("inside another", self.refused(begun + head, 1).problem)
        self.assertIn("not masked", self.refused(begun + b"\x80\x00", 1).problem)
        self.assertIn("reserved", self.refused(begun + b"\xc0\x80", 1).problem)

    def test_after_a_message(self) -> None:
        """A part that follows the end of its message belongs to none."""
        self.assertIn("not begun", self.refused(masked(b"") + b"\x80\x80", 1).problem)
        self.assertIn("not begun", self.refused(masked(b"", is_last=False) + masked(b"", 0) + b"\x80\x80", 2).problem)

    def test_closes(self) -> None:
        """A close frame may have a code of those that are sent, and a reason in UTF-8."""
        for payload, expected in CLOSES.items():
            if isinstance(expected, int):
                self.assertEqual(self.refused(masked(payload, CLOSE)).code, expected, payload)
                self.assertRaises(BrokenWebSocket, close_code_and_reason, payload)
            else:
                data = masked(payload, CLOSE)
                self.assertEqual(list(WebSocketDecoder(1000).pieces(data)), [(CLOSE, payload, True)])
                self.assertEqual(close_code_and_reason(payload), expected)

    def test_nothing_after_close(self) -> None:
        """What follows a close frame is passed over, right or wrong."""
        for rest in (masked(b"later"), masked(b"", CLOSE), b"\xff\xff"):
            decoder = WebSocketDecoder(1000)
            self.assertEqual(len(list(decoder.pieces(masked(b"", CLOSE) + rest))), 1)
            self.assertEqual(list(decoder.pieces(rest)), [])
            self.assertEqual(decoder.held_bytes, 0)


class BoundTests(SynchronousTestCase):
    """Nobody makes the node hold much, or read a message without end unseen."""

    def test_at_the_limit(self) -> None:
        """A message of exactly the limit is nothing special, in one part or in two."""
        data = masked(b"x" * 300) + masked(b"x" * 299, is_last=False) + masked(b"x", CONTINUATION)
        self.assertEqual([kind for kind, _, _ in WebSocketDecoder(300).pieces(data)], [BINARY] * 3)

    def test_over_the_limit(self) -> None:
        """A longer one is told when it is announced, before any of it, once; then it goes on."""
        decoder = WebSocketDecoder(300)
        data = masked(b"x" * 301, is_last=False)
        self.assertEqual(list(decoder.pieces(data[:8])), [(OVERSIZED, b"", False), (BINARY, b"", False)])
        self.assertEqual((decoder.message_bytes, decoder.max_message_bytes), (301, 300))
        kinds = [kind for kind, _, _ in decoder.pieces(data[8:] + masked(b"x", 0) + masked(b"y"))]
        self.assertEqual(kinds, [BINARY] * 3)
        self.assertEqual([kind for kind, _, _ in decoder.pieces(data)], [OVERSIZED, BINARY])
        whole = WebSocketDecoder(300).pieces(masked(b"x" * 301))
        self.assertEqual([(kind, is_end) for kind, _, is_end in whole], [(OVERSIZED, False), (BINARY, True)])

    def test_parts_together(self) -> None:
        """The limit is for all parts of a message; control frames between them do not count."""
        decoder = WebSocketDecoder(300)
        data = masked(b"x" * 200, is_last=False) + masked(b"x" * 101, PING) + masked(b"x" * 100, CONTINUATION, False)
        self.assertEqual([kind for kind, _, _ in decoder.pieces(data)], [BINARY, PING, BINARY])
        self.assertEqual([kind for kind, _, _ in decoder.pieces(masked(b"x", CONTINUATION))], [OVERSIZED, BINARY])

    def test_held(self) -> None:
        """A control frame of which one byte is missing is the most that is held."""
        decoder = WebSocketDecoder(300)
        ping = masked(bytes(125), PING)
        for byte in ping[:-1]:
            self.assertEqual(list(decoder.pieces(bytes((byte,)))), [])
        self.assertEqual(decoder.held_bytes, MAX_HELD_BYTES)
        self.assertEqual(list(decoder.pieces(ping[-1:] + masked(b"")[:5])), [(PING, bytes(125), True)])
        self.assertEqual(decoder.held_bytes, 5)

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(st.binary(max_size=300), st.lists(st.integers(0, 40), max_size=20))
    def test_garbage(self, garbage: bytes, sizes: list[int]) -> None:
        """Garbage gives pieces or a refusal, and never leaves more behind than the limit."""
        decoder = WebSocketDecoder(50)
        try:
            for data in in_pieces(garbage, sizes):
                list(decoder.pieces(data))
                self.assertLessEqual(decoder.held_bytes, MAX_HELD_BYTES)
        except BrokenWebSocket:
            self.assertEqual(list(decoder.pieces(garbage)), [])

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from(Opcode), st.binary(max_size=140), st.booleans()), min_size=1, max_size=5),
        st.data(),
    )
    def test_one_wrong_byte(self, frames: list[tuple[int, bytes, bool]], draw: st.DataObject) -> None:
        """A stream with a changed byte and a cut-off end ends the same however it is cut."""
        stream = bytearray(b"".join(masked(payload, opcode, is_last) for opcode, payload, is_last in frames))
        stream[draw.draw(st.integers(0, len(stream) - 1))] = draw.draw(st.integers(0, 255))
        data = bytes(stream[: draw.draw(st.integers(0, len(stream)))])
        sizes = draw.draw(st.lists(st.integers(0, 30), max_size=20))
        self.assertEqual(self.outcome([data]), self.outcome(in_pieces(data, sizes)))

    def outcome(self, reads: list[bytes]) -> tuple[list[list[object]], str]:
        """Return all pieces, those of one message joined, and the refusal."""
        decoder = WebSocketDecoder(200)
        joined: list[list[object]] = []
        payload, is_end, problem = b"", True, ""
        try:
            for data in reads:
                for kind, part, ends in decoder.pieces(data):
                    if kind > BINARY:
                        joined.append([kind, part])
                        continue
                    payload = part if is_end else payload + part
                    is_end = ends
                    if ends:
                        joined.append([kind, payload])
        except BrokenWebSocket as error:
            problem = error.problem
        return [*joined, [] if is_end else [payload]], problem
