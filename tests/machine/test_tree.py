from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.tree import split


def lowest_tree(count: int, limit: int) -> int:
    """How many levels it takes at least to reach `count` nodes."""
    levels, reached, width = 0, 0, 1
    while reached < count:
        width *= limit
        reached += width
        levels += 1
    return levels


class SplitTests(SynchronousTestCase):
    def test_equal_parts(self) -> None:
        """Parts are of nearly equal size, and the order stays."""
        self.assertEqual(split("abcdefgh", 3), [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]])
        self.assertEqual(split("abcd", 2), [["a", "b"], ["c", "d"]])

    def test_few_targets(self) -> None:
        """Who has fewer targets than it may write to writes to each, and to nobody when there are none."""
        self.assertEqual(split("ab", 5), [["a"], ["b"]])
        self.assertEqual(split((), 2), [])

    def test_chain(self) -> None:
        """With a limit of one it goes from node to node."""
        self.assertEqual(split("abc", 1), [["a", "b", "c"]])

    def test_wrong_limit(self) -> None:
        """A limit that would reach nobody is refused, also when there is nobody to reach."""
        self.assertRaises(ValueError, split, "abc", 0)
        self.assertRaises(ValueError, split, "", -1)

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, 300), st.integers(1, 12))
    def test_passing_on(self, count: int, limit: int) -> None:
        """Each node gets it once, none writes to more than it may, and no tree is lower."""
        reached: list[int] = []
        waiting = [(list(range(count)), 0)]
        depth = 0
        while waiting:
            targets, level = waiting.pop()
            parts = split(targets, limit)
            sizes = [len(part) for part in parts]
            self.assertEqual(len(parts), min(limit, len(targets)))
            self.assertLessEqual(max(sizes, default=0) - min(sizes, default=0), 1)
            self.assertEqual([target for part in parts for target in part], targets)
            for part in parts:
                reached.append(part[0])
                depth = max(depth, level + 1)
                waiting.append((part[1:], level + 1))
        self.assertEqual(sorted(reached), list(range(count)))
        self.assertEqual(depth, lowest_tree(count, limit))
