"""What all pages have in common."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request

from meshrelay.http.page import PAGE_SECONDS, Answer, Page, json_answer
from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import SiteUnderTest, parse_responses


class _Broken(Page):
    def answer(self, request: Request) -> Answer:
        raise RuntimeError("a bug with a secret in it")


class PageTests(SynchronousTestCase):
    """Answers of any page."""

    def setUp(self) -> None:
        """Make a site."""
        self.under_test = SiteUnderTest(OpenAuthenticator())

    def test_not_found(self) -> None:
        """A path that leads nowhere is answered with 404 and a text in JSON, on every level."""
        for path in ("/", "/nothing", "/health", "/health/", "/health/nothing", "/nothing/below/it"):
            response = self.under_test.ask(path)
            self.assertEqual((path, response.status, response.json), (path, 404, {"error": "no such page"}))

    def test_method(self) -> None:
        """Another method is answered with 405 and the methods that are allowed."""
        response = self.under_test.ask("/health/live", method="DELETE")
        self.assertEqual(response.status, 405)
        self.assertEqual(response.headers["Allow"], "GET, HEAD")
        self.assertIn("DELETE", response.json["error"])

    def test_unknown_method(self) -> None:
        """A method that no standard knows is answered like any other, and is not echoed at length."""
        response = self.under_test.ask("/metrics", method="X" * 4000)
        self.assertEqual(response.status, 405)
        self.assertLess(len(response.body), 200)

    def test_head(self) -> None:
        """HEAD is answered like GET but without the body."""
        get, head = (self.under_test.ask("/health/live", method=method) for method in ("GET", "HEAD"))
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(head.headers["Content-Length"], get.headers["Content-Length"])

    def test_headers(self) -> None:
        """Answers are typed, never cached, and do not name the versions that run here."""
        headers = self.under_test.ask("/health/live").headers
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual(headers["Cache-Control"], "no-store")
        self.assertNotIn("Server", headers)

    def test_bug(self) -> None:
        """A bug in a page is logged and answered with 500 without its text."""
        self.under_test.site.resource.putChild(b"broken", _Broken())
        response = self.under_test.ask("/broken")
        self.assertEqual((response.status, response.json), (500, {"error": "internal error"}))
        self.assertNotIn("Server", response.headers)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class _Later(Page):
    def __init__(self, coming: Deferred[Answer]) -> None:
        super().__init__()
        self.coming = coming

    def answer(self, request: Request) -> Deferred[Answer]:
        return self.coming


class LaterTests(SynchronousTestCase):
    """Pages that have to ask somebody first."""

    def setUp(self) -> None:
        """Make a site with a page that answers when it is told to."""
        self.under_test = SiteUnderTest(OpenAuthenticator())
        self.cancelled: list[object] = []
        self.coming: Deferred[Answer] = Deferred(self.cancelled.append)

    def begin(self) -> StringTransport:
        """Ask the page."""
        self.under_test.site.resource.putChild(b"later", _Later(self.coming))
        return self.under_test.begin("/later")

    def test_later(self) -> None:
        """An answer that comes later is sent when it is there, and leaves no timer but the connection's own."""
        transport = self.begin()
        self.assertEqual(transport.value(), b"")
        self.under_test.clock.advance(PAGE_SECONDS - 0.1)
        self.coming.callback(json_answer(200, {"late": True}))
        (response,) = parse_responses(transport.value())
        self.assertEqual((response.status, response.json), (200, {"late": True}))
        self.assertEqual(len(self.under_test.clock.getDelayedCalls()), 1)

    def test_order(self) -> None:
        """Requests of one connection are answered in their order, however late the first one is."""
        self.under_test.site.resource.putChild(b"later", _Later(self.coming))
        live = b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n"
        transport = self.under_test.send(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n" + live)
        self.assertEqual(transport.value(), b"")
        self.coming.callback(json_answer(202, {}))
        self.assertEqual([response.status for response in parse_responses(transport.value())], [202, 200])

    def test_too_late(self) -> None:
        """Who would wait for too long is told to come back, and the work is cancelled."""
        transport = self.begin()
        self.under_test.clock.advance(PAGE_SECONDS + 0.1)
        (response,) = parse_responses(transport.value())
        self.assertEqual((response.status, response.headers["Retry-After"]), (503, "5"))
        self.assertEqual(self.cancelled, [self.coming])

    def test_client_gone(self) -> None:
        """A client that does not wait cancels the work; nothing is written and nothing is logged."""
        channel, transport = self.under_test.connect()
        self.under_test.site.resource.putChild(b"later", _Later(self.coming))
        channel.dataReceived(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n")
        channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.cancelled, [self.coming])
        self.assertEqual((transport.value(), self.under_test.clock.getDelayedCalls()), (b"", []))

    def test_client_gone_from_stubborn_work(self) -> None:
        """Work that ends with an answer when it is cancelled is harmless as well."""
        self.coming = Deferred(lambda coming: coming.callback(json_answer(200, {})))
        channel, transport = self.under_test.connect()
        self.under_test.site.resource.putChild(b"later", _Later(self.coming))
        channel.dataReceived(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n")
        channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(transport.value(), b"")

    def test_bug(self) -> None:
        """A bug behind a page is logged and answered with 500 without its text."""
        for error in (RuntimeError("a secret"), CancelledError("a secret")):
            self.coming = fail(error)
            (response,) = parse_responses(self.begin().value())
            self.assertEqual((response.status, response.json), (500, {"error": "internal error"}))
            self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)
