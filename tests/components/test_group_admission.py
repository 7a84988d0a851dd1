"""Who may make, enter and join a group."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.group_admission import GroupAdmission
from meshrelay.config.schema import Config, GroupConfig
from meshrelay.errors import (
    AlreadyMember,
    EmptyAndNotJoined,
    GroupNotFound,
    InvalidTTL,
    NodeOffline,
    NotSignedIn,
    TooManyGroups,
)
from meshrelay.testing.builders import make_group_id, make_session
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.node import make_node
from meshrelay.wire.commands import NewGroup

FLEETING = NewGroup(False, True, 60, 0)
LASTING = NewGroup(True, False, 60, 0)


class MakeTests(SynchronousTestCase):
    """Making groups on a node that is alone."""

    def setUp(self) -> None:
        """A node for two groups, one of them for each user."""
        self.node = make_node(Config(group=GroupConfig(max_groups=2, max_groups_per_user=1)))
        self.is_draining = False
        self.admission = GroupAdmission(self.node.table, self.node.group_nodes, lambda: self.is_draining)

    def test_made(self) -> None:
        """Who makes a group is its first member; the application makes some without any."""
        ann = make_session("ann")
        self.assertEqual(list(self.admission.make(ann, FLEETING).members), ["ann"])
        self.assertEqual(list(self.admission.make(None, LASTING).members), [])

    def test_short_interval(self) -> None:
        """A merging interval below 100 ms is none."""
        self.assertEqual(self.admission.make(None, LASTING._replace(interval_ms=99)).settings.interval_ms, 0)
        self.assertEqual(self.admission.make(None, LASTING._replace(interval_ms=100)).settings.interval_ms, 100)

    def test_refused(self) -> None:
        """What cannot be is refused before anything is made."""
        self.assertRaises(InvalidTTL, self.admission.make, None, LASTING._replace(ttl_seconds=10))
        self.assertRaises(EmptyAndNotJoined, self.admission.make, None, FLEETING)
        self.is_draining = True
        self.assertRaises(NodeOffline, self.admission.make, None, LASTING)
        self.assertEqual(len(self.node.table), 0)

    def test_shortest_ttl(self) -> None:
        """11 seconds is the shortest lifetime."""
        self.assertEqual(self.admission.make(None, LASTING._replace(ttl_seconds=11)).settings.ttl_seconds, 11)

    def test_full(self) -> None:
        """A user, and a node, have only so many groups; a refused group leaves nothing behind."""
        ann = make_session("ann")
        self.admission.make(ann, FLEETING)
        self.assertRaises(TooManyGroups, self.admission.make, ann, FLEETING)
        self.assertEqual(len(self.node.table), 1)
        self.admission.make(None, LASTING)
        self.assertRaises(TooManyGroups, self.admission.make, None, LASTING)

    def test_session_is_over(self) -> None:
        """A user who left while hooks took their time gets no group that nobody would ever end."""
        ann = make_session("ann")
        ann.is_over = True
        self.assertRaises(NotSignedIn, self.admission.make, ann, FLEETING)
        self.assertEqual(len(self.node.table), 0)

    def test_alone(self) -> None:
        """A node that is alone looks for no group elsewhere."""
        group_id = make_group_id("nowhere")
        self.assertFalse(self.admission.must_wait(group_id))
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(self.admission.enter(group_id))))
        self.assertRaises(GroupNotFound, self.admission.add, group_id, make_session("ann"))


class EnterTests(SynchronousTestCase):
    """Entering groups of another node."""

    def setUp(self) -> None:
        """A group on a, and the admission of b."""
        self.cluster = GroupCluster(["a", "b"])
        self.lobby = self.cluster["a"].sign_in("ann").create_group()
        node = self.cluster["b"]
        self.table = node.table
        self.admission = GroupAdmission(node.table, node.group_nodes, lambda: False)

    def test_entered(self) -> None:
        """A group of another node is entered first, and then is here like any other."""
        self.assertTrue(self.admission.must_wait(self.lobby))
        bob = make_session("bob")
        entered = Deferred.fromCoroutine(self.admission.enter(self.lobby))
        entered.addCallback(lambda _: self.admission.add(self.lobby, bob))
        self.cluster.run(0.1)
        self.assertIs(self.successResultOf(entered), self.table.find(self.lobby))
        self.assertFalse(self.admission.must_wait(self.lobby))
        self.assertRaises(AlreadyMember, self.admission.add, self.lobby, bob)

    def test_nobody_joined(self) -> None:
        """A group that was entered and that nobody joined after all is given up on both nodes."""
        entered = Deferred.fromCoroutine(self.admission.enter(self.lobby))
        self.cluster.run(0.1)
        self.assertIsNone(self.successResultOf(entered))
        self.assertIsNone(self.table.find(self.lobby))
        self.assertEqual(len(self.cluster["a"].groups.member_nodes(self.lobby)), 1)
        self.assertEqual(self.cluster["b"].groups.statistics()["group_entries"], 0)

    def test_came_over(self) -> None:
        """A member of another node who joins here is one of this node only."""
        ann = make_session("ann")
        entered = Deferred.fromCoroutine(self.admission.enter(self.lobby))
        entered.addCallback(lambda _: self.admission.add(self.lobby, ann))
        self.cluster.run(0.1)
        group = self.cluster["b"].groups.get_group(self.lobby)
        assert group is not None
        self.assertEqual([member.sid for member in group.members], [ann.user.sid])
