"""What is put off until the end of a turn."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.fanout.turn import Turn


class Work:
    """Something to flush; may put off more, or fail."""

    def __init__(self, name: str, order: list[str], turn: Turn | None = None, fails: bool = False) -> None:
        self.name = name
        self.order = order
        self.turn = turn
        self.fails = fails

    def flush(self) -> None:
        """Write down that it happened."""
        self.order.append(self.name)
        if self.fails:
            raise RuntimeError(self.name)
        if self.turn is not None:
            self.turn.write(Work(f"{self.name} write", self.order))
            self.turn.join(Work(f"{self.name} join", self.order))


class TurnTests(SynchronousTestCase):
    """The end of a turn."""

    def setUp(self) -> None:
        """A turn in which nothing was put off."""
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.order: list[str] = []

    def work(self, name: str, again: bool = False, fails: bool = False) -> Work:
        """Return something to flush."""
        return Work(name, self.order, self.turn if again else None, fails)

    def test_joins_first(self) -> None:
        """Joins come before writes, each in the order in which they were put off."""
        self.turn.write(self.work("write 1"))
        self.turn.join(self.work("join 1"))
        self.turn.join(self.work("join 2"))
        self.turn.write(self.work("write 2"))
        self.assertEqual(self.order, [])
        self.clock.advance(0)
        self.assertEqual(self.order, ["join 1", "join 2", "write 1", "write 2"])

    def test_one_timer(self) -> None:
        """However much is put off, the reactor is asked once; without anything, never."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for index in range(5):
            self.turn.join(self.work(str(index)))
            self.turn.write(self.work(str(index)))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_joins_add_writes(self) -> None:
        """What a join has to write is written in the same turn; what it has to join, in the next."""
        self.turn.join(self.work("a", again=True))
        self.turn.end()
        self.assertEqual(self.order, ["a", "a write"])
        self.clock.advance(0)
        self.assertEqual(self.order, ["a", "a write", "a join"])

    def test_failure(self) -> None:
        """One that fails is logged and holds nobody up."""
        self.turn.join(self.work("bad join", fails=True))
        self.turn.join(self.work("join"))
        self.turn.write(self.work("bad write", fails=True))
        self.turn.write(self.work("write"))
        self.clock.advance(0)
        self.assertEqual(self.order, ["bad join", "join", "bad write", "write"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_ended_early(self) -> None:
        """A turn that was ended by hand does nothing twice."""
        self.turn.join(self.work("a"))
        self.turn.end()
        self.turn.join(self.work("b"))
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual(self.order, ["a", "b"])
