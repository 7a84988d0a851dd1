"""Whole nodes in memory that are a cluster: what tests rely on."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config, GroupConfig
from meshrelay.errors import TooManyGroups
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import Status
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.memory_mesh import Line
from meshrelay.wire.commands import Command, NewGroup, PushedMessage, encode_gid_message, encode_new_group


class GroupClusterTests(SynchronousTestCase):
    """GroupCluster."""

    def setUp(self) -> None:
        """Two nodes."""
        self.cluster = GroupCluster(["a", "b"])

    def test_example(self) -> None:
        """The example of the module works."""
        ann, bob = self.cluster["a"].sign_in("ann"), self.cluster["b"].sign_in("bob")
        lobby = ann.create_group()
        self.assertEqual(self.cluster.join(bob, lobby).status, Status.OK)
        ann.broadcast(lobby, b"hello")
        self.cluster.run(0.1)
        self.assertEqual(bob.messages(), [PushedMessage(lobby, "ann", b"hello")])

    def test_linked(self) -> None:
        """All nodes are linked from the start, and know where the others are; one that is added can be linked."""
        self.assertEqual(self.cluster.node_ids, ["a", "b"])
        self.cluster.add("c")
        self.cluster.links.linked()
        self.assertEqual(self.cluster.node_ids, ["a", "b", "c"])
        nodes = self.cluster.links["a"].nodes
        self.assertEqual([nodes.endpoint_of(name) for name in nodes.known()], ["b.example:7000", "c.example:7000"])

    def test_directory(self) -> None:
        """The directory knows who holds which group, and forgets what a dead node held."""
        ann = self.cluster["a"].sign_in("ann")
        lobby = ann.create_group()
        record = self.successResultOf(self.cluster.directory.find_group(lobby))
        assert record is not None
        self.assertEqual(list(record.nodes), ["a"])
        self.cluster.kill("a")
        self.assertIsNone(self.successResultOf(self.cluster.directory.find_group(lobby)))
        self.assertEqual(self.cluster.node_ids, ["b"])

    def test_left(self) -> None:
        """A group that was left is not in the directory any more."""
        ann = self.cluster["a"].sign_in("ann")
        lobby = ann.create_group()
        ann.leave(lobby)
        self.assertIsNone(self.successResultOf(self.cluster.directory.find_group(lobby)))

    def test_started_anew(self) -> None:
        """A node that was killed can be started anew, and has nothing of before."""
        ann = self.cluster["a"].sign_in("ann")
        ann.create_group()
        self.cluster.kill("a")
        self.assertEqual(len(self.cluster.add("a").table), 0)
        self.cluster.links.linked()
        self.assertTrue(self.cluster.links["b"].nodes.is_up("a"))

    def test_no_answer(self) -> None:
        """A request without an answer fails the test instead of going on without it."""
        ann = self.cluster["a"].sign_in("ann")
        payload = encode_gid_message("x" * 52, b"")
        ann.link.lose()
        self.assertRaises(AssertionError, self.cluster.request, ann, Command.GROUP_JOIN, payload, 0.1)

    def test_time(self) -> None:
        """Time passes by as much as it was told to, for all nodes alike."""
        before = self.cluster.clock.seconds()
        self.cluster.run(1.0, 0.25)
        self.assertAlmostEqual(self.cluster.clock.seconds() - before, 1.0)
        self.assertIs(self.cluster["a"].clock, self.cluster["b"].clock)

    def test_options(self) -> None:
        """Configuration, application and line are those of every node."""
        seen: list[str] = []

        def set_up(relay: IMeshRelay) -> None:
            seen.append(relay.node_id)

        config = Config(group=GroupConfig(max_groups=1))
        cluster = GroupCluster(["a", "b"], config, set_up, line=Line(0.2, 0.2))
        self.assertEqual(seen, ["a", "b"])
        ann, bob = cluster["a"].sign_in("ann"), cluster["b"].sign_in("bob")
        lobby = ann.create_group()
        before = cluster.clock.seconds()
        self.assertEqual(cluster.join(bob, lobby).status, Status.OK)
        self.assertGreaterEqual(cluster.clock.seconds() - before, 0.4)
        self.assertEqual(
            bob.refusal(Command.GROUP_CREATE, encode_new_group(NewGroup(False, True, 60, 0)))[1], TooManyGroups.code
        )
