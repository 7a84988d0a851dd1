"""Where a client is to connect."""

from __future__ import annotations

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.placement import Place
from meshrelay.session.auth import OpenAuthenticator, ReservingAuthenticator
from tests.http.exchange import CREDENTIALS, FakeCluster, SiteUnderTest, TokenIsUser, make_record, parse_responses

SID = "0123456789abcdef0123456789ABCDEF"


class PlaceTests(SynchronousTestCase):
    """Answers with status 200."""

    def setUp(self) -> None:
        """Make a site on which everybody is who they say."""
        self.under_test = SiteUnderTest(OpenAuthenticator())

    def test_udp(self) -> None:
        """A UDP client is told where to send packets, its sid and its three secrets."""
        response = self.under_test.ask("/endpoint/type/UDP/user/alice")
        expected = {
            "serverType": "UDP",
            "serverHost": "192.0.2.1",
            "serverPort": 7100,
            "sid": "01" * 16,
            "encryptionKey": "02" * 16,
            "encryptionIV": "03" * 16,
            "encryptionMacKey": "04" * 16,
        }
        self.assertEqual((response.status, response.json), (200, expected))
        self.assertEqual(response.headers["Content-Type"], "application/json")
        self.assertEqual(response.headers["Cache-Control"], "no-store")
        self.assertEqual(self.under_test.endpoints.reserved, [("alice", "")])

    def test_streams(self) -> None:
        """Clients of other types are told host and port and nothing else."""
        for server_type, port in (("TCP", 7200), ("WS", 7300)):
            response = self.under_test.ask(f"/endpoint/type/{server_type}/user/alice")
            expected = {"serverType": server_type, "serverHost": "192.0.2.1", "serverPort": port}
            self.assertEqual(response.json, expected)
        self.assertEqual(self.under_test.endpoints.reserved, [])

    def test_user_id(self) -> None:
        """A user ID may hold anything, written as percent codes."""
        self.under_test.ask("/endpoint/type/UDP/user/a%2Fb%20%C3%BC%3F")
        self.assertEqual(self.under_test.endpoints.reserved, [("a/b ü?", "")])

    def test_resume(self) -> None:
        """A client may ask for its earlier session by the sid, in any case."""
        self.under_test.ask(f"/endpoint/type/UDP/user/alice?resume={SID}")
        self.assertEqual(self.under_test.endpoints.reserved, [("alice", SID.lower())])

    def test_head(self) -> None:
        """HEAD makes no session."""
        response = self.under_test.ask("/endpoint/type/UDP/user/alice", method="HEAD")
        self.assertEqual(response.status, 200)
        self.assertEqual(self.under_test.endpoints.reserved, [])

    def test_unix_socket(self) -> None:
        """Behind a Unix socket the name that the client used is the host."""
        lines = (("Host: relay.example:443", "relay.example"), ("Host: [2001:db8::1]:7000", "2001:db8::1"))
        for header, expected in lines:
            data = f"GET /endpoint/type/TCP/user/alice HTTP/1.1\r\n{header}\r\n\r\n"
            value = self.under_test.send(data.encode("ascii"), UNIXAddress("/run/meshrelay")).value()
            self.assertIn(f'"serverHost":"{expected}"'.encode("ascii"), value)

    def test_unix_socket_without_host(self) -> None:
        """Without any name the host is localhost, and so it is with one that is no name."""
        for header in ("X: y", "Host: a b", "Host: " + "x" * 300):
            data = f"GET /endpoint/type/TCP/user/alice HTTP/1.0\r\n{header}\r\n\r\n"
            value = self.under_test.send(data.encode("ascii"), UNIXAddress("/run/meshrelay")).value()
            self.assertIn(b'"serverHost":"localhost"', value)


