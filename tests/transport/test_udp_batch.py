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
    BatchWriter,
    can_segment,
    equal_runs,
    open_writer,
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


class Kernel:
    """In place of sendmmsg.

    :ivar sent: (datagram, first 8 bytes of the address), in order.
    :ivar most: datagrams that one call takes.
    :ivar refused: datagram -> errno.
    """

    def __init__(self, writer: Any) -> None:
        self._ffi = writer._ffi
        self.sent: list[tuple[bytes, bytes]] = []
        self.calls = 0
        self.most = 1024
        self.refused: dict[bytes, int] = {}
        writer._sendmmsg = self.send

    def send(self, number: int, headers: Any, count: int, flags: int) -> int:
        """As the kernel: stop at the first that is refused, and tell why only if it is the first of all."""
        self.calls += 1
        for index in range(min(count, self.most)):
            header = headers[index].msg_hdr
            part = header.msg_iov[0]
            datagram = self._ffi.buffer(part.iov_base, part.iov_len)[:]
            if datagram in self.refused:
                if index:
                    return index
                self._ffi.errno = self.refused[datagram]
                return -1
            self.sent.append((datagram, self._ffi.buffer(header.msg_name, 8)[:]))
        return min(count, self.most)


class BatchWriterTests(SynchronousTestCase):
    """Many datagrams, each with an address of its own."""

    if sys.platform != "linux":
        skip = "missing: sendmmsg"

    def setUp(self) -> None:
        """A writer on a socket that is never used."""
        self.writer = self.make(socket.AF_INET)
        self.kernel = Kernel(self.writer)

    def make(self, family: socket.AddressFamily) -> BatchWriter:
        """Make a writer."""
        opened = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(opened.close)
        writer = open_writer(opened)
        assert writer is not None
        return writer

    def some(self, *texts: bytes) -> list[tuple[bytes, Address]]:
        """Datagrams to as many addresses."""
        return [(text, (f"192.0.2.{index}", 7)) for index, text in enumerate(texts)]

    def test_sent(self) -> None:
        """Each goes whole to its own address, however long the one before it in the same place was, by one call."""
        for some in ((b"long" * 300, b"b", b""), (b"a", b"longer", b"c")):
            self.assertEqual(self.writer.write(self.some(*some)), [])
        texts = [text for text, _ in self.kernel.sent]
        self.assertEqual(texts, [b"long" * 300, b"b", b"", b"a", b"longer", b"c"])
        hosts = [name[4:] for _, name in self.kernel.sent]
        self.assertEqual(hosts, [bytes((192, 0, 2, last)) for last in (0, 1, 2, 0, 1, 2)])
        self.assertEqual({name[2:4] for _, name in self.kernel.sent}, {bytes((0, 7))})
        self.assertEqual(self.kernel.calls, 2)

    def test_refused(self) -> None:
        """One that the kernel does not take is told with its reason, and keeps none of the others back."""
        self.kernel.refused = {b"b": 113, b"d": 11}
        self.assertEqual(self.writer.write(self.some(b"a", b"b", b"c", b"d")), [(1, 113), (3, 11)])
        self.assertEqual([text for text, _ in self.kernel.sent], [b"a", b"c"])

    def test_some_at_a_time(self) -> None:
        """What one call leaves is sent by the next."""
        self.kernel.most = 2
        texts = [b"%d" % number for number in range(5)]
        self.assertEqual(self.writer.write(self.some(*texts)), [])
        self.assertEqual(([text for text, _ in self.kernel.sent], self.kernel.calls), (texts, 3))

    def test_full_batch(self) -> None:
        """A whole batch of the longest datagrams stays apart."""
        texts = [bytes((number,)) * SLOT_BYTES for number in range(BATCH_DATAGRAMS)]
        self.writer.write(self.some(*texts))
        self.assertEqual([text for text, _ in self.kernel.sent], texts)

    def test_names(self) -> None:
        """Addresses are written as the kernel reads them (ip(7), ipv6(7)), with the scope where there is one."""
        self.assertEqual(self.writer.name(("192.0.2.1", 258))[2:], bytes((1, 2, 192, 0, 2, 1)) + bytes(20))
        writer = self.make(socket.AF_INET6)
        name = writer.name(("2001:db8::1", 258))
        self.assertEqual(name[2:], bytes((1, 2, 0, 0, 0, 0)) + bytes.fromhex("20010db8") + bytes(11) + b"\1" + bytes(4))
        self.assertEqual(int.from_bytes(name[:2], sys.byteorder), socket.AF_INET6)
        scoped = writer.name(("fe80::1", 258, 0, 3))
        self.assertEqual(int.from_bytes(scoped[24:], sys.byteorder), 3)

    def test_unknown_host(self) -> None:
        """A host that is no number is an error before anything is sent."""
        self.assertRaises(OSError, self.writer.write, [*self.some(b"a"), (b"b", ("fe80::1%lo", 7))])
        self.assertEqual(self.kernel.sent, [])

    def test_known_addresses_are_bounded(self) -> None:
        """However many receivers there are, only so many addresses are remembered."""
        self.patch(udp_batch, "MAX_KNOWN_ADDRESSES", 3)
        seen = []
        for last in range(5):
            self.writer.write([(b"a", (f"192.0.2.{last}", 7))])
            seen.append(self.writer.known_addresses)
        self.assertEqual(seen, [1, 2, 3, 1, 2])

    def test_not_there(self) -> None:
        """Without sendmmsg, and for what is no socket, there is no writer."""
        opened: Any = FakeSocket()
        self.assertIsNone(open_writer(opened))

        class Missing:
            def __init__(self, _: socket.socket) -> None:
                raise AttributeError

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as real:
            for name, value in (("BatchWriter", Missing), ("sys", FakeSystem("darwin"))):
                patched = self.patch(udp_batch, name, value)
                self.assertIsNone(open_writer(real), name)
                patched.restore()


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
