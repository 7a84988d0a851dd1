"""What waits for one connection."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from meshrelay.counters import NodeCounters
from meshrelay.fanout import outbox
from meshrelay.fanout.outbox import (
    DISCONNECT,
    DROP_NEWEST,
    DROP_OLDEST,
    MAX_WRITE_BYTES,
    POLICIES,
    Outbox,
    OutboxLimits,
)
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IStreamWriter


@implementer(IStreamWriter)
class Writer:
    """Keeps each write; takes no more after `room` bytes, until `drain`."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.writes: list[bytes] = []
        #: What was taken directly, when it `is_direct`.
        self.sends: list[bytes] = []
        self.is_direct = False
        #: Both, in order.
        self.everything = b""
        self.room = room
        self.outbox: Outbox | None = None
        self.is_finished = False

    def write(self, data: bytes) -> None:
        """See `IStreamWriter`."""
        self.writes.append(data)
        self.everything += data
        self.room -= len(data)
        if self.room <= 0 and self.outbox is not None:
            self.outbox.writing_paused()

    def direct_send(self) -> Callable[[bytes], int] | None:
        """See `IStreamWriter`."""
        return self.send if self.is_direct else None

    def send(self, data: bytes) -> int:
        """Take what there is room for at once, like a socket."""
        if self.room <= 0:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.sends.append(taken)
        self.everything += taken
        return len(taken)

    def not_sent(self, rest: bytes) -> None:
        """See `IStreamWriter`."""
        self.write(rest)

    def finish(self) -> None:
        """See `IStreamWriter`."""
        self.is_finished = True

    def drain(self, room: int = 1 << 30) -> None:
        """Take `room` bytes again."""
        self.room = room
        assert self.outbox is not None
        self.outbox.writing_resumed()


class OutboxTestCase(SynchronousTestCase):
    """An outbox for 100 bytes."""

    policy = DISCONNECT

    def setUp(self) -> None:
        """Nothing waits, and the writer takes everything."""
        self.clock = Clock()
        self.counters = NodeCounters()
        self.overflows: list[int] = []
        self.drops: list[int] = []
        self.writer = Writer()
        self.turn = Turn(self.clock)
        self.outbox = self.writer.outbox = Outbox(
            self.writer,
            self.turn,
            OutboxLimits(100, self.policy),
            self.counters.transports["tcp"],
            self.counters,
            self.overflows.append,
            self.drops.append,
        )

    def fill(self, *texts: bytes) -> None:
        """Pause the connection and let these pushes wait."""
        self.outbox.writing_paused()
        for text in texts:
            self.outbox.push(text, 1)

    @property
    def written(self) -> bytes:
        """All that was handed to the writer."""
        return b"".join(self.writer.writes)


