"""Datagrams many at a time between real sockets: addresses, and what the kernel makes of them."""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from meshrelay.transport.udp_batch import BATCH_DATAGRAMS, BatchReader, BatchWriter, can_segment, send_run


class UdpBatchTests(SynchronousTestCase):
    """Two sockets on loopback."""

    if sys.platform != "linux":
        skip = "missing: recvmmsg"

    def pair(self, family: socket.AddressFamily, host: str) -> tuple[socket.socket, socket.socket]:
        """Open two sockets."""
        opened = []
        for _ in range(2):
            end = socket.socket(family, socket.SOCK_DGRAM)
            self.addCleanup(end.close)
            try:
                end.bind((host, 0))
            except OSError as error:
                raise SkipTest(f"missing: {host}") from error
            end.setblocking(False)
            opened.append(end)
        return opened[0], opened[1]

    def check(self, family: socket.AddressFamily, host: str) -> None:
        """Send more than one batch and read it."""
        near, far = self.pair(family, host)
        reader = BatchReader(near)
        sent = [b"%d" % number for number in range(BATCH_DATAGRAMS + 1)]
        for datagram in sent:
            far.sendto(datagram, near.getsockname())
        source = far.getsockname()[:2]
        first, second, third = reader.read(), reader.read(), reader.read()
        self.assertEqual([datagram for datagram, _ in first + second], sent)
        self.assertEqual({address for _, address in first + second}, {source})
        self.assertEqual((len(first), len(second), third, reader.known_addresses), (BATCH_DATAGRAMS, 1, [], 1))
        near.sendto(b"back", first[0][1])
        self.assertEqual(far.recv(10), b"back")

    def test_ipv4(self) -> None:
        """Datagrams come in order, with the address to which an answer goes."""
        self.check(socket.AF_INET, "127.0.0.1")

    def test_ipv6(self) -> None:
        """The same over IPv6."""
        self.check(socket.AF_INET6, "::1")

    def check_writer(self, family: socket.AddressFamily, host: str) -> None:
        """Send one datagram to each of two sockets by one call."""
        near, far = self.pair(family, host)
        writer = BatchWriter(near)
        for first, second in ((b"to myself", b"to the other"), (b"", b"again, and longer than before")):
            told = [(first, near.getsockname()), (second, far.getsockname()[:2])]
            self.assertEqual(writer.write(told), [])
            self.assertEqual((near.recv(99), far.recv(99)), (first, second))

    def test_writer_ipv4(self) -> None:
        """Each datagram of a batch comes where it was sent to."""
        self.check_writer(socket.AF_INET, "127.0.0.1")

    def test_writer_ipv6(self) -> None:
        """The same over IPv6, whether the address tells a scope or not."""
        self.check_writer(socket.AF_INET6, "::1")

    def test_writer_refused(self) -> None:
        """What the kernel refuses is told, and the rest of the batch arrives."""
        near, far = self.pair(socket.AF_INET, "127.0.0.1")
        place = far.getsockname()
        # A broadcast, which this socket was not allowed.
        refused = BatchWriter(near).write([(b"a", place), (b"b", ("255.255.255.255", 9)), (b"c", place)])
        self.assertEqual([index for index, _ in refused], [1])
        self.assertEqual((far.recv(9), far.recv(9)), (b"a", b"c"))

    def test_segments(self) -> None:
        """What is sent by one call arrives as the datagrams that it was."""
        near, far = self.pair(socket.AF_INET, "127.0.0.1")
        if not can_segment(far):
            raise SkipTest("missing: UDP_SEGMENT")
        run = [bytes((number,)) * 1400 for number in range(20)] + [b"end"]
        send_run(far, run, near.getsockname())
        received: list[Any] = BatchReader(near).read()
        self.assertEqual([datagram for datagram, _ in received], run)
