"""The page of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.records import NodeRecord
from meshrelay.http.admin import AdminAccess
from meshrelay.http.cluster import STATUS_SECONDS, ClusterStatus, DirectoryView
from meshrelay.http.health import DirectoryProbe
from meshrelay.http.node_status import MAX_LINKS, LinkStatus, NodeStatus, StatusSources
from meshrelay.mesh.errors import LinkLost
from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import Response, SiteUnderTest, make_record, parse_responses

HERE = IPv4Address("TCP", "127.0.0.1", 50000)


class _Nodes:
    """Other nodes, and what comes of asking them."""

    def __init__(self) -> None:
        self.nodes = [make_record("a", 0.5, tcp="h:7200"), make_record("own")]
        self.linked = ["a", "c"]
        self.answers: dict[str, Callable[[], Deferred[bytes]]] = {}
        self.questions: dict[str, bytes] = {}

    def records(self) -> Iterable[NodeRecord]:
        """See `StatusCluster`."""
        return self.nodes

    def known(self) -> Iterable[str]:
        """See `StatusCluster`."""
        return self.linked

    def status_of(self, node_id: str, question: bytes) -> Deferred[bytes]:
        """See `StatusCluster`."""
        self.questions[node_id] = question
        answer = self.answers.get(node_id)
        if answer is not None:
            return answer()
        link = LinkStatus(to="own", state="up", rtt_ms=1.5)
        return succeed(msgspec.msgpack.encode(NodeStatus(id=node_id, state="ready", users=5, links=(link,))))


class ClusterPageTests(SynchronousTestCase):
    """What an operator sees."""

    def setUp(self) -> None:
        """Make a site of a node with two others."""
        self.clock = Clock()
        self.nodes = _Nodes()
        self.loopback: Deferred[None] = succeed(None)
        sources = StatusSources(
            lambda: make_record("own", 0.25), lambda: "ready", "1.2", lambda: 7, lambda: 3, lambda: 60.0
        )
        probe = DirectoryProbe(lambda _: self.loopback, self.clock, lambda: "token")
        view = DirectoryView("redis", probe, lambda: {"losses": 2})
        self.under_test = SiteUnderTest(
            OpenAuthenticator(),
            clock=self.clock,
            cluster_status=ClusterStatus(sources, self.nodes, view, self.clock),
            admin=AdminAccess(b"a-key"),
        )

    def ask(self) -> Response:
        """Ask from this machine; the answer must be there at once."""
        return self.under_test.ask("/cluster", client=HERE, name="localhost")

    def test_document(self) -> None:
        """All nodes are there, sorted, with their links; the directory as well."""
        response = self.ask()
        document: dict[str, Any] = response.json
        self.assertEqual((response.status, document["asked"]), (200, "own"))
        self.assertEqual([node["id"] for node in document["nodes"]], ["a", "c", "own"])
        self.assertEqual([node["state"] for node in document["nodes"]], ["ready"] * 3)
        self.assertEqual([node["users"] for node in document["nodes"]], [5, 5, 7])
        self.assertEqual(document["nodes"][0]["links"][0]["rtt_ms"], 1.5)
        self.assertEqual(document["directory"], {"kind": "redis", "state": "up", "counts": {"losses": 2}})

    def test_no_answer(self) -> None:
        """A node that cannot be asked, or answers garbage, is there as one that does not answer."""
        broken: list[Deferred[bytes]] = [fail(LinkLost("a", "cut")), succeed(b"garbage")]
        for answer in broken:
            self.nodes.answers["a"] = lambda answer=answer: answer  # type: ignore[misc]
            node = self.ask().json["nodes"][0]
            self.assertEqual((node["id"], node["state"], node["load"], node["users"]), ("a", "no answer", 0.5, None))

    def test_silent(self) -> None:
        """Nodes that say nothing cost 2 seconds together, not each."""
        self.nodes.answers = {"a": Deferred, "c": Deferred}
        transport = self.under_test.begin("/cluster", client=HERE, name="localhost")
        self.clock.advance(STATUS_SECONDS - 0.1)
        self.assertEqual(transport.value(), b"")
        self.clock.advance(0.1)
        (response,) = parse_responses(transport.value())
        self.assertEqual([node["state"] for node in response.json["nodes"]], ["no answer", "no answer", "ready"])

    def test_directory_away(self) -> None:
        """A directory that carries no token is away; the nodes are told all the same."""
        self.loopback = fail(DirectoryUnavailable("gone"))
        document = self.ask().json
        self.assertEqual((document["directory"]["state"], len(document["nodes"])), ("away", 3))

    def test_room(self) -> None:
        """The links of all nodes together have a bound."""
        self.nodes.linked = [f"n{number}" for number in range(999)]
        self.nodes.nodes.clear()
        self.ask()
        questions = {msgspec.msgpack.decode(question)["max_links"] for question in self.nodes.questions.values()}
        self.assertEqual((questions, len(self.nodes.questions)), ({MAX_LINKS // 1000}, 999))

    def test_key(self) -> None:
        """Others need the operator's key, and cause no work without it."""
        response = self.under_test.ask("/cluster")
        self.assertEqual((response.status, response.headers["WWW-Authenticate"]), (401, "Bearer"))
        self.assertEqual(self.nodes.questions, {})
        self.assertEqual(self.under_test.ask("/cluster", "Authorization: Bearer a-key").status, 200)

    def test_web_pages(self) -> None:
        """No web page of another origin may read it."""
        response = self.under_test.ask("/cluster", "Origin: https://x.example", client=HERE, name="localhost")
        self.assertNotIn("Access-Control-Allow-Origin", response.headers)

    def test_client_gone(self) -> None:
        """A client that leaves while nodes are being asked leaves no timer and no noise."""
        self.nodes.answers = {"a": Deferred, "c": Deferred}
        self.loopback = Deferred()
        channel, _ = self.under_test.connect(client=HERE)
        channel.dataReceived(b"GET /cluster HTTP/1.1\r\nHost: localhost\r\n\r\n")
        channel.connectionLost(Failure(ConnectionLost()))
        self.loopback.callback(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_page(self) -> None:
        """A site without the page answers 404."""
        self.assertEqual(SiteUnderTest(OpenAuthenticator()).ask("/cluster").status, 404)
