"""Tests of `meshrelay.testing.tcp_proxy`."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.testing import tcp_proxy
from meshrelay.testing.impairment import Impairment, StreamPath
from meshrelay.testing.tcp_proxy import TcpProxy


class MemoryTransport(StringTransport):
    """A TCP connection in memory."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See `ITCPTransport`."""

    def abortConnection(self) -> None:
        """See `ITCPTransport`."""
        self.aborted = True


class TcpProxyTests(SynchronousTestCase):
    """Streams through a proxy."""

    def make(self, there: Impairment | None = None, back: Impairment | None = None) -> None:
        """A proxy that listens."""
        self.reactor: Any = MemoryReactorClock()
        self.proxy = TcpProxy(
            self.reactor,
            ("10.0.0.9", 9000),
            lambda: StreamPath(there or Impairment(), 1),
            lambda: StreamPath(back or Impairment(), 2),
        )
        self.proxy.listen(7300)

    def connect(self) -> tuple[Any, Any]:
        """A client's end and that of the target, both connected."""
        client = self.accept()
        target = self.reactor.tcpClients[-1][2].buildProtocol(None)
        target.makeConnection(MemoryTransport())
        return client, target

    def accept(self) -> Any:
        """A client's end; the target's is not connected yet."""
        client = self.reactor.tcpServers[0][1].buildProtocol(None)
        client.makeConnection(MemoryTransport())
        return client

    def test_there_and_back(self) -> None:
        """What one end sends the other receives, in order and unchanged."""
        self.make()
        client, target = self.connect()
        self.assertEqual(self.reactor.tcpClients[0][:2], ("10.0.0.9", 9000))
        client.dataReceived(b"question" * 1000)
        target.dataReceived(b"answer")
        self.reactor.advance(0)
        self.assertEqual(target.transport.value(), b"question" * 1000)
        self.assertEqual(client.transport.value(), b"answer")

    def test_delay_is_per_direction(self) -> None:
        """Bytes take as long as their direction says."""
        self.make(Impairment(delay_seconds=0.5), Impairment(delay_seconds=0.2))
        client, target = self.connect()
        client.dataReceived(b"a")
        target.dataReceived(b"b")
        self.reactor.pump([0.201])
        self.assertEqual((target.transport.value(), client.transport.value()), (b"", b"b"))
        self.reactor.pump([0.3])
        self.assertEqual(target.transport.value(), b"a")

    def test_before_the_target_is_connected(self) -> None:
        """What a client sends at once reaches a target that is connected later."""
        self.make()
        client = self.accept()
        client.dataReceived(b"early")
        self.reactor.advance(1.0)
        target = self.reactor.tcpClients[-1][2].buildProtocol(None)
        target.makeConnection(MemoryTransport())
        self.assertEqual(target.transport.value(), b"early")

    def test_nobody_there(self) -> None:
        """A client is cut off when the target cannot be reached."""
        self.make()
        client = self.accept()
        self.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.assertTrue(client.transport.aborted)
        self.assertEqual(self.proxy.counters["refused"], 1)

    def test_end(self) -> None:
        """The end of a stream comes after everything in it."""
        self.make(Impairment(delay_seconds=0.5))
        client, target = self.connect()
        client.dataReceived(b"last words")
        client.connectionLost(Failure(ConnectionDone()))
        self.assertFalse(target.transport.disconnecting)
        self.reactor.pump([0.501])
        self.assertEqual(target.transport.value(), b"last words")
        self.assertTrue(target.transport.disconnecting)
        target.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.proxy.connection_count, 0)

    def test_client_leaves_early(self) -> None:
        """A client that leaves before the target is connected leaves nothing behind."""
        self.make()
        client = self.accept()
        client.connectionLost(Failure(ConnectionDone()))
        self.assertIsNone(self.reactor.tcpClients[-1][2].buildProtocol(None))
        self.assertEqual(self.proxy.connection_count, 0)

    def test_black_hole(self) -> None:
        """Nothing arrives in a black hole; all of it does afterwards."""
        self.make()
        client, target = self.connect()
        self.proxy.set_black_hole(True)
        client.dataReceived(b"a")
        self.reactor.pump([10.0])
        self.assertEqual(target.transport.value(), b"")
        self.proxy.set_black_hole(False)
        self.assertEqual(target.transport.value(), b"a")

    def test_given_up(self) -> None:
        """Where nothing ever gets through both ends lose the connection."""
        self.make(Impairment(loss=1.0))
        client, target = self.connect()
        client.dataReceived(b"a")
        self.assertTrue(client.transport.aborted and target.transport.aborted)
        self.assertEqual(self.proxy.counters["aborted"], 1)

    def test_held_bytes(self) -> None:
        """A writer that is faster than the path is made to wait at the bound."""
        self.patch(tcp_proxy, "MAX_HELD_BYTES", 1000)
        self.make(Impairment(delay_seconds=1.0))
        client, _ = self.connect()
        client.dataReceived(b"x" * 999)
        self.assertEqual(client.transport.producerState, "producing")
        client.dataReceived(b"x")
        self.assertEqual(client.transport.producerState, "paused")
        self.reactor.pump([1.001])
        self.assertEqual(client.transport.producerState, "producing")

    def test_slow_target(self) -> None:
        """A writer waits as well while the target takes nothing."""
        self.make()
        client, target = self.connect()
        target.transport.producer.pauseProducing()
        self.assertEqual(client.transport.producerState, "paused")
        target.transport.producer.resumeProducing()
        self.assertEqual(client.transport.producerState, "producing")

    def test_many_clients(self) -> None:
        """More connections than the bound are turned away."""
        self.patch(tcp_proxy, "MAX_CONNECTIONS", 1)
        self.make()
        self.accept()
        self.assertIsNone(self.reactor.tcpServers[0][1].buildProtocol(None))
        self.assertEqual((self.proxy.connection_count, self.proxy.counters["turned_away"]), (1, 1))

    def test_close(self) -> None:
        """Closing the proxy cuts all connections."""
        self.make()
        client, target = self.connect()
        self.proxy.close()
        self.assertTrue(client.transport.aborted and target.transport.aborted)
