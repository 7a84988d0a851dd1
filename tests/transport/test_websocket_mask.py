"""The compiled XOR that Autobahn brings along."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.transport.websocket_mask import fastest_unmask
from meshrelay.wire.websocket_decoder import unmask


class UnmaskTests(SynchronousTestCase):
    """It does what the one in Python does."""

    def setUp(self) -> None:
        """What this installation has."""
        self.compiled = fastest_unmask()
        if self.compiled is unmask:
            self.skipTest("missing: the extension _nvx_xormasker of this Autobahn")

    def test_every_length(self) -> None:
        """Payloads of every length around the steps of the compiled code, and a long one, come out the same."""
        for size in (*range(100), 191, 192, 193, 65536, 1 << 20):
            data = bytes((index * 31 + 7) & 255 for index in range(min(size, 4096))) * (size // 4096 or 1)
            self.assertEqual(self.compiled(data, b"\x37\xfa\x21\x3d"), unmask(data, b"\x37\xfa\x21\x3d"), size)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.binary(max_size=400), st.binary(min_size=4, max_size=4))
    def test_random(self, data: bytes, mask: bytes) -> None:
        """Any payload with any mask comes out the same, as bytes of its own, and back again."""
        original = bytes(data)
        unmasked = self.compiled(data, mask)
        self.assertEqual((unmasked, data), (unmask(data, mask), original))
        self.assertIs(type(unmasked), bytes)
        self.assertEqual(self.compiled(unmasked, mask), data)


class MissingTests(SynchronousTestCase):
    """An Autobahn that is built in another way."""

    def test_no_extension(self) -> None:
        """Without the extension, or with another one of that name, integers do it."""
        self.assertIs(fastest_unmask("no_such_extension"), unmask)
        self.assertIs(fastest_unmask("struct"), unmask)
