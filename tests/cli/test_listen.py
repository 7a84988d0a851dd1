"""Tests of `meshrelay.cli.listen`."""

from __future__ import annotations

import contextlib
import io
import json

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.listen import format_message, print_messages
from meshrelay.client import GroupMessageReceived, NotConnected
from tests.cli.memory_group_node import RANDOM_GROUP, MemoryGroupNode

GID = "g" * 52


class FormatMessageTests(SynchronousTestCase):
    """One message, one line."""

    def test_plain(self) -> None:
        """Sender and text, in one line whatever the text holds."""
        self.assertEqual(format_message(GroupMessageReceived(GID, "ann", b"a\nb"), False), "ann: a\ufffdb")

    def test_json(self) -> None:
        """JSON holds the message as it is, in one line."""
        line = format_message(GroupMessageReceived(GID, "ann", "a\nü".encode()), True)
        self.assertNotIn("\n", line)
        self.assertEqual(json.loads(line), {"group": GID, "user": "ann", "message": "a\nü"})

    def test_json_of_bytes(self) -> None:
        """A message that is no text is there in base64."""
        line = format_message(GroupMessageReceived(GID, "ann", b"\xff\x00"), True)
        self.assertEqual(json.loads(line), {"group": GID, "user": "ann", "message_base64": "/wA="})


class PrintMessagesTests(SynchronousTestCase):
    """Listening."""

    def setUp(self) -> None:
        self.node = MemoryGroupNode()
        self.out, self.err = io.StringIO(), io.StringIO()

    def _listen(self, count: int) -> Deferred[None]:
        done = Deferred.fromCoroutine(print_messages(self.node.client("lis"), "lobby", False, count))
        self.node.turn()
        return done

    def _send(self, *messages: bytes) -> None:
        ann = self.node.client("ann")
        joining = ann.join_random_group()
        self.node.turn()
        self.successResultOf(joining)
        for message in messages:
            ann.broadcast_nowait(RANDOM_GROUP, message)
        self.node.turn()

    def test_messages(self) -> None:
        """Messages are printed, nothing else is, and it ends after as many as were asked for."""
        with contextlib.redirect_stdout(self.out), contextlib.redirect_stderr(self.err):
            done = self._listen(2)
            self._send(b"one", b"two", b"three")
        self.successResultOf(done)
        self.assertEqual(self.out.getvalue(), "ann: one\nann: two\n")
        self.assertIn(RANDOM_GROUP, self.err.getvalue())

    def test_thrown_out(self) -> None:
        """It ends with an error when the client gives up."""
        with contextlib.redirect_stderr(self.err):
            done = self._listen(0)
            self.node.ends["lis"].goodbye(4504, "kicked")
        self.failureResultOf(done, NotConnected)
        self.assertIn("kicked", self.err.getvalue())

    def test_comes_back(self) -> None:
        """After a break it listens again, in the same group."""
        with contextlib.redirect_stdout(self.out), contextlib.redirect_stderr(self.err):
            done = self._listen(1)
            self.node.groups[RANDOM_GROUP].clear()
            self.node.ends["lis"].receiver.link_lost(None, "broken")
            self.node.turn(1.0)
            self.assertEqual(self.node.groups, {RANDOM_GROUP: ["lis"]})
            self._send(b"one")
        self.successResultOf(done)
        self.assertEqual(self.out.getvalue(), "ann: one\n")
