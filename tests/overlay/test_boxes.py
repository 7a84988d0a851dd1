"""What is inside a sealed box."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.boxes import (
    MAX_ACK_BYTES,
    MAX_RANGES,
    Acknowledged,
    BadBox,
    Numbered,
    decode_box,
    encode_ack,
    encode_message,
)

RUN = bytes(range(16))


class BoxTests(SynchronousTestCase):
    """Messages and acknowledgements."""

    def test_vectors(self) -> None:
        """The bytes are the same in every version."""
        message = encode_message(Numbered(7, b'"hi"'))
        ack = encode_ack(RUN, [3, 1, 2, 9])
        self.assertEqual(message.hex(), "010000000c" + "0000000000000007" + "22686922")
        self.assertEqual(
            ack.hex(), "0200000024" + RUN.hex() + "0000000000000001" + "0002" + "0000000000000009" + "0000"
        )
        self.assertEqual(encode_message(Numbered(7, None)).hex(), "0300000008" + "0000000000000007")
        self.assertEqual(decode_box(message + ack), [Numbered(7, b'"hi"'), Acknowledged(RUN, ((1, 3), (9, 9)))])
        self.assertEqual(decode_box(encode_message(Numbered(7, None))), [Numbered(7, None)])

    def test_cut(self) -> None:
        """A box that was cut inside a part is refused as a whole."""
        message = encode_message(Numbered(7, b'"hi"'))
        content = message + encode_ack(RUN, [1])
        for length in range(len(content)):
            if length in (0, len(message)):
                continue
            self.assertRaises(BadBox, decode_box, content[:length])

    def test_later_kinds(self) -> None:
        """Parts that later versions add are skipped."""
        self.assertEqual(decode_box(b"\x09\0\0\0\x02ab" + encode_message(Numbered(1, b"0"))), [Numbered(1, b"0")])
        self.assertEqual(decode_box(b""), [])

    def test_wrong(self) -> None:
        """What makes no sense is refused: numbers out of range, no JSON, halves of ranges, too many."""
        wrong = [
            encode_message(Numbered(0, b"0")),
            encode_message(Numbered(1 << 53, b"0")),
            encode_message(Numbered(1, b"")),
            encode_message(Numbered(1, b"nope")),
            encode_message(Numbered(1, b"NaN")),
            encode_message(Numbered(1, b'"\xff"')),
            encode_message(Numbered(1, b"1 2")),
            encode_message(Numbered(1, b"[" * 200 + b"]" * 200)),
            encode_message(Numbered(1, b"[" * 5000 + b"]" * 5000)),
            b"\x03\0\0\0\x09" + bytes(7) + b"\1\1",
            b"\x02\0\0\0\x0f" + bytes(15),
            b"\x02\0\0\0\x11" + bytes(17),
            b"\x02" + (16 + 10 * (MAX_RANGES + 1)).to_bytes(4, "big") + bytes(16 + 10 * (MAX_RANGES + 1)),
        ]
        for content in wrong:
            self.assertRaises(BadBox, decode_box, content)

    def test_bound(self) -> None:
        """An acknowledgement is bounded and names the newest; a long row of numbers is one range."""
        (ack,) = decode_box(encode_ack(RUN, range(2, 2000, 2)))
        assert isinstance(ack, Acknowledged)
        self.assertEqual((len(ack.ranges), ack.ranges[-1]), (MAX_RANGES, (1998, 1998)))
        self.assertEqual(len(encode_ack(RUN, range(2, 2000, 2))), MAX_ACK_BYTES)
        self.assertEqual(
            decode_box(encode_ack(RUN, range(1, 70_000))), [Acknowledged(RUN, ((1, 65536), (65537, 69_999)))]
        )

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(st.binary(max_size=80))
    def test_garbage(self, content: bytes) -> None:
        """Whatever is in a box, it is refused or understood."""
        try:
            decode_box(content)
        except BadBox:
            pass

    @settings(derandomize=True, max_examples=50, deadline=None)
    @given(st.sets(st.integers(1, 300), min_size=1))
    def test_ranges(self, numbers: set[int]) -> None:
        """Exactly the numbers that came are acknowledged."""
        (ack,) = decode_box(encode_ack(RUN, numbers))
        assert isinstance(ack, Acknowledged)
        self.assertEqual({n for first, last in ack.ranges for n in range(first, last + 1)}, numbers)
