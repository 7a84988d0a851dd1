"""The cursor over a payload and its small fields."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedPayload
from meshrelay.wire.buffer import PayloadReader, encode_gid, encode_str8


class PayloadReaderTests(SynchronousTestCase):
    """Fields are read from front to back, and what is wrong is named."""

    def refused(self, payload: bytes, read: Callable[[PayloadReader], object]) -> str:
        """Return what the sender of `payload` is told."""
        return str(self.assertRaises(MalformedPayload, read, PayloadReader(payload)))

    def test_integers(self) -> None:
        """Integers are big-endian."""
        reader = PayloadReader(bytes.fromhex("010203040506ff"))
        self.assertEqual((reader.u8("a"), reader.u16("b"), reader.u32("c")), (0x01, 0x0203, 0x040506FF))
        self.assertTrue(reader.is_empty)

    def test_too_short(self) -> None:
        """A payload that ends too early names the field, what it needs and what is left."""
        self.assertEqual(self.refused(b"", lambda reader: reader.u8("flags")), "flags: 1 bytes needed, 0 left")
        self.assertEqual(self.refused(b"1", lambda reader: reader.u16("interval")), "interval: 2 bytes needed, 1 left")
        self.assertEqual(self.refused(b"123", lambda reader: reader.u32("ttl")), "ttl: 4 bytes needed, 3 left")
        self.assertEqual(self.refused(b"g" * 51, lambda reader: reader.gid("id")), "id: 52 bytes needed, 51 left")
        self.assertEqual(self.refused(b"\x03an", lambda reader: reader.user_id("user")), "user: 3 bytes needed, 2 left")

    def test_gid(self) -> None:
        """A group ID is 52 ASCII bytes and what follows is not part of it."""
        reader = PayloadReader(b"g" * 52 + b"rest")
        self.assertEqual(reader.gid("id"), "g" * 52)
        self.assertEqual(reader.rest(), b"rest")
        self.assertEqual(reader.rest(), b"")
        self.assertEqual(self.refused(b"g" * 51 + b"\xe9", lambda reader: reader.gid("id")), "id: not ASCII")

    def test_user_id_bounds(self) -> None:
        """A user ID has 1 to 128 bytes, counted in UTF-8."""
        self.assertEqual(PayloadReader(b"\x80" + b"u" * 128).user_id("user"), "u" * 128)
        self.assertEqual(PayloadReader(b"\x02\xc3\xa9").user_id("user"), "é")
        self.assertIn("0 bytes, allowed are 1 to 128", self.refused(b"\x00", lambda reader: reader.user_id("user")))
        self.assertIn("129 bytes", self.refused(b"\x81" + b"u" * 129, lambda reader: reader.user_id("user")))
        self.assertEqual(self.refused(b"\x01\xff", lambda reader: reader.user_id("user")), "user: not UTF-8")

    def test_end(self) -> None:
        """Bytes behind the last field are refused."""
        reader = PayloadReader(b"\x01\x02\x03")
        reader.u8("created")
        error = self.assertRaises(MalformedPayload, reader.end, "created")
        self.assertEqual(str(error), "2 bytes too many after created")
        reader.u16("rest")
        reader.end("rest")

    def test_failed_read_moves_nothing(self) -> None:
        """After a field that was too short the payload can still be read otherwise."""
        reader = PayloadReader(b"\x01\x02")
        self.assertRaises(MalformedPayload, reader.u32, "ttl")
        self.assertEqual(reader.u16("interval"), 0x0102)


class EncodeTests(SynchronousTestCase):
    """Small fields on their way out."""

    def test_str8(self) -> None:
        """A length byte counts bytes, not characters; more than 255 do not fit."""
        self.assertEqual(encode_str8("é"), b"\x02\xc3\xa9")
        self.assertEqual(encode_str8(""), b"\x00")
        self.assertEqual(len(encode_str8("x" * 255)), 256)
        self.assertRaises(ValueError, encode_str8, "x" * 256)

    def test_gid(self) -> None:
        """Nothing but 52 ASCII characters is a group ID."""
        self.assertEqual(encode_gid("g" * 52), b"g" * 52)
        for wrong in ("", "g" * 51, "g" * 53, "g" * 51 + "é"):
            self.assertRaises(ValueError, encode_gid, wrong)
