"""A node in the directory, and whom it dials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.records import NodeRecord
from meshrelay.mesh.link import LinkState
from meshrelay.mesh.links import LinkOptions
from meshrelay.mesh.membership import Membership
from meshrelay.testing.memory_mesh import MemoryConnection
from meshrelay.testing.memory_nodes import ClusterNode, MemoryCluster, endpoint


def make_record(
    node_id: str, mesh_endpoint: str | None = None, incarnation: str = "first", load: float = 0.0
) -> NodeRecord:
    """Return a node.

    :param mesh_endpoint: None = the usual one.
    """
    return NodeRecord(
        node_id=node_id,
        incarnation=incarnation,
        mesh_endpoint=endpoint(node_id) if mesh_endpoint is None else mesh_endpoint,
        places={},
        load=load,
        protocol=1,
    )


class AbsentDirectory(MemoryDirectory):
    """A directory that can be away or silent.

    :ivar is_away: calls fail.
    :ivar is_silent: calls never fire.
    :ivar calls: how many were made.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, Random(1))
        self.is_away = self.is_silent = False
        self.calls = 0

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        self.calls += 1
        if self.is_silent:
            return Deferred()
        if self.is_away:
            return fail(DirectoryUnavailable("away"))
        return super()._call(function, *args, **kwargs)


@dataclass
class Member:
    """One node with its membership."""

    node: ClusterNode
    membership: Membership
    #: What others are told.
    records: list[NodeRecord]
    #: Answers of `register_node`.
    registered: list[bool] = field(default_factory=list)


class MembershipTestCase(SynchronousTestCase):
    """Nodes that find each other by one directory."""

    def setUp(self) -> None:
        """An empty directory."""
        self.cluster = MemoryCluster()
        self.mesh = self.cluster.mesh
        self.directory = AbsentDirectory(self.cluster.clock)
        self.members: dict[str, Member] = {}
        #: (who, whom) as connections were dialled.
        self.dials: list[tuple[str, str]] = []

    def join(
        self,
        node_id: str,
        mesh_endpoint: str | None = None,
        incarnation: str = "first",
        options: LinkOptions | None = None,
    ) -> Member:
        """Start a node that takes part.

        :param mesh_endpoint: None = the usual one.
        """
        node = self.cluster.add(node_id, is_dialled=False, options=options)
        record = make_record(node_id, mesh_endpoint, incarnation)
        records, registered = [record], list[bool]()

        def dialer_for(peer: NodeRecord) -> Callable[[], Deferred[MemoryConnection]]:
            def dial() -> Deferred[Any]:
                self.dials.append((node_id, peer.node_id))
                return self.mesh.dialer(node_id, peer.mesh_endpoint.split(".")[0])()

            return dial

        membership = Membership(
            self.directory,
            node.links,
            node.nodes,
            dialer_for,  # type: ignore[arg-type]
            lambda: records[-1],
            registered.append,
            self.cluster.clock,
        )
        member = self.members[node_id] = Member(node, membership, records, registered)
        membership.start()
        return member

    def leave(self, node_id: str, is_clean: bool) -> None:
        """A node stops, or dies."""
        member = self.members.pop(node_id)
        if is_clean:
            self.successResultOf(member.membership.stop())
            self.cluster.stop(node_id)
        else:
            self.freeze(member)
            self.cluster.kill(node_id)

    def freeze(self, member: Member) -> None:
        """The membership of a node says no more and ends nothing."""
        timer = member.membership._timer
        assert timer is not None
        timer.cancel()

    def in_directory(self) -> list[str]:
        """Who is there."""
        return [record.node_id for record in self.successResultOf(self.directory.nodes())]


