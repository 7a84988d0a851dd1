"""Members on other nodes, and what becomes of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import group_members
from meshrelay.components.group_members import MEMBERS_AT_ONCE
from meshrelay.config.schema import Config, GroupConfig, SessionConfig
from meshrelay.interfaces import IMeshRelay
from meshrelay.testing.builders import make_sid
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.wire.commands import Command, decode_pushed_message
from meshrelay.wire.group_node import EntryType, decode_forward
from meshrelay.wire.node_kinds import NodeKind
from tests.components.group_stranger import Stranger, said

#: A loss is known after it, and no node is gone.
LOST_SECONDS = 6.0

#: No node is only lost after it.
GONE_SECONDS = 40.0


def set_up(relay: IMeshRelay) -> None:
    """Have a message for lost members, and one for those who are back."""
    relay.groups.on_discard_message(lambda group_id, user_id, sid: b"lost")
    relay.groups.on_rejoin_message(lambda group_id, user_id, sid: b"back")


class MembersTestCase(SynchronousTestCase):
    """Node b with ann in a group, and strangers a and c."""

    resume_seconds = 60.0

    def setUp(self) -> None:
        """Only node b holds the group."""
        config = Config(
            group=GroupConfig(send_interval_ms=0), session=SessionConfig(resume_seconds=self.resume_seconds)
        )
        self.cluster = GroupCluster(["b"], config, set_up)
        self.first, self.last = Stranger(self.cluster, "a"), Stranger(self.cluster, "c")
        self.cluster.links.linked()
        self.node = self.cluster["b"]
        self.ann = self.node.sign_in("ann")
        self.lobby = self.ann.create_group()

    def enter(self, stranger: Stranger, *user_ids: str) -> None:
        """Let a stranger hold the group, with these members."""
        stranger.enter("b", self.lobby, tuple((user_id, make_sid(user_id), False) for user_id in user_ids))

    def told(self) -> list[tuple[int, str]]:
        """What ann was told since the last call."""
        pushes = [(frame.cmd, decode_pushed_message(frame.payload)) for frame in self.ann.pushes()]
        return [(cmd, pushed.user_id) for cmd, pushed in pushes]

    def lose(self, name: str) -> None:
        """Cut a node off for long enough to be lost."""
        for other in self.cluster.links:
            if other.node_id != name:
                self.cluster.links.mesh.part(other.node_id, name)
        self.cluster.run(LOST_SECONDS)

    def find_again(self, name: str) -> None:
        """Let the node be reached again."""
        self.cluster.links.mesh.join("b", name)
        self.cluster.run(5)

    def count(self, name: str) -> int:
        """One of the counts of node b."""
        return self.node.groups.statistics()[name]

    def members(self) -> list[str]:
        """Who is in the group."""
        group = self.node.groups.get_group(self.lobby)
        assert group is not None
        return sorted(member.user_id for member in group.members)

    def recall(self, user_id: str) -> list[str]:
        """The groups of a user who has the right sid."""
        return self.node.groups.recall(user_id, make_sid(user_id))


class LostTests(MembersTestCase):
    """Nodes that cannot be reached."""

    def test_told(self) -> None:
        """The group is told of each member whose node is lost, and again when the node is back."""
        self.enter(self.last, "bob", "cid")
        self.lose("c")
        self.assertEqual(self.told(), [(Command.GROUP_LOST, "bob"), (Command.GROUP_LOST, "cid")])
        self.find_again("c")
        self.assertEqual(self.told(), [(Command.GROUP_BACK, "bob"), (Command.GROUP_BACK, "cid")])

    def test_another_speaks(self) -> None:
        """The living holder with the smallest ID speaks; this one is silent as long as there is such a one."""
        self.enter(self.first, "fay")
        self.enter(self.last, "bob")
        self.lose("c")
        self.assertEqual(self.told(), [])
        self.lose("a")
        self.assertEqual(self.told(), [(Command.GROUP_LOST, "fay")])

    def test_away(self) -> None:
        """Who was away when the node was lost has been told about by the node itself, and so it is later."""
        self.enter(self.last, "bob", "cid")
        self.last.cast("b", self.lobby, 1, said(EntryType.AWAY, "bob") + said(EntryType.AWAY, "cid"))
        self.last.cast("b", self.lobby, 2, said(EntryType.BACK, "cid"))
        self.lose("c")
        self.assertEqual(self.told(), [(Command.GROUP_LOST, "cid")])
        self.find_again("c")
        self.assertEqual(self.told(), [(Command.GROUP_BACK, "cid")])

    def test_many(self) -> None:
        """The loss of a node with many members stops nobody for long: they are told about some at a time."""
        users = [f"user{number}" for number in range(MEMBERS_AT_ONCE * 2 + 200)]
        self.enter(self.last, *users)
        self.cluster.links.mesh.part("b", "c")
        self.cluster.links.mesh.part("a", "c")
        told: list[tuple[int, str]] = []
        steps = []
        for _ in range(round(LOST_SECONDS / 0.01)):
            self.cluster.run(0.01)
            new = self.told()
            told += new
            if new:
                steps.append(len(new))
        self.assertEqual(steps, [MEMBERS_AT_ONCE, MEMBERS_AT_ONCE, 200])
        self.assertEqual(told, [(Command.GROUP_LOST, user_id) for user_id in users])

    def test_left_meanwhile(self) -> None:
        """Who moved to another node while others were told about is not lost."""
        users = [f"user{number:04d}" for number in range(MEMBERS_AT_ONCE + 1)]
        self.enter(self.last, *users)
        self.cluster.links.mesh.part("b", "c")
        self.cluster.links.mesh.part("a", "c")
        while not self.told():
            self.cluster.run(0.01)
        mover = self.node.sign_in(users[-1])
        mover.join(self.lobby)
        self.cluster.run(1)
        self.assertEqual(self.told(), [])

    def test_gone_at_once(self) -> None:
        """A node that began anew before it was missed has lost its members, and they are told about."""
        self.enter(self.last, "bob")
        self.last.kill()
        Stranger(self.cluster, "c")
        self.cluster.links.linked()
        self.cluster.run(1)
        self.assertEqual(self.told(), [(Command.GROUP_LOST, "bob")])
        self.assertEqual((self.members(), self.count("group_remote_members")), (["ann"], 0))

    def test_who_is_told(self) -> None:
        """The nodes on this side of a broken line are told as well, those on the other side are not."""
        other = Stranger(self.cluster, "d")
        self.cluster.links.linked()
        self.enter(self.last, "bob")
        self.enter(other, "dan")
        self.lose("c")
        (told,) = other.heard(NodeKind.GROUP_TELL)
        self.assertEqual(decode_forward(told).group_id, self.lobby)
        self.find_again("c")
        self.assertEqual(len(other.heard(NodeKind.GROUP_TELL)), 1)
        self.assertEqual(self.last.heard(NodeKind.GROUP_TELL), [])

    def test_back_elsewhere(self) -> None:
        """Whose node began anew, and who is on another one by the time that is told, is not lost."""
        self.enter(self.last, "bob", "cid")
        self.last.kill()
        Stranger(self.cluster, "c")
        while self.count("group_remote_members"):
            self.cluster.run(0.01)
        self.enter(self.first, "cid")
        self.node.sign_in("bob").join(self.lobby)
        self.cluster.run(1)
        self.assertEqual(self.told(), [])


class IndexTests(MembersTestCase):
    """Where members are."""

    def test_moved(self) -> None:
        """A user who signed in on another node is a member there, also when the first one has not said so."""
        self.enter(self.first, "bob")
        self.enter(self.last)
        self.last.cast("b", self.lobby, 1, said(EntryType.JOINED, "bob", "s2"))
        self.assertEqual((self.members(), self.count("group_remote_members")), (["ann", "bob"], 1))
        self.first.cast("b", self.lobby, 1, said(EntryType.LEFT, "bob"))
        self.assertEqual(self.members(), ["ann", "bob"])
        self.last.cast("b", self.lobby, 2, said(EntryType.LEFT, "bob", "s2"))
        self.assertEqual((self.members(), self.count("group_remote_members")), (["ann"], 0))

    def test_two_groups(self) -> None:
        """A member of two groups who leaves one is still in the other."""
        lobby, self.lobby = self.lobby, self.ann.create_group()
        self.enter(self.last, "bob")
        self.lobby = lobby
        self.enter(self.last, "bob")
        self.assertEqual(self.count("group_remote_members"), 2)
        self.last.cast("b", self.lobby, 1, said(EntryType.LEFT, "bob"))
        self.assertEqual((self.members(), self.count("group_remote_members")), (["ann"], 1))

    def test_left_here(self) -> None:
        """Nothing is known of members when this node has left the group."""
        self.enter(self.last, "bob")
        self.last.exit("b", self.lobby)
        self.ann.leave(self.lobby)
        self.assertEqual((self.count("groups"), self.count("group_remote_members")), (0, 0))


class RecallTests(MembersTestCase):
    """Groups of a user whose node cannot be reached."""

    def test_up(self) -> None:
        """As long as the node of a user is there it is the one to ask."""
        self.enter(self.last, "bob")
        self.assertEqual(self.recall("bob"), [])
        self.cluster.links.mesh.part("b", "c")
        self.assertEqual(self.recall("bob"), [self.lobby])

    def test_secret(self) -> None:
        """Who does not have the secret of the session gets nothing, before and after the node is gone."""
        self.enter(self.last, "bob")
        self.last.kill()
        for seconds in (1, GONE_SECONDS):
            self.cluster.run(seconds, 0.05)
            self.assertEqual(self.recall("bob"), [self.lobby])
            for wrong in ("", make_sid("eve"), "\u00e9\ud800"):
                self.assertEqual(self.node.groups.recall("bob", wrong), [])

    def test_forgotten(self) -> None:
        """Memberships are forgotten when the session could not be resumed any more."""
        self.enter(self.last, "bob")
        self.last.kill()
        self.cluster.run(GONE_SECONDS, 0.05)
        self.assertEqual((self.members(), self.count("group_orphans")), (["ann"], 1))
        self.cluster.run(self.resume_seconds, 0.1)
        self.assertEqual((self.recall("bob"), self.count("group_orphans")), ([], 0))

    def test_bound(self) -> None:
        """Only so many are remembered."""
        self.patch(group_members, "MAX_ORPHANS", 2)
        self.enter(self.last, "bob", "cid", "dan")
        self.last.kill()
        self.cluster.run(GONE_SECONDS, 0.05)
        self.assertEqual(self.count("group_orphans"), 2)
        self.assertEqual([self.recall(user_id) for user_id in ("bob", "dan")], [[self.lobby], []])

    def test_newer_session(self) -> None:
        """Of a user who was lost twice the newer session counts, and the older one is not counted any more."""
        self.enter(self.first, "bob")
        self.first.kill()
        self.cluster.run(GONE_SECONDS, 0.05)
        self.last.enter("b", self.lobby, (("bob", "newer", False),))
        self.last.kill()
        self.cluster.run(GONE_SECONDS, 0.05)
        self.assertEqual((self.recall("bob"), self.count("group_orphans")), ([], 1))
        self.assertEqual(self.node.groups.recall("bob", "newer"), [self.lobby])
        self.cluster.run(self.resume_seconds, 0.1)
        self.assertEqual(self.count("group_orphans"), 0)


class NoResumeTests(MembersTestCase):
    """Sessions that end with their connection."""

    resume_seconds = 0.0

    def test_not_remembered(self) -> None:
        """Where no session can be resumed no memberships are remembered."""
        self.enter(self.last, "bob")
        self.last.kill()
        self.cluster.run(GONE_SECONDS, 0.05)
        self.assertEqual((self.members(), self.count("group_orphans")), (["ann"], 0))
