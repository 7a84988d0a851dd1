"""Tests of `meshrelay.components.group_log_push`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.group_log_push import LogPushes, is_broadcast
from meshrelay.testing.node import make_node
from meshrelay.wire.commands import Command, PushedMessage
from meshrelay.wire.group_log import LogEntry, encode_entry
from meshrelay.wire.history_commands import decode_logged_push


class LogPushTests(SynchronousTestCase):
    """Two ways for one message."""

    def setUp(self) -> None:
        """Ann and bob are members of a plain group; its messages go the way of a history."""
        self.node = make_node()
        self.ann, self.bob = self.node.sign_in("ann"), self.node.sign_in("bob")
        self.lobby = self.ann.create_group()
        self.bob.join(self.lobby)
        group = self.node.table.find(self.lobby)
        assert group is not None
        self.group = group
        self.pushes = LogPushes(group, self.node.hub)

    def test_ways(self) -> None:
        """Each member gets a message in the way it wants, the sender only with its place."""
        ann, bob = self.group.members["ann"], self.group.members["bob"]
        self.pushes.join(ann)
        self.pushes.join_with_offsets(bob, [(7, 1, encode_entry(LogEntry(True, 1, "zoe", 1, 113, b"old")))])
        self.pushes.push(7, 2, encode_entry(LogEntry(True, 2, "bob", 1, 113, b"hi")))
        self.pushes.push(7, 3, encode_entry(LogEntry(True, 3, "ann", 2, 5, b"raw")))
        self.node.settle()
        self.assertEqual(self.ann.messages(), [PushedMessage(self.lobby, "bob", b"hi")])
        frames = self.bob.pushes()
        self.assertEqual({frame.cmd for frame in frames}, {Command.GROUP_RECOVER})
        told = [decode_logged_push(frame.payload) for frame in frames]
        self.assertEqual([(each.offset, each.message) for each in told], [(1, b"old"), (2, b"hi"), (3, b"raw")])

    def test_own_command(self) -> None:
        """What the application sent by its own command comes as it was sent."""
        self.pushes.join(self.group.members["bob"])
        self.pushes.push(7, 1, encode_entry(LogEntry(True, 1, "ann", 2, 5, b"raw")))
        self.node.settle()
        [frame] = self.bob.pushes()
        self.assertEqual((frame.ver, frame.cmd, frame.payload), (2, 5, b"raw"))

    def test_leave(self) -> None:
        """Who leaves gets what was pushed before, and nothing behind it; nor does anybody once it is closed."""
        self.pushes.join(self.group.members["bob"])
        self.pushes.push(7, 1, encode_entry(LogEntry(True, 1, "ann", 1, 113, b"before")))
        self.pushes.leave(self.group.members["bob"])
        self.pushes.push(7, 2, encode_entry(LogEntry(True, 2, "ann", 1, 113, b"behind")))
        self.pushes.close()
        self.node.settle()
        self.assertEqual([each.message for each in self.bob.messages()], [b"before"])

    def test_is_broadcast(self) -> None:
        """Only a GROUP_BROADCAST is kept without its envelope."""
        self.assertTrue(is_broadcast(1, 113))
        self.assertFalse(is_broadcast(1, 103) or is_broadcast(2, 113))
