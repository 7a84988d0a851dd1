"""What all pages have in common."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request

from meshrelay.http.page import Answer, Page
from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import SiteUnderTest


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
