"""Datagrams many at a time, on pairs of sockets that have no port; real addresses are in tests/integration."""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet import udp
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.transport import udp_batch
from meshrelay.transport.udp_batch import (
    BATCH_DATAGRAMS,
    MAX_BATCHES_PER_READ,
    MAX_KNOWN_ADDRESSES,
    MAX_RUN_BYTES,
    MAX_SEGMENTS,
    SLOT_BYTES,
    Address,
    BatchReader,
    can_segment,
    equal_runs,
    read_in_batches,
    send_run,
)
from tests.transport.udp_kit import FakeSocket, UdpPort


class Recorder(DatagramProtocol):
    """Writes down what it is given one by one."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """See `DatagramProtocol`."""
        self.datagrams.append(datagram)


class PairCase(SynchronousTestCase):
    """Two ends of a line for datagrams."""

    if sys.platform != "linux":
        skip = "missing: recvmmsg"

    def setUp(self) -> None:
        """A line."""
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self.near, self.far):
            self.addCleanup(end.close)
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)


class BatchReaderTests(PairCase):
    """What one call of the kernel gives."""

    def setUp(self) -> None:
        """A reader."""
        super().setUp()
        self.reader = BatchReader(self.near)

    def read(self) -> list[bytes]:
        """Read, and leave the addresses out."""
        return [datagram for datagram, _ in self.reader.read()]

    def test_nothing(self) -> None:
        """Where nothing waits there is nothing."""
        self.assertEqual(self.read(), [])

    def test_lengths(self) -> None:
        """Each datagram comes whole and in order, however long the one before it in the same place was."""
        sent = [b"long" * 100, b"", b"short"]
        for datagrams in (sent, sent[::-1]):
            for datagram in datagrams:
                self.far.send(datagram)
            self.assertEqual(self.read(), datagrams)

    def test_too_long(self) -> None:
        """A datagram that is too long to be ours is cut, and none of it gets into its neighbours."""
        for datagram in (b"a" * SLOT_BYTES, b"b" * (SLOT_BYTES + 900), b"c"):
            self.far.send(datagram)
        self.assertEqual(self.read(), [b"a" * SLOT_BYTES, b"b" * SLOT_BYTES, b"c"])

    def test_known_addresses_are_bounded(self) -> None:
        """However many senders there are, only so many addresses are remembered."""
        self.assertEqual(MAX_KNOWN_ADDRESSES, 4096)
        self.patch(udp_batch, "MAX_KNOWN_ADDRESSES", 3)
        seen = []
        for last in range(5):
            raw = bytes((2, 0, 7, 208, 192, 0, 2, last)) + bytes(20)
            self.assertEqual(self.reader.address(raw), (f"192.0.2.{last}", 2000))
            seen.append(self.reader.known_addresses)
        self.assertEqual(seen, [1, 2, 3, 1, 2])

    def test_closed(self) -> None:
        """A socket that was closed is an error, not another file that took its number."""
        self.near.close()
        self.assertRaises(OSError, self.reader.read)


class ReadInBatchesTests(PairCase):
    """A port of Twisted's that hands over many at a time."""

    def setUp(self) -> None:
        """A port on the line, and what comes out of it."""
        super().setUp()
        self.protocol = Recorder()
        reactor: Any = None
        self.port: Any = udp.Port(0, self.protocol, reactor=reactor)
        self.port.socket = self.near
        self.port.connected = 1
        self.batches: list[list[bytes]] = []

    def received(self, datagrams: Any) -> None:
        """Take a batch."""
        self.batches.append([datagram for datagram, _ in datagrams])

    def send(self, count: int) -> list[bytes]:
        """Send numbered datagrams to the port."""
        sent = [b"%d" % number for number in range(count)]
        for datagram in sent:
            self.far.send(datagram)
        return sent

    def test_together(self) -> None:
        """What waits comes at once, and nothing of it goes the long way."""
        self.assertTrue(read_in_batches(self.port, self.received))
        sent = self.send(5)
        self.port.doRead()
        self.assertEqual((self.batches, self.protocol.datagrams), ([sent], []))

    def test_flood(self) -> None:
        """A flood keeps the reactor for a few batches; the rest waits until the others had their turn."""
        self.patch(udp_batch, "BATCH_DATAGRAMS", 2)
        read_in_batches(self.port, self.received)
        self.send(2 * MAX_BATCHES_PER_READ + 1)
        self.port.doRead()
        self.assertEqual([len(batch) for batch in self.batches], [2] * MAX_BATCHES_PER_READ)
        self.port.doRead()
        self.assertEqual(self.batches[-1], [b"8"])
        self.assertEqual(BATCH_DATAGRAMS, 64)

    def test_closed_by_what_was_read(self) -> None:
        """A port that is closed by one of its datagrams reads no more."""
        self.patch(udp_batch, "BATCH_DATAGRAMS", 1)

        def close(datagrams: Any) -> None:
            self.received(datagrams)
            self.port.connected = 0

        read_in_batches(self.port, close)
        self.send(2)
        self.port.doRead()
        self.assertEqual(self.batches, [[b"0"]])

    def test_refused_later(self) -> None:
        """Where the kernel lets us no longer, the port reads as Twisted does, and nothing is lost."""
        read_in_batches(self.port, self.received)

        def refuse(_: BatchReader) -> None:
            raise PermissionError

        self.patch(BatchReader, "read", refuse)
        sent = self.send(3)
        self.port.doRead()
        self.port.doRead()
        self.assertEqual((self.batches, self.protocol.datagrams), ([], sent))

    def test_not_there(self) -> None:
        """Without recvmmsg, and on a port that is not Twisted's, everything stays as it is."""
        self.assertFalse(read_in_batches(UdpPort(), self.received))

        class Missing:
            def __init__(self, _: socket.socket) -> None:
                raise AttributeError

        for name, value in (("BatchReader", Missing), ("sys", FakeSystem("darwin"))):
            patched = self.patch(udp_batch, name, value)
            self.assertFalse(read_in_batches(self.port, self.received), name)
            patched.restore()
        self.send(1)
        self.port.doRead()
        self.assertEqual(self.protocol.datagrams, [b"0"])


