"""What leaves a UDP port: together where it can, and always counted."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.counters import NodeCounters
from meshrelay.fanout.turn import Turn
from meshrelay.transport import udp_sender
from meshrelay.transport.udp_batch import BATCH_DATAGRAMS, Address
from meshrelay.transport.udp_sender import UdpSender
from tests.transport.udp_kit import FakeSocket

ANN, BOB = ("192.0.2.1", 7), ("192.0.2.2", 7)


class Writer:
    """In place of `BatchWriter`.

    :ivar batches: what it was given, each time.
    :ivar refused: what it answers.
    """

    def __init__(self) -> None:
        self.batches: list[list[tuple[bytes, Address]]] = []
        self.refused: list[tuple[int, int]] = []
        self.error: OSError | None = None

    def write(self, datagrams: list[tuple[bytes, Address]]) -> list[tuple[int, int]]:
        """As `BatchWriter.write`."""
        self.batches.append(list(datagrams))
        if self.error is not None:
            raise self.error
        return self.refused


class Link:
    """Does something when it is flushed."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def flush(self) -> None:
        """See `Flushable`."""
        self._act()


class UdpSenderTests(SynchronousTestCase):
    """A sender on a socket that keeps what it is given, and a writer likewise."""

    def setUp(self) -> None:
        """A port that is open."""
        self.clock = Clock()
        self.counters = NodeCounters()
        self.sender = UdpSender(Turn(self.clock), self.counters)
        self.writer = Writer()
        self.patch(udp_sender, "open_writer", lambda _: self.writer)
        self.socket = FakeSocket()
        self.sender.open(self.socket)

    @property
    def bytes_sent(self) -> int:
        """What was counted as sent."""
        return self.counters.transports["udp"].bytes_sent

    def flush(self, *acts: Callable[[], object]) -> None:
        """Let each act happen as the flush of a link of its own, in one turn."""
        for act in acts:
            self.sender.schedule(Link(act))
        self.clock.advance(0)

    def test_together(self) -> None:
        """One packet of each of many links leave by one call at the end of the turn, in order."""
        self.flush(lambda: self.sender.send(b"a", ANN), lambda: self.sender.send_many([b"bb"], BOB))
        self.assertEqual(self.writer.batches, [[(b"a", ANN), (b"bb", BOB)]])
        self.assertEqual((self.socket.packets, self.bytes_sent), ([], 3))

    def test_bound(self) -> None:
        """However many links there are, no more packets wait than one call takes."""
        self.assertEqual(BATCH_DATAGRAMS, 64)
        self.patch(udp_sender, "BATCH_DATAGRAMS", 2)
        self.flush(*[lambda: self.sender.send(b"a", ANN)] * 5)
        self.assertEqual([len(batch) for batch in self.writer.batches], [2, 2, 1])

    def test_at_once(self) -> None:
        """What is sent outside a flush leaves at once: nobody would send it later."""
        self.flush(lambda: None)
        self.sender.send(b"a", ANN)
        self.assertEqual((self.socket.packets, self.writer.batches, self.bytes_sent), ([(b"a", ANN)], [], 1))

    def test_turn(self) -> None:
        """A link is flushed at the end of the turn, and once for each time that it was scheduled."""
        flushed: list[str] = []
        self.sender.schedule(Link(lambda: flushed.append("ann")))
        self.assertEqual(flushed, [])
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual(flushed, ["ann"])

    def test_scheduled_meanwhile(self) -> None:
        """A link that is scheduled by the flush of another one is flushed behind all that wait: in the next turn."""
        flushed: list[str] = []
        bob = Link(lambda: flushed.append("bob"))
        self.flush(lambda: self.sender.schedule(bob), lambda: flushed.append("cy"))
        self.clock.advance(0)
        self.assertEqual(flushed, ["cy", "bob"])

    def test_one_fails(self) -> None:
        """A link that fails keeps no other one from its packets."""
        self.flush(lambda: self.sender.send(b"a", ANN), lambda: 1 / 0, lambda: self.sender.send(b"b", BOB))
        self.assertEqual(self.writer.batches, [[(b"a", ANN), (b"b", BOB)]])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_refused(self) -> None:
        """What the kernel does not take of a batch is counted by its reason, and not as sent."""
        self.writer.refused = [(0, errno.EAGAIN), (2, errno.EHOSTUNREACH)]
        self.flush(*[lambda: self.sender.send(b"abc", ANN)] * 3)
        self.assertEqual(self.counters.packets_dropped, {"socket_full": 1, "unreachable": 1})
        self.assertEqual(self.bytes_sent, 3)

    def test_only_singly(self) -> None:
        """A batch with an address that cannot be written for the kernel leaves one by one."""
        self.writer.error = OSError("not an address")
        self.flush(lambda: self.sender.send(b"a", ANN), lambda: self.sender.send(b"b", BOB))
        self.assertEqual((self.socket.packets, self.bytes_sent), ([(b"a", ANN), (b"b", BOB)], 2))

    def test_many_for_one(self) -> None:
        """Many packets for one address leave by one call, flushing or not."""
        if sys.platform != "linux":
            self.skipTest("missing: UDP_SEGMENT")
        packets = [b"aa", b"bb", b"c"]
        self.sender.send_many(packets, ANN)
        self.flush(lambda: self.sender.send_many(packets, BOB))
        self.assertEqual(self.socket.packets, [(packet, to) for to in (ANN, BOB) for packet in packets])
        self.assertEqual((self.socket.calls, self.writer.batches), (2, []))

    def test_no_batches(self) -> None:
        """On a system that knows no batches each packet is sent by itself, in order."""
        nothing: Any = None
        self.patch(udp_sender, "open_writer", lambda _: nothing)
        self.patch(udp_sender, "can_segment", lambda _: False)
        self.sender.open(self.socket)
        self.flush(lambda: self.sender.send(b"a", ANN), lambda: self.sender.send_many([b"b", b"c"], BOB))
        self.assertEqual([packet for packet, _ in self.socket.packets], [b"a", b"b", b"c"])

    def test_closed(self) -> None:
        """When the port is closed nothing is sent and nothing raises, even if it is closed by what is flushed."""
        self.flush(lambda: self.sender.send(b"a", ANN), self.sender.close, lambda: self.sender.send(b"b", BOB))
        self.sender.send(b"c", ANN)
        self.sender.send_many([b"d", b"e"], ANN)
        self.assertEqual((self.socket.packets, self.writer.batches, self.bytes_sent), ([], [], 0))
