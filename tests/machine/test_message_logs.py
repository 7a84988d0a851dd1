"""Tests of `meshrelay.machine.message_logs`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.message_logs import ITEM_OVERHEAD_BYTES, LogLimits, MessageLogs, count_fitting
from meshrelay.wire.group_log import LogPage

LIMITS = LogLimits(3, 10.0)
ALL = (100, 1 << 20)


class MessageLogTests(SynchronousTestCase):
    """Offsets and bounds."""

    def setUp(self) -> None:
        """Room for ten thousand bytes."""
        self.logs = MessageLogs(10_000, max_logs=4)
        self.epoch = 100

    def append(self, group_id: str, *entries: bytes, known: int = 0, now: float = 0.0) -> tuple[int, int]:
        """Keep messages."""
        self.epoch += 1
        return self.logs.append(group_id, known, entries, LIMITS, self.epoch, now)

    def read(self, group_id: str, after: int = 0, known: int = 0, now: float = 0.0) -> LogPage:
        """All that is kept."""
        self.epoch += 1
        return self.logs.read(group_id, known, after, ALL, self.epoch, now, LIMITS)

    def test_offsets(self) -> None:
        """Messages are counted from 1 in each group, and an epoch lasts."""
        self.assertEqual(self.append("a", b"x", b"y"), (101, 1))
        self.assertEqual(self.append("a", b"z"), (101, 3))
        self.assertEqual(self.append("b", b"x"), (103, 1))
        self.assertEqual(self.read("a", 1), LogPage(101, 3, 2, (b"y", b"z")))
        self.assertEqual(self.read("a", 3), LogPage(101, 3, 4, ()))
        self.assertEqual(self.read("a", 99).entries, ())

    def test_size(self) -> None:
        """A group keeps its last messages; what was before is counted as dropped."""
        self.append("a", *(b"%d" % number for number in range(1, 6)))
        self.assertEqual(self.read("a"), LogPage(101, 5, 3, (b"3", b"4", b"5")))
        self.assertEqual((self.logs.message_count, self.logs.dropped_count), (3, 2))

    def test_age(self) -> None:
        """What is too old is gone, the offsets go on."""
        self.append("a", b"old", now=0.0)
        self.append("a", b"new", now=5.0)
        self.assertEqual(self.read("a", now=10.0).entries, (b"new",))
        self.assertEqual(self.append("a", b"newer", now=20.0), (101, 3))
        self.assertEqual(self.logs.message_count, 1)

    def test_old_of_others(self) -> None:
        """What nobody reads or adds to any more is given back when another group is added to."""
        self.append("a", b"old", now=0.0)
        self.append("b", b"new", now=50.0)
        self.assertEqual(self.logs.message_count, 1)
        self.assertEqual(self.read("a", now=50.0).head, 1)

    def test_bytes(self) -> None:
        """One group takes an eighth at most; over the whole the history that was added to longest ago goes."""
        self.append("a", b"x" * 600, b"y" * 600)
        self.assertEqual(self.read("a").entries, (b"y" * 600,))
        logs = MessageLogs(8 * (500 + ITEM_OVERHEAD_BYTES))
        for number in range(9):
            logs.append(f"g{number}", 0, [b"x" * 500], LIMITS, number + 1, 0.0)
        self.assertEqual((len(logs), logs.evicted_count, logs.bytes), (8, 1, 8 * 660))
        self.assertEqual(logs.append("g0", 0, [b"x"], LIMITS, 77, 0.0), (77, 1))

    def test_count(self) -> None:
        """There are never more histories than allowed, empty ones included."""
        for number in range(10):
            self.read(f"g{number}")
        self.assertEqual((len(self.logs), self.logs.evicted_count), (4, 6))

    def test_epochs(self) -> None:
        """Who knows of a later epoch begins a greater one; an earlier one is no reason."""
        self.append("a", b"x")
        self.assertEqual(self.append("a", b"y", known=50), (101, 2))
        self.assertEqual(self.append("a", b"z", known=5000), (5001, 1))
        self.assertEqual(self.read("a", known=5002), LogPage(5003, 0, 1, ()))

    def test_page(self) -> None:
        """A page is as long as asked for, but for one message."""
        self.append("a", b"xx", b"yy", b"zz")
        read = self.logs.read
        self.assertEqual(read("a", 0, 0, (2, 100), 1, 0.0, LIMITS).entries, (b"xx", b"yy"))
        self.assertEqual(read("a", 0, 0, (9, 3), 1, 0.0, LIMITS).entries, (b"xx",))
        self.assertEqual(read("a", 0, 0, (9, 1), 1, 0.0, LIMITS).entries, (b"xx",))
        self.assertEqual(read("a", 0, 0, (0, 0), 1, 0.0, LIMITS).entries, ())


class FittingTests(SynchronousTestCase):
    """What goes together."""

    def test_fitting(self) -> None:
        """As many as there is room for, and one at least; of nothing, nothing."""
        for sizes, expected in (((), 0), ((5,), 1), ((50,), 1), ((5, 5), 2), ((5, 6), 1), ((1, 1, 1, 1), 3)):
            self.assertEqual(count_fitting([bytes(size) for size in sizes], 3, 10), expected, sizes)