class RefusalTests(SynchronousTestCase):
    """Answers that say no."""

    def setUp(self) -> None:
        """Make a site on which the token must be the user ID."""
        self.under_test = SiteUnderTest(TokenIsUser())

    def test_user_id(self) -> None:
        """A user ID that is none is answered with 400 and the limit."""
        cases = {"": "0 bytes", "x" * 129: "1 to 128", "%ff": "not valid UTF-8"}
        for user_id, part in cases.items():
            response = self.under_test.ask(f"/endpoint/type/TCP/user/{user_id}")
            self.assertEqual((user_id, response.status), (user_id, 400))
            self.assertIn(part, response.json["error"])

    def test_resume(self) -> None:
        """A resume that cannot be a sid is answered with 400 and what a sid is."""
        for query in (
            "resume=",
            "resume=abc",
            f"resume={SID}&resume={SID}",
            "resume=" + "g" * 32,
            "resume=" + SID + "%0a",
        ):
            response = self.under_test.ask(f"/endpoint/type/UDP/user/alice?{query}", "Authorization: Bearer alice")
            self.assertEqual((query, response.status), (query, 400))
            self.assertIn("32 hex digits", response.json["error"])

    def test_token(self) -> None:
        """Whoever has no valid token gets 401, and no word about why."""
        cases = ((), ("Authorization: Bearer bob",), ("Authorization: Basic alice",), ("Authorization: Bearer",))
        doubled = ("Authorization: Bearer alice", "Authorization: Bearer alice")
        for headers in (*cases, doubled):
            response = self.under_test.ask("/endpoint/type/UDP/user/alice", *headers)
            self.assertEqual((headers, response.status, response.json), (headers, 401, {"error": "sign-in refused"}))
            self.assertEqual(response.headers["WWW-Authenticate"], "Bearer")
        self.assertEqual(self.under_test.endpoints.reserved, [])

    def test_reserved(self) -> None:
        """A user ID that belongs to somebody else by its form is answered with 400 and whose it is."""
        under_test = SiteUnderTest(ReservingAuthenticator(TokenIsUser(), "peer:", "peers"))
        response = under_test.ask("/endpoint/type/TCP/user/peer:x", "Authorization: Bearer peer:x")
        self.assertEqual(response.status, 400)
        self.assertIn("belong to peers", response.json["error"])

    def test_bearer_in_any_case(self) -> None:
        """The word Bearer is taken in any case, the token as it stands."""
        for header in ("Authorization: bearer alice", "authorization: BEARER  alice"):
            self.assertEqual(self.under_test.ask("/endpoint/type/TCP/user/alice", header).status, 200)

    def test_unknown_type(self) -> None:
        """A type that does not exist is answered with 404 and those that do."""
        for server_type in ("QUIC", "udp", ""):
            response = self.under_test.ask(f"/endpoint/type/{server_type}/user/alice")
            self.assertEqual((server_type, response.status), (server_type, 404))
            self.assertIn("UDP, TCP, WS, WSS", response.json["error"])

    def test_not_listening(self) -> None:
        """A type that this node does not serve is answered with 404."""
        response = self.under_test.ask("/endpoint/type/WSS/user/alice", "Authorization: Bearer alice")
        self.assertEqual(response.status, 404)
        self.assertIn("does not listen", response.json["error"])

    def test_path(self) -> None:
        """A path of another shape is answered with 404 and the shape."""
        for path in ("/endpoint", "/endpoint/type/UDP", "/endpoint/type/UDP/user", "/endpoint/type/UDP/user/a/b"):
            response = self.under_test.ask(path)
            self.assertEqual((path, response.status), (path, 404))
            self.assertIn("/endpoint/type/<type>/user/<user ID>", response.json["error"])

    def test_reload(self) -> None:
        """Keys and origins that were reloaded decide from then on, on open connections too."""
        path = "/endpoint/type/TCP/user/alice"
        self.assertEqual(self.under_test.ask(path).status, 401)
        self.under_test.site.set_sign_in(OpenAuthenticator(), ("*",))
        response = self.under_test.ask(path, "Origin: https://game.example")
        self.assertEqual((response.status, response.headers["Access-Control-Allow-Origin"]), (200, "*"))

    def test_draining(self) -> None:
        """A node that drains sends clients away and says when to ask again."""
        self.under_test.is_ready = False
        response = self.under_test.ask("/endpoint/type/UDP/user/alice", "Authorization: Bearer alice")
        self.assertEqual((response.status, response.headers["Retry-After"]), (503, "5"))
        self.assertEqual(self.under_test.endpoints.reserved, [])

    def test_method(self) -> None:
        """Nothing can be posted."""
        response = self.under_test.ask("/endpoint/type/UDP/user/alice", "Content-Length: 0", method="POST")
        self.assertEqual((response.status, response.headers["Allow"]), (405, "GET, HEAD, OPTIONS"))


