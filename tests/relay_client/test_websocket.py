"""Tests of `meshrelay.relay_client.websocket`."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

from twisted.internet.address import IPv6Address
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectingCancelledError, ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay_client.websocket import WebSocketRefused, open_relay_websocket, plain_ip
from meshrelay.wire.relay import MAX_MESSAGE_BYTES
from tests.client.memory_transport import MemoryTransport

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Recorder:
    """Notes what a link tells."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def message_received(self, message: bytes) -> None:
        self.told.append(message)

    def link_lost(self, text: str) -> None:
        self.told.append(f"lost: {text}")

    def writing_paused(self) -> None:
        self.told.append("paused")

    def writing_resumed(self) -> None:
        self.told.append("resumed")


def server_frame(opcode: int, payload: bytes) -> bytes:
    """A frame of a server."""
    size = len(payload)
    head = bytes((0x80 | opcode, size)) if size < 126 else bytes((0x80 | opcode, 126)) + struct.pack("!H", size)
    return head + payload


class RelayWebSocketTests(SynchronousTestCase):
    """Messages of a relay over WebSocket."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", 80)
        self.opened = open_relay_websocket(self.reactor, endpoint, "ws://relay.example:8080/relay", "test/1")
        self.transport = MemoryTransport()
        self.receiver = Recorder()

    def connect(self) -> bytes:
        """Let TCP connect; returns the request."""
        self.protocol = self.reactor.tcpClients[0][2].buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.reactor.advance(0)
        request: bytes = self.transport.value()
        self.transport.clear()
        return request

    def open(self) -> Any:
        """A link that is open."""
        lines = dict(line.split(b": ", 1) for line in self.connect().split(b"\r\n") if b": " in line)
        accept = base64.b64encode(hashlib.sha1(lines[b"Sec-WebSocket-Key"] + _GUID).digest())
        self.protocol.dataReceived(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        link = self.successResultOf(self.opened)
        link.start(self.receiver)
        return link

    def test_request(self) -> None:
        """The request names the path and the host with its port, and offers neither extension nor subprotocol."""
        request = self.connect()
        self.assertTrue(request.startswith(b"GET /relay HTTP/1.1\r\n"))
        self.assertIn(b"Host: relay.example:8080\r\n", request)
        for header in (b"Extensions", b"Sec-WebSocket-Protocol", b"Origin", b"Authorization"):
            self.assertNotIn(header, request)
        self.opened.addErrback(lambda _: None)

    def test_one_frame_each(self) -> None:
        """Each message is one masked, unfragmented binary frame, also the longest, and in one turn too."""
        link = self.open()
        link.send(b"ab")
        link.send(bytes(MAX_MESSAGE_BYTES))
        data = self.transport.value()
        self.assertEqual(data[:2], bytes((0x82, 0x82)))
        self.assertEqual(data[8:12], bytes((0x82, 0x80 | 126)) + struct.pack("!H", MAX_MESSAGE_BYTES))
        self.assertEqual(len(data), 8 + 8 + MAX_MESSAGE_BYTES)

    def test_receive(self) -> None:
        """Binary messages are handed on, up to the longest."""
        self.open()
        self.protocol.dataReceived(server_frame(2, b"one") + server_frame(2, bytes(MAX_MESSAGE_BYTES)))
        self.assertEqual([len(message) for message in self.receiver.told], [3, MAX_MESSAGE_BYTES])

    def test_broken(self) -> None:
        """A text message, and one that is too long, end the connection, once."""
        for frame in (server_frame(1, b"text"), server_frame(2, bytes(MAX_MESSAGE_BYTES + 1))):
            self.setUp()
            self.open()
            self.protocol.dataReceived(frame)
            self.protocol.connectionLost(Failure(ConnectionDone()))
            [text] = self.receiver.told
            self.assertIn("lost: ", str(text))

    def test_flow(self) -> None:
        """The owner hears when the transport is behind and when it has caught up."""
        self.open()
        producer: Any = self.transport.producer
        producer.pauseProducing()
        producer.resumeProducing()
        producer.stopProducing()
        self.assertEqual(self.receiver.told, ["paused", "resumed"])

    def test_close(self) -> None:
        """Closing drops TCP without a close frame, as NetBird does; it is done when TCP is gone."""
        link = self.open()
        link.send(b"bye")
        self.transport.clear()
        closed = link.close()
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.transport.value(), b"")
        self.assertNoResult(closed)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(closed)
        self.successResultOf(link.close())
        link.send(b"too late")
        link.abort()
        self.assertEqual((self.transport.value(), self.receiver.told), (b"", []))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_close_takes_long(self) -> None:
        """A server that does not take what waits holds a close up for a few seconds only."""
        link = self.open()
        link.close()
        self.reactor.advance(3.1)
        self.assertTrue(self.transport.is_aborted)

    def test_close_frame(self) -> None:
        """After a close frame of the server nothing is sent, and nothing raises."""
        link = self.open()
        self.protocol.dataReceived(server_frame(8, struct.pack("!H", 1011) + b"internal error"))
        self.transport.clear()
        link.send(b"x")
        self.assertEqual(self.transport.value(), b"")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.receiver.told, ["lost: internal error"])

    def test_refused(self) -> None:
        """What is no WebSocket, and what does not listen, is an error that says so."""
        self.connect()
        self.protocol.dataReceived(b"HTTP/1.1 404 Not Found\r\n\r\n")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertIn("404", str(self.failureResultOf(self.opened, WebSocketRefused).value))
        self.setUp()
        self.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.failureResultOf(self.opened, ConnectionRefusedError)

    def test_cancel(self) -> None:
        """Cancelling leaves no connection behind, whether TCP is there or not."""
        self.opened.cancel()
        self.failureResultOf(self.opened, ConnectingCancelledError)
        self.setUp()
        self.connect()
        self.opened.cancel()
        self.assertTrue(self.transport.is_aborted)
        self.failureResultOf(self.opened, CancelledError)

    def test_addresses(self) -> None:
        """A link knows its two ends; an IPv4 address inside an IPv6 one is unwrapped."""
        link = self.open()
        self.assertEqual((link.host.host, link.peer_ip), ("10.0.0.1", "192.168.1.1"))
        self.assertEqual(plain_ip(IPv6Address("TCP", "::ffff:192.0.2.1", 1)), "192.0.2.1")
        self.assertEqual(plain_ip(IPv6Address("TCP", "2001:db8::1", 1)), "2001:db8::1")
        self.assertEqual(plain_ip(None), "")
