"""What waits for one relay peer."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from meshrelay.counters import TransportCounters
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IStreamWriter
from meshrelay.transport.relay_queue import MAX_OWN_BYTES, RelayOutlet, RelayQueue
from meshrelay.wire.websocket import encode_message, encode_pong


@implementer(IStreamWriter)
class MemoryWriter:
    """Keeps what is written; raises when it is told to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_broken = False

    def write(self, data: bytes) -> None:
        """See `IStreamWriter`."""
        if self.is_broken:
            raise ZeroDivisionError("a bug")
        self.written.append(data)

    def direct_send(self) -> Callable[[bytes], int] | None:
        """See `IStreamWriter`."""
        return None

    def not_sent(self, rest: bytes) -> None:
        """See `IStreamWriter`."""

    def finish(self) -> None:
        """See `IStreamWriter`."""


class QueueTests(SynchronousTestCase):
    """One or two peers on a clock."""

    def setUp(self) -> None:
        """A queue of 1,000 bytes."""
        self.clock = Clock()
        self.outlet = RelayOutlet(Turn(self.clock))
        self.counters = TransportCounters()
        self.writer = MemoryWriter()
        self.queue = RelayQueue(self.writer, self.outlet, self.counters, 1000)

    def test_end_of_read(self) -> None:
        """What one read brings for a peer leaves in one write, at the end of the read."""
        self.outlet.read_begins()
        self.assertTrue(self.queue.offer(b"one"))
        self.assertTrue(self.queue.offer(bytes(200)))
        self.assertEqual(self.writer.written, [])
        self.outlet.read_ended()
        self.assertEqual(self.writer.written, [encode_message(b"one") + encode_message(bytes(200))])
        self.assertEqual(self.counters.bytes_sent, len(self.writer.written[0]))

    def test_end_of_turn(self) -> None:
        """What no read brings leaves at the end of the turn, in one write as well."""
        self.queue.send(b"one")
        self.queue.send(b"two")
        self.assertEqual(self.writer.written, [])
        self.clock.advance(0)
        self.assertEqual(self.writer.written, [encode_message(b"one") + encode_message(b"two")])

    def test_slow(self) -> None:
        """For a peer that does not read a bounded amount waits, and the rest is refused; then all that waits comes."""
        self.queue.writing_paused()
        taken = [self.queue.offer(bytes(400)) for _ in range(5)]
        self.assertEqual((taken, self.queue.waiting_bytes), ([True, True, True, False, False], 1200))
        self.clock.advance(0)
        self.assertEqual(self.writer.written, [])
        self.queue.writing_resumed()
        self.assertEqual((self.writer.written, self.queue.waiting_bytes), ([encode_message(bytes(400)) * 3], 0))
        self.assertTrue(self.queue.offer(b"again"))

    def test_own(self) -> None:
        """What the server says is not refused at that bound, but at one of its own."""
        self.queue.writing_paused()
        while self.queue.waiting_bytes < MAX_OWN_BYTES:
            self.assertTrue(self.queue.send(bytes(8192)))
        self.assertFalse(self.queue.send(b"x"))

    def test_pongs(self) -> None:
        """A peer that pings and does not read makes the server hold one answer, that to its last ping."""
        self.queue.writing_paused()
        for number in range(1000):
            self.queue.send_pong(encode_pong(b"%d" % number))
        self.queue.send(b"message")
        self.queue.writing_resumed()
        self.assertEqual(self.writer.written, [encode_message(b"message") + encode_pong(b"999")])

    def test_last_frame(self) -> None:
        """The answer to a close frame leaves behind all that waits, whatever the peer reads."""
        self.queue.writing_paused()
        while self.queue.offer(bytes(400)):
            pass
        self.queue.send_pong(encode_pong(b"here"))
        self.queue.finish(b"the end")
        self.assertEqual(self.writer.written, [encode_message(bytes(400)) * 3 + encode_pong(b"here") + b"the end"])

    def test_finish(self) -> None:
        """At the end all that waits is handed over, even for a peer that reads slowly, and nothing after it."""
        self.queue.writing_paused()
        self.queue.send(b"last words")
        self.queue.finish()
        self.queue.send(b"more")
        self.queue.offer(b"more")
        self.queue.flush()
        self.assertEqual((self.writer.written, self.queue.waiting_bytes), ([encode_message(b"last words")], 0))

    def test_stop(self) -> None:
        """After the end of the connection nothing is written or kept."""
        self.queue.send(b"lost")
        self.queue.stop()
        self.queue.send_pong(encode_pong(b""))
        self.clock.advance(0)
        self.assertEqual((self.writer.written, self.queue.waiting_bytes), ([], 0))

    def test_others(self) -> None:
        """An error while writing to one peer does not reach the next one."""
        other = MemoryWriter()
        self.writer.is_broken = True
        self.queue.send(b"one")
        RelayQueue(other, self.outlet, self.counters).send(b"two")
        self.clock.advance(0)
        self.assertEqual(other.written, [encode_message(b"two")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
