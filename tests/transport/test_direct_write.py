"""Writes straight to the socket, and what is relied on of Twisted's insides.

The transport is Twisted's own; only its socket is made of numbers, or a pair of sockets without a port.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet import main, tcp
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.counters import TransportCounters
from meshrelay.interfaces import IStreamWriter
from meshrelay.transport.direct_write import DirectWriter


class FakeSocket:
    """Takes as many bytes as it has `room` for, and then says what the kernel would.

    :ivar error: raised by each send instead; None = none.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.error: OSError | None = None
        self.sent = b""
        self.sends = 0

    def send(self, data: bytes) -> int:
        """As `socket.socket.send`."""
        self.sends += 1
        if self.error is not None:
            raise self.error
        if not self.room:
            raise BlockingIOError(errno.EAGAIN, "full")
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def setblocking(self, is_blocking: bool) -> None:
        """As `socket.socket.setblocking`."""

    def fileno(self) -> int:
        """No number that anybody else has."""
        return -1


class RecordingOutbox:
    """Writes down when it has to wait."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def writing_paused(self) -> None:
        """See `PausableOutbox`."""
        self.told.append("paused")

    def writing_resumed(self) -> None:
        """See `PausableOutbox`."""
        self.told.append("resumed")


def make_connection(sock: Any) -> tcp.Connection:
    """Return a connected transport of Twisted on `sock`; nothing runs it but the test."""
    reactor: Any = MemoryReactor()
    connection = tcp.Connection(sock, Protocol(), reactor)
    connection.connected = 1
    return connection


class DirectWriterTests(SynchronousTestCase):
    """A writer on a transport with room for 10 bytes."""

    def setUp(self) -> None:
        """Nothing is buffered."""
        self.socket = FakeSocket(10)
        self.connection: Any = make_connection(self.socket)
        self.counters = TransportCounters()
        self.writer = DirectWriter(self.connection, self.counters)
        self.outbox = RecordingOutbox()
        self.writer.start(self.outbox)

    def count(self) -> tuple[int, int]:
        """Writes that went straight out, and those through the transport."""
        return self.counters.direct_writes, self.counters.transport_writes

    def test_contracts(self) -> None:
        """It is what outboxes and transports take it for."""
        verifyObject(IStreamWriter, self.writer)
        verifyObject(IPushProducer, self.writer)

    def test_direct(self) -> None:
        """What the kernel takes at once never meets the transport: nothing waits for another turn."""
        self.writer.write(b"0123456789")
        self.assertEqual((self.socket.sent, self.count()), (b"0123456789", (1, 0)))
        self.assertEqual(self.writer.buffered_bytes, 0)
        self.assertNotIn(self.connection, self.connection.reactor.getWriters())

    def test_partial(self) -> None:
        """What the kernel takes only in part goes on where it stopped."""
        self.writer.write(b"0123456789abc")
        self.assertEqual((self.socket.sent, self.count()), (b"0123456789", (0, 1)))
        self.assertEqual(self.writer.buffered_bytes, 3)
        self.assertIn(self.connection, self.connection.reactor.getWriters())
        self.socket.room = 10
        self.connection.doWrite()
        self.assertEqual((self.socket.sent, self.writer.buffered_bytes), (b"0123456789abc", 0))

    def test_full(self) -> None:
        """A full socket takes nothing, and nothing is lost or doubled."""
        self.socket.room = 0
        self.writer.write(b"first")
        self.assertEqual((self.writer.buffered_bytes, self.count()), (5, (0, 1)))
        self.socket.room = 10
        self.connection.doWrite()
        self.assertEqual(self.socket.sent, b"first")

    def test_order(self) -> None:
        """While something is buffered nothing overtakes it, though the socket has room; then it is direct again."""
        self.writer.write(b"0123456789ab")
        self.socket.room = 100
        self.writer.write(b"cd")
        self.assertEqual((self.socket.sent, self.count()), (b"0123456789", (0, 2)))
        self.connection.doWrite()
        self.writer.write(b"ef")
        self.assertEqual((self.socket.sent, self.count()), (b"0123456789abcdef", (1, 2)))

    def test_order_half_flushed(self) -> None:
        """Nor when the transport's buffer went out in part."""
        self.writer.write(b"0123456789abcdef")
        self.socket.room = 2
        self.connection.doWrite()
        self.assertEqual(self.writer.buffered_bytes, 4)
        self.socket.room = 100
        self.writer.write(b"gh")
        self.assertEqual(self.socket.sent, b"0123456789ab")
        self.assertEqual(self.writer.buffered_bytes, 6)
        self.connection.doWrite()
        self.assertEqual(self.socket.sent, b"0123456789abcdefgh")

    def test_dead_socket(self) -> None:
        """A dead socket raises nothing here: the transport meets the error itself and reports it in the usual way."""
        self.socket.error = ConnectionResetError(errno.ECONNRESET, "reset")
        self.writer.write(b"data")
        self.assertEqual(self.writer.buffered_bytes, 4)
        self.assertIs(self.connection.doWrite(), main.CONNECTION_LOST)

    def test_closing(self) -> None:
        """What comes while the transport closes, or after it, does not reach the socket."""
        for name, value in (("disconnecting", True), ("connected", 0)):
            sock = FakeSocket(100)
            connection: Any = make_connection(sock)
            writer = DirectWriter(connection, self.counters)
            setattr(connection, name, value)
            writer.write(b"late")
            self.assertEqual((name, sock.sends), (name, 0))

    def test_tls(self) -> None:
        """Bytes never pass by TLS in the clear."""
        self.connection.TLS = True
        self.connection.write = self.outbox.told.append
        writer = DirectWriter(self.connection, self.counters)
        writer.write(b"secret")
        self.assertEqual((self.outbox.told, self.socket.sends), ([b"secret"], 0))
        self.assertEqual((writer.buffered_bytes, self.count()), (0, (0, 1)))

    def test_unknown_transport(self) -> None:
        """Of a transport that is not Twisted's nothing is assumed."""
        transport = StringTransport()
        writer = DirectWriter(transport, self.counters)
        writer.write(b"data")
        self.assertEqual((transport.value(), writer.buffered_bytes, self.count()), (b"data", 0, (0, 1)))


