"""Tests of `meshrelay.cli.chat`."""

from __future__ import annotations

from click.testing import CliRunner
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.chat import Chat, DirectChat, command
from meshrelay.cli.terminal import Terminal
from meshrelay.wire.commands import encode_direct
from tests.cli.memory_group_node import RANDOM_GROUP, MemoryGroupNode
from tests.cli.test_dm import MemoryDirectNode
from tests.client.memory_transport import MemoryTransport


class _Person:
    """Somebody at a terminal.

    :param peer: whom to talk to alone; empty = everybody in the lobby.
    """

    def __init__(self, node: MemoryGroupNode, name: str, peer: str = "") -> None:
        self._node = node
        self.terminal = Terminal()
        self._screen = MemoryTransport()
        self.terminal.makeConnection(self._screen)
        client = node.client(name)
        chat = DirectChat(client, self.terminal, peer) if peer else Chat(client, self.terminal, "lobby")
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

    def test_direct_message(self) -> None:
        """A direct message is shown as one, and not as if it had been said in the group."""
        self.ann.sees  # noqa: B018
        self.node.ends["ann"].push(1, 120, encode_direct("eve", b"psst"))
        self.node.ends["ann"].push(1, 120, encode_direct("", b"news"))
        self.assertEqual(self.ann.sees, ["* direct message of eve: psst", "* message of the server: news"])

    def test_help_says_what_a_name_means(self) -> None:
        """--help explains what becomes of a short name."""
        shown = CliRunner().invoke(command, ["--help"])
        self.assertIn("random group", " ".join(shown.output.split()))

    def test_bad_group(self) -> None:
        """A --group that can be no ID is refused before anything is tried."""
        shown = CliRunner().invoke(command, ["--group", "x" * 53])
        self.assertNotEqual(shown.exit_code, 0)
        self.assertIn("--group", shown.output)

    def test_group_or_user(self) -> None:
        """Without --group and --with, and with both, nobody knows whom to talk to."""
        for arguments in ([], ["--group", "lobby", "--with", "bob"]):
            shown = CliRunner().invoke(command, arguments)
            self.assertEqual(shown.exit_code, 2, arguments)
            self.assertIn("either --group or --with", shown.output)

    def test_bad_user(self) -> None:
        """A --with that can be no user ID is refused before anything is tried."""
        shown = CliRunner().invoke(command, ["--with", "u" * 129])
        self.assertEqual(shown.exit_code, 2)
        self.assertIn("--with", shown.output)


class DirectChatTests(SynchronousTestCase):
    """Two terminals, and nobody else."""

    def setUp(self) -> None:
        self.node = MemoryDirectNode()
        self.ann = _Person(self.node, "ann", "bob")

    def _with_bob(self) -> _Person:
        bob = _Person(self.node, "bob", "ann")
        self.ann.sees, bob.sees  # noqa: B018 - both look away from the beginning
        return bob

    def test_beginning(self) -> None:
        """One is told who one is, and what the other one has to type."""
        first, second = self.ann.sees
        self.assertIn("you are ann", first)
        self.assertIn("--user bob --with ann", second)

    def test_talk(self) -> None:
        """What one types the other reads, under the sender's name."""
        bob = self._with_bob()
        self.ann.types("hello bob")
        bob.types("hello ann")
        self.assertEqual((self.ann.sees, bob.sees), (["bob: hello ann"], ["ann: hello bob"]))

    def test_nobody_there(self) -> None:
        """A line to somebody who is not signed in is said to be lost, and the next one arrives when he is."""
        self.ann.sees  # noqa: B018
        self.ann.types("bob?")
        self.assertEqual(self.ann.sees, ["* not sent: bob is not there"])
        bob = self._with_bob()
        self.ann.types("there you are")
        self.assertEqual(bob.sees, ["ann: there you are"])

    def test_empty_lines(self) -> None:
        """An empty line is not sent."""
        bob = self._with_bob()
        self.ann.types("  ")
        self.assertEqual((self.ann.sees, bob.sees), ([], []))

    def test_peer_leaves(self) -> None:
        """The end of input ends the chat, and the other one is told."""
        bob = self._with_bob()
        bob.terminal.readConnectionLost()
        self.node.turn()
        self.successResultOf(bob.done)
        self.assertEqual(self.ann.sees, ["* bob left"])

    def test_peer_is_interrupted(self) -> None:
        """Ctrl-C tells the other one as well."""
        bob = self._with_bob()
        bob.done.addErrback(lambda _: None)
        bob.done.cancel()
        self.node.turn()
        self.assertEqual(self.ann.sees, ["* bob left"])

    def test_peer_is_gone(self) -> None:
        """What the node says about the peer's end is shown; about somebody else's it is not."""
        self.ann.sees  # noqa: B018
        for cmd in (121, 122):
            self.node.ends["ann"].push(1, cmd, encode_direct("eve", b"x"))
        self.node.ends["ann"].push(1, 122, encode_direct("bob", b"x"))
        self.assertEqual(self.ann.sees, ["* bob is gone"])

    def test_others(self) -> None:
        """What others send is shown, and cannot be taken for the peer's."""
        self.ann.sees  # noqa: B018
        self.node.ends["ann"].push(1, 120, encode_direct("eve", b"psst"))
        self.node.ends["ann"].push(1, 120, encode_direct("", b"news"))
        self.assertEqual(self.ann.sees, ["* direct message of eve: psst", "* message of the server: news"])

    def test_break(self) -> None:
        """After a break the chat goes on, and says that there was one."""
        bob = self._with_bob()
        self.node.restart()
        self.node.turn(1.0)
        seen = bob.sees
        self.assertEqual(seen, ["* disconnected: broken; coming back", "* connected again, to node node-1"])
        self.ann.sees  # noqa: B018
        bob.types("still there?")
        self.assertEqual(self.ann.sees, ["bob: still there?"])

    def test_thrown_out(self) -> None:
        """When the node says stay away the chat ends."""
        self.node.ends["ann"].goodbye(4504, "kicked")
        self.assertIn("* disconnected: kicked", self.ann.sees)
        self.assertTrue(self.ann.done.called)
        self.ann.done.addErrback(lambda _: None)

    def test_control_characters(self) -> None:
        """Nothing that a peer sends is obeyed by the terminal."""
        self.ann.sees  # noqa: B018
        self.node.ends["ann"].push(1, 120, encode_direct("bob", b"\x1b[2Jboo"))
        self.assertEqual(self.ann.sees, ["bob: \ufffd[2Jboo"])
