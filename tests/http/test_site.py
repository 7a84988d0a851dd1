"""The bounds of HTTP connections."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.site import MAX_CONNECTIONS, MAX_HEADER_BYTES, MAX_HEADERS, REQUEST_SECONDS
from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import SiteUnderTest, parse_responses

LIVE = b"GET /health/live HTTP/1.1\r\nHost: h\r\n"


class SiteTests(SynchronousTestCase):
    """What one connection may cost."""

    def setUp(self) -> None:
        """Make a site."""
        self.under_test = SiteUnderTest(OpenAuthenticator())

    def test_keep_alive(self) -> None:
        """A connection may ask again and again, also without waiting."""
        transport = self.under_test.send((LIVE + b"\r\n") * 3)
        self.assertEqual([response.status for response in parse_responses(transport.value())], [200] * 3)
        self.assertFalse(transport.disconnecting)

    def test_body(self) -> None:
        """A request that announces a body is answered with 413 and closed before the body comes."""
        for header in (b"Content-Length: 5000000000", b"Content-Length: 1", b"Transfer-Encoding: chunked"):
            channel, transport = self.under_test.connect()
            channel.dataReceived(LIVE + header + b"\r\nExpect: 100-continue\r\n\r\n")
            (response,) = parse_responses(transport.value())
            self.assertEqual((header, response.status), (header, 413))
            self.assertEqual(response.json, {"error": "requests have no body here"})
            self.assertTrue(transport.disconnecting)

    def test_body_that_comes_all_the_same(self) -> None:
        """What is sent behind a refusal is neither kept nor answered."""
        channel, transport = self.under_test.connect()
        channel.dataReceived(LIVE + b"Content-Length: 4\r\n\r\nbo")
        answered = transport.value()
        channel.dataReceived(b"dy" + LIVE + b"\r\n")
        self.assertEqual(transport.value(), answered)

    def test_body_in_one_read(self) -> None:
        """A small body that came with its request is refused as well, and answered once."""
        transport = self.under_test.send(LIVE + b"Content-Length: 4\r\n\r\nbody" + LIVE + b"\r\n")
        self.assertEqual([response.status for response in parse_responses(transport.value())], [413])

    def test_header_bytes(self) -> None:
        """Headers over the limit cost their sender the connection."""
        line = b"X-Y: " + b"z" * 1000 + b"\r\n"
        transport = self.under_test.send(LIVE + line * (MAX_HEADER_BYTES // 1000 + 1) + b"\r\n")
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 400 "))
        self.assertTrue(transport.disconnecting)

    def test_endless_line(self) -> None:
        """A line without an end is not kept beyond the limit."""
        channel, transport = self.under_test.connect()
        for _ in range(20):
            channel.dataReceived(b"G" * 1000)
        self.assertTrue(transport.disconnecting)

    def test_headers(self) -> None:
        """So do too many headers."""
        at_limit = LIVE + b"A: b\r\n" * (MAX_HEADERS - 1) + b"\r\n"
        over_limit = LIVE + b"A: b\r\n" * MAX_HEADERS + b"\r\n"
        self.assertEqual(parse_responses(self.under_test.send(at_limit).value())[0].status, 200)
        self.assertTrue(self.under_test.send(over_limit).value().startswith(b"HTTP/1.1 400 "))

    def test_silence(self) -> None:
        """A connection that asks nothing is closed in time."""
        _, transport = self.under_test.connect()
        self.under_test.clock.advance(REQUEST_SECONDS - 0.1)
        self.assertFalse(transport.disconnecting)
        self.under_test.clock.advance(0.2)
        self.assertTrue(transport.disconnecting)

    def test_dripping(self) -> None:
        """A request that comes byte by byte gets no more time than any other."""
        channel, transport = self.under_test.connect()
        for byte in LIVE[:40]:
            channel.dataReceived(bytes((byte,)))
            self.under_test.clock.advance(1)
        self.assertTrue(transport.disconnecting)

    def test_time_starts_again(self) -> None:
        """After an answer the next request has all its time."""
        channel, transport = self.under_test.connect()
        for _ in range(5):
            self.under_test.clock.advance(REQUEST_SECONDS * 0.9)
            channel.dataReceived(LIVE + b"\r\n")
        self.assertFalse(transport.disconnecting)
        self.assertEqual(len(parse_responses(transport.value())), 5)

    def test_half_open(self) -> None:
        """Thousands who begin a request and never end it keep nobody out, and are all gone in time."""
        dripping = [self.under_test.connect() for _ in range(2000)]
        for channel, _ in dripping:
            channel.dataReceived(LIVE)
        self.assertEqual(self.under_test.site.connections, MAX_CONNECTIONS)
        for seconds in range(60):
            self.assertEqual((seconds, self.under_test.ask("/health/live").status), (seconds, 200))
            self.under_test.clock.advance(1)
        self.assertTrue(all(transport.disconnecting for _, transport in dripping))
        self.assertGreaterEqual(self.under_test.counters.refused["http_connections"], 2000 - MAX_CONNECTIONS)

    def test_connections(self) -> None:
        """At the limit the oldest connection that waits for its client is closed and counted; nobody else is."""
        (first, closed), (_, kept) = self.under_test.connect(), self.under_test.connect()
        for _ in range(MAX_CONNECTIONS - 2):
            self.under_test.connect()
        self.assertFalse(closed.disconnecting)
        self.under_test.connect()
        self.assertEqual((closed.disconnecting, kept.disconnecting), (True, False))
        self.assertEqual(self.under_test.counters.refused, {"http_connections": 1})
        first.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.under_test.site.connections, MAX_CONNECTIONS)

    def test_being_answered(self) -> None:
        """Who waits for an answer is not closed for others; when all are, a new connection is refused."""
        waiting: list[Deferred[bytes]] = []

        def make_text() -> Deferred[bytes]:
            waiting.append(Deferred())
            return waiting[-1]

        under_test = SiteUnderTest(OpenAuthenticator(), metrics_page=make_text)
        transports = [under_test.begin("/metrics") for _ in range(MAX_CONNECTIONS)]
        self.assertIsNone(under_test.site.buildProtocol(None))
        self.assertFalse(any(transport.disconnecting for transport in transports))
        waiting[7].callback(b"x")
        self.assertEqual(parse_responses(transports[7].value())[0].status, 200)
        self.assertIsNotNone(under_test.site.buildProtocol(None))
        self.assertTrue(transports[7].disconnecting)

    def test_no_timer_is_left(self) -> None:
        """A connection that ends leaves nothing behind."""
        channel, _ = self.under_test.connect()
        channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.under_test.clock.getDelayedCalls(), [])
        self.assertEqual(self.under_test.site.connections, 0)

    def test_no_access_log(self) -> None:
        """A started site keeps no clock and no log file."""
        self.under_test.site.startFactory()
        self.assertEqual(self.under_test.clock.getDelayedCalls(), [])
        self.assertEqual(self.under_test.ask("/health/live").status, 200)
        self.under_test.site.stopFactory()