class ProducerTests(SynchronousTestCase):
    """Who is told to wait."""

    def setUp(self) -> None:
        """A full socket."""
        self.socket = FakeSocket(0)
        self.connection: Any = make_connection(self.socket)
        self.writer = DirectWriter(self.connection, TransportCounters())
        self.outbox = RecordingOutbox()

    def test_pause_and_resume(self) -> None:
        """The outbox waits when the transport's buffer is full, and goes on when it is empty."""
        self.writer.start(self.outbox)
        self.writer.write(bytes(self.connection.bufferSize))
        self.assertEqual(self.outbox.told, [])
        self.writer.write(b"more")
        self.assertEqual(self.outbox.told, ["paused"])
        self.socket.room = 10
        self.connection.doWrite()
        self.assertEqual(self.outbox.told, ["paused"])
        self.socket.room = 1 << 20
        while self.writer.buffered_bytes:
            self.connection.doWrite()
        self.assertEqual(self.outbox.told, ["paused", "resumed"])

    def test_stopped(self) -> None:
        """When the transport is gone the outbox hears nothing more."""
        self.writer.start(self.outbox)
        self.writer.stopProducing()
        self.writer.pauseProducing()
        self.writer.resumeProducing()
        self.assertEqual(self.outbox.told, [])

    def test_released(self) -> None:
        """A released transport has no producer, so that it can close; releasing twice does nothing."""
        self.writer.start(self.outbox)
        self.writer.release()
        self.writer.release()
        self.assertIsNone(self.connection.producer)
        self.writer.pauseProducing()
        self.assertEqual(self.outbox.told, [])

    def test_finish(self) -> None:
        """It closes when everything was written, not before."""
        self.writer.start(self.outbox)
        self.writer.write(b"last")
        self.writer.finish()
        self.assertTrue(self.connection.disconnecting)
        self.socket.room = 10
        self.assertIs(self.connection.doWrite(), main.CONNECTION_DONE)
        self.assertEqual(self.socket.sent, b"last")


class TwistedTests(SynchronousTestCase):
    """What Twisted must go on doing, with sockets of the kernel; when one of these fails, look at `direct_write`."""

    def setUp(self) -> None:
        """Two sockets that are each other's peer."""
        ours, self.peer = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        self.addCleanup(ours.close)
        self.addCleanup(self.peer.close)
        self.peer.settimeout(5)
        self.connection: Any = make_connection(ours)

    def buffers(self) -> int:
        """Bytes in all places where we believe that Twisted keeps them."""
        connection = self.connection
        return int(len(connection.dataBuffer) - connection.offset + sum(map(len, connection._tempDataBuffer)))

    def test_buffers(self) -> None:
        """What is written and not sent is in these buffers and nowhere else, and the length beside them is right."""
        self.assertEqual((self.connection.dataBuffer, self.connection._tempDataBuffer), (b"", []))
        data = bytes(range(256)) * 16384
        self.connection.write(data)
        self.assertEqual((self.buffers(), self.connection._tempDataLen), (len(data), len(data)))
        self.connection.doWrite()
        sent = len(data) - self.buffers()
        self.assertTrue(0 < sent < len(data))
        self.assertEqual(self.connection._tempDataLen, 0)
        received = b""
        while self.buffers():
            received += self.peer.recv(1 << 20)
            self.connection.doWrite()
        self.assertFalse(self.connection.dataBuffer or self.connection._tempDataBuffer)
        while len(received) < len(data):
            received += self.peer.recv(1 << 20)
        self.assertEqual(received, data)

    def test_order(self) -> None:
        """Writes of every size, some direct and some not, arrive in order while the peer reads now and then."""
        counters = TransportCounters()
        writer = DirectWriter(self.connection, counters)
        expected = received = b""
        for number in range(200):
            data = bytes([number]) * (1 + number * 37 % 5000)
            expected += data
            writer.write(data)
            if number % 40 == 39:
                received += self.peer.recv(1 << 20)
                self.connection.doWrite()
        while len(received) < len(expected):
            self.connection.doWrite()
            received += self.peer.recv(1 << 20)
        self.assertEqual(received, expected)
        self.assertGreater(counters.direct_writes, 0)
        self.assertGreater(counters.transport_writes, 0)

    def test_class(self) -> None:
        """Connections of servers are the class that bytes may bypass, and it has the attributes that are asked."""
        self.assertTrue(issubclass(tcp.Server, tcp.Connection))
        for name in ("TLS", "socket", "connected", "disconnecting", "dataBuffer", "offset", "_tempDataLen"):
            self.assertTrue(hasattr(self.connection, name), name)
