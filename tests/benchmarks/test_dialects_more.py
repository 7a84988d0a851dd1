"""Tests for benchmarks.dialects_more."""

from __future__ import annotations

import struct

import msgpack  # type: ignore[import-untyped]
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.dialects import MESSAGE
from benchmarks.dialects_more import Crossbar


def event(subscription: int, publication: int) -> bytes:
    """A delivery as the router writes it."""
    packed: bytes = msgpack.packb([36, subscription, publication, {}, [MESSAGE]])
    return struct.pack("!I", len(packed)) + packed


class CrossbarTests(SynchronousTestCase):
    def test_varying(self) -> None:
        """Two deliveries of one message differ where the numbers that the router draws stand, and nowhere else."""
        begin, size = Crossbar.varying
        one, other = event(2**32, 2**53), event(2**53, 2**32)
        self.assertEqual(one[:begin] + one[begin + size :], other[:begin] + other[begin + size :])
        self.assertEqual(one[begin - 1], 36)
        self.assertEqual(one[begin + size], 0x80)

    def test_published(self) -> None:
        """The message stands whole in what is published behind the length of the frame, and no answer is wanted."""
        written, digits_at, mask = Crossbar().published()
        self.assertEqual(written[digits_at : digits_at + len(MESSAGE)], MESSAGE)
        self.assertEqual(mask, bytes(16))
        self.assertEqual(struct.unpack_from("!I", written)[0], len(written) - 4)
        self.assertEqual(msgpack.unpackb(written[4:]), [16, 3, {}, "g", [MESSAGE]])
