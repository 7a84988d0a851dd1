"""What is put off until the end of a turn."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.fanout.turn import TOGETHER, Turn


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


class Mailbox:
    """Has one thing to send; its socket takes `room` bytes, or fails with an OSError when that is negative."""

    def __init__(self, name: str, order: list[str], room: int = 100, is_simple: bool = True) -> None:
        self.name = name
        self.order = order
        self.room = room
        self.is_simple = is_simple

    def take(self) -> tuple[Callable[[bytes], int], bytes] | None:
        """See `Sendable`."""
        return (self.send, self.name.encode()) if self.is_simple else None

    def send(self, data: bytes) -> int:
        """The socket."""
        self.order.append(f"send {self.name}")
        if self.room < 0:
            raise BlockingIOError
        return min(self.room, len(data))

    def not_sent(self, rest: bytes) -> None:
        """See `Sendable`."""
        self.order.append(f"rest {rest.decode()}")
        if not self.room:
            raise RuntimeError(self.name)

    def flush(self) -> None:
        """See `Sendable`."""
        self.order.append(f"flush {self.name}")


class SendTests(SynchronousTestCase):
    """What is sent at the end of a turn."""

    def setUp(self) -> None:
        """A turn in which nothing was put off."""
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.order: list[str] = []

    def send(self, *mailboxes: Mailbox) -> list[str]:
        """End a turn in which they have something to send; return what was done."""
        self.turn.write(Work("write", self.order))
        for mailbox in mailboxes:
            self.turn.send(mailbox)
        self.turn.join(Work("join", self.order))
        self.clock.advance(0)
        return self.order

    def test_order(self) -> None:
        """Behind the joins and before the writes, in the order of asking; who has more to do comes after the others."""
        slow = Mailbox("b", self.order, is_simple=False)
        done = self.send(Mailbox("a", self.order), slow, Mailbox("c", self.order))
        self.assertEqual(done, ["join", "send a", "send c", "flush b", "write"])

    def test_partly(self) -> None:
        """A socket that takes a part, or nothing, gets the rest later; the others get theirs now."""
        boxes = [Mailbox("some", self.order, 2), Mailbox("none", self.order, -1), Mailbox("all", self.order)]
        done = self.send(*boxes, Mailbox("full", self.order, -1))
        self.assertEqual(done[1:5], ["send some", "send none", "send all", "send full"])
        self.assertEqual(done[5:], ["rest me", "rest none", "rest full", "write"])

    def test_failure(self) -> None:
        """One that fails to keep its rest is logged and holds nobody up."""
        done = self.send(Mailbox("bad", self.order, 0), Mailbox("some", self.order, 2))
        self.assertEqual(done[1:], ["send bad", "send some", "rest bad", "rest me", "write"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def send_some(self, *joins: Work) -> list[str]:
        """End a turn in which the first join sends a, has it go out at once, and sends b; return what was done."""

        def flush() -> None:
            self.turn.send(Mailbox("a", self.order))
            self.turn.send_some()
            self.order.append("between")
            self.turn.send(Mailbox("b", self.order))

        first = Work("first", self.order)
        first.flush = flush  # type: ignore[method-assign]
        for join in (first, *joins):
            self.turn.join(join)
        self.clock.advance(0)
        return self.order

    def test_some(self) -> None:
        """What the only join of a turn has ready goes out while it makes the rest."""
        self.assertEqual(self.send_some(), ["send a", "between", "send b"])

    def test_some_not_settled(self) -> None:
        """Beside another join nothing goes out early, for that may have more for the same receivers."""
        self.assertEqual(self.send_some(Work("second", self.order)), ["between", "second", "send a", "send b"])

    def test_some_answered(self) -> None:
        """Nor where something was to be sent before: an answer and the pushes behind it leave in one write."""
        self.turn.send(Mailbox("answer", self.order))
        self.assertEqual(self.send_some(), ["between", "send answer", "send a", "send b"])

    def test_some_outside(self) -> None:
        """Outside the end of a turn nothing goes out early."""
        self.turn.send(Mailbox("a", self.order))
        self.turn.send_some()
        self.assertEqual(self.order, [])

    def test_many(self) -> None:
        """More than are sent together are sent as well, each once."""
        names = [str(number) for number in range(3 * TOGETHER + 1)]
        done = self.send(*[Mailbox(name, self.order) for name in names])
        self.assertEqual(done[1:-1], [f"send {name}" for name in names])


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

    def test_one_timer_of_joins(self) -> None:
        """What joins add to their own turn asks the reactor for no other one."""
        waiting: list[int] = []
        join, write = self.work("join"), self.work("write")
        join.flush = lambda: self.turn.write(write)  # type: ignore[method-assign]
        write.flush = lambda: waiting.append(len(self.clock.getDelayedCalls()))  # type: ignore[method-assign]
        self.turn.join(join)
        self.clock.advance(0)
        self.assertEqual(waiting, [0])

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
