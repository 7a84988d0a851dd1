"""XOR distance between peer IDs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.distance import ID_BITS, distance, is_closer, shared_bits

IDS = st.binary(min_size=20, max_size=20)


class DistanceTests(SynchronousTestCase):
    """What is near."""

    def test_known(self) -> None:
        """The first bit counts most, and an ID is at no distance from itself."""
        own = bytes(20)
        for other, far, shared in (
            (bytes(20), 0, ID_BITS),
            (bytes(19) + b"\x01", 1, ID_BITS - 1),
            (b"\x80" + bytes(19), 1 << 159, 0),
            (b"\x01" + bytes(19), 1 << 152, 7),
        ):
            self.assertEqual((distance(own, other), shared_bits(own, other)), (far, shared))

    @given(IDS, IDS, IDS)
    def test_rules(self, one: bytes, other: bytes, target: bytes) -> None:
        """Both ends see the same distance, and of two IDs one is closer, unless they are the same."""
        self.assertEqual(distance(one, other), distance(other, one))
        self.assertEqual(is_closer(one, other, target), distance(one, target) < distance(other, target))
        self.assertEqual(one != other, is_closer(one, other, target) or is_closer(other, one, target))
        self.assertEqual(bytes(a ^ b for a, b in zip(one, other, strict=True)), distance(one, other).to_bytes(20))
