from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.packets import encode_dat_header
from meshrelay.machine.unordered import EarlyMessages


def dat(sequence: int, payload: bytes, piece: int = 0, pieces: int = 1) -> bytes:
    """Return the content of a DAT."""
    return encode_dat_header(sequence, piece, pieces) + payload


class EarlyMessagesTests(SynchronousTestCase):
    def test_as_they_come(self) -> None:
        """What comes is given out at once, whatever is missing before it; twice is once."""
        early = EarlyMessages()
        got = [early.receive(dat(number, bytes((number,)))) for number in (5, 9, 7, 9, 5, 6)]
        self.assertEqual(got, [b"\5", b"\x09", b"\7", None, None, b"\6"])

    def test_pieces(self) -> None:
        """A long message comes out whole when its last piece is there, in whatever order they came."""
        early = EarlyMessages()
        self.assertIsNone(early.receive(dat(12, b"c", 2, 3)))
        self.assertIsNone(early.receive(dat(10, b"a", 0, 3)))
        self.assertEqual(early.receive(dat(13, b"next")), b"next")
        self.assertEqual(early.held_bytes, 2)
        self.assertEqual(early.receive(dat(11, b"b", 1, 3)), b"abc")
        self.assertEqual(early.held_bytes, 0)

    def test_wrap(self) -> None:
        """The numbers go past 2^32 without anything lost or doubled, in any order."""
        first, count = 0xFFFFFFF0, 40
        numbers = [(first + number) % 2**32 for number in range(count)] * 2
        Random(2).shuffle(numbers)
        early = EarlyMessages()
        got = [data for number in numbers if (data := early.receive(dat(number, number.to_bytes(4, "big"))))]
        self.assertEqual(len(got), count)
        self.assertEqual(len(set(got)), count)
        self.assertEqual(len(early._seen), 1)