class MembershipTests(MembershipTestCase):
    """Finding each other."""

    def test_all_linked(self) -> None:
        """Nodes that share a directory are all linked within two seconds; of two the smaller ID dialled, once."""
        for node_id in "cabed":
            self.join(node_id)
        self.cluster.run(2.2)
        self.cluster.linked(0.2)
        self.assertEqual(sorted(self.dials), [(one, two) for one in "abcde" for two in "abcde" if one < two])

    def test_records(self) -> None:
        """A node knows the records of the others, and where they are, not its own."""
        self.join("a")
        self.join("b")
        self.cluster.run(1.5)
        membership, nodes = self.members["a"].membership, self.members["a"].node.nodes
        self.assertEqual(list(membership.records), ["b"])
        self.assertEqual(nodes.endpoint_of("b"), "b.example:7000")
        self.assertEqual(membership.statistics(), {"nodes_in_directory": 1, "is_registered": 1, "failed_rounds": 0})

    def test_load(self) -> None:
        """The load that others see is a second old at most."""
        member = self.join("a")
        self.join("b")
        member.records.append(make_record("a", load=0.75))
        self.cluster.run(2.1)
        self.assertEqual(self.members["b"].membership.records["a"].load, 0.75)

    def test_told(self) -> None:
        """Others of this node are told whether the lease was new."""
        member = self.join("a")
        self.cluster.run(2.5)
        self.assertEqual(member.registered, [False, True, True])
        self.directory.clear()
        self.cluster.run(1)
        self.assertEqual(member.registered, [False, True, True, False])

    def test_without_endpoint(self) -> None:
        """A node that takes no links dials all that do; two such nodes are not linked."""
        for node_id, where in (("a", None), ("y", ""), ("z", "")):
            self.join(node_id, where)
        self.cluster.run(3)
        self.assertEqual(sorted(set(self.dials)), [("y", "a"), ("z", "a")])
        self.assertEqual(self.members["a"].node.nodes.known(), ["y", "z"])
        self.assertEqual(self.members["y"].node.nodes.known(), ["a"])
        self.assertEqual(self.members["a"].node.nodes.endpoint_of("y"), "y")

    def test_clean_stop(self) -> None:
        """A node that stops is out of the directory at once and dialled no more."""
        self.join("a")
        self.join("b")
        self.cluster.run(2)
        self.leave("b", is_clean=True)
        self.assertEqual(self.in_directory(), ["a"])
        self.cluster.run(6)
        dials = len(self.dials)
        self.cluster.run(10, 0.05)
        self.assertEqual((len(self.dials), list(self.members["a"].membership.records)), (dials, []))

    def test_killed(self) -> None:
        """A killed node is dialled until its lease ends, and forgotten when it is gone."""
        self.join("a")
        self.join("b")
        self.cluster.run(2)
        self.leave("b", is_clean=False)
        self.cluster.run(12, 0.05)
        link = self.members["a"].node.links.find("b")
        assert link is not None
        self.assertEqual((link.state, link.is_kept), (LinkState.IDLE, False))
        self.cluster.run(40, 0.05)
        self.assertIsNone(self.members["a"].node.links.find("b"))

    def test_back_after_gone(self) -> None:
        """Nodes that could not reach each other until they were gone find each other when they can."""
        self.join("a")
        self.join("b")
        self.cluster.run(2)
        self.mesh.part("a", "b")
        self.cluster.run(60, 0.05)
        self.assertEqual(self.members["a"].node.observer.of("b"), ["met", "lost", "gone"])
        self.mesh.join("a", "b")
        self.cluster.run(8)
        for node_id, other in (("a", "b"), ("b", "a")):
            self.assertEqual(self.members[node_id].node.observer.of(other), ["met", "lost", "gone", "met"])

    def test_back_by_its_own_dial(self) -> None:
        """A node that was gone and comes back by itself is dialled again when that link breaks."""
        self.join("a")
        self.join("b")
        self.cluster.run(2)
        node = self.members["a"].node
        node.nodes.link_reset("b", 0)
        node.links.forget("b")
        self.mesh.keep("b", "a")
        self.cluster.run(3)
        link = node.links.find("b")
        assert link is not None
        self.assertTrue(link.is_kept)

    def test_moved(self) -> None:
        """A node with another endpoint is dialled there."""
        self.join("a")
        self.join("b", mesh_endpoint="nowhere.example:1")
        self.cluster.run(3)
        self.assertEqual(self.members["a"].node.nodes.known(), [])
        self.members["b"].records.append(make_record("b"))
        self.cluster.run(8)
        self.assertEqual(self.members["a"].node.nodes.known(), ["b"])

    def test_never_reached(self) -> None:
        """A node that was never reached and is no longer in the directory leaves nothing behind."""
        self.join("a")
        member = self.join("b", mesh_endpoint="nowhere.example:1")
        self.cluster.run(3)
        self.assertIsNotNone(self.members["a"].node.links.find("b"))
        self.successResultOf(member.membership.stop())
        self.cluster.run(2)
        self.assertIsNone(self.members["a"].node.links.find("b"))


