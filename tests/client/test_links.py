"""Tests of `meshrelay.client.links`."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.address import parse_url
from meshrelay.client.links import Credentials, TcpLink, open_link, stream_endpoint
from meshrelay.client.options import ClientOptions
from tests.client.memory_transport import MemoryTransport


class RecordingReceiver:
    """Remembers what a link tells.

    :ivar unreliable: the data that may have been lost.
    :ivar heard_times: how often the link said that the node is alive.
    """

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.unreliable: list[bytes] = []
        self.heard_times = 0

    def data_received(self, data: bytes, is_reliable: bool = True) -> None:
        self.told.append(data)
        if not is_reliable:
            self.unreliable.append(data)

    def heard(self) -> None:
        self.heard_times += 1

    def link_lost(self, code: int | None, text: str) -> None:
        self.told.append((code, text))

    def writing_paused(self) -> None:
        self.told.append("paused")

    def writing_resumed(self) -> None:
        self.told.append("resumed")


class TcpLinkTests(SynchronousTestCase):
    """Frames over TCP."""

    def setUp(self) -> None:
        self.receiver = RecordingReceiver()
        self.link = TcpLink(self.receiver)
        self.transport = MemoryTransport()
        self.link.makeConnection(self.transport)

    def test_to_and_fro(self) -> None:
        """Frames go out back to back, bytes come in as they are."""
        self.link.write([b"one", b"two"])
        self.link.write([b"three"])
        self.assertEqual(self.transport.value(), b"onetwothree")
        self.link.dataReceived(b"abc")
        self.assertEqual(self.receiver.told, [b"abc"])

    def test_lost(self) -> None:
        """The end is told once; writing afterwards does nothing."""
        self.link.connectionLost(Failure(ConnectionDone()))
        self.link.write([b"late"])
        [(code, text)] = self.receiver.told
        self.assertIsNone(code)
        self.assertIn("closed", text)
        self.assertEqual(self.transport.value(), b"")

    def test_close(self) -> None:
        """close tells nothing to its owner and fires when the connection is gone."""
        closed = self.link.close()
        self.assertTrue(self.transport.disconnecting)
        self.assertIsNone(self.transport.producer)
        self.assertNoResult(closed)
        self.link.dataReceived(b"late")
        self.link.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(closed)
        self.assertEqual(self.receiver.told, [])

    def test_close_cancelled(self) -> None:
        """A close that takes too long can be cut short."""
        closed = self.link.close()
        closed.addErrback(lambda _: None)
        closed.cancel()
        self.assertTrue(self.transport.is_aborted)
        self.link.connectionLost(Failure(ConnectionDone()))

    def test_close_after_the_end(self) -> None:
        """Closing what is gone is done at once."""
        self.link.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(self.link.close())

    def test_back_pressure(self) -> None:
        """The owner hears when the transport asks to pause."""
        self.link.pauseProducing()
        self.link.resumeProducing()
        self.assertIs(self.transport.producer, self.link)
        self.assertEqual(self.receiver.told, ["paused", "resumed"])


class OpenLinkTests(SynchronousTestCase):
    """From an address to a connection."""

    def _endpoint(self, url: str) -> Any:
        return stream_endpoint(MemoryReactorClock(), parse_url(url), ClientOptions())

    def test_endpoints(self) -> None:
        """An address that needs no look-up gets none."""
        self.assertIsInstance(self._endpoint("tcp://127.0.0.1:1"), TCP4ClientEndpoint)
        self.assertIsInstance(self._endpoint("tcp://[::1]:1"), TCP6ClientEndpoint)
        self.assertIsInstance(self._endpoint("tcp://node.example:1"), HostnameEndpoint)

    def test_tls(self) -> None:
        """tls:// and wss:// are not spoken in the clear."""
        for url in ("tls://127.0.0.1:1", "wss://127.0.0.1:1/"):
            self.assertNotIsInstance(self._endpoint(url), TCP4ClientEndpoint)

    def test_tcp(self) -> None:
        """Opening a TCP link connects to the address and gives a stream link."""
        reactor: Any = MemoryReactorClock()
        receiver = RecordingReceiver()
        options = ClientOptions(connect_timeout_seconds=4.0)
        opened = open_link(reactor, parse_url("tcp://127.0.0.1:7"), receiver, Credentials("ann", None), options)
        host, port, factory, timeout, _ = reactor.tcpClients[0]
        self.assertEqual((host, port, timeout), ("127.0.0.1", 7, 4.0))
        factory.buildProtocol(None).makeConnection(MemoryTransport())
        link, traits = self.successResultOf(opened)
        self.assertIsInstance(link, TcpLink)
        self.assertEqual((traits.is_datagram, traits.sign_in_seconds), (False, 4.0))

    def test_refused(self) -> None:
        """A connection that is refused fails, and its owner hears of it only so."""
        reactor: Any = MemoryReactorClock()
        receiver = RecordingReceiver()
        address = parse_url("tcp://127.0.0.1:7")
        opened = open_link(reactor, address, receiver, Credentials("ann", None), ClientOptions())
        reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.failureResultOf(opened, ConnectionRefusedError)
        self.assertEqual(receiver.told, [])
