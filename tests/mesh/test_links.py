"""All links of a node: who may come in, what observers are told."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.mesh.errors import LinkRefused
from meshrelay.mesh.greeting import NodeIdentity
from meshrelay.mesh.interfaces import INodeConnection
from meshrelay.mesh.link import LinkState
from meshrelay.mesh.links import LinkOptions
from meshrelay.testing.memory_mesh import KNOWN_KINDS, Line, MemoryConnection, MemoryMesh, MemoryNode
from meshrelay.wire.node import Message, Refusal


class LinksTestCase(SynchronousTestCase):
    """Nodes a and b."""

    def setUp(self) -> None:
        """Two nodes, not linked."""
        self.mesh = MemoryMesh()
        self.a, self.b = self.mesh.add_node("a"), self.mesh.add_node("b")

    def linked(self) -> None:
        """Let a dial b."""
        self.mesh.keep("a", "b")
        self.mesh.run(1)
        self.assertEqual(self.a.link("b").state, LinkState.UP)

    def ups(self, node: MemoryNode) -> list[str]:
        """What a node was told, without of whom."""
        return [event for event, _ in node.observer.events]


class RefusalTests(LinksTestCase):
    """Who may not come in."""

    def refusals(self, dialling: MemoryNode, other: MemoryNode, seconds: float = 1) -> tuple[set[str], set[str]]:
        """Dial and return which refusals both ends counted; no link comes up."""
        self.mesh.keep(dialling.node_id, other.node_id)
        self.mesh.run(seconds)
        self.assertEqual(dialling.observer.events, [])
        return set(dialling.links.refused), set(other.links.refused)

    def test_secret(self) -> None:
        """Another secret: both ends count and know why, and it is tried again later."""
        other = self.mesh.add_node("c", secret=b"other")
        self.assertEqual(self.refusals(other, self.b), ({"SECRET"}, {"SECRET"}))
        self.assertEqual(other.link("b").state in (LinkState.WAITING, LinkState.DIALING), True)
        self.assertIsNone(self.b.links.find("c"))

    def test_version(self) -> None:
        """No common version: both ends know why."""
        identity = NodeIdentity("c", b"c" * 16, 0, 9, 9)
        self.assertEqual(self.refusals(self.mesh.add_node("c", identity=identity), self.b), ({"VERSION"}, {"VERSION"}))

    def test_own_id(self) -> None:
        """A node cannot dial its own ID, and one that meets itself under another name is refused."""
        self.assertRaises(LinkRefused, self.mesh.keep, "a", "a")
        self.a.links.keep("b", self.mesh.dialer("a", "a"))
        self.mesh.run(1)
        self.assertEqual(set(self.a.links.refused), {"SELF"})

    def test_id_used_twice(self) -> None:
        """A second living node of the same ID is refused while the first one is linked, and the first one stays."""
        self.linked()
        twin = self.mesh.add_node("a")
        self.assertEqual(self.refusals(twin, self.b, 10), ({"TWICE"}, {"TWICE"}))
        self.assertEqual(self.a.link("b").state, LinkState.UP)
        self.assertEqual(self.b.observer.events, [("up", "a")])

    def test_wrong_certificate(self) -> None:
        """The certificate of another node: both ends know why."""
        self.a.links.keep("b", self.mesh.dialer("a", "b", names=("c",)))
        self.mesh.run(1)
        self.assertEqual((set(self.a.links.refused), set(self.b.links.refused)), ({"WRONG_NODE"}, {"WRONG_NODE"}))

    def test_silent_callers(self) -> None:
        """Callers that never say hello are cut off in time; too many of them at once are turned away."""
        limit = LinkOptions().max_greetings
        callers = []
        for _ in range(limit + 1):
            here, there = MemoryConnection(self.mesh, "b", None), MemoryConnection(self.mesh, "?", None)
            here.other, there.other = there, here
            self.b.links.accepted(there)
            callers.append(there)
        self.assertEqual([caller.is_open for caller in callers], [True] * limit + [False])
        self.assertEqual(self.b.links.statistics()["greetings"], limit)
        self.mesh.run(5.1)
        self.assertEqual(sum(caller.is_open for caller in callers), 0)
        self.assertEqual(self.b.links.statistics()["greetings"], 0)
        self.assertEqual(self.b.links.refused["BUSY"], 1)

    def logged(self, level: LogLevel) -> list[str]:
        """What is logged from now on, at this level."""
        lines: list[str] = []

        def observe(event: LogEvent) -> None:
            if event["log_level"] is level:
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, observe)  # type: ignore[arg-type]
        return lines

    def test_log(self) -> None:
        """A refused node that comes again all the time is warned about once a minute, by both ends."""
        warnings = self.logged(LogLevel.warn)
        other = self.mesh.add_node("c", secret=b"other")
        self.mesh.keep("c", "b")
        self.mesh.run(55)
        self.assertGreater(self.b.links.refused["SECRET"], 5)
        self.assertEqual(len(warnings), 2, warnings)
        self.mesh.run(60)
        self.assertEqual(len(warnings), 4, warnings)
        other.links.forget("b")

    def test_log_of_silent_ends(self) -> None:
        """An end that never answers is warned about once a minute, however often it is tried."""
        dialled = []

        def dial() -> Deferred[INodeConnection]:
            here, there = MemoryConnection(self.mesh, "b:1", None), MemoryConnection(self.mesh, "a:2", None)
            here.other, there.other = there, here
            dialled.append(here)
            return succeed(here)

        warnings = self.logged(LogLevel.warn)
        self.a.links.keep("b", dial)
        self.mesh.run(50)
        self.assertGreater(len(dialled), 3)
        self.assertEqual([line[:21] for line in warnings], ["no link to b at b:1: "])

    def test_log_of_silent_callers(self) -> None:
        """Those who connect and say nothing are worth one line a minute for each address, and no warning."""
        warnings, lines = self.logged(LogLevel.warn), self.logged(LogLevel.info)
        for port in range(10):
            here, there = MemoryConnection(self.mesh, "b", None), MemoryConnection(self.mesh, f"127.0.0.1:{port}", None)
            here.other, there.other = there, here
            self.b.links.accepted(there)
        self.mesh.run(6)
        self.assertEqual((len(lines), warnings), (1, []))

    def test_max_links(self) -> None:
        """No more nodes than max_links are kept in mind."""
        self.mesh.add_node("hub", options=LinkOptions(max_links=1))
        self.mesh.keep("a", "hub")
        self.mesh.run(1)
        self.mesh.keep("b", "hub")
        self.mesh.run(1)
        self.assertEqual(self.a.observer.events, [("up", "hub")])
        self.assertEqual((self.b.observer.events, set(self.b.links.refused)), ([], {"BUSY"}))


class TakeOverTests(LinksTestCase):
    """Two connections of the same two nodes."""

    def test_half_dead(self) -> None:
        """A node that lost its connection and dials anew is taken at once, not after the old one's death."""
        self.linked()
        self.b.links.find("a").send(1, b"into the hole")  # type: ignore[union-attr]
        old = self.mesh.connections[0][1]
        old.is_dead = True
        self.mesh.connections[0][0].lose("gone")
        self.mesh.run(1)
        self.assertEqual(self.ups(self.a), ["up", "down", "up"])
        self.assertEqual(self.ups(self.b), ["up"])
        self.assertFalse(old.is_open)
        self.assertEqual(self.a.observer.messages, {"b": [(1, b"into the hole")]})

    def test_restarted_behind_a_dead_line(self) -> None:
        """A node that was started anew gets in as soon as the connection of the old one falls silent."""
        self.linked()
        self.mesh.black_hole()
        twin = self.mesh.add_node("a")
        self.mesh.keep("a", "b")
        self.mesh.run(8)
        self.assertEqual(self.ups(self.b), ["up", "down", "reset", "up"])
        self.assertEqual(self.ups(twin), ["up"])

    def test_both_dial(self) -> None:
        """When both dial at once one connection is left, and messages of both get through, whatever the delays."""
        for seed in range(40):
            mesh = MemoryMesh(seed, Line(0.001, 0.2))
            nodes = mesh.add_node("a"), mesh.add_node("b")
            mesh.keep("a", "b").send(1, b"from a")
            mesh.keep("b", "a").send(1, b"from b")
            mesh.run(8)
            self.assertEqual(len(mesh.open_connections()), 1, seed)
            self.assertEqual(
                [node.observer.messages for node in nodes], [{"b": [(1, b"from b")]}, {"a": [(1, b"from a")]}]
            )
            self.assertEqual([self.ups(node) for node in nodes], [["up"], ["up"]], seed)


