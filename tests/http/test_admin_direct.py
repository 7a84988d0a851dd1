"""The page that sends messages of the server."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import (
    CommandError,
    InternalError,
    MalformedPayload,
    MessageIsEmpty,
    MessageTooLarge,
    NodesNotFound,
    ReliableTimeout,
    UserDeclined,
    UserNotFound,
)
from meshrelay.http.admin import AdminAccess
from meshrelay.http.admin_direct import ServerMessages
from meshrelay.http.page import PAGE_SECONDS, RETRY_AFTER_SECONDS
from meshrelay.http.site import REQUEST_SECONDS
from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import CLIENT, NODE, Response, SiteUnderTest, parse_responses

HERE = IPv4Address("TCP", "127.0.0.1", 50000)
KEY = b"a-long-admin-key"
LIMIT = 1000


class DirectPageTests(SynchronousTestCase):
    """POST /direct/<user ID>."""

    def setUp(self) -> None:
        """Make a site."""
        self.sent: list[tuple[str, bytes]] = []
        self.error: CommandError | None = None
        self.waits_for: Deferred[None] | None = None
        self.under_test = SiteUnderTest(
            OpenAuthenticator(), direct=ServerMessages(self.send, LIMIT), admin=AdminAccess(KEY)
        )

    async def send(self, peer_id: str, message: bytes) -> None:
        """Do as the component: remember, wait and raise what the test wants."""
        self.sent.append((peer_id, message))
        if self.waits_for is not None:
            await self.waits_for
        if self.error is not None:
            raise self.error

    def request(self, body: bytes = b"hi", *headers: str, path: str = "/direct/ann", method: str = "POST") -> bytes:
        """Return a request as bytes."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers, "", ""]
        return "\r\n".join(lines).encode("utf-8") + body

    def post(self, body: bytes = b"hi", *headers: str, client: IAddress = HERE, path: str = "/direct/ann") -> Response:
        """Return the answer, which must be there at once."""
        transport = self.under_test.send(self.request(body, *headers, path=path), NODE, client)
        (response,) = parse_responses(transport.value())
        return response

    def test_sent(self) -> None:
        """What is posted is sent, byte by byte, and the answer has no body."""
        body = bytes(range(256))
        response = self.post(body)
        self.assertEqual((response.status, response.body), (204, b""))
        self.assertNotIn("Content-Length", response.headers)
        self.assertEqual(self.sent, [("ann", body)])

    def test_user_ids(self) -> None:
        """The user ID may be anything, percent-encoded where it must be."""
        for path, user in (("/direct/%C3%A4nn", "\u00e4nn"), ("/direct/a%2Fb%3F?x=1", "a/b?"), ("/direct/a+b", "a+b")):
            self.assertEqual(self.post(path=path).status, 204)
            self.assertEqual(self.sent[-1][0], user)
        for path in ("/direct/a/b", "/direct/%FF"):
            self.assertEqual((path, self.post(path=path).status), (path, 400))
        self.assertEqual(len(self.sent), 3)

    def test_errors(self) -> None:
        """What goes wrong has a status of its own."""
        for error, status in (
            (MalformedPayload("peer: user ID has 0 bytes"), 400),
            (MessageIsEmpty(), 400),
            (UserNotFound(), 404),
            (UserDeclined(), 409),
            (MessageTooLarge("message of 1000 bytes, in a direct message 999 fit"), 413),
            (InternalError(), 500),
            (ReliableTimeout(), 503),
            (NodesNotFound(), 503),
        ):
            self.error = error
            response = self.post()
            self.assertEqual((error, response.status, response.json), (error, status, {"error": error.text}))
            self.assertEqual("Retry-After" in response.headers, status == 503)
        self.assertEqual(response.headers["Retry-After"], str(RETRY_AFTER_SECONDS))

    def test_length(self) -> None:
        """max_payload_bytes are taken; a longer message is refused before it comes, and one of unknown length too."""
        self.assertEqual(self.post(b"x" * LIMIT).status, 204)
        for header, status in ((f"Content-Length: {LIMIT + 1}", 413), ("Transfer-Encoding: chunked", 411)):
            lines = f"POST /direct/ann HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{header}\r\n\r\n"
            transport = self.under_test.send(lines.encode(), NODE, HERE)
            (response,) = parse_responses(transport.value())
            self.assertEqual((header, response.status), (header, status))
            self.assertTrue(transport.disconnecting)
        self.assertEqual(len(self.sent), 1)

    def test_in_pieces(self) -> None:
        """A body may come bit by bit, also to a client that waits until it is asked for it, but not for ever."""
        for seconds, status in ((0.0, 204), (REQUEST_SECONDS, None)):
            channel, transport = self.under_test.connect(NODE, HERE)
            head, _, body = self.request(b"message", "Expect: 100-continue").partition(b"\r\n\r\n")
            channel.dataReceived(head + b"\r\n\r\n")
            self.assertEqual(transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
            transport.clear()
            for index in range(len(body) - 1):
                channel.dataReceived(body[index : index + 1])
            self.under_test.clock.advance(seconds)
            self.assertEqual(transport.disconnecting, status is None)
            if status is not None:
                channel.dataReceived(body[-1:])
                self.assertEqual(parse_responses(transport.value())[0].status, status)
        self.assertEqual(self.sent, [("ann", b"message")])

    def test_access(self) -> None:
        """Strangers are refused before their message is read; the key opens."""
        self.assertEqual(self.post(client=CLIENT).status, 401)
        channel, transport = self.under_test.connect(NODE, CLIENT)
        channel.dataReceived(b"POST /direct/ann HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n")
        self.assertEqual(parse_responses(transport.value())[0].status, 401)
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.post(b"", client=CLIENT).status, 401)
        self.assertEqual(self.sent, [])
        self.assertEqual(self.post(b"hi", "Authorization: Bearer a-long-admin-key", client=CLIENT).status, 204)

    def test_web_page(self) -> None:
        """A web page in the browser of an operator cannot send anything."""
        for body in (b"hi", b""):
            self.assertEqual(self.post(body, "Origin: http://evil.example").status, 403)
        self.assertEqual(self.sent, [])

    def test_keep_alive(self) -> None:
        """What comes behind a body is the next request."""
        transport = self.under_test.send(self.request(b"1") + self.request(b"2"), NODE, HERE)
        self.assertEqual([response.status for response in parse_responses(transport.value())], [204, 204])
        self.assertEqual([message for _, message in self.sent], [b"1", b"2"])

    def test_methods(self) -> None:
        """Only POST sends; a body is read for nothing else, nor anywhere else."""
        for method in ("GET", "PUT", "DELETE"):
            transport = self.under_test.send(self.request(b"", method=method), NODE, HERE)
            self.assertEqual((method, parse_responses(transport.value())[0].status), (method, 405))
            transport = self.under_test.send(self.request(b"hi", method=method), NODE, HERE)
            self.assertEqual((method, parse_responses(transport.value())[0].status), (method, 413))
        for path in ("/directs/ann", "/", "/health/live", "//direct/ann", "http://localhost/direct/ann"):
            self.assertEqual((path, self.post(path=path).status), (path, 413))
        self.assertEqual(self.sent, [])

    def test_slow(self) -> None:
        """An answer that does not come in time is a 503; a client that goes away is not waited for."""
        self.waits_for = Deferred()
        transport = self.under_test.send(self.request(), NODE, HERE)
        self.under_test.clock.advance(PAGE_SECONDS + 0.1)
        (response,) = parse_responses(transport.value())
        self.assertEqual((response.status, "Retry-After" in response.headers), (503, True))
