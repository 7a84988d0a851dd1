"""The server of the overlay's WebSockets; requests are typed in by hand."""

from __future__ import annotations

import gc
import weakref

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.transport.overlay_websocket import MAX_HANDSHAKES, OverlayServerFactory, OverlayServerRules
from meshrelay.transport.websocket_accept import HANDSHAKE_SECONDS, MAX_HANDSHAKE_BYTES
from tests.transport.overlay_kit import OverlayKit, SwappingStream
from tests.transport.stream_kit import TcpStream
from tests.transport.test_websocket import ACCEPT, TEXT, masked, unmasked

REQUEST = (
    b"GET /any/path?at=all HTTP/1.1\r\nHost: relay.example:8000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)

DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
ORIGIN = b"Origin: https://page.example\r\n"
OWN = b"Meshrelay-Overlay: 1\r\n"


class StubbornStream(TcpStream):
    """A connection that keeps the protocol it has."""

    def give(self, protocol: object, data: bytes) -> None:
        """Let bytes come."""
        protocol.dataReceived(data)  # type: ignore[attr-defined]


class ServerTestCase(SynchronousTestCase):
    """A server on a clock."""

    def setUp(self) -> None:
        """Without limits that matter."""
        self.serve(OverlayServerRules())

    def serve(self, rules: OverlayServerRules) -> None:
        """Make the server."""
        self.kit = OverlayKit()
        self.factory = OverlayServerFactory(self.kit.opened, self.kit.parts, rules, self.kit.clock)

    def connect(self, host: str = "192.0.2.1") -> SwappingStream:
        """Return a connection on which nothing was said."""
        stream = SwappingStream()
        stream.peerAddr = IPv4Address("TCP", host, 7)
        stream.protocol = self.factory.buildProtocol(stream.peerAddr)
        stream.protocol.makeConnection(stream)
        return stream

    def ask(self, headers: bytes = b"", more: bytes = b"", host: str = "192.0.2.1") -> SwappingStream:
        """Return a connection on which a request was sent; its stream holds the answer."""
        stream = self.connect(host)
        stream.give(REQUEST + headers + b"\r\n" + more)
        self.kit.end_turn()
        return stream


class HandshakeTests(ServerTestCase):
    """The way in."""

    def test_answer(self) -> None:
        """Any path will do; the answer takes no extension and no subprotocol, and says that this is meshrelay."""
        answer = self.ask(DEFLATE + b"Sec-WebSocket-Protocol: any\r\n").value()
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 "))
        self.assertIn(ACCEPT, answer)
        self.assertIn(OWN, answer)
        self.assertNotIn(b"Sec-WebSocket-Extensions", answer)
        self.assertNotIn(b"Sec-WebSocket-Protocol", answer)

    def test_traits(self) -> None:
        """A link knows what the request told about the other end."""
        for headers, is_own, has_origin in ((b"", False, False), (OWN, True, False), (ORIGIN, False, True)):
            self.ask(headers, host="192.0.2.9")
            link = self.kit.links[-1]
            self.assertEqual((link.is_own, link.has_origin, link.is_outgoing), (is_own, has_origin, False))
            self.assertEqual(link.remote_address, "192.0.2.9:7")

    def test_origins(self) -> None:
        """With a list of origins, pages of others are refused, and whoever is no page is not."""
        self.serve(OverlayServerRules(allowed_origins=("https://page.example",)))
        self.assertIn(b" 101 ", self.ask(ORIGIN).value())
        self.assertIn(b" 101 ", self.ask().value())
        for origin in (b"https://other.example", b"null"):
            self.assertIn(b" 403 ", self.ask(b"Origin: " + origin + b"\r\n").value())
        self.assertEqual(self.kit.counters.refused, {"origin": 2})

    def test_frames(self) -> None:
        """What comes with the request, and after it, reaches the peer; the peer speaks behind the answer."""
        stream = self.ask(more=masked(b"1", TEXT))
        self.kit.links[0].send(b"2")
        stream.give(masked(b"3", TEXT))
        self.kit.end_turn()
        self.assertEqual(self.kit.receivers[0].frames, [b"1", b"3"])
        self.assertEqual(unmasked(stream.value().partition(b"\r\n\r\n")[2]), [(TEXT, b"2")])

    def test_stubborn_transport(self) -> None:
        """A transport that does not let its protocol be replaced works as well."""
        stream = StubbornStream()
        protocol = self.factory.buildProtocol(stream.peerAddr)
        protocol.makeConnection(stream)
        stream.give(protocol, REQUEST + b"\r\n" + masked(b"1", TEXT))
        stream.give(protocol, masked(b"2", TEXT))
        self.assertEqual(self.kit.receivers[0].frames, [b"1", b"2"])

    def test_autobahn_is_gone(self) -> None:
        """Nothing of the opening handshake stays in memory."""
        stream = self.connect()
        handshake = weakref.ref(stream.protocol)
        stream.give(REQUEST + b"\r\n")
        gc.collect()
        self.assertIs(stream.protocol, self.kit.links[0])
        self.assertIsNone(handshake())

    def test_no_websocket(self) -> None:
        """What asks for no WebSocket gets an answer of HTTP, and no link."""
        for request, status in (
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
            (REQUEST.replace(b"GET", b"POST") + b"\r\n", b"405"),
            (REQUEST.replace(b"Version: 13", b"Version: 8") + b"\r\n", b"400"),
            (b"\x16\x03\x01\x02\x00\x01\x00\xff\xfe\r\n\r\n", b"400"),
        ):
            stream = self.connect()
            stream.give(request)
            self.assertTrue(stream.value().startswith(b"HTTP/1.1 " + status), stream.value())
            self.assertEqual(stream.ends, ["lose"])
        self.assertEqual(self.kit.links, [])

    def test_never_asks(self) -> None:
        """Who does not finish its request in time is dropped, drop by drop or not."""
        stream = self.connect()
        for octet in REQUEST[:40]:
            stream.give(bytes((octet,)))
            self.kit.clock.advance(HANDSHAKE_SECONDS / 40)
        self.kit.pass_time(0.1)
        self.assertEqual((stream.ends, self.kit.counters.refused), (["abort"], {"handshake_timeout": 1}))
        stream.lose()
        self.assertEqual(self.factory.handshake_count, 0)

    def test_endless_request(self) -> None:
        """A request that does not end is not kept."""
        stream = self.connect()
        stream.give(b"GET / HTTP/1.1\r\n")
        for _ in range(MAX_HANDSHAKE_BYTES // 1000 + 1):
            stream.give(b"x" * 1000)
        self.assertEqual((stream.ends, self.kit.counters.refused), (["abort"], {"handshake_bytes": 1}))
        self.assertEqual(stream.protocol.data, b"")


class LimitTests(ServerTestCase):
    """How many come in."""

    def test_links(self) -> None:
        """One link too many is refused with 503, and counted; when one has left there is room again."""
        self.serve(OverlayServerRules(max_links=2))
        first = self.ask()
        self.ask()
        self.assertIn(b" 503 ", self.ask().value())
        self.assertEqual((self.factory.link_count, self.kit.counters.refused), (2, {"full": 1}))
        first.lose()
        self.assertIn(b" 101 ", self.ask().value())

    def test_links_of_an_address(self) -> None:
        """One address may have so many of them, whatever the others have."""
        self.serve(OverlayServerRules(max_links_of_address=2))
        first = self.ask()
        self.ask()
        self.assertIn(b" 503 ", self.ask().value())
        self.assertIn(b" 101 ", self.ask(host="192.0.2.2").value())
        self.assertEqual(self.kit.counters.refused, {"address": 1})
        first.lose()
        self.assertIn(b" 101 ", self.ask().value())

    def test_nothing_is_kept(self) -> None:
        """Addresses that have left are forgotten."""
        self.serve(OverlayServerRules(max_links_of_address=2))
        for stream in [self.ask(host=f"192.0.2.{number}") for number in range(100)]:
            stream.lose()
        self.assertEqual((self.factory.link_count, len(self.factory._links_of)), (0, 0))

    def test_handshakes(self) -> None:
        """So many may be in their handshake at once; another is dropped, and there is room again when they left."""
        streams = [self.connect() for _ in range(MAX_HANDSHAKES)]
        late = self.connect()
        self.assertEqual((late.ends, self.kit.counters.refused), (["abort"], {"busy": 1}))
        late.lose()
        for stream in streams:
            stream.lose()
        self.assertEqual(self.factory.handshake_count, 0)
        self.assertIn(b" 101 ", self.ask().value())
        self.assertEqual(self.factory.handshake_count, 0)