class ForgetTests(LinksTestCase):
    """Links that one end, or nobody, wants any more."""

    def test_one_end(self) -> None:
        """When one end forgot the link, the other one is told that it began anew, and what waited there is dropped."""
        for dialler in "ab":
            self.setUp()
            self.linked()
            self.mesh.keep("b", "a")
            self.mesh.run(1)
            self.mesh.cut()
            self.b.link("a").send(1, b"for the link of before")
            self.a.links.forget("b")
            self.b.link("a").release()
            self.mesh.keep(dialler, "b" if dialler == "a" else "a")
            self.mesh.run(2)
            self.assertEqual(
                (self.ups(self.a), self.ups(self.b)), (["up", "down", "up"], ["up", "down", "reset", "up"])
            )
            self.b.link("a").send(1, b"for the new one")
            self.mesh.run(1)
            self.assertEqual(
                (self.a.observer.messages, self.b.observer.dropped), ({"b": [(1, b"for the new one")]}, [1])
            )

    def test_behind_a_dead_line(self) -> None:
        """When the other end still believes in the old connection it is told: down, began anew, up."""
        self.linked()
        self.mesh.black_hole()
        self.a.links.forget("b")
        self.mesh.keep("a", "b")
        self.mesh.run(2)
        self.assertEqual((self.ups(self.a), self.ups(self.b)), (["up", "down", "up"], ["up", "down", "reset", "up"]))

    def test_behind_a_dead_line_while_dialling(self) -> None:
        """The same is told when the other end has a connection of its own under way."""
        self.linked()
        self.mesh.black_hole()
        link = self.b.link("a")
        link.attempt = link.strand
        self.a.links.forget("b")
        self.mesh.keep("a", "b")
        self.mesh.run(2)
        self.assertEqual(self.ups(self.b), ["up", "down", "reset", "up"])

    def test_refused(self) -> None:
        """A link knows whether its last connection was ended on purpose, and by whom."""
        self.linked()
        self.mesh.cut()
        self.assertIsNone(self.b.link("a").refused)
        self.mesh.run(1)
        self.a.links.stop()
        self.mesh.run(1)
        refused = self.b.link("a").refused
        assert refused is not None
        self.assertEqual((refused.code, refused.is_peers), (Refusal.CLOSED, True))

    def test_unused(self) -> None:
        """Links that are down, not dialled and not wanted are forgotten, no others."""
        for node_id in "cde":
            self.mesh.add_node(node_id)
            self.mesh.keep(node_id, "a")
        self.linked()
        self.mesh.run(1)
        for node_id in "cd":
            self.mesh.kill(node_id)
        self.mesh.run(1)
        self.a.links.forget_unused({"d"})
        self.assertEqual(sorted(link.node_id for link in self.a.links), ["b", "d", "e"])


