"""The pages of the admin API, as a client sees them."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from meshrelay.http.admin_api import AdminApi, AdminApiPage
from meshrelay.http.admin_keys import WRONG_KEYS_AT_ONCE
from meshrelay.http.admin_openapi import openapi_text
from meshrelay.http.page import PAGE_SECONDS
from tests.http.admin_cluster import HERE, KEY, STATIC, AdminTestCase
from tests.http.exchange import NODE, Response, parse_responses

ELSEWHERE = IPv4Address("TCP", "192.0.2.7", 50000)
WITH_KEY = f"Authorization: Bearer {KEY.decode()}"
JSON = "Content-Type: application/json"
BYTES = "Content-Type: application/octet-stream"
MESSAGES = f"/admin/groups/{STATIC}/messages"


class ApiTestCase(AdminTestCase):
    """Ann is in the static group."""

    def setUp(self) -> None:
        """Sign ann in on node b."""
        super().setUp()
        self.ann = self.sign_in("ann", "b")
        self.cluster.join(self.ann, STATIC)
        self.cluster.run(0.1)

    def hang_up(self, request: bytes) -> None:
        """Send a request and be gone before the answer."""
        channel, _ = self.site.connect(NODE, HERE)
        channel.dataReceived(request)
        channel.connectionLost(Failure(ConnectionLost()))

    def told(self, response: Response) -> tuple[int, Any, Any]:
        """Status, code and field of an answer."""
        document = response.json
        return response.status, document.get("code"), document.get("field")


class RequestTests(ApiTestCase):
    """What is taken."""

    def test_done(self) -> None:
        """What is done is answered with JSON of the status that the table says."""
        response = self.post(MESSAGES, {"text": "hi"})
        self.assertEqual((response.status, response.json), (202, {"group": STATIC, "node": "a"}))
        self.assertEqual(
            (response.headers["Content-Type"], response.headers["Cache-Control"]), ("application/json", "no-store")
        )
        self.assertEqual(self.heard(self.ann), [("server", b"hi")])

    def test_bytes(self) -> None:
        """The body may be the message itself, byte by byte; for an announcement it may not."""
        body = bytes(range(256))
        self.assertEqual(self.ask(MESSAGES, BYTES, method="POST", body=body).status, 202)
        self.assertEqual(self.heard(self.ann), [("server", body)])
        refused = self.ask("/admin/announcements", BYTES, method="POST", body=body)
        self.assertEqual(self.told(refused), (415, "wrong_type", "Content-Type"))

    def test_user_ids(self) -> None:
        """A user ID is percent-encoded UTF-8, slashes too."""
        self.sign_in("\u00e4/nn overlay", "c")
        for path in ("/admin/users/%C3%A4%2Fnn%20overlay", "/admin/users/ann", "/admin/users/%61nn"):
            self.assertEqual((path, self.ask(path).status), (path, 200))
        self.assertEqual(self.told(self.ask("/admin/users/%FF")), (400, "bad_path", None))
        self.assertEqual(self.told(self.ask("/admin/users/overlay")), (404, "user_not_found", "user"))
        self.assertEqual(self.told(self.ask("/admin/users/")), (400, "bad_path", "user"))

    def test_paths(self) -> None:
        """A path that is none is said to be none, whatever it is asked with."""
        for path in ("/admin", "/admin/", "/admin/x", "/admin/groups/x/y", "/admin/users/a/b", "/admin/openapi.json/x"):
            self.assertEqual((path, *self.told(self.ask(path))), (path, 404, "no_such_path", None))

    def test_methods(self) -> None:
        """A path names what it takes; HEAD is GET without a body."""
        for method, path, allowed in (
            ("PUT", "/admin/users/ann", "GET, HEAD, DELETE"),
            ("OPTIONS", "/admin/users/ann", "GET, HEAD, DELETE"),
            ("DELETE", "/admin/groups", "GET, HEAD"),
            ("GET", MESSAGES, "POST"),
            ("BREW", "/admin/openapi.json", "GET, HEAD"),
        ):
            response = self.ask(path, method=method)
            self.assertEqual((path, *self.told(response)), (path, 405, "method_not_allowed", None))
            self.assertEqual(response.headers["Allow"], allowed)
            self.assertNotIn("Access-Control-Allow-Origin", response.headers)
        for path, status in (("/admin/groups", 200), ("/admin/users/nobody", 404), ("/admin/openapi.json", 200)):
            self.assertEqual((path, self.ask(path, method="HEAD").status), (path, status))

    def test_openapi(self) -> None:
        """The node tells what it takes."""
        self.assertEqual(self.ask("/admin/openapi.json").body.decode("utf-8"), openapi_text())

    def test_query(self) -> None:
        """A parameter that is none is a mistake, and so is one that stands twice or is no text."""
        for query, field in (
            ("limi=3", "limi"),
            ("limit=1&limit=2", "limit"),
            ("limit=x", "limit"),
            ("cursor=%FF", "cursor"),
        ):
            self.assertEqual((query, *self.told(self.ask(f"/admin/groups?{query}"))), (query, 400, "bad_query", field))
        self.assertEqual(len(self.ask("/admin/groups?limit=1").json["groups"]), 1)
        self.assertEqual(self.told(self.ask("/admin/nodes?x=1")), (400, "bad_query", "x"))

    def test_kick(self) -> None:
        """DELETE takes its reason from the query."""
        response = self.ask("/admin/users/ann?reason=be%20nice", method="DELETE")
        self.assertEqual((response.status, response.json), (200, {"user": "ann", "node": "b"}))

    def test_drain(self) -> None:
        """A POST without anything to say takes an empty object, or nothing."""
        for body in (b"{}", b" {} ", b""):
            self.assertEqual(self.ask("/admin/nodes/c/drain", JSON, method="POST", body=body).status, 202)
        refused = self.ask("/admin/nodes/c/drain", JSON, method="POST", body=b'{"now":1}')
        self.assertEqual(self.told(refused), (400, "invalid_body", "body"))
        self.assertEqual(self.drained, ["c"])

    def test_bodies(self) -> None:
        """A body that is wrong is told where."""
        for body, field in (
            (b"", "body"),
            (b"{", "body"),
            (b"\xff", "body"),
            (b"[" * 20000, "body"),
            (b"null", "body"),
            (b'{"text":5}', "text"),
            (b'{"colour":5}', "colour"),
            (b'{"text":"x","ver":1,"cmd":1}', "ver"),
            (b'{"text":"x","cmd":1}', "ver"),
            (b'{"body":"%%"}', "body"),
        ):
            response = self.ask(MESSAGES, JSON, method="POST", body=body)
            self.assertEqual((body[:20], *self.told(response)), (body[:20], 400, "invalid_body", field))
        self.assertEqual(self.heard(self.ann), [])


class RefusalTests(ApiTestCase):
    """Who may not, and what is not read at all."""

    def test_key(self) -> None:
        """A stranger needs the key; one who guesses has to wait, and then the right key does not help either."""
        self.assertEqual(self.told(self.ask("/admin/groups", client=ELSEWHERE)), (401, "key_needed", None))
        self.assertEqual(self.ask("/admin/groups", WITH_KEY, client=ELSEWHERE).status, 200)
        wrong = "Authorization: Bearer a-long-admin-kex"
        for _ in range(WRONG_KEYS_AT_ONCE):
            self.assertEqual(self.ask("/admin/groups", wrong, client=ELSEWHERE).status, 401)
        for header in (wrong, WITH_KEY):
            response = self.ask("/admin/groups", header, client=ELSEWHERE)
            self.assertEqual(self.told(response), (429, "too_many_tries", None))
            self.assertIn(int(response.headers["Retry-After"]), range(1, 11))
        self.assertEqual(self.ask("/admin/groups").status, 200)
        self.assertEqual(self.counters.refused, {"admin_key": WRONG_KEYS_AT_ONCE, "admin_key_rate": 2})
        self.cluster.run(10.5, 0.1)
        self.assertEqual(self.ask("/admin/groups", WITH_KEY, client=ELSEWHERE).status, 200)

    def test_strangers_body(self) -> None:
        """The body of a stranger is refused before it comes."""
        for lines, status in ((["Host: h", JSON], 401), (["Host: h", JSON, "Authorization: Bearer x"], 401)):
            head = "\r\n".join([f"POST {MESSAGES} HTTP/1.1", *lines, "Content-Length: 900", "", ""])
            transport = self.site.send(head.encode(), NODE, ELSEWHERE)
            (response,) = parse_responses(transport.value())
            self.assertEqual((response.status, transport.disconnecting), (status, True))

    def test_web_pages(self) -> None:
        """A page of another site can change nothing; one of this site can."""
        for headers in (
            ("Origin: http://evil.example",),
            ("Origin: null",),
            ("Origin: http://localhost:7001",),
            ("Origin: http://localhost:7000", "Origin: http://evil.example"),
            ("Sec-Fetch-Site: cross-site",),
            ("Sec-Fetch-Site: same-site",),
        ):
            for response in (
                self.post(MESSAGES, {"text": "x"}, *headers),
                self.ask("/admin/users/ann", *headers, method="DELETE"),
                self.ask("/admin/nodes/c/drain", JSON, *headers, method="POST"),
            ):
                self.assertEqual((headers, *self.told(response)), (headers, 403, "cross_site", "Origin"))
        self.assertEqual((self.heard(self.ann), self.drained), ([], []))
        own = ("Origin: http://localhost:7000", "Sec-Fetch-Site: same-origin")
        self.assertEqual(self.post(MESSAGES, {"text": "x"}, *own).status, 202)

    def test_forms(self) -> None:
        """What a form can send is not taken."""
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            headers = (f"Content-Type: {kind}",) if kind else ()
            response = self.ask(MESSAGES, *headers, method="POST", body=b'{"text":"x"}')
            self.assertEqual((kind, *self.told(response)), (kind, 415, "wrong_type", "Content-Type"))
        response = self.ask(
            MESSAGES, "Content-Type: Application/JSON; charset=utf-8", method="POST", body=b'{"text":"x"}'
        )
        self.assertEqual(response.status, 202)

    def test_length(self) -> None:
        """A body that can be no message is refused before it comes, with the limit; so is one of unknown length."""
        api = self.api
        for kind, limit in ((JSON, api.body_limit), (BYTES, 65536)):
            head = f"POST {MESSAGES} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {limit + 1}\r\n\r\n"
            transport = self.site.send(head.encode(), NODE, HERE)
            (response,) = parse_responses(transport.value())
            self.assertEqual((kind, *self.told(response)), (kind, 413, "too_large", "body"))
            self.assertEqual((response.json["limit"], transport.disconnecting), (limit, True))
        head = f"POST {MESSAGES} HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
        (response,) = parse_responses(self.site.send(head.encode(), NODE, HERE).value())
        self.assertEqual(self.told(response), (411, "length_required", "Content-Length"))

    def test_longest(self) -> None:
        """The longest message goes through, however JSON writes it."""
        longest = 65536 - 53 - len("server")
        text = "\\u0001" * longest
        response = self.ask(MESSAGES, JSON, method="POST", body=f'{{"text":"{text}"}}'.encode())
        self.assertEqual(response.status, 202)
        self.assertEqual(self.heard(self.ann), [("server", b"\x01" * longest)])
        response = self.post(MESSAGES, {"text": "x" * (longest + 1)})
        self.assertEqual((*self.told(response), response.json["limit"]), (413, "too_large", "body", longest))


class RepeatTests(ApiTestCase):
    """Idempotency-Key."""

    def test_once(self) -> None:
        """The same request with the same key is published once, and answered twice alike."""
        first, second = (self.post(MESSAGES, {"text": "x"}, "Idempotency-Key: k1") for _ in range(2))
        self.assertEqual((first.status, first.body), (second.status, second.body))
        self.assertEqual(
            (first.headers.get("Idempotency-Replayed"), second.headers["Idempotency-Replayed"]), (None, "true")
        )
        self.assertEqual(self.heard(self.ann), [("server", b"x")])
        self.assertEqual(self.api.statistics()["repeats_replayed"], 1)

    def test_other(self) -> None:
        """Another body, or another path, with the same key is a mistake, and is not done."""
        self.post(MESSAGES, {"text": "x"}, "Idempotency-Key: k1")
        for response in (
            self.post(MESSAGES, {"text": "y"}, "Idempotency-Key: k1"),
            self.post("/admin/announcements", {"text": "x"}, "Idempotency-Key: k1"),
        ):
            self.assertEqual(self.told(response), (422, "key_reused", "Idempotency-Key"))
        self.assertEqual(self.heard(self.ann), [("server", b"x")])

    def test_failed(self) -> None:
        """What was not done may be tried again."""
        for status in (404, 404):
            self.assertEqual(self.post("/admin/users/bob/messages", {"text": "x"}, "Idempotency-Key: k").status, status)
        self.sign_in("bob", "c")
        self.assertEqual(self.post("/admin/users/bob/messages", {"text": "x"}, "Idempotency-Key: k").status, 200)

    def test_gone(self) -> None:
        """Who hangs up, or waits too long, and asks again is answered as before, and nothing is done twice."""
        actions = self.api.actions
        publish, waiting = actions._publish, Deferred[None]()

        async def publish_slowly(*arguments: Any) -> Any:
            await waiting
            return await publish(*arguments)

        self.patch(actions, "_publish", publish_slowly)
        lines = ["Host: localhost", JSON, "Content-Length: 12", "Idempotency-Key: k"]
        request = "\r\n".join([f"POST {MESSAGES} HTTP/1.1", *lines, "", '{"text":"x"}']).encode()
        self.hang_up(request)
        slow = self.post(MESSAGES, {"text": "x"}, "Idempotency-Key: k")
        self.assertEqual(self.told(slow)[:2], (409, "in_progress"))
        waiting.callback(None)
        again = self.post(MESSAGES, {"text": "x"}, "Idempotency-Key: k")
        self.assertEqual((again.status, again.headers["Idempotency-Replayed"]), (202, "true"))
        self.assertEqual(self.heard(self.ann), [("server", b"x")])

    def test_bad_key(self) -> None:
        """A key stands once and is short."""
        for headers in (
            ("Idempotency-Key: ",),
            (f"Idempotency-Key: {'x' * 129}",),
            ("Idempotency-Key: a", "Idempotency-Key: a"),
        ):
            response = self.post(MESSAGES, {"text": "x"}, *headers)
            self.assertEqual((headers, *self.told(response)), (headers, 400, "bad_header", "Idempotency-Key"))
        self.assertEqual(self.heard(self.ann), [])


class TroubleTests(ApiTestCase):
    """What goes wrong inside."""

    def break_nodes(self, read: Any) -> None:
        """Let the list of nodes be read by `read`."""
        actions = self.api.actions
        actions._parts = actions._parts._replace(read_nodes=read)

    def test_bug(self) -> None:
        """A bug is told as one, without what it was, and is in the log."""

        async def read() -> Any:
            raise KeyError("secret")

        self.break_nodes(read)
        response = self.ask("/admin/nodes")
        self.assertEqual(self.told(response), (500, "internal", None))
        self.assertNotIn(b"secret", response.body)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(self.api.statistics()["problems"], 1)

    def test_slow(self) -> None:
        """What takes too long is answered with 503, and a client that goes is not waited for."""
        waiting: list[Deferred[None]] = []

        async def read() -> Any:
            waiting.append(Deferred())
            await waiting[-1]

        self.break_nodes(read)
        request = b"GET /admin/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n"
        transport = self.site.send(request, NODE, HERE)
        self.cluster.run(PAGE_SECONDS + 0.1, 0.1)
        (response,) = parse_responses(transport.value())
        self.assertEqual((response.status, "Retry-After" in response.headers), (503, True))
        self.assertTrue(all(each.called for each in waiting))

    def test_hangs_up(self) -> None:
        """A client that goes while several nodes are asked is no bug, and not in the log."""

        async def read() -> Any:
            await gatherResults([Deferred(), Deferred()], consumeErrors=True)

        self.break_nodes(read)
        problems = self.api.statistics()["problems"]
        self.hang_up(b"GET /admin/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual((self.api.statistics()["problems"], self.flushLoggedErrors()), (problems, []))

    def test_parts(self) -> None:
        """The page is made of an API; its counts are always the same."""
        self.assertIsInstance(self.api, AdminApi)
        self.assertEqual(AdminApiPage.methods, ("GET", "HEAD", "POST", "DELETE"))
        self.ask("/admin/groups")
        self.ask("/admin/x")
        counts = self.api.statistics()
        self.assertEqual((counts["requests"], counts["problems"]), (2, 1))