class TroubleTests(MembershipTestCase):
    """The directory is not as it should be."""

    def test_away(self) -> None:
        """While the directory is away all that is known stays, links as well; it is tried each second."""
        self.join("a")
        self.join("b")
        self.cluster.run(2)
        self.directory.is_away = True
        self.cluster.run(30, 0.05)
        membership = self.members["a"].membership
        self.assertEqual((list(membership.records), membership.is_registered), (["b"], False))
        self.mesh.cut()
        self.cluster.run(3)
        self.assertTrue(self.members["a"].node.nodes.is_up("b"))
        self.directory.is_away = False
        self.cluster.run(1.1)
        self.assertTrue(membership.is_registered)
        self.assertEqual(self.in_directory(), ["a", "b"])

    def test_silent(self) -> None:
        """A directory that does not answer is asked by one round at a time."""
        self.join("a")
        self.cluster.run(2)
        self.directory.is_silent = True
        self.cluster.run(2)
        calls = self.directory.calls
        self.cluster.run(30, 0.05)
        self.assertEqual(self.directory.calls, calls)

    def test_wiped(self) -> None:
        """A directory that lost everything cuts no link, and is whole after a second."""
        for node_id in "abc":
            self.join(node_id)
        self.cluster.run(2)
        self.directory.clear()
        self.cluster.run(1.1)
        self.assertEqual(self.in_directory(), ["a", "b", "c"])
        self.cluster.run(3)
        for member in self.members.values():
            self.assertEqual({event for event, _ in member.node.observer.events}, {"met"})

    def test_endpoint_while_known(self) -> None:
        """Where a node is stays known as long as the node, even when the directory lost it."""
        self.join("a")
        self.join("b")
        self.cluster.run(2)
        self.freeze(self.members["b"])
        self.successResultOf(self.directory.withdraw_node("b", "first"))
        self.cluster.run(2.2)
        self.assertEqual(list(self.members["a"].membership.records), [])
        self.assertEqual(self.members["a"].node.nodes.endpoint_of("b"), "b.example:7000")
        self.cluster.kill("b")
        self.cluster.run(45, 0.05)
        self.assertEqual(self.members["a"].node.nodes.endpoint_of("b"), "b")

    def test_own_lease_of_before(self) -> None:
        """A node that was killed and started anew under its ID gets in when the old lease has ended."""
        self.join("a")
        self.join("b")
        self.cluster.run(2)
        self.leave("b", is_clean=False)
        again = self.join("b", incarnation="second")
        self.cluster.run(2)
        self.assertFalse(again.membership.is_registered)
        self.cluster.run(10, 0.05)
        self.assertTrue(again.membership.is_registered)
        self.cluster.run(4)
        self.cluster.linked()

    def test_id_in_use(self) -> None:
        """A second node of the same ID never gets in while the first one lives, and the log says so once a minute."""
        self.join("a")
        twin = make_record("a", incarnation="twin")
        said: list[str] = []
        registered: list[bool] = []
        membership = Membership(
            self.directory,
            self.members["a"].node.links,
            self.members["a"].node.nodes,
            lambda _: self.fail("nobody is dialled"),
            lambda: twin,
            registered.append,
            self.cluster.clock,
        )
        self.patch(Membership, "_log", _Log(said))
        membership.start()
        self.cluster.run(150, 0.1)
        self.assertEqual((membership.is_registered, registered), (False, []))
        self.assertEqual(len([text for text in said if "node ID in use" in text]), 3)

    def test_stop_while_away(self) -> None:
        """A node that stops while the directory is away does not wait for it."""
        member = self.join("a")
        self.cluster.run(1)
        self.directory.is_away = True
        self.successResultOf(member.membership.stop())
        calls = self.directory.calls
        self.cluster.run(5)
        self.assertEqual(self.directory.calls, calls)

    def test_stop_in_a_round(self) -> None:
        """A round that ends after the stop dials nobody."""
        member = self.join("a")
        waiting: Deferred[list[NodeRecord]] = Deferred()
        self.patch(self.directory, "nodes", lambda: waiting)
        self.cluster.run(1.1)
        self.successResultOf(member.membership.stop())
        waiting.callback([make_record("z")])
        self.cluster.run(3)
        self.assertEqual((self.dials, member.membership.records), ([], {}))

    def test_too_many_links(self) -> None:
        """A node that may link to no more nodes goes on with those it has."""
        self.join("a", options=LinkOptions(max_links=1))
        node = self.members["a"].node
        self.join("b")
        self.join("c")
        self.cluster.run(4)
        self.assertEqual(len(node.nodes.known()), 1)
        self.assertTrue(self.members["a"].membership.is_registered)


class _Log:
    """Keeps what is logged."""

    def __init__(self, said: list[str]) -> None:
        self.warn = self.info = self.failure = lambda form, **values: said.append(form.format(**values))
