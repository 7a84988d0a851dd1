"""Tests of `meshrelay.cli.dm`, and of what other commands make of direct messages.

`MemoryDirectNode` is the node for all of them.
"""

from __future__ import annotations

import contextlib
import io
import json

from click.testing import CliRunner
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.dm import command, send_direct_lines
from meshrelay.cli.listen import format_message, print_messages
from meshrelay.cli.terminal import Terminal
from meshrelay.client import DirectMessageReceived
from meshrelay.errors import UserNotFound
from meshrelay.wire.commands import CORE_VER, Command, CoreCommand, decode_direct, encode_direct
from meshrelay.wire.frame import Frame
from tests.cli.memory_group_node import RANDOM_GROUP, MemoryGroupNode
from tests.client.memory_transport import MemoryTransport
from tests.client.node_end import NodeEnd

__all__ = ["MemoryDirectNode"]


class MemoryDirectNode(MemoryGroupNode):
    """Users who can send to each other alone, as long as they have not said GOODBYE."""

    def serve(self, end: NodeEnd, frame: Frame) -> None:
        """See `MemoryGroupNode`."""
        user = end.credentials.user or ""
        if (frame.ver, frame.cmd) == (CORE_VER, CoreCommand.GOODBYE):
            self.ends.pop(user, None)
        elif frame.cmd in (Command.DM_SEND, Command.DM_CLEAR):
            peer_id, message = decode_direct(frame.payload)
            if frame.cmd == Command.DM_SEND and (not message or peer_id not in self.ends):
                end.refuse(frame, *((30, "no such user") if message else (31, "the message is empty")))
                return
            if peer_id in self.ends and message:
                self.ends[peer_id].push(1, frame.cmd, encode_direct(user, message))
            end.answer(frame)
        else:
            super().serve(end, frame)


class SendDirectLinesTests(SynchronousTestCase):
    """Standard input to one user."""

    def setUp(self) -> None:
        self.node = MemoryDirectNode()
        self.heard: list[DirectMessageReceived] = []

    def _send(self, text: bytes) -> Deferred[None]:
        terminal = Terminal()
        terminal.makeConnection(MemoryTransport())
        done = Deferred.fromCoroutine(send_direct_lines(self.node.client("ann"), "bob", terminal))
        terminal.dataReceived(text)
        terminal.readConnectionLost()
        for _ in range(20):
            self.node.turn()
        return done

    def test_lines(self) -> None:
        """Each line is a message, in order, however many there are."""
        self.node.client("bob").on(DirectMessageReceived, self.heard.append)
        lines = [str(number).encode() for number in range(500)]
        self.successResultOf(self._send(b"\n".join(lines)))
        self.assertEqual(self.heard, [DirectMessageReceived("ann", line) for line in lines])

    def test_empty_lines(self) -> None:
        """Empty lines are left out, for no node takes an empty message."""
        self.node.client("bob").on(DirectMessageReceived, self.heard.append)
        self.successResultOf(self._send(b"one\n\n\ntwo\n\n"))
        self.assertEqual([event.message for event in self.heard], [b"one", b"two"])

    def test_no_such_user(self) -> None:
        """Nobody there is an error, instead of going on as if somebody were."""
        self.failureResultOf(self._send(b"one\ntwo\n"), UserNotFound)


class CommandTests(SynchronousTestCase):
    """What is refused before a node is asked."""

    def test_bad_user(self) -> None:
        """A user ID that nobody can have is a usage error that says why."""
        for peer in ("", "u" * 129):
            shown = CliRunner().invoke(command, [peer, "hi"])
            self.assertEqual(shown.exit_code, 2, peer)
            self.assertIn("allowed are 1 to 128", shown.output)

    def test_no_text(self) -> None:
        """Without a text there is nothing to send."""
        self.assertEqual(CliRunner().invoke(command, ["bob"]).exit_code, 2)


class ListenTests(SynchronousTestCase):
    """Direct messages to somebody who listens."""

    def test_line(self) -> None:
        """A direct message is told from one in the group, also when it is the server's."""
        self.assertEqual(format_message(DirectMessageReceived("ann", b"a\nb"), False), "ann (direct): a\ufffdb")
        self.assertEqual(format_message(DirectMessageReceived("", b"news"), False), " (direct): news")

    def test_json(self) -> None:
        """In JSON a direct message is one without a group."""
        line = format_message(DirectMessageReceived("ann", b"hi"), True)
        self.assertEqual(json.loads(line), {"user": "ann", "message": "hi"})
        line = format_message(DirectMessageReceived("", b"\xff"), True)
        self.assertEqual(json.loads(line), {"user": "", "message_base64": "/w=="})

    def test_listen(self) -> None:
        """Direct messages are printed between those of the group, in the order in which they came, and count."""
        node, out = MemoryDirectNode(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            done = Deferred.fromCoroutine(print_messages(node.client("lis"), "lobby", False, 2))
            node.turn()
            ann = node.client("ann")
            ann.join_random_group()
            node.turn()
            ann.send_direct("lis", b"one")
            ann.broadcast_nowait(RANDOM_GROUP, b"two")
            node.turn()
        self.successResultOf(done)
        self.assertEqual(out.getvalue(), "ann (direct): one\nann: two\n")
