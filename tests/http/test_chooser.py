"""Where a client is sent."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.errors import MalformedFrame
from meshrelay.http.chooser import (
    RESERVE_SECONDS,
    WHEREABOUTS_SECONDS,
    Chooser,
    Chosen,
    NoCluster,
    NoPlaceNow,
    Question,
    TypeNotServed,
)
from meshrelay.http.page import PAGE_SECONDS
from meshrelay.http.placement import Place
from meshrelay.mesh.errors import LinkLost
from meshrelay.session.auth import Identity
from tests.http.exchange import CREDENTIALS, FakeCluster, FakeEndpoints, make_record

ALICE = Identity("alice", {"level": 3})
SID = "ab" * 16


class _ChooserCase(SynchronousTestCase):
    """A node with others around it."""

    def setUp(self) -> None:
        """Make a node that listens, and two others that are less loaded."""
        self.clock = Clock()
        self.endpoints = FakeEndpoints()
        self.cluster = FakeCluster(
            make_record("a", 0.1, tcp="a.example:7201", udp="a.example:7101"),
            make_record("b", 0.2, tcp=":7202", udp=":7102"),
        )
        self.cluster.load = 0.5

    def choose(self, server_type: str = "TCP", resume: str = "", wants_secrets: bool = True) -> Deferred[Chosen]:
        """Ask on 192.0.2.1."""
        chooser = Chooser("own", self.endpoints, self.cluster, self.clock)
        question = Question(server_type, ALICE, resume, None, "192.0.2.1", wants_secrets)
        return Deferred.fromCoroutine(chooser.choose(question))


class StreamTests(_ChooserCase):
    """TCP and WebSocket."""

    def test_least_loaded(self) -> None:
        """The client is sent to the least loaded node that listens on its type."""
        self.assertEqual(self.successResultOf(self.choose()), (Place("TCP", "a.example", 7201), None))
        self.cluster.load = 0.05
        self.assertEqual(self.successResultOf(self.choose()), (Place("TCP", "192.0.2.1", 7200), None))

    def test_same_host(self) -> None:
        """A node that names no host is on the one that was asked."""
        del self.cluster.nodes[0]
        self.assertEqual(self.successResultOf(self.choose()), (Place("TCP", "192.0.2.1", 7202), None))

    def test_own_record(self) -> None:
        """The directory's copy of this node's own record is passed over: what listens is known here."""
        self.cluster.nodes = [make_record("own", 0.0, tcp="old.example:1")]
        self.assertEqual(self.successResultOf(self.choose()), (Place("TCP", "192.0.2.1", 7200), None))

    def test_lost(self) -> None:
        """Nobody is sent to a node that is lost."""
        self.cluster.lost = {"a"}
        self.assertEqual(self.successResultOf(self.choose()).place.port, 7202)

    def test_no_ports(self) -> None:
        """A node without ports of its own sends its clients to the others."""
        self.endpoints.places.clear()
        self.assertEqual(self.successResultOf(self.choose()).place.port, 7201)

    def test_alone(self) -> None:
        """A node that is alone serves all itself."""
        chooser = Chooser("own", self.endpoints, NoCluster(), self.clock)
        question = Question("TCP", ALICE, SID, None, "192.0.2.1")
        chosen = self.successResultOf(Deferred.fromCoroutine(chooser.choose(question)))
        self.assertEqual(chosen.place.port, 7200)

    def test_spread(self) -> None:
        """One client after the other is spread over equal nodes; those that change nothing are not counted."""
        self.cluster.load = 0.1
        chooser = Chooser("own", self.endpoints, self.cluster, self.clock)
        for wants_secrets, expected in ((False, [7200] * 4), (True, [7200, 7201, 7200, 7201])):
            question = Question("TCP", ALICE, "", None, "192.0.2.1", wants_secrets)
            chosen = [self.successResultOf(Deferred.fromCoroutine(chooser.choose(question))) for _ in range(4)]
            self.assertEqual([one.place.port for one in chosen], expected)


class NowhereTests(_ChooserCase):
    """Nobody can be sent anywhere."""

    def test_unknown_type(self) -> None:
        """A type that no node listens on is the client's mistake."""
        failure = self.failureResultOf(self.choose("WSS"), TypeNotServed)
        self.assertIn("WSS does not listen", failure.getErrorMessage())
        self.endpoints.places.clear()
        self.failureResultOf(self.choose("WSS"), TypeNotServed)

    def test_cluster_is_not_there_yet(self) -> None:
        """A node without ports that knows no other one yet asks for patience."""
        self.endpoints.places.clear()
        self.cluster.nodes.clear()
        self.failureResultOf(self.choose(), NoPlaceNow)

    def test_all_lost_or_full(self) -> None:
        """So does one whose others are lost or full."""
        self.endpoints.places.clear()
        self.cluster.nodes[0] = make_record("a", 1.0, tcp="a.example:7201")
        self.cluster.lost = {"b"}
        self.failureResultOf(self.choose(), NoPlaceNow)