class ClusterTests(SynchronousTestCase):
    """A node among others."""

    def setUp(self) -> None:
        """Make a site with another node that is less loaded."""
        self.cluster = FakeCluster(make_record("b", tcp="b.example:7201", udp="b.example:7101"))
        self.cluster.load = 0.5
        self.under_test = SiteUnderTest(OpenAuthenticator(), ("https://game.example",), cluster=self.cluster)

    def test_other_node(self) -> None:
        """The client is told the least loaded node of its type."""
        response = self.under_test.ask("/endpoint/type/TCP/user/alice")
        self.assertEqual(response.json, {"serverType": "TCP", "serverHost": "b.example", "serverPort": 7201})

    def test_later(self) -> None:
        """The secrets of another node are told when they are there, to web pages as well; HEAD makes none."""
        coming: Deferred[object] = Deferred()
        self.cluster.answers["b"] = lambda: coming
        path = "/endpoint/type/UDP/user/alice"
        self.assertEqual(self.under_test.ask(path, method="HEAD").status, 200)
        transport = self.under_test.begin(path, "Origin: https://game.example")
        self.assertEqual((transport.value(), len(self.cluster.reserved)), (b"", 1))
        coming.callback((Place("UDP", "192.0.2.9", 7109), CREDENTIALS))
        (response,) = parse_responses(transport.value())
        self.assertEqual((response.json["serverHost"], response.json["sid"]), ("192.0.2.9", "01" * 16))
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], "https://game.example")

    def test_resume(self) -> None:
        """A client that resumes is sent to the node that has its session."""
        self.cluster.load = 0.0
        self.cluster.where = succeed("b")
        response = self.under_test.ask(f"/endpoint/type/TCP/user/alice?resume={SID}")
        self.assertEqual((response.json["serverPort"], self.cluster.asked_where), (7201, ["alice"]))

    def test_nobody_is_asked_before_sign_in(self) -> None:
        """Who may not sign in causes no work on other nodes."""
        under_test = SiteUnderTest(TokenIsUser(), cluster=self.cluster)
        self.assertEqual(under_test.ask(f"/endpoint/type/UDP/user/alice?resume={SID}").status, 401)
        self.assertEqual((self.cluster.asked_where, self.cluster.reserved), ([], []))

    def test_not_there_yet(self) -> None:
        """A node without ports that knows no other node yet says when to ask again."""
        self.under_test.endpoints.places.clear()
        self.cluster.nodes.clear()
        response = self.under_test.ask("/endpoint/type/TCP/user/alice")
        self.assertEqual((response.status, response.headers["Retry-After"]), (503, "5"))


class BrowserTests(SynchronousTestCase):
    """Web pages of other origins."""

    path = "/endpoint/type/TCP/user/alice"

    def test_any_origin(self) -> None:
        """Where any origin is allowed, every page may read the answer."""
        under_test = SiteUnderTest(OpenAuthenticator(), ("*",))
        response = under_test.ask(self.path, "Origin: https://game.example")
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], "*")

    def test_listed_origin(self) -> None:
        """A page of a listed origin may read the answer, errors too; caches keep the origins apart."""
        under_test = SiteUnderTest(TokenIsUser(), ("https://game.example", "https://other.example"))
        response = under_test.ask(self.path, "Origin: https://game.example")
        self.assertEqual(response.status, 401)
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], "https://game.example")
        self.assertEqual(response.headers["Vary"], "Origin")

    def test_other_origin(self) -> None:
        """A page of another origin may not, nor one of a longer name, nor anybody when none is listed."""
        for allowed, origin in (
            (("https://game.example",), "https://evil.example"),
            (("https://game.example",), "https://game.example.evil.example"),
            ((), "https://game.example"),
            (("https://game.example",), "null"),
        ):
            response = SiteUnderTest(OpenAuthenticator(), allowed).ask(self.path, f"Origin: {origin}")
            self.assertNotIn("Access-Control-Allow-Origin", response.headers)

    def test_preflight(self) -> None:
        """A browser that asks first is told that the page may send a token."""
        under_test = SiteUnderTest(TokenIsUser(), ("https://game.example",))
        headers = ("Origin: https://game.example", "Access-Control-Request-Method: GET")
        response = under_test.ask(self.path, *headers, method="OPTIONS")
        self.assertEqual((response.status, response.body), (204, b""))
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], "https://game.example")
        self.assertEqual(response.headers["Access-Control-Allow-Headers"], "Authorization")
        self.assertEqual(response.headers["Access-Control-Allow-Methods"], "GET, HEAD")

    def test_preflight_of_other_origin(self) -> None:
        """A page of another origin is told nothing."""
        under_test = SiteUnderTest(OpenAuthenticator(), ("https://game.example",))
        response = under_test.ask(self.path, "Origin: https://evil.example", method="OPTIONS")
        self.assertFalse([name for name in response.headers if name.startswith("Access-Control")])
