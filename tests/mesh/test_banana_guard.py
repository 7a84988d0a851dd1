"""What a peer may make Perspective Broker build."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import RemoteProtocolError
from meshrelay.mesh.banana_guard import MAX_ITEMS, MAX_NESTING, MAX_STRING_BYTES, MAX_UNPARSED_BYTES, BananaGuard


def head(kind: int, number: int) -> bytes:
    """The head of a token."""
    digits = bytearray()
    while number:
        digits.append(number & 0x7F)
        number >>= 7
    return bytes(digits or b"\0") + bytes((kind,))


def a_list(*items: bytes) -> bytes:
    """A list."""
    return head(0x80, len(items)) + b"".join(items)


def a_string(content: bytes) -> bytes:
    """A string."""
    return head(0x82, len(content)) + content


#: As a batch looks: [message, number, "root", "batch", 1, [tuple, data], [dictionary]].
CALL = a_list(
    head(0x87, 26),
    head(0x81, 300),
    a_string(b"root"),
    a_string(b"batch"),
    head(0x81, 1),
    a_list(head(0x87, 11), a_string(b"\x80\xff" * 5000)),
    a_list(head(0x87, 5)),
)


class GuardTests(SynchronousTestCase):
    """Bounds, however the bytes are cut."""

    def refused(self, data: bytes) -> None:
        """Expect that `data` is refused, whole and in pieces."""
        self.assertRaises(RemoteProtocolError, BananaGuard().check, data)
        guard = BananaGuard()
        with self.assertRaises(RemoteProtocolError):
            for start in range(0, len(data), 1000):
                guard.check(data[start : start + 1000])

    def test_honest(self) -> None:
        """What nodes send passes, whole, byte by byte and cut anywhere, for ever."""
        guard = BananaGuard()
        for _ in range(300):
            guard.check(CALL)
        self.assertEqual(guard.nesting, 0)
        for byte in CALL:
            guard.check(bytes((byte,)))
        self.assertEqual(guard.nesting, 0)
        for cut in range(0, len(CALL), 97):
            guard.check(CALL[:cut])
            guard.check(CALL[cut:])
            self.assertEqual(guard.nesting, 0)

    def test_nesting(self) -> None:
        """32 lists in each other are taken, one more is refused; empty lists close at once."""
        guard = BananaGuard()
        guard.check(head(0x80, 1) * MAX_NESTING)
        self.assertEqual(guard.nesting, MAX_NESTING)
        guard.check(head(0x81, 1))
        self.assertEqual(guard.nesting, 0)
        guard.check(a_list() * 1000)
        self.refused(head(0x80, 1) * (MAX_NESTING + 1))

    def test_strings(self) -> None:
        """A string over 640 KiB is refused by its head."""
        BananaGuard().check(head(0x82, MAX_STRING_BYTES))
        self.refused(head(0x82, MAX_STRING_BYTES + 1))

    def test_items(self) -> None:
        """An expression has at most 256 items."""
        self.refused(head(0x80, MAX_ITEMS + 1))
        inner = a_list(*[head(0x81, 1)] * 200)
        self.refused(a_list(inner, inner))

    def test_unparsed(self) -> None:
        """An expression has at most 2 MiB; what comes behind a whole one counts anew."""
        guard, quarter = BananaGuard(), a_string(b"x" * (MAX_UNPARSED_BYTES // 4 - 10))
        for _ in range(5):
            guard.check(a_list(quarter, quarter, quarter, quarter))
        self.refused(head(0x80, 5) + quarter * 4 + head(0x82, 100) + b"x" * 100)

    def test_digits(self) -> None:
        """A number without an end is refused while it comes."""
        self.refused(b"\x01" * 10)
        guard = BananaGuard()
        guard.check(b"\x01" * 5)
        self.assertRaises(RemoteProtocolError, guard.check, b"\x01" * 5)

    def test_types(self) -> None:
        """Tokens that banana does not know are refused; floats have 8 bytes."""
        self.refused(b"\x01\x88")
        guard = BananaGuard()
        guard.check(a_list(b"\x84" + b"\x80" * 8))
        self.assertEqual(guard.nesting, 0)

    def test_garbage(self) -> None:
        """Random bytes are taken or refused, nothing else."""
        random = Random(5)
        for _ in range(500):
            guard = BananaGuard()
            try:
                for _ in range(5):
                    guard.check(random.randbytes(random.randrange(100)))
            except RemoteProtocolError:
                continue