class UdpTests(_ChooserCase):
    """Secrets of another node."""

    def test_other_node(self) -> None:
        """The secrets come from the node that will have the session, which is told who asks."""
        chosen = self.successResultOf(self.choose("UDP"))
        self.assertEqual(chosen, (Place("UDP", "192.0.2.9", 7109), CREDENTIALS))
        ((node_id, question),) = self.cluster.reserved
        self.assertEqual((node_id, question.identity), ("a", ALICE))
        self.assertEqual(self.endpoints.reserved, [])

    def test_own(self) -> None:
        """This node asks nobody when it is the least loaded one."""
        self.cluster.load = 0.0
        chosen = self.successResultOf(self.choose("UDP"))
        self.assertEqual((chosen.place, self.cluster.reserved), (Place("UDP", "192.0.2.1", 7100), []))
        self.assertEqual(self.endpoints.reserved, [("alice", "")])

    def test_same_host(self) -> None:
        """Another node that names no host in its answer is where its record says, or on the host that was asked."""
        self.cluster.answers["a"] = lambda: succeed((Place("UDP", "", 7101), CREDENTIALS))
        self.assertEqual(self.successResultOf(self.choose("UDP")).place, Place("UDP", "a.example", 7101))

    def test_fails(self) -> None:
        """When a node cannot, the next best is asked."""
        errors: list[Exception] = [LinkLost("a", "cut"), MalformedFrame("garbage")]
        for error in errors:
            self.cluster.answers["a"] = lambda error=error: fail(error)  # type: ignore[misc]
            self.assertEqual(self.successResultOf(self.choose("UDP")).place.port, 7109)
        self.assertEqual([node_id for node_id, _ in self.cluster.reserved], ["a", "b"] * 2)

    def test_slow(self) -> None:
        """Nodes that do not answer cost 2 seconds each, then this one serves the client, before the page gives up."""
        self.cluster.nodes.append(make_record("c", 0.3, udp="c.example:7103"))
        self.cluster.answers = {"a": Deferred, "b": Deferred}
        coming = self.choose("UDP")
        self.clock.pump([RESERVE_SECONDS, RESERVE_SECONDS - 0.1])
        self.assertNoResult(coming)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(coming).place, Place("UDP", "192.0.2.1", 7100))
        self.assertEqual([node_id for node_id, _ in self.cluster.reserved], ["a", "b"])
        self.assertLess(WHEREABOUTS_SECONDS + 2 * RESERVE_SECONDS, PAGE_SECONDS)

    def test_nobody(self) -> None:
        """When no node can, the client is asked for patience."""
        self.endpoints.places.clear()
        self.cluster.answers = dict.fromkeys("ab", lambda: fail(LinkLost("", "cut")))
        self.failureResultOf(self.choose("UDP"), NoPlaceNow)

    def test_bug(self) -> None:
        """A bug is not taken for a node that is away."""
        self.cluster.answers["a"] = lambda: fail(RuntimeError())
        self.failureResultOf(self.choose("UDP"), RuntimeError)

    def test_no_secrets(self) -> None:
        """Who only looks makes no session anywhere."""
        chosen = self.successResultOf(self.choose("UDP", wants_secrets=False))
        self.assertEqual(chosen, (Place("UDP", "a.example", 7101), None))
        self.assertEqual((self.cluster.reserved, self.endpoints.reserved), ([], []))


class ResumeTests(_ChooserCase):
    """Clients that were here before."""

    def test_other_node(self) -> None:
        """A client that resumes is sent to the node that has its session, loaded or not."""
        self.cluster.where = succeed("b")
        self.assertEqual(self.successResultOf(self.choose(resume=SID)).place.port, 7202)
        self.assertEqual(self.cluster.asked_where, ["alice"])

    def test_own(self) -> None:
        """So it is with this node."""
        self.cluster.where = succeed("own")
        self.assertEqual(self.successResultOf(self.choose(resume=SID)).place.port, 7200)

    def test_new(self) -> None:
        """For a client that resumes nothing nobody is asked."""
        self.cluster.where = fail(RuntimeError())
        self.cluster.where.addErrback(lambda _: None)
        self.successResultOf(self.choose())
        self.assertEqual(self.cluster.asked_where, [])

    def test_directory_away(self) -> None:
        """Without the directory, or when it is slow, the client goes where any new one would."""
        self.cluster.where = fail(DirectoryUnavailable("gone"))
        self.assertEqual(self.successResultOf(self.choose(resume=SID)).place.port, 7201)
        self.cluster.where = Deferred()
        coming: Any = self.choose(resume=SID)
        self.clock.advance(WHEREABOUTS_SECONDS - 0.01)
        self.assertNoResult(coming)
        self.clock.advance(0.02)
        self.assertEqual(self.successResultOf(coming).place.port, 7201)

    def test_session_on_a_lost_node(self) -> None:
        """A session on a node that is lost is looked for elsewhere."""
        self.cluster.where = succeed("b")
        self.cluster.lost = {"b"}
        self.assertEqual(self.successResultOf(self.choose(resume=SID)).place.port, 7201)
