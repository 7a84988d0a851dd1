"""Tests of `meshrelay.cli.client_program`."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.client_program import Target, as_target, enter_group, printable, static_group_id
from meshrelay.errors import GroupNotFound
from tests.cli.memory_group_node import RANDOM_GROUP, MemoryGroupNode

LOBBY = "lobby" + "-" * 47


class EnterGroupTests(SynchronousTestCase):
    """What --group means."""

    def _enter(self, node: MemoryGroupNode, name: str) -> Deferred[str]:
        entered = Deferred.fromCoroutine(enter_group(node.client("ann"), name))
        node.turn()
        return entered

    def test_static_group(self) -> None:
        """A short name is the static group of that name, where there is one."""
        node = MemoryGroupNode(LOBBY)
        self.assertEqual(self.successResultOf(self._enter(node, "lobby")), LOBBY)
        self.assertEqual(node.groups, {LOBBY: ["ann"]})

    def test_random_group(self) -> None:
        """Where there is none, two programs on a fresh node still meet."""
        node = MemoryGroupNode()
        self.assertEqual(self.successResultOf(self._enter(node, "lobby")), RANDOM_GROUP)
        second = Deferred.fromCoroutine(enter_group(node.client("bob"), "lobby"))
        node.turn()
        self.assertEqual(self.successResultOf(second), RANDOM_GROUP)
        self.assertEqual(node.groups, {RANDOM_GROUP: ["ann", "bob"]})

    def test_whole_id(self) -> None:
        """A whole ID is that group or an error, never another group."""
        node = MemoryGroupNode()
        self.failureResultOf(self._enter(node, "x" * 52), GroupNotFound)
        self.assertEqual(node.groups, {})


class StaticGroupIdTests(SynchronousTestCase):
    """From a name to an ID."""

    def test_good(self) -> None:
        """A name is filled up with dashes; an ID stays as it is."""
        self.assertEqual(static_group_id("lobby"), LOBBY)
        self.assertEqual(static_group_id("x" * 52), "x" * 52)

    def test_bad(self) -> None:
        """What can be no ID is refused with a reason."""
        for name in ("", "x" * 53, "lobbÿ", "a\nb"):
            self.assertRaises(ValueError, static_group_id, name)


class TargetTests(SynchronousTestCase):
    """Which node, and as whom."""

    def test_default_user(self) -> None:
        """Two terminals of one login are two users."""
        one, two = (as_target("tcp://h", None, None).user for _ in range(2))
        self.assertNotEqual(one, two)
        self.assertEqual(as_target("tcp://h", "ann", None).user, "ann")

    def test_user_of_the_token(self) -> None:
        """With a token the token says who one is."""
        self.assertIsNone(as_target("tcp://h", None, "file").user)

    def test_token_is_read_each_time(self) -> None:
        """A token that was renewed in its file is used at the next connect."""
        path = Path(self.mktemp())
        target = Target("tcp://h", "ann", str(path))
        path.write_text("one\n")
        self.assertEqual(target.token(), "one")
        path.write_text("two\n")
        self.assertEqual(target.token(), "two")


class PrintableTests(SynchronousTestCase):
    """What others sent, on this terminal."""

    def test_nothing_is_obeyed(self) -> None:
        """Escape sequences and other control characters of others do nothing to the terminal."""
        self.assertEqual(printable(b"a\x1b[31mb\r\x07\n"), "a\ufffd[31mb\ufffd\ufffd\ufffd")

    def test_text_stays(self) -> None:
        """Any readable text is printed as it is; bytes that are no UTF-8 are marked."""
        self.assertEqual(printable("grüße, 世界 🙂".encode()), "grüße, 世界 🙂")
        self.assertEqual(printable(b"a\xff"), "a\ufffd")
