"""Tests of `meshrelay.cli.send`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.send import send_lines, send_text
from meshrelay.cli.terminal import Terminal
from meshrelay.client import Client, GroupMessageReceived
from meshrelay.errors import GroupNotFound
from tests.cli.memory_group_node import MemoryGroupNode
from tests.client.memory_transport import MemoryTransport

LOBBY = "lobby" + "-" * 47


class SendTests(SynchronousTestCase):
    """Messages from the command line."""

    def setUp(self) -> None:
        self.node = MemoryGroupNode(LOBBY)
        self.heard: list[bytes] = []
        bob = self.node.client("bob")
        bob.on(GroupMessageReceived, lambda event: self.heard.append(event.message))
        bob.join_group(LOBBY)
        self.client: Client = self.node.client("ann")

    def test_text(self) -> None:
        """The text is broadcast, and nobody stays behind in the group."""
        done = Deferred.fromCoroutine(send_text(self.client, "lobby", "grüße"))
        self.node.turn()
        self.successResultOf(done)
        self.assertEqual(self.heard, ["grüße".encode()])
        self.assertEqual(self.node.groups[LOBBY], ["bob"])

    def test_no_such_group(self) -> None:
        """A group that does not exist is an error."""
        done = Deferred.fromCoroutine(send_text(self.client, "x" * 52, "hi"))
        self.node.turn()
        self.failureResultOf(done, GroupNotFound)

    def _send(self, text: bytes) -> Deferred[None]:
        terminal = Terminal()
        terminal.makeConnection(MemoryTransport())
        done = Deferred.fromCoroutine(send_lines(self.client, "lobby", terminal))
        terminal.dataReceived(text)
        terminal.readConnectionLost()
        for _ in range(20):
            self.node.turn()
        return done

    def test_lines(self) -> None:
        """Each line of input is a message, in order, however many there are."""
        lines = [str(number).encode() for number in range(500)]
        self.successResultOf(self._send(b"\n".join(lines)))
        self.assertEqual(self.heard, lines)
        self.assertEqual(self.node.groups[LOBBY], ["bob"])

    def test_refused_line(self) -> None:
        """When the node refuses a message the command fails, instead of going on as if nothing were."""
        self.node.refuses_broadcasts = True
        self.failureResultOf(self._send(b"one\ntwo\n"), GroupNotFound)
