"""Tests of `meshrelay.components.group_logs`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.group_logs import LoggedGroup, LogRules
from meshrelay.components.group_table import LiveGroup
from meshrelay.config.history import GroupHistory
from meshrelay.config.schema import Config, GroupConfig, StaticGroup
from meshrelay.machine.message_logs import LogLimits
from meshrelay.testing.builders import make_group_id
from meshrelay.testing.node import make_node
from meshrelay.wire.commands import BUILT_IN_VER, Command
from meshrelay.wire.frame import encode_push
from tests.components.log_kit import log_config

CHAT, NEWS = make_group_id("chat"), make_group_id("news")


def config_of(*rules: GroupHistory) -> Config:
    """Two static groups, and these rules."""
    static = (StaticGroup(group_id=CHAT), StaticGroup(group_id=NEWS))
    return Config(group=GroupConfig(static_groups=static, history=rules))


class RuleTests(SynchronousTestCase):
    """Which groups have a history."""

    def test_first_counts(self) -> None:
        """The first pattern that fits counts; without one there is no history."""
        rules = LogRules.of(
            config_of(
                GroupHistory(pattern="chat*", history_size=5, history_ttl_seconds=60),
                GroupHistory(pattern="[cx]*", history_size=9),
            )
        )
        self.assertEqual(rules.limits_of(CHAT), LogLimits(5, 60.0))
        self.assertEqual(rules.limits_of("x" * 52), LogLimits(9, 300.0))
        self.assertIsNone(rules.limits_of(NEWS))
        self.assertIsNone(rules.limits_of("CHAT".ljust(52, "-")))

    def test_classes(self) -> None:
        """A group without history is what it was before there were any."""
        node = make_node(config_of(GroupHistory(pattern="chat*")))
        self.assertIs(type(node.table.find(CHAT)), LoggedGroup)
        self.assertIs(type(node.table.find(NEWS)), LiveGroup)
        self.assertIsNot(LoggedGroup.publish, LiveGroup.publish)
        self.assertEqual(LiveGroup.extra_bytes, 0)

    def test_statistics(self) -> None:
        """The same counters whether any group has a history or not."""
        plain, logged = make_node(), make_node(log_config())
        names = {name for name in plain.groups.statistics() if name.startswith("group_log_")}
        self.assertEqual(names, {name for name in logged.groups.statistics() if name.startswith("group_log_")})
        self.assertLessEqual({"group_log_logged", "group_log_unsure", "group_log_bytes", "group_log_evicted"}, names)


class LoggedGroupTests(SynchronousTestCase):
    """What of a group is kept."""

    def setUp(self) -> None:
        """Ann and bob are members."""
        self.node = make_node(log_config())
        self.ann, self.bob = self.node.sign_in("ann"), self.node.sign_in("bob")
        self.lobby = self.ann.create_group()
        self.bob.join(self.lobby)
        group = self.node.table.find(self.lobby)
        assert group is not None
        self.group = group

    def kept(self) -> int:
        """Messages that are kept."""
        self.node.settle()
        return self.node.groups.statistics()["group_log_messages"]

    def test_runs(self) -> None:
        """Several pushes in one piece are as many messages."""
        frames = [encode_push(2, number, b"x" * number) for number in range(3)]
        self.group.publish(b"".join(frames), None, True, 3)
        self.assertEqual(self.kept(), 3)
        self.assertEqual([frame.cmd for frame in self.bob.pushes()], [0, 1, 2])

    def test_not_kept(self) -> None:
        """What the node says of members goes out and is not kept, and so is what cannot be."""
        wire_id = self.lobby.encode()
        for cmd, payload in (
            (Command.GROUP_LOST, wire_id + b"\3bobgone"),
            (Command.GROUP_BROADCAST, b"not of this group"),
            (Command.GROUP_BROADCAST, wire_id + b"\2\xff\xff!"),
            (Command.GROUP_BROADCAST, wire_id + b"\3ann" + b"x" * 65536),
        ):
            self.group.publish(encode_push(BUILT_IN_VER, cmd, payload), None, True)
        self.assertEqual(self.kept(), 0)
        self.assertEqual(len(self.bob.pushes()), 4)

    def test_gone_with_the_group(self) -> None:
        """When the group is gone nothing of it goes on."""
        self.ann.leave(self.lobby)
        self.bob.leave(self.lobby)
        assert self.group.log is not None
        self.assertTrue(self.group.log.is_over)
        self.group.log.be_unsure()
        self.assertEqual(self.node.groups.statistics()["group_log_unsure"], 0)

    def test_static(self) -> None:
        """A static group keeps messages from its first member on."""
        node = make_node(config_of(GroupHistory(pattern="*")))
        ann, bob = node.sign_in("ann"), node.sign_in("bob")
        self.assertEqual((ann.join(CHAT).status, bob.join(CHAT).status), (1, 1))
        ann.broadcast(CHAT, b"hi")
        node.settle()
        self.assertEqual([each.message for each in bob.messages()], [b"hi"])
        self.assertEqual(node.groups.statistics()["group_log_messages"], 1)
