"""What other nodes say in a group, by nodes that say what the test wants."""

from __future__ import annotations

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.group_nodes import ASK_LATER_SECONDS
from meshrelay.components.group_receive import EARLY_SECONDS
from meshrelay.components.group_spread import Spread
from meshrelay.config.schema import Config, GroupConfig
from meshrelay.machine import sequence
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.wire.frame import encode_push
from meshrelay.wire.group_log import LogEntry, LogRun, encode_run
from meshrelay.wire.group_log import encode_entry as encode_log_entry
from meshrelay.wire.group_node import (
    EntryType,
    decode_exit,
    encode_entry,
    encode_forward,
    encode_head,
    encode_not_held,
    encode_skip,
)
from meshrelay.wire.node_kinds import NodeKind
from tests.components.group_stranger import Stranger, group_of, message, said


class ReceiveTestCase(SynchronousTestCase):
    """Node a with a group of ann and dan, and a node that can be a holder of it."""

    def setUp(self) -> None:
        """The stranger does not hold it yet."""
        self.cluster = GroupCluster(["a"], Config(group=GroupConfig(send_interval_ms=0)))
        self.stranger = Stranger(self.cluster, "x")
        self.cluster.links.linked()
        self.node = self.cluster["a"]
        self.ann = self.node.sign_in("ann")
        self.lobby = self.ann.create_group()
        self.node.sign_in("dan").join(self.lobby)

    @property
    def spread(self) -> Spread:
        """What node a knows of the others."""
        group = self.node.table.find(self.lobby)
        assert group is not None
        assert group.spread is not None
        return group.spread

    def came(self) -> list[bytes]:
        """What came to ann since the last call."""
        return [frame.payload for frame in self.ann.pushes()]

    def members(self) -> list[str]:
        """Who is in the group, as node a sees it."""
        group = self.node.groups.get_group(self.lobby)
        assert group is not None
        return sorted(member.user_id for member in group.members)

    def count(self, name: str) -> int:
        """One of the counts of node a."""
        return self.node.groups.statistics()[name]

    @property
    def malformed(self) -> int:
        """How many messages of the stranger could not be read."""
        return self.cluster.links["a"].nodes.statistics()["malformed"]


class FullLinkTests(ReceiveTestCase):
    """The link to the stranger takes nothing for a moment."""

    def make_full(self) -> None:
        """From now on."""
        self.full = self.patch(self.node.group_nodes._nodes, "send", lambda *_: False)

    def test_question(self) -> None:
        """A question that the full link to a node did not take is asked again."""
        self.make_full()
        self.stranger.cast("a", self.lobby, 1, message(b"one"))
        self.full.restore()
        self.cluster.run(ASK_LATER_SECONDS + 0.5)
        (asked,) = self.stranger.holds_heard()
        self.assertTrue(asked.asks)

    def test_answer(self) -> None:
        """So is one whose answer it did not take."""
        self.make_full()
        self.stranger.say_hold("a", self.lobby, asks=True)
        self.full.restore()
        self.cluster.run(ASK_LATER_SECONDS + 0.5)
        self.assertEqual([asked.asks for asked in self.stranger.holds_heard()], [True])


