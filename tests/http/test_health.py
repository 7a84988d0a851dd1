"""Alive and ready."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.http.health import PROBE_INTERVAL_SECONDS, PROBE_SECONDS, DirectoryProbe
from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import SiteUnderTest, parse_responses


class HealthTests(SynchronousTestCase):
    """What balancers ask."""

    def setUp(self) -> None:
        """Make a site."""
        self.under_test = SiteUnderTest(OpenAuthenticator())

    def test_live(self) -> None:
        """A node that turns is live, draining or not."""
        for is_ready in (True, False):
            self.under_test.is_ready = is_ready
            response = self.under_test.ask("/health/live")
            self.assertEqual((response.status, response.json), (200, {"status": "live"}))

    def test_ready(self) -> None:
        """A node that takes clients is ready and says its name."""
        response = self.under_test.ask("/health/ready")
        self.assertEqual((response.status, response.json), (200, {"status": "ready", "node": "node-1"}))

    def test_draining(self) -> None:
        """A node that drains answers 503, so that a balancer sends nobody any more."""
        self.under_test.is_ready = False
        response = self.under_test.ask("/health/ready")
        self.assertEqual((response.status, response.json), (503, {"status": "draining", "node": "node-1"}))

    def test_starting(self) -> None:
        """A node that does not take clients yet says so."""
        under_test = SiteUnderTest(OpenAuthenticator(), is_starting=lambda: True)
        under_test.is_ready = False
        response = under_test.ask("/health/ready")
        self.assertEqual((response.status, response.json["status"]), (503, "starting"))
        under_test.is_ready = True
        self.assertEqual(under_test.ask("/health/ready").status, 200)


class _Directory:
    """Keeps the tokens; `coming` is what comes of them."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.coming: Deferred[None] = succeed(None)

    def loopback(self, token: str) -> Deferred[None]:
        """See `IDirectory.loopback`."""
        self.tokens.append(token)
        return self.coming


class DirectoryTests(SynchronousTestCase):
    """Ready includes a token that came back through the directory."""

    def setUp(self) -> None:
        """Make a site over a directory."""
        clock = Clock()
        self.directory = _Directory()
        self.count = 0
        self.probe = DirectoryProbe(self.directory.loopback, clock, self.make_token)
        self.under_test = SiteUnderTest(OpenAuthenticator(), clock=clock, probe=self.probe)

    def make_token(self) -> str:
        """A new token."""
        self.count += 1
        return f"token-{self.count}"

    def status(self) -> tuple[int, str]:
        """Status and word of an answer that is there at once."""
        response = self.under_test.ask("/health/ready")
        return response.status, response.json["status"]

    def test_at_once(self) -> None:
        """A directory inside the node carries its token at once."""
        self.assertEqual(self.status(), (200, "ready"))
        self.assertEqual(self.directory.tokens, ["token-1"])

    def test_later(self) -> None:
        """The answer waits for the token."""
        self.directory.coming = Deferred()
        transport = self.under_test.begin("/health/ready")
        self.assertEqual(transport.value(), b"")
        self.directory.coming.callback(None)
        self.assertEqual([answer.status for answer in parse_responses(transport.value())], [200])

    def test_away(self) -> None:
        """While the directory is away the node is not ready and says why; it is again when the directory is back."""
        self.directory.coming = fail(DirectoryUnavailable("gone"))
        self.assertEqual(self.status(), (503, "directory"))
        self.directory.coming = succeed(None)
        self.under_test.clock.advance(PROBE_INTERVAL_SECONDS)
        self.assertEqual(self.status(), (200, "ready"))

    def test_silent(self) -> None:
        """A token that does not come back in 2 seconds is lost; whoever asked is told then."""
        self.directory.coming = Deferred()
        transport = self.under_test.begin("/health/ready")
        self.under_test.clock.advance(PROBE_SECONDS - 0.1)
        self.assertEqual(transport.value(), b"")
        self.under_test.clock.advance(0.1)
        (response,) = parse_responses(transport.value())
        self.assertEqual((response.status, response.json["status"]), (503, "directory"))

    def test_once_a_second(self) -> None:
        """However often it is asked, the directory gets one token a second."""
        for _ in range(35):
            self.assertEqual(self.status(), (200, "ready"))
            self.under_test.clock.advance(0.1)
        self.assertEqual(len(self.directory.tokens), 4)

    def test_one_at_a_time(self) -> None:
        """All that ask meanwhile wait for the token that is on its way; who leaves is forgotten."""
        self.directory.coming = Deferred()
        channel, _ = self.under_test.connect()
        channel.dataReceived(b"GET /health/ready HTTP/1.1\r\nHost: h\r\n\r\n")
        transports = [self.under_test.begin("/health/ready") for _ in range(3)]
        self.under_test.clock.advance(1.5)
        transports.append(self.under_test.begin("/health/ready"))
        channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(len(self.probe._waiting), 4)
        self.directory.coming.callback(None)
        answers = [parse_responses(transport.value())[0].status for transport in transports]
        self.assertEqual((answers, self.directory.tokens), ([200] * 4, ["token-1"]))

    def test_clock_set_back(self) -> None:
        """A clock that is set back does not keep an old outcome alive."""
        self.under_test.clock.advance(1000)
        self.assertEqual(self.status(), (200, "ready"))
        self.under_test.clock.rightNow -= 500
        self.directory.coming = fail(DirectoryUnavailable("gone"))
        self.assertEqual(self.status(), (503, "directory"))

    def test_draining(self) -> None:
        """A node that drains needs no directory to know it, not even when it begins while a token is on its way."""
        self.directory.coming = Deferred()
        transport = self.under_test.begin("/health/ready")
        self.under_test.is_ready = False
        self.assertEqual(self.status(), (503, "draining"))
        self.directory.coming.callback(None)
        self.assertEqual(parse_responses(transport.value())[0].json["status"], "draining")
        self.assertEqual(len(self.directory.tokens), 1)