class WriteTests(OutboxTestCase):
    """While the connection takes everything."""

    def test_contracts(self) -> None:
        """The writer here is what an outbox writes to."""
        verifyObject(IStreamWriter, self.writer)
        self.assertEqual(POLICIES, (DISCONNECT, DROP_OLDEST, DROP_NEWEST))

    def test_one_write_a_turn(self) -> None:
        """Answers and pushes of one turn leave in one write, in order."""
        self.outbox.send(b"answer")
        self.outbox.push(b"push push", 2)
        self.assertEqual((self.writer.writes, self.outbox.waiting_bytes), ([], 15))
        self.clock.advance(0)
        self.assertEqual(self.writer.writes, [b"answerpush push"])
        self.assertEqual(self.outbox.waiting_bytes, 0)
        counters = self.counters.transports["tcp"]
        self.assertEqual((counters.messages_sent, counters.bytes_sent), (3, 15))

    def test_direct(self) -> None:
        """A single push goes straight to the socket; what that does not take is written by and by, behind it."""
        self.writer.is_direct, self.writer.room = True, 10
        self.outbox.push(b"first", 1)
        self.clock.advance(0)
        self.outbox.push(b"second", 2)
        self.clock.advance(0)
        self.outbox.push(b"third", 1)
        self.clock.advance(0)
        self.assertEqual((self.writer.sends, self.writer.writes), ([b"first", b"secon"], [b"d"]))
        self.assertEqual(self.outbox.waiting_bytes, 5)
        counters = self.counters.transports["tcp"]
        self.assertEqual((counters.messages_sent, counters.bytes_sent), (3, 11))
        self.writer.drain()
        self.assertEqual(self.writer.writes, [b"d", b"third"])

    def test_not_direct(self) -> None:
        """What is not one push for an open connection takes the long way."""
        self.writer.is_direct = True
        self.assertIsNone(self.outbox.take())
        self.outbox.push(b"a", 1)
        self.outbox.push(b"b", 1)
        self.assertIsNone(self.outbox.take())
        self.clock.advance(0)
        self.outbox.push(b"c", 1)
        self.outbox.writing_paused()
        self.assertIsNone(self.outbox.take())
        self.outbox.finish(lambda: None)
        self.outbox.writing_resumed()
        self.assertEqual((self.writer.sends, self.writer.writes), ([], [b"ab", b"c"]))

    def test_shared(self) -> None:
        """A single push is written as the same bytes object that all members share."""
        data = b"shared by all"
        self.outbox.push(data, 1)
        self.clock.advance(0)
        self.assertIs(self.writer.writes[0], data)

    def test_large(self) -> None:
        """More than 128 KiB do not wait for the end of the turn, and are not joined into one write."""
        data = bytes(MAX_WRITE_BYTES // 2)
        for _ in range(2):
            self.outbox.push(data, 1)
        self.assertEqual(self.writer.writes, [])
        self.outbox.push(b"one more", 1)
        self.assertEqual([len(write) for write in self.writer.writes], [MAX_WRITE_BYTES, 8])

    def test_huge_single(self) -> None:
        """One push that is larger than a write goes out alone."""
        self.outbox.push(b"a", 1)
        self.outbox.push(bytes(MAX_WRITE_BYTES + 1), 1)
        self.outbox.push(b"b", 1)
        self.clock.advance(0)
        self.assertEqual([len(write) for write in self.writer.writes], [1, MAX_WRITE_BYTES + 1, 1])


class PauseTests(OutboxTestCase):
    """While the connection takes nothing."""

    def test_waits(self) -> None:
        """Everything waits, up to the bound to the byte, and goes out when there is room."""
        self.fill(b"x" * 60, b"y" * 40)
        self.clock.advance(0)
        self.assertEqual((self.writer.writes, self.overflows), ([], []))
        self.writer.drain()
        self.assertEqual(self.written, b"x" * 60 + b"y" * 40)

    def test_paused_by_a_write(self) -> None:
        """A write that fills the connection stops the next one."""
        self.writer.room = 10
        self.outbox.push(b"x" * 10, 1)
        self.clock.advance(0)
        self.outbox.push(b"y" * 10, 1)
        self.clock.advance(0)
        self.assertEqual(self.written, b"x" * 10)
        self.writer.drain(5)
        self.outbox.push(b"z", 1)
        self.writer.drain()
        self.assertEqual(self.written, b"x" * 10 + b"y" * 10 + b"z")

    def test_order_after_resuming(self) -> None:
        """What waited goes before what comes."""
        self.fill(b"1", b"2")
        self.writer.drain()
        self.outbox.push(b"3", 1)
        self.clock.advance(0)
        self.assertEqual(self.written, b"123")


class DisconnectTests(OutboxTestCase):
    """Policy disconnect."""

    policy = DISCONNECT

    def test_bound(self) -> None:
        """One byte over the bound and the connection has to be closed; nothing is dropped before."""
        self.fill(b"x" * 100)
        self.assertEqual(self.overflows, [])
        self.outbox.push(b"y", 1)
        self.assertEqual((self.overflows, self.drops), ([101], []))

    def test_answers(self) -> None:
        """Answers count like pushes."""
        self.fill(b"x" * 100)
        self.outbox.send(b"answer")
        self.assertEqual(self.overflows, [106])

    def test_overflow_found_by_a_write(self) -> None:
        """What was too much for the connection is noticed when the turn ends, not with the next push."""
        self.writer.room = 1
        self.outbox.push(bytes(MAX_WRITE_BYTES), 1)
        self.outbox.push(b"y" * 101, 1)
        self.assertEqual(self.overflows, [101])

    def test_bound_after_a_write(self) -> None:
        """What waits up to the bound to the byte is no overflow, however it came to wait."""
        self.writer.room = 1
        self.outbox.push(bytes(MAX_WRITE_BYTES), 1)
        self.outbox.push(b"y" * 100, 1)
        self.assertEqual((self.overflows, self.outbox.waiting_bytes), ([], 100))


class DropOldestTests(OutboxTestCase):
    """Policy drop_oldest."""

    policy = DROP_OLDEST

    def test_bound(self) -> None:
        """The oldest pushes go, no more of them than needed."""
        self.fill(b"a" * 40, b"b" * 40, b"c" * 20)
        self.assertEqual(self.drops, [])
        self.outbox.push(b"d" * 30, 1)
        self.assertEqual((self.drops, self.overflows), ([1], []))
        self.assertEqual(self.counters.outbox_dropped, {DROP_OLDEST: 1})
        self.writer.drain()
        self.assertEqual(self.written, b"b" * 40 + b"c" * 20 + b"d" * 30)

    def test_frames_are_counted(self) -> None:
        """A batch that goes counts as many frames as it has."""
        self.outbox.writing_paused()
        self.outbox.push(b"a" * 90, 7)
        self.outbox.push(b"b" * 90, 2)
        self.assertEqual((self.drops, self.counters.outbox_dropped[DROP_OLDEST]), ([7], 7))

    def test_answers_stay(self) -> None:
        """Answers are never dropped, and keep their place among what stays."""
        self.fill(b"a" * 40)
        self.outbox.send(b"1" * 20)
        self.outbox.push(b"b" * 40, 1)
        self.outbox.send(b"2" * 20)
        self.outbox.push(b"c" * 40, 1)
        self.writer.drain()
        self.assertEqual(self.written, b"1" * 20 + b"2" * 20 + b"c" * 40)
        self.assertEqual((self.drops, self.overflows), ([1, 1], []))

    def test_answers_alone(self) -> None:
        """A connection whose answers alone are over the bound has to be closed."""
        self.fill()
        self.outbox.send(b"x" * 100)
        self.assertEqual(self.overflows, [])
        self.outbox.send(b"x")
        self.assertEqual(self.overflows, [101])

    def test_small_answers(self) -> None:
        """Small answers that wait take no more room than their bytes, and keep their place."""
        self.fill(b"a" * 10)
        for _ in range(20):
            self.outbox.send(b"12", 2)
        self.assertEqual((len(self.outbox._waiting), self.outbox.waiting_bytes), (2, 50))
        self.outbox.push(b"b" * 10, 1)
        self.outbox.send(b"3")
        self.writer.drain()
        self.assertEqual(self.written, b"a" * 10 + b"12" * 20 + b"b" * 10 + b"3")
        self.assertEqual((self.counters.transports["tcp"].messages_sent, self.overflows), (43, []))

    def test_joined_answers(self) -> None:
        """They are joined up to a bound, so that one more costs little."""
        self.patch(outbox, "MAX_JOINED_BYTES", 10)
        self.fill()
        for _ in range(20):
            self.outbox.send(b"12")
        self.assertEqual((len(self.outbox._waiting), self.outbox.waiting_bytes), (4, 40))

    def test_too_large_alone(self) -> None:
        """A push that is over the bound by itself is dropped, and with it what waited."""
        self.fill(b"a" * 50, b"b" * 101)
        self.assertEqual((self.outbox.waiting_bytes, self.overflows), (0, []))


class DropNewestTests(OutboxTestCase):
    """Policy drop_newest."""

    policy = DROP_NEWEST

    def test_bound(self) -> None:
        """The push that came last goes."""
        self.fill(b"a" * 60, b"b" * 40, b"c", b"d" * 3)
        self.assertEqual((self.drops, self.overflows), ([1, 1], []))
        self.assertEqual(self.counters.outbox_dropped, {DROP_NEWEST: 2})
        self.writer.drain()
        self.assertEqual(self.written, b"a" * 60 + b"b" * 40)

    def test_answer_over_the_bound(self) -> None:
        """An answer, or a PING of the node, that finds the box full of pushes is kept, and the newest push goes."""
        self.fill(b"a" * 60, b"b" * 40)
        self.outbox.send(b"answer")
        self.assertEqual((self.overflows, self.drops), ([], [1]))
        self.writer.drain()
        self.assertEqual(self.written, b"a" * 60 + b"answer")

    def test_answers_alone(self) -> None:
        """A connection whose answers alone are over the bound has to be closed."""
        self.fill()
        self.outbox.send(b"x" * 100)
        self.outbox.send(b"x")
        self.assertEqual(self.overflows, [101])


class _Join:
    """What a channel does at the end of a turn that has nothing else to do."""

    def __init__(self, turn: Turn, give: Callable[[], None]) -> None:
        self._turn = turn
        self._give = give

    def flush(self) -> None:
        """See `Flushable`."""
        self._turn.give_once()
        self._give()
        self._turn.send_some()


class ReadyTests(OutboxTestCase):
    """What is the only thing for its connection does not stand in line."""

    def setUp(self) -> None:
        """The writer takes 10 bytes directly."""
        super().setUp()
        self.writer.is_direct, self.writer.room = True, 10

    def give(self, *gives: Callable[[], None]) -> None:
        """End a turn with a join that does these."""

        def give() -> None:
            for each in gives:
                each()

        self.turn.join(_Join(self.turn, give))
        self.clock.advance(0)

    def push(self, data: bytes, count: int = 1) -> Callable[[], None]:
        """A push that is made later."""
        return lambda: self.outbox.push(data, count)

    def test_at_once(self) -> None:
        """It is sent as the same bytes that all members share, behind the others' and without having waited."""
        waiting: list[int] = []
        data = b"once"
        self.give(self.push(data, 2), lambda: waiting.append(self.outbox.waiting_bytes + len(self.writer.sends)))
        self.assertEqual((self.writer.sends, self.writer.writes, waiting), ([data], [], [0]))
        counters = self.counters.transports["tcp"]
        self.assertEqual((counters.messages_sent, counters.bytes_sent), (2, 4))

    def test_partly(self) -> None:
        """What the socket does not take is written by and by; the next push waits for it."""
        self.give(self.push(b"more than ten"))
        self.give(self.push(b"next"))
        self.assertEqual((self.writer.sends, self.writer.writes), ([b"more than "], [b"ten"]))
        self.writer.drain()
        self.assertEqual(self.writer.writes, [b"ten", b"next"])

    def test_second(self) -> None:
        """A second one stands in line, for it must come behind the rest of the first, which did not go out whole."""
        waiting: list[int] = []
        first, second = self.push(b"more than ten"), self.push(b"second")
        self.give(first, second, lambda: waiting.append(self.outbox.waiting_bytes))
        self.assertEqual(waiting, [6])
        self.writer.drain()
        self.assertEqual((self.writer.sends, self.writer.writes), ([b"more than "], [b"ten", b"second"]))

    def test_answer(self) -> None:
        """What is put in line meanwhile comes behind it, be it so much that it is written at once."""
        large = bytes(MAX_WRITE_BYTES + 1)
        self.writer.room = 1 << 30
        self.give(self.push(b"first"), lambda: self.outbox.send(b"answer"))
        self.give(self.push(b"then"), lambda: self.outbox.send(b"a"), lambda: self.outbox.send(large))
        self.assertEqual(self.writer.sends[0], b"first")
        self.assertEqual(self.writer.everything, b"firstanswerthena" + large)

    def test_end(self) -> None:
        """A connection that ends meanwhile gets it before its last words."""
        ends: list[list[bytes]] = []
        self.give(self.push(b"push"), lambda: self.outbox.finish(lambda: ends.append(list(self.writer.sends))))
        self.assertEqual(ends, [[b"push"]])

    def test_not_direct(self) -> None:
        """Where the socket cannot be reached it stands in line as ever."""
        self.writer.is_direct = False
        self.give(self.push(b"push"))
        self.assertEqual(self.writer.writes, [b"push"])

    def test_not_alone(self) -> None:
        """In a turn that has an answer for the connection both leave in one write."""
        self.outbox.send(b"answer")
        self.give(self.push(b"push"))
        self.assertEqual((self.writer.sends, self.writer.writes), ([], [b"answerpush"]))


class EndTests(OutboxTestCase):
    """The last words."""

    def test_finish(self) -> None:
        """Everything that waits is written before the end."""
        ends: list[bytes] = []
        self.outbox.push(b"push", 1)
        self.outbox.send(b"goodbye")
        self.outbox.finish(lambda: ends.append(self.written))
        self.assertEqual(ends, [b"pushgoodbye"])
        self.outbox.push(b"late", 1)
        self.outbox.send(b"late")
        self.clock.advance(0)
        self.assertEqual(self.written, b"pushgoodbye")

    def test_finish_while_paused(self) -> None:
        """A connection that takes nothing is waited for."""
        ends: list[bytes] = []
        self.fill(b"push")
        self.outbox.send(b"goodbye")
        self.outbox.finish(lambda: ends.append(self.written))
        self.assertEqual(ends, [])
        self.writer.drain()
        self.assertEqual(ends, [b"pushgoodbye"])

    def test_after_finish(self) -> None:
        """Once the end is near nothing is taken any more, so that GOODBYE is the last word, however long it waits."""
        self.fill(b"push")
        self.outbox.send(b"goodbye")
        self.outbox.finish(lambda: None)
        self.outbox.push(b"late", 1)
        self.outbox.send(b"pong")
        self.assertEqual(self.outbox.waiting_bytes, 11)
        self.writer.drain()
        self.assertEqual(self.written, b"pushgoodbye")

    def test_nothing_waits(self) -> None:
        """With nothing to write the end is at once."""
        ends: list[bool] = []
        self.outbox.finish(lambda: ends.append(True))
        self.assertEqual(ends, [True])

    def test_discard(self) -> None:
        """What is discarded is not written; what comes then is."""
        self.fill(b"old", b"older")
        self.outbox.discard()
        self.outbox.send(b"goodbye")
        self.writer.drain()
        self.assertEqual(self.written, b"goodbye")

    def test_stop(self) -> None:
        """After the end nothing is written, kept or called."""
        ends: list[bool] = []
        self.fill(b"old")
        self.outbox.finish(lambda: ends.append(True))
        self.outbox.stop()
        self.outbox.push(b"x" * 1000, 1)
        self.outbox.send(b"x" * 1000)
        self.writer.drain()
        self.clock.advance(0)
        self.assertEqual((self.written, self.outbox.waiting_bytes, self.overflows, ends), (b"", 0, [], []))
