"""Links and directory, as the pages want to see them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.records import UserRecord
from meshrelay.errors import LocalProtocolError, MalformedFrame
from meshrelay.http.chooser import Question
from meshrelay.http.neighbours import Neighbours
from meshrelay.http.node_status import StatusSources, answer_status, decode_status, encode_question
from meshrelay.http.placement import Place
from meshrelay.http.reserve import answer_reserve
from meshrelay.mesh.errors import LinkLost
from meshrelay.session.auth import Identity
from tests.http.exchange import CREDENTIALS, FakeEndpoints, make_record

ALICE = Question("UDP", Identity("alice", {}), "", None, "192.0.2.1")


class _Nodes:
    """As much of `INodes` as is used: one other node, which answers by `handlers`."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def known(self) -> list[str]:
        """See `INodes`."""
        return ["b", "c"]

    def is_lost(self, node_id: str) -> bool:
        """See `INodes`."""
        return node_id == "c"

    def call(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """See `INodes`."""
        if node_id != "b" or name not in self.handlers:
            return fail(LinkLost(node_id, "not linked"))
        return maybeDeferred(self.handlers[name], "own", payload)


class _Directory:
    def find_user(self, user_id: str) -> Deferred[UserRecord | None]:
        """See `IDirectory`."""
        found = UserRecord(user_id=user_id, node_id="b", sid="1", stamp=1) if user_id == "alice" else None
        return maybeDeferred(lambda: found)


class NeighboursTests(SynchronousTestCase):
    """The adapter."""

    def setUp(self) -> None:
        """Make a node with two others."""
        self.nodes = _Nodes()
        nodes: Any = self.nodes
        directory: Any = _Directory()
        self.neighbours = Neighbours(nodes, directory, lambda: [make_record("b")], lambda: 0.5)

    def test_known(self) -> None:
        """Records, links and load are passed on."""
        self.assertEqual([record.node_id for record in self.neighbours.records()], ["b"])
        self.assertEqual((list(self.neighbours.known()), self.neighbours.own_load()), (["b", "c"], 0.5))
        self.assertEqual((self.neighbours.is_lost("b"), self.neighbours.is_lost("c")), (False, True))

    def test_whereabouts(self) -> None:
        """The node of a user is found in the directory, or is none."""
        self.assertEqual(self.successResultOf(self.neighbours.whereabouts("alice")), "b")
        self.assertIsNone(self.successResultOf(self.neighbours.whereabouts("bob")))

    def test_reserve(self) -> None:
        """A session is made on the other node by its own handler."""
        endpoints = FakeEndpoints()
        self.nodes.handlers["udp.reserve"] = answer_reserve(endpoints, lambda: True)
        reserved = self.successResultOf(self.neighbours.reserve_at("b", ALICE))
        self.assertEqual(reserved, (Place("UDP", "", 7100), CREDENTIALS))
        self.assertEqual(endpoints.reserved, [("alice", "")])

    def test_reserve_fails(self) -> None:
        """No link, an answer that is none, and a question that cannot be sent are failures that the chooser knows."""
        self.failureResultOf(self.neighbours.reserve_at("c", ALICE), LinkLost)
        self.nodes.handlers["udp.reserve"] = lambda node_id, payload: b"garbage"
        self.failureResultOf(self.neighbours.reserve_at("b", ALICE), MalformedFrame)
        unsendable = ALICE._replace(identity=Identity("alice", {"n": 1 << 70}))
        self.failureResultOf(self.neighbours.reserve_at("b", unsendable), LocalProtocolError)

    def test_status(self) -> None:
        """The status of the other node comes from its own handler."""
        sources = StatusSources(lambda: make_record("b"), lambda: "ready", "1", lambda: 4, lambda: 0, lambda: 0.0)
        self.nodes.handlers["node.status"] = answer_status(sources)
        payload = self.successResultOf(self.neighbours.status_of("b", encode_question(5)))
        self.assertEqual(decode_status("b", payload).users, 4)
        self.failureResultOf(self.neighbours.status_of("c", encode_question(5)), LinkLost)
