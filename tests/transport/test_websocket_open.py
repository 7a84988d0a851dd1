"""Opening handshakes of client WebSockets; the two that go on with Autobahn have tests of their own beside."""

from __future__ import annotations

import base64
import gc
import hashlib
import weakref
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.transport.websocket_open import (
    MAX_ANSWER_BYTES,
    ClientHandshake,
    OpeningWebSocket,
    WebSocketRefused,
    open_client_websocket,
)
from tests.client.memory_transport import MemoryTransport

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def answer_to(request: bytes, headers: bytes = b"") -> bytes:
    """The answer of a server that takes a request."""
    lines = dict(line.split(b": ", 1) for line in request.split(b"\r\n") if b": " in line)
    accept = base64.b64encode(hashlib.sha1(lines[b"Sec-WebSocket-Key"] + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n"
        + headers
        + b"\r\n"
    )


class OpeningTests(SynchronousTestCase):
    """A connection in memory."""

    def setUp(self) -> None:
        """TCP is about to connect."""
        self.dial("ws://relay.example:8080/path;of=it?q")

    def dial(self, url: str) -> None:
        """Begin to connect."""
        self.reactor: Any = MemoryReactorClock()
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", 80)
        handshake = ClientHandshake(url, "test/1", 1000, {"X-Of": "ours"})
        self.opened = open_client_websocket(self.reactor, endpoint, handshake, OpeningWebSocket)
        self.transport = MemoryTransport()

    def connect(self) -> bytes:
        """Let TCP connect; returns the request."""
        self.protocol = self.reactor.tcpClients[0][2].buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.reactor.advance(0)
        request: bytes = self.transport.value()
        return request

    def test_request(self) -> None:
        """The request says what it was told to say, and offers nothing."""
        request = self.connect()
        self.assertTrue(request.startswith(b"GET /path;of=it?q HTTP/1.1\r\n"))
        for line in (b"Host: relay.example:8080\r\n", b"User-Agent: test/1\r\n", b"X-Of: ours\r\n"):
            self.assertIn(line, request)
        for header in (b"Extensions", b"Sec-WebSocket-Protocol", b"Origin"):
            self.assertNotIn(header, request)
        self.opened.addErrback(lambda _: None)

    def test_ipv6(self) -> None:
        """An IPv6 address stands in its brackets, as in the URL."""
        self.dial("ws://[2001:db8::1]:8080")
        request = self.connect()
        self.assertTrue(request.startswith(b"GET / HTTP/1.1\r\n"))
        self.assertIn(b"Host: [2001:db8::1]:8080\r\n", request)
        self.opened.addErrback(lambda _: None)

    def test_opened(self) -> None:
        """The right answer opens it, in any pieces; nothing waits on a clock then."""
        for octet in answer_to(self.connect()):
            self.protocol.dataReceived(bytes((octet,)))
        self.assertIsInstance(self.successResultOf(self.opened), OpeningWebSocket)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_not_kept(self) -> None:
        """The factory, which the transport keeps as long as it lives, does not keep the protocol."""
        request = self.connect()
        self.protocol.dataReceived(answer_to(request))
        opening = weakref.ref(self.successResultOf(self.opened))
        del self.protocol, self.opened
        gc.collect()
        self.assertIsNone(opening())

    def test_wrong_answers(self) -> None:
        """Any other answer is an error that says what it was."""
        for answer, text in (
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "404"),
            (b"HTTP/1.1 302 Found\r\nLocation: ws://elsewhere/\r\n\r\n", "302"),
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "Connection"),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "SSH"),
        ):
            self.setUp()
            self.connect()
            self.protocol.dataReceived(answer)
            self.protocol.connectionLost(Failure(ConnectionDone()))
            self.assertIn(text, str(self.failureResultOf(self.opened, WebSocketRefused).value))

    def test_garbage(self) -> None:
        """Bytes that are no text at all are an error of the other end, too."""
        self.connect()
        self.protocol.dataReceived(b"HTTP/1.1 \xff\xfe\x00\r\n\x80: \x81\r\n\r\n")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(self.opened, WebSocketRefused)

    def test_deflate(self) -> None:
        """A server that compresses though nobody offered it is refused."""
        answer = answer_to(self.connect(), b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
        self.protocol.dataReceived(answer)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(self.opened, WebSocketRefused)

    def test_endless_answer(self) -> None:
        """An answer that does not end is not kept."""
        self.connect()
        self.protocol.dataReceived(b"HTTP/1.1 101 Switching Protocols\r\n" + b"x" * MAX_ANSWER_BYTES)
        self.assertTrue(self.transport.is_aborted)
        self.assertIn("does not end", str(self.failureResultOf(self.opened, WebSocketRefused).value))
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def test_nobody_there(self) -> None:
        """What the endpoint says is the error."""
        self.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.failureResultOf(self.opened, ConnectionRefusedError)

    def test_cancelled(self) -> None:
        """Cancelling in the middle of the handshake leaves no connection behind."""
        self.connect()
        self.opened.cancel()
        self.assertTrue(self.transport.is_aborted)
        self.failureResultOf(self.opened, CancelledError)