class HeldTests(ReceiveTestCase):
    """The stranger holds the group."""

    def setUp(self) -> None:
        """It has one member, bob."""
        super().setUp()
        self.stranger.enter("a", self.lobby, (("bob", "s1", False),))

    def cast(self, number: int, content: bytes, hold: int = 0) -> None:
        """Let the stranger cast."""
        self.stranger.cast("a", self.lobby, number, content, hold=hold)

    def test_history_only_there(self) -> None:
        """Messages of a group that has a history by the other node's configuration alone reach the members here."""
        logged = encode_log_entry(LogEntry(True, 1, "bob", 1, 113, b"hi"))
        self.cast(1, encode_entry(EntryType.LOGGED, encode_run(LogRun(7, 1, (logged,)))))
        self.cluster.run(0.1)
        self.assertEqual(self.came(), [self.lobby.encode() + b"\3bobhi"])

    def test_frames(self) -> None:
        """Frames reach all members here once and in order, reliable and unreliable ones."""
        self.cast(2, message(b"two", entry_type=EntryType.UNRELIABLE))
        self.assertEqual(self.came(), [])
        self.cast(1, message(b"one", b"one more"))
        self.cast(1, message(b"one", b"one more"))
        self.assertEqual(self.came(), [b"one", b"one more", b"two"])

    def test_not_back(self) -> None:
        """What came of another node is not cast again."""
        self.stranger.casts_heard()
        self.cast(1, message(b"one"))
        self.cluster.run(1.5)
        self.assertEqual(self.stranger.casts_heard(), [])

    def test_members(self) -> None:
        """Members that come and go there are known here."""
        self.assertEqual(self.members(), ["ann", "bob", "dan"])
        self.cast(1, said(EntryType.JOINED, "cid") + said(EntryType.LEFT, "bob"))
        self.assertEqual(self.members(), ["ann", "cid", "dan"])
        self.cast(2, said(EntryType.LEFT, "nobody") + said(EntryType.AWAY, "nobody"))
        self.assertEqual(self.members(), ["ann", "cid", "dan"])

    def test_later_version(self) -> None:
        """Entries of a later version are passed over, what is around them is not."""
        self.cast(1, message(b"one") + encode_entry(99, b"?") + message(b"two"))
        self.assertEqual((self.came(), self.malformed), ([b"one", b"two"], 0))

    def test_exit(self) -> None:
        """A holder that says goodbye is none any more, nor are its members."""
        self.cast(1, message(b"bye") + encode_entry(EntryType.EXIT, b""))
        self.assertEqual((self.came(), self.members()), ([b"bye"], ["ann", "dan"]))
        self.assertEqual(self.spread.holders, {})
        self.assertEqual(self.count("group_remote_members"), 0)

    def test_left_and_came_back(self) -> None:
        """A node that left and came back begins anew, also where its goodbye is missing."""
        self.cast(2, encode_entry(EntryType.EXIT, b""))
        self.stranger.hold = 2
        self.stranger.enter("a", self.lobby, (("cid", "s2", False),))
        self.assertEqual((self.members(), self.count("group_remote_members")), (["ann", "cid", "dan"], 1))
        self.cast(1, message(b"old"), hold=1)
        self.cast(1, message(b"new"))
        self.assertEqual(self.came(), [b"new"])
        self.stranger.exit("a", self.lobby)
        self.assertEqual(self.count("group_remote_members"), 0)

    def test_exit_message(self) -> None:
        """A node that we believe to hold the group, and that says it does not, is believed."""
        self.stranger.exit("a", self.lobby)
        self.assertEqual((self.members(), self.spread.holders), (["ann", "dan"], {}))

    def test_exit_of_another(self) -> None:
        """EXIT for a group that is not held here, or of a node that never held it, changes nothing."""
        self.stranger.exit("a", group_of("a", 7))
        self.stranger.exit("a", self.lobby)
        self.stranger.exit("a", self.lobby)
        self.assertEqual((self.members(), self.malformed), (["ann", "dan"], 0))

    def test_head(self) -> None:
        """A head says which number comes next: what is missing is asked for; one of an older hold says nothing."""
        wire_id = self.lobby.encode()
        self.stranger.send("a", NodeKind.GROUP_HEAD, encode_head(wire_id, 9, 5))
        self.assertIsNone(self.spread.holders["x"].incoming.missing)
        self.stranger.send("a", NodeKind.GROUP_HEAD, encode_head(wire_id, 1, 5))
        self.assertEqual(self.spread.holders["x"].incoming.missing, (1, 5))
        self.cluster.run(0.5)
        self.assertEqual(len(self.stranger.heard(NodeKind.GROUP_REPAIR)), 1)

    def test_skip(self) -> None:
        """What nobody has any more is given up, once and counted, and what waited behind it comes out."""
        observer = EventLoggingObserver()
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.cast(4, message(b"four"))
        skip = encode_skip(self.lobby.encode(), 1, 4)
        self.stranger.send("a", NodeKind.GROUP_SKIP, encode_skip(self.lobby.encode(), 9, 4))
        self.assertEqual(self.came(), [])
        self.stranger.send("a", NodeKind.GROUP_SKIP, skip)
        self.stranger.send("a", NodeKind.GROUP_SKIP, skip)
        self.assertEqual((self.came(), self.count("group_casts_lost")), ([b"four"], 3))
        self.assertEqual([event["count"] for event in observer if event.get("node") == "x" and "count" in event], [3])
        self.stranger.exit("a", self.lobby)
        self.assertEqual(self.count("group_casts_lost"), 3)

    def test_overflow(self) -> None:
        """What is given up because too much waits behind it counts as well."""
        self.patch(sequence, "INCOMING_COUNT", 3)
        self.stranger.hold = 2
        self.stranger.cast("a", self.lobby, 2, message(b"2"))
        self.stranger.say_hold("a", self.lobby)
        for number in range(3, 6):
            self.cast(number, message(b"%d" % number))
        self.assertEqual((self.came(), self.count("group_casts_lost")), ([b"2", b"3", b"4", b"5"], 1))

    def test_lost_members(self) -> None:
        """Who came and went by casts that are lost is asked for, once: nobody stays a member who is none."""
        self.cast(4, message(b"four"))
        self.stranger.holds_heard()
        self.stranger.send("a", NodeKind.GROUP_SKIP, encode_skip(self.lobby.encode(), 1, 4))
        self.cluster.run(ASK_LATER_SECONDS + 0.5)
        (asked,) = self.stranger.holds_heard()
        self.assertTrue(asked.asks)
        self.stranger.say_hold("a", self.lobby, 5, of_hold=asked.hold, members=(("cid", "s2", False),))
        self.assertEqual(self.members(), ["ann", "cid", "dan"])

    def test_skip_elsewhere(self) -> None:
        """A skip in a group that is not held, or of a node that does not hold it, changes nothing."""
        self.stranger.send("a", NodeKind.GROUP_SKIP, encode_skip(group_of("a", 7).encode(), 1, 4))
        self.stranger.exit("a", self.lobby)
        self.stranger.send("a", NodeKind.GROUP_SKIP, encode_skip(self.lobby.encode(), 1, 4))
        self.assertEqual((self.count("group_casts_lost"), self.malformed), (0, 0))

    def test_not_held(self) -> None:
        """A no to a question of ours ends what we believed; one to a question of an older hold does not."""
        wire_id, hold = self.lobby.encode(), self.spread.hold
        self.stranger.send("a", NodeKind.GROUP_NOT_HELD, encode_not_held(wire_id, hold + 1))
        self.assertEqual(list(self.spread.holders), ["x"])
        self.stranger.send("a", NodeKind.GROUP_NOT_HELD, encode_not_held(wire_id, hold))
        self.assertEqual(list(self.spread.holders), [])

    def test_tell(self) -> None:
        """What is for the members of this node only goes to no other; nor does it make a group."""
        self.stranger.casts_heard()
        content = message(b"lost") + message(b"passed over", entry_type=EntryType.UNRELIABLE)
        for group_id in (self.lobby, group_of("a", 7)):
            self.stranger.send("a", NodeKind.GROUP_TELL, encode_forward(group_id.encode(), content))
        self.assertEqual((self.came(), self.stranger.casts_heard(), self.malformed), ([b"lost"], [], 0))

    def test_malformed(self) -> None:
        """A message of any kind that cannot be read is counted and harms nobody."""
        kinds = [kind for kind in NodeKind if kind.name.startswith("GROUP_")]
        for number, kind in enumerate(kinds, 1):
            self.stranger.send("a", kind, b"\xff" * 20)
            self.assertEqual((kind, self.malformed), (kind, number))
        self.cast(1, message(b"fine"))
        self.assertEqual((self.came(), self.members()), ([b"fine"], ["ann", "bob", "dan"]))

    def test_malformed_content(self) -> None:
        """A cast whose content cannot be read costs what it held, not what came behind it."""
        self.cast(3, message(b"three"))
        self.cast(2, b"\x01\xff")
        self.assertEqual(self.malformed, 0)
        self.cast(1, message(b"one"))
        self.assertEqual((self.came(), self.malformed), ([b"one", b"three"], 1))
        self.cast(4, said(EntryType.JOINED, "eve")[:-3] + encode_entry(EntryType.JOINED, b"\xff"))
        self.cast(5, message(b"five"))
        self.assertEqual((self.came(), self.members()), ([b"five"], ["ann", "bob", "dan"]))
        self.assertEqual(self.malformed, 2)

    def test_cut_off_frames(self) -> None:
        """Half a frame is never pushed to a client, who could not read anything behind it."""
        frame = encode_push(2, 1, b"payload")
        for number, size in enumerate((5, len(frame) - 1), 1):
            self.cast(number, encode_entry(EntryType.FRAMES, frame[:size]))
            self.assertEqual(self.malformed, number)
        self.cast(3, message(b"whole"))
        self.assertEqual(self.came(), [b"whole"])


