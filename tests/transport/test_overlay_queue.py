"""What waits for one peer of the overlay."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.counters import TransportCounters
from meshrelay.fanout.turn import Turn
from meshrelay.transport.direct_write import DirectWriter
from meshrelay.transport.overlay_queue import CHUNK_BYTES, MAX_CONTROL_FRAMES, MAX_WAITING_BYTES, OverlayQueue
from tests.transport.overlay_kit import SwappingStream


class PausingStream(SwappingStream):
    """Asks for a pause as soon as something was written, as a transport with little room."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[int] = []

    def write(self, data: bytes) -> None:
        """See `ITransport`."""
        super().write(data)
        self.writes.append(len(data))
        self.pause()


class OverlayQueueTests(SynchronousTestCase):
    """A queue on a clock."""

    def make(self, stream: SwappingStream) -> None:
        """Make the queue of a stream."""
        self.clock = Clock()
        self.stream = stream
        self.counters = TransportCounters()
        writer = DirectWriter(stream, self.counters)
        self.queue = OverlayQueue(writer, Turn(self.clock), self.counters)
        writer.start(self.queue)

    def setUp(self) -> None:
        """A stream that takes everything."""
        self.make(SwappingStream())

    def test_one_write_a_turn(self) -> None:
        """What one turn brings leaves in one write at its end."""
        self.queue.send(b"one")
        self.queue.send(b"two")
        self.assertEqual((self.stream.value(), self.queue.waiting_bytes), (b"", 6))
        self.clock.advance(0)
        self.assertEqual((self.stream.value(), self.queue.waiting_bytes), (b"onetwo", 0))
        self.assertEqual((self.counters.transport_writes, self.counters.bytes_sent), (1, 6))

    def test_bound(self) -> None:
        """A peer that takes nothing makes a mebibyte wait and no more."""
        self.stream.pause()
        while self.queue.has_room(1000):
            self.queue.send(bytes(1000))
        self.assertEqual(self.queue.waiting_bytes, MAX_WAITING_BYTES // 1000 * 1000)
        self.assertTrue(self.queue.has_room(MAX_WAITING_BYTES % 1000))
        self.clock.advance(0)
        self.assertEqual(self.stream.value(), b"")

    def test_chunks(self) -> None:
        """The transport is handed a part at a time, so that the bound holds for what lies there, too."""
        self.make(PausingStream())
        for number in range(100):
            self.queue.send(bytes((number,)) * 5000)
        self.clock.advance(0)
        assert isinstance(self.stream, PausingStream)
        self.assertEqual(len(self.stream.writes), 1)
        while self.queue.waiting_bytes:
            self.stream.resume()
        self.assertLess(max(self.stream.writes), CHUNK_BYTES + 5000)
        self.assertEqual(self.stream.value(), b"".join(bytes((number,)) * 5000 for number in range(100)))

    def test_paused(self) -> None:
        """Nothing is written while the connection takes nothing, and everything when it does again."""
        self.stream.pause()
        self.queue.send(b"late")
        self.clock.advance(0)
        self.assertEqual(self.stream.value(), b"")
        self.stream.resume()
        self.assertEqual(self.stream.value(), b"late")

    def test_control(self) -> None:
        """Answers leave before what waits; a peer that asks and does not read makes only the last few wait."""
        self.stream.pause()
        self.queue.send(b"frame")
        for number in range(1000):
            self.queue.send_control(b"%d " % number)
        self.stream.resume()
        answers = self.stream.value().split()
        self.assertEqual(answers, [*(b"%d" % number for number in range(1000 - MAX_CONTROL_FRAMES, 1000)), b"frame"])

    def test_finish(self) -> None:
        """What waits is handed over in the end, paused or not, with the last frame behind it; nothing comes after."""
        self.stream.pause()
        self.queue.send(b"one ")
        self.queue.send_control(b"pong ")
        self.queue.finish(b"close")
        self.assertEqual(self.stream.value(), b"pong one close")
        self.queue.send_control(b"pong")
        self.assertFalse(self.queue.has_room(1))
        self.clock.advance(0)
        self.stream.resume()
        self.assertEqual(self.stream.value(), b"pong one close")

    def test_stop(self) -> None:
        """After the end everything is forgotten, also what was to leave at the end of this turn."""
        self.queue.send(b"one")
        self.queue.stop()
        self.clock.advance(0)
        self.assertEqual((self.stream.value(), self.queue.waiting_bytes), (b"", 0))