class ObserverTests(LinksTestCase):
    """What observers are told."""

    def test_dead_peer(self) -> None:
        """A peer that answers nothing is known to be gone within 5 seconds, by both ends."""
        self.linked()
        for _ in range(7):
            # Whatever the moment of the heartbeat.
            self.mesh.run(0.13)
            self.mesh.black_hole()
            for node in self.mesh.nodes.values():
                node.is_reachable = False
            self.mesh.run(5.0)
            self.assertEqual((self.ups(self.a)[-1], self.ups(self.b)[-1]), ("down", "down"))
            for node in self.mesh.nodes.values():
                node.is_reachable = True
            self.mesh.run(8)
            self.assertEqual((self.ups(self.a)[-1], self.ups(self.b)[-1]), ("up", "up"))
        self.assertIn("nothing was heard for 5 seconds", self.a.observer.reasons[0])

    def test_clock_jumps(self) -> None:
        """A clock that is set an hour ahead costs no link."""
        self.linked()
        self.mesh.clock.advance(3600)
        self.mesh.run(20)
        self.assertEqual((self.ups(self.a), self.ups(self.b)), (["up"], ["up"]))

    def test_idle(self) -> None:
        """A link on which nothing is sent stays up, and its round trip is known."""
        self.linked()
        self.mesh.run(60, 0.05)
        self.assertEqual(self.ups(self.a), ["up"])
        self.assertLess(self.a.link("b").rtt_seconds or 9, 0.2)

    def test_observer_that_raises(self) -> None:
        """An observer that raises is logged, costs no link and gets no batch twice."""
        came: list[Message] = []

        def broken(_: str, messages: list[Message]) -> None:
            came.extend(messages)
            raise ZeroDivisionError

        self.b.observer.messages_received = broken  # type: ignore[method-assign, assignment]
        self.linked()
        self.a.link("b").send(1, b"x")
        self.mesh.run(1)
        self.assertEqual((came, self.ups(self.a)), ([(1, b"x")], ["up"]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_unknown_kinds(self) -> None:
        """Messages of a later version are skipped and counted."""
        self.linked()
        link = self.a.link("b")
        for kind in (1, max(KNOWN_KINDS) + 1, 2):
            link.send(kind, b"")
        self.mesh.run(1)
        self.assertEqual(self.b.observer.messages, {"a": [(1, b""), (2, b"")]})
        self.assertEqual(self.b.link("a").statistics()["skipped_messages"], 1)

    def test_forget(self) -> None:
        """A forgotten node is told goodbye; what waited is dropped; it may come again, and begins anew."""
        self.linked()
        self.a.links.forget("b")
        self.a.links.forget("nobody")
        self.mesh.run(1)
        self.assertEqual((self.ups(self.a), self.ups(self.b)), (["up", "down"], ["up", "down"]))
        self.assertIsNone(self.a.links.find("b"))
        self.linked()
        self.a.link("b").send(1, b"again")
        self.mesh.run(1)
        self.assertEqual(self.b.observer.messages, {"a": [(1, b"again")]})

    def test_stop(self) -> None:
        """A stopped node has no connection, takes none, and says when all are closed."""
        self.linked()
        gone: Deferred[None] = self.a.links.stop()
        self.mesh.run(1)
        self.successResultOf(gone)
        self.mesh.keep("b", "a")
        self.mesh.run(3)
        self.assertEqual(self.ups(self.b), ["up", "down"])
        self.assertEqual(
            self.a.links.statistics(),
            {"links": 0, "links_up": 0, "greetings": 0, "refused": 2 + self.a.links.refused["BUSY"] - 1},
        )
        self.successResultOf(self.a.links.stop())
