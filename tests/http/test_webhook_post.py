"""One POST to a webhook, over connections in memory."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.webhook_post import MAX_ANSWER_BYTES, HookPost, signature

SECRET = b"a-secret-of-the-operator"


class HookPostTests(SynchronousTestCase):
    """What goes over the wire."""

    def setUp(self) -> None:
        """Five seconds for each POST."""
        self.reactor = MemoryReactorClock()
        self.reactor.advance(1_700_000_000.5)
        self.post = HookPost(self.reactor, SECRET, 5.0, 1)

    def begin(self, post: HookPost | None = None, url: str = "http://127.0.0.1:99/hook?x=1") -> Deferred[int]:
        """Post something, and let the connection be made."""
        done = (post or self.post)(url, b'{"events":[]}', {"Meshrelay-Try": "1"})
        *_, factory, _, _ = self.reactor.tcpClients[-1]
        self.transport = StringTransport()
        protocol: Any = factory.buildProtocol(None)
        self.protocol = protocol
        self.protocol.makeConnection(self.transport)
        self.reactor.pump([0.0] * 3)
        return done

    def test_request(self) -> None:
        """The request is signed, says what it is, and goes to the URL."""
        done = self.begin()
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        self.assertEqual((lines[0], body), ("POST /hook?x=1 HTTP/1.1", b'{"events":[]}'))
        self.assertEqual((headers["content-type"], headers["meshrelay-try"]), ("application/json", "1"))
        expected = hmac.new(SECRET, b'1700000000.{"events":[]}', sha256).hexdigest()
        self.assertEqual(headers["meshrelay-signature"], f"t=1700000000,v1={expected}")
        self.protocol.dataReceived(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(self.successResultOf(done), 204)

    def test_unsigned(self) -> None:
        """Without a secret there is no signature."""
        self.begin(HookPost(self.reactor, b"", 5.0, 1))
        self.assertNotIn(b"signature", self.transport.value().lower())

    def test_signature(self) -> None:
        """It depends on the time, the body and the secret, each."""
        values = {
            signature(SECRET, b"body", 1),
            signature(SECRET, b"body", 2),
            signature(SECRET, b"bodY", 1),
            signature(b"other", b"body", 1),
        }
        self.assertEqual(len(values), 4)

    def test_redirect(self) -> None:
        """A redirect is an answer, and is not followed."""
        done = self.begin()
        self.protocol.dataReceived(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.successResultOf(done), 302)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_silence(self) -> None:
        """No answer in time is a failure, and the connection is closed; so is one that never ends."""
        for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "):
            done = self.begin()
            self.protocol.dataReceived(answer)
            self.reactor.advance(4.9)
            self.assertNoResult(done)
            self.reactor.advance(0.2)
            self.failureResultOf(done)
            self.assertTrue(self.transport.disconnecting or self.transport.disconnected, answer)

    def test_endless(self) -> None:
        """Of a long answer the status counts, and the rest is not read."""
        done = self.begin()
        self.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * MAX_ANSWER_BYTES)
        self.assertNoResult(done)
        self.protocol.dataReceived(b"x")
        self.assertEqual(self.successResultOf(done), 200)
        self.assertTrue(self.transport.disconnecting)
