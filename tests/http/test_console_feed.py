"""Live data of the console over the protocol of clients."""

from __future__ import annotations

from meshrelay.errors import ErrorCode
from meshrelay.http.console_feed import MAX_WATCHERS
from meshrelay.model import Status
from meshrelay.wire.commands import Command
from tests.http.console_kit import WATCH, ConsoleTestCase, node_row


class FeedTests(ConsoleTestCase):
    """Consoles of a node in memory."""

    def test_watch(self) -> None:
        """A console is told what was and what is, and then what is, once a second."""
        self.seconds(3)
        client = self.open_console()
        answer = self.watch(client)
        self.assertEqual((len(answer["samples"]), answer["columns"][0], answer["state"]["node"]), (3, "at", "n1"))
        self.seconds(3)
        states = self.states(client)
        self.assertEqual([state["consoles"] for state in states], [1, 1, 1])
        self.assertEqual([state["sample"][0] for state in states], [4.0, 5.0, 6.0])

    def test_end(self) -> None:
        """A console that asks for it, or is gone, is told nothing more."""
        one, two = self.open_console(), self.open_console()
        self.watch(one)
        self.watch(two)
        self.assertEqual(one.request(Command.CONSOLE_WATCH, b"\0").status, Status.OK)
        two.lose()
        one.pushes()
        self.seconds(3)
        self.assertEqual(self.states(one), [])
        self.assertEqual(self.console.feed.watcher_count, 0)

    def test_nothing_while_nobody_watches(self) -> None:
        """Before the first console and after the last no node is asked and no group is counted."""
        ann = self.node.sign_in("ann")
        group = self.node.groups.table.find(ann.create_group())
        assert group is not None
        self.seconds(5)
        self.assertEqual((self.asked, group.tap), (0, None))
        client = self.open_console()
        self.watch(client)
        self.assertIsNotNone(group.tap)
        client.lose()
        self.seconds(2)
        asked = self.asked
        self.seconds(60)
        self.assertEqual((self.asked, group.tap), (asked, None))

    def test_other_nodes_are_asked_seldom(self) -> None:
        """The cluster is looked at every two seconds for all consoles together, a large one less often."""
        for _ in range(3):
            self.watch(self.open_console())
        self.seconds(20)
        self.assertLessEqual(self.asked, 11)
        self.nodes = [node_row(f"n{number}") for number in range(500)]
        self.seconds(4)
        before = self.asked
        self.seconds(30)
        self.assertLessEqual(self.asked - before, 4)

    def test_only_consoles(self) -> None:
        """Nobody else may watch, whatever they call themselves, and nonsense is refused."""
        ann = self.node.sign_in("ann")
        self.assertEqual(ann.refusal(Command.CONSOLE_WATCH, WATCH)[1], ErrorCode.REFUSED)
        client = self.open_console()
        for nonsense in (b"", b"\2", b"\1\1"):
            self.assertEqual(client.refusal(Command.CONSOLE_WATCH, nonsense)[1], ErrorCode.MALFORMED_PAYLOAD)

    def test_bound(self) -> None:
        """So many consoles watch at the same time; one more is told so, and may when another has gone."""
        clients = [self.open_console() for _ in range(MAX_WATCHERS)]
        for client in clients:
            self.watch(client)
        late = self.open_console()
        self.assertEqual(late.refusal(Command.CONSOLE_WATCH, WATCH)[1], ErrorCode.REFUSED)
        self.watch(clients[0])
        self.assertEqual(self.console.feed.statistics()["watchers_refused"], 1)
        self.assertEqual(self.console.feed.statistics()["watchers"], MAX_WATCHERS)
        clients[3].lose()
        self.watch(late)

    def test_slow_console(self) -> None:
        """A console that does not read is passed over: nothing piles up for it, and the others are told."""
        slow, quick = self.open_console(), self.open_console()
        self.watch(slow)
        self.watch(quick)
        slow.link.stall()
        for _ in range(5):
            self.clock.advance(1)
        self.assertLess(slow.link.queued_bytes, 10_000)
        self.assertEqual(self.console.feed.statistics()["pushes_skipped"], 4)
        self.assertEqual(len(self.states(quick)), 5)

    def test_failed_look(self) -> None:
        """A look at the cluster that fails is logged, and the next one is taken."""
        self.is_failing = True
        client = self.open_console()
        self.watch(client)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.is_failing = False
        self.seconds(4)
        self.assertIsNotNone(self.states(client)[-1]["cluster"])

    def test_stop(self) -> None:
        """A node that stops tells nobody anything any more."""
        client = self.open_console()
        self.watch(client)
        self.console.feed.stop()
        client.pushes()
        self.seconds(2)
        self.assertEqual(self.states(client), [])