class NotHeldTests(ReceiveTestCase):
    """The stranger has not said that it holds the group, or there is no group."""

    def test_no_group(self) -> None:
        """Who casts in a group that is not here is told so, also by way of another node."""
        self.stranger.cast("a", group_of("a", 7), 1, message(b"one"))
        (data,) = self.stranger.heard(NodeKind.GROUP_EXIT)
        self.assertEqual(decode_exit(data).group_id, group_of("a", 7))
        self.stranger.send("a", NodeKind.GROUP_HEAD, encode_head(group_of("a", 7).encode(), 1, 2))
        self.assertEqual(len(self.stranger.heard(NodeKind.GROUP_EXIT)), 1)

    def test_early(self) -> None:
        """Who casts before it has said that it holds the group is asked; then what it cast comes out."""
        self.stranger.cast("a", self.lobby, 1, message(b"one"))
        self.stranger.cast("a", self.lobby, 2, message(b"two"))
        (asked,) = self.stranger.holds_heard()
        self.assertTrue(asked.asks)
        self.assertEqual(self.came(), [])
        self.stranger.say_hold("a", self.lobby, of_hold=asked.hold)
        self.assertEqual(self.came(), [b"one", b"two"])

    def test_early_forgotten(self) -> None:
        """What a node cast that never says that it holds the group is not kept for long."""
        self.stranger.cast("a", self.lobby, 1, message(b"one"))
        self.cluster.run(EARLY_SECONDS - 0.1, 0.05)
        self.assertEqual(list(self.spread.early), ["x"])
        self.cluster.run(0.2)
        self.assertEqual(self.spread.early, {})

    def test_early_head(self) -> None:
        """A head makes this node ask as well."""
        self.stranger.send("a", NodeKind.GROUP_HEAD, encode_head(self.lobby.encode(), 1, 2))
        self.assertEqual(len(self.stranger.holds_heard()), 1)

    def test_forward(self) -> None:
        """What a node that does not hold the group has for it reaches the members here, and the other holders."""
        holder = Stranger(self.cluster, "y")
        self.cluster.links.linked()
        holder.enter("a", self.lobby)
        holder.casts_heard()
        content = message(b"one") + encode_entry(99, b"?") + message(b"two", entry_type=EntryType.UNRELIABLE)
        self.stranger.send("a", NodeKind.GROUP_FORWARD, encode_forward(self.lobby.encode(), content))
        self.assertEqual(self.came(), [b"one", b"two"])
        (cast,) = holder.casts_heard()
        self.assertEqual(cast.content, message(b"one") + message(b"two", entry_type=EntryType.UNRELIABLE))

    def test_forward_elsewhere(self) -> None:
        """One for a group that is gone goes nowhere."""
        self.stranger.send("a", NodeKind.GROUP_FORWARD, encode_forward(group_of("a", 7).encode(), message(b"one")))
        self.assertEqual((self.came(), self.malformed), ([], 0))