class FakeSystem:
    """The module `sys` of another platform."""

    maxsize = sys.maxsize

    def __init__(self, platform: str) -> None:
        self.platform = platform


class SegmentTests(SynchronousTestCase):
    """Packets for one address in one call."""

    def runs(self, *sizes: int) -> list[list[int]]:
        """Sizes of the packets of each run."""
        return [[len(packet) for packet in run] for run in equal_runs([bytes(size) for size in sizes])]

    def test_runs(self) -> None:
        """A run is what the kernel can cut: equal packets, and a shorter one at its end."""
        cases: dict[str, tuple[list[int], list[list[int]]]] = {
            "none": ([], []),
            "one": ([5], [[5]]),
            "equal": ([5, 5, 5], [[5, 5, 5]]),
            "a shorter end": ([5, 5, 3], [[5, 5, 3]]),
            "longer ones begin anew": ([3, 5, 5], [[3], [5, 5]]),
            "nothing behind a shorter one": ([5, 3, 3], [[5, 3], [3]]),
            "too many": ([9] * (MAX_SEGMENTS + 2), [[9] * MAX_SEGMENTS, [9, 9]]),
            "too long": ([1400] * 50, [[1400] * (MAX_RUN_BYTES // 1400), [1400] * (50 - MAX_RUN_BYTES // 1400)]),
        }
        for name, (sizes, runs) in cases.items():
            self.assertEqual(self.runs(*sizes), runs, name)

    def test_sent(self) -> None:
        """A run is one call and arrives as its packets."""
        opened: Any = FakeSocket()
        run = [b"aaa", b"bbb", b"c"]
        send_run(opened, run, ("192.0.2.1", 7))
        self.assertEqual(([packet for packet, _ in opened.packets], opened.calls), (run, 1))

    def test_unknown_to_the_kernel(self) -> None:
        """An older kernel and other systems are found out beforehand."""

        class Older(FakeSocket):
            def getsockopt(self, level: int, option: int) -> int:
                raise OSError

        older: Any = Older()
        newer: Any = FakeSocket()
        self.assertEqual((can_segment(older), can_segment(newer)), (False, sys.platform == "linux"))
        self.patch(udp_batch, "sys", FakeSystem("darwin"))
        self.assertFalse(can_segment(newer))
