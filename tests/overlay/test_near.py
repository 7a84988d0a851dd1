"""Who is nearest to an ID."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.distance import distance
from meshrelay.overlay.near import NearIds

# IDs of few different bytes have long beginnings in common.
IDS = st.binary(min_size=20, max_size=20) | st.lists(st.sampled_from(b"\x00\x01\xff"), min_size=20, max_size=20).map(
    bytes
)


def by_hand(ids: set[bytes], target: bytes) -> list[bytes]:
    """All of them, the nearest first."""
    return sorted(ids, key=lambda peer_id: distance(peer_id, target))


class CountedNumbers(list[int]):
    """Counts what is taken out of it."""

    taken_count = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.taken_count += len(found) if isinstance(key, slice) else 1
        return found


class NearTests(SynchronousTestCase):
    """The set."""

    @given(st.sets(IDS, max_size=80), IDS, st.integers(0, 25), st.sets(IDS, max_size=3))
    def test_closest(self, ids: set[bytes], target: bytes, count: int, others: set[bytes]) -> None:
        """The answer is what sorting by distance gives, without those excluded."""
        near = NearIds(ids)
        exclude = others | set(list(ids)[::3])
        self.assertEqual(near.closest(target, count), by_hand(ids, target)[:count])
        self.assertEqual(near.closest(target, count, exclude), by_hand(ids - exclude, target)[:count])

    @given(st.lists(st.tuples(st.booleans(), IDS.map(lambda peer_id: peer_id[:1] * 20))), IDS)
    def test_changes(self, changes: list[tuple[bool, bytes]], target: bytes) -> None:
        """IDs that come and go, also twice, are in the answers as long as they are there."""
        near, model = NearIds(), set[bytes]()
        for is_added, peer_id in changes:
            (near.add if is_added else near.discard)(peer_id)
            (model.add if is_added else model.discard)(peer_id)
        self.assertEqual((set(near), len(near)), (model, len(model)))
        self.assertEqual(near.closest(target, 10), by_hand(model, target)[:10])
        self.assertTrue(all(peer_id in near for peer_id in model))
        self.assertNotIn(b"other", near)

    def test_no_count(self) -> None:
        """Nobody is asked for, nobody is named."""
        near = NearIds([bytes(20)])
        self.assertEqual((near.closest(bytes(20), 0), near.closest(bytes(20), -1)), ([], []))

    def test_few_steps(self) -> None:
        """An answer looks at those that it names, not at all: also when somebody chose the IDs."""
        source = Random(3)
        chosen = [bytes(19 - at) + b"\x01" + source.randbytes(at) for at in range(20) for _ in range(200)]
        ids = {*chosen, *(source.randbytes(20) for _ in range(20_000))}
        near = NearIds(ids)
        near._sorted = counted = CountedNumbers(near._sorted)
        for target in (bytes(20), b"\xff" * 20, source.randbytes(20)):
            counted.taken_count = 0
            self.assertEqual(near.closest(target, 20), by_hand(ids, target)[:20])
            self.assertLess(counted.taken_count, 500)
            self.assertGreater(counted.taken_count, 19)
