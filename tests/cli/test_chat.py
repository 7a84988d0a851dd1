"""Tests of `meshrelay.cli.chat`."""

from __future__ import annotations

from click.testing import CliRunner
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.chat import Chat, command
from meshrelay.cli.terminal import Terminal
from tests.cli.memory_group_node import RANDOM_GROUP, MemoryGroupNode
from tests.client.memory_transport import MemoryTransport


class _Person:
    """Somebody at a terminal."""

    def __init__(self, node: MemoryGroupNode, name: str) -> None:
        self._node = node
        self.terminal = Terminal()
        self._screen = MemoryTransport()
        self.terminal.makeConnection(self._screen)
        client = node.client(name)
        chat = Chat(client, self.terminal, "lobby")
        connecting = client.connect()
        self.done = connecting.addCallback(lambda connected: Deferred.fromCoroutine(chat.talk(connected)))
        node.turn()

    def types(self, text: str) -> None:
        """Type a line."""
        self.terminal.dataReceived(text.encode() + b"\n")
        self._node.turn()

    @property
    def sees(self) -> list[str]:
        """The lines since the last look."""
        lines: list[str] = self._screen.value().decode().splitlines()
        self._screen.clear()
        return lines


class ChatTests(SynchronousTestCase):
    """Two terminals."""

    def setUp(self) -> None:
        self.node = MemoryGroupNode()
        self.ann = _Person(self.node, "ann")

    def _with_bob(self) -> _Person:
        bob = _Person(self.node, "bob")
        self.ann.sees, bob.sees  # noqa: B018 - both look away from the beginning
        return bob

    def test_beginning(self) -> None:
        """One is told who one is, and the ID that others can use."""
        first, second = self.ann.sees
        self.assertIn("you are ann", first)
        self.assertIn(f"--group {RANDOM_GROUP}", second)

    def test_talk(self) -> None:
        """What one types the other reads, under the sender's name."""
        bob = self._with_bob()
        self.ann.types("hello bob")
        bob.types("hello ann")
        self.assertEqual((self.ann.sees, bob.sees), (["bob: hello ann"], ["ann: hello bob"]))

    def test_coming_and_going(self) -> None:
        """Joining and leaving are told; the end of input ends the chat."""
        bob = _Person(self.node, "bob")
        self.assertIn("* bob joined", self.ann.sees)
        bob.terminal.readConnectionLost()
        self.node.turn()
        self.successResultOf(bob.done)
        self.assertEqual(self.ann.sees, ["* bob left"])

    def test_empty_lines(self) -> None:
        """An empty line is not sent."""
        bob = self._with_bob()
        self.ann.types("  ")
        self.assertEqual(bob.sees, [])

    def test_not_sent(self) -> None:
        """A line that the node refuses is said to be so, and the chat goes on."""
        self.ann.sees  # noqa: B018
        self.node.refuses_broadcasts = True
        self.ann.types("hello")
        self.assertEqual(self.ann.sees, ["* not sent: no such group"])
        self.assertNoResult(self.ann.done)

    def test_node_starts_again(self) -> None:
        """When the node was started again the chat goes on in a new group, and says so."""
        bob = self._with_bob()
        self.node.restart()
        self.node.turn(1.0)
        self.assertIn("* disconnected: broken; coming back", bob.sees)
        self.ann.sees  # noqa: B018
        bob.types("still there?")
        self.assertEqual(self.ann.sees, ["bob: still there?"])

    def test_thrown_out(self) -> None:
        """When the node says stay away the chat ends."""
        self.node.ends["ann"].goodbye(4504, "kicked")
        self.assertIn("* disconnected: kicked", self.ann.sees)
        self.assertTrue(self.ann.done.called)
        self.ann.done.addErrback(lambda _: None)

    def test_help_says_what_a_name_means(self) -> None:
        """--help explains what becomes of a short name."""
        shown = CliRunner().invoke(command, ["--help"])
        self.assertIn("random group", " ".join(shown.output.split()))

    def test_bad_group(self) -> None:
        """A --group that can be no ID is refused before anything is tried."""
        shown = CliRunner().invoke(command, ["--group", "x" * 53])
        self.assertNotEqual(shown.exit_code, 0)
        self.assertIn("--group", shown.output)
