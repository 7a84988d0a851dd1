from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.ranges import RangeSet

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 12)), max_size=40)


class RangeSetTests(SynchronousTestCase):
    def test_neighbours_join(self) -> None:
        """Numbers that follow each other are told as one range."""
        ranges = RangeSet()
        for number in (5, 7, 6, 9):
            ranges.add(number, number)
        self.assertEqual(ranges.ranges(), [(5, 7), (9, 9)])
        self.assertEqual(len(ranges), 2)

    def test_add_tells_what_is_new(self) -> None:
        """Only what was not there before counts as news."""
        ranges = RangeSet()
        ranges.add(5, 7)
        ranges.add(10, 10)
        self.assertEqual(ranges.add(4, 12), [(4, 4), (8, 9), (11, 12)])
        self.assertEqual(ranges.add(4, 12), [])
        self.assertEqual(ranges.ranges(), [(4, 12)])

    def test_lowest_tells_the_news(self) -> None:
        """When there are more ranges than fit, the lowest are told and the one that changed last."""
        ranges = RangeSet()
        for number in range(0, 20, 2):
            ranges.add(number, number)
        self.assertEqual(ranges.lowest(3, 14), [(0, 0), (2, 2), (14, 14)])
        self.assertEqual(ranges.lowest(3, 2), [(0, 0), (2, 2), (4, 4)])
        self.assertEqual(len(ranges.lowest(10, 14)), 10)

    def test_remove_below(self) -> None:
        """What the stream has passed is forgotten, a range that reaches beyond stays in part."""
        ranges = RangeSet()
        ranges.add(1, 2)
        ranges.add(5, 8)
        ranges.remove_below(7)
        self.assertEqual(ranges.ranges(), [(7, 8)])
        ranges.remove_below(9)
        self.assertEqual(ranges.ranges(), [])

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(STEPS)
    def test_like_a_set(self, steps: list[tuple[bool, int, int]]) -> None:
        """Whatever is added and forgotten, it holds the same numbers as a set would."""
        ranges, model = RangeSet(), set[int]()
        for is_adding, first, length in steps:
            if is_adding:
                wanted = set(range(first, first + length + 1))
                fresh = {n for begin, end in ranges.add(first, first + length) for n in range(begin, end + 1)}
                self.assertEqual(fresh, wanted - model)
                model |= wanted
            else:
                ranges.remove_below(first)
                model = {number for number in model if number >= first}
            held = ranges.ranges()
            self.assertEqual({n for begin, end in held for n in range(begin, end + 1)}, model)
            self.assertEqual([number in ranges for number in range(75)], [number in model for number in range(75)])
            self.assertTrue(all(before[1] + 1 < after[0] for before, after in pairwise(held)))
