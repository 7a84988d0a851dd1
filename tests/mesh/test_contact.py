"""The link to the holder of the directory, and contacts to an address."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.backoff import Backoff
from meshrelay.mesh.contact import DirectoryContact
from meshrelay.mesh.errors import LinkLost, LinkRefused
from meshrelay.mesh.interfaces import Dial, INodeConnection
from meshrelay.mesh.link import LinkState
from meshrelay.testing.memory_mesh import Line, MemoryMesh
from meshrelay.testing.memory_nodes import MemoryCluster


class ContactTestCase(SynchronousTestCase):
    """Node a looks for whoever is at the address "holder"."""

    def setUp(self) -> None:
        """Node b is there."""
        self.make(1)

    def make(self, seed: int, line: Line | None = None) -> None:
        """Start both."""
        self.cluster = MemoryCluster([], seed, line)
        self.mesh: MemoryMesh = self.cluster.mesh
        self.a = self.cluster.add("a", is_dialled=False)
        self.b = self.cluster.add("b", is_dialled=False)
        self.holder = "b"

    def dial(self) -> Deferred[INodeConnection]:
        """Connect to who is at the address now."""
        return self.mesh.dialer("a", self.holder)()


class LinksContactTests(ContactTestCase):
    """`Links.contact`."""

    def test_found(self) -> None:
        """Who answers is linked like any other node before the contact says who it is."""
        found = self.a.links.contact(self.dial)
        known: list[tuple[str, list[str]]] = []
        found.addCallback(lambda node_id: known.append((node_id, self.a.nodes.known())))
        self.cluster.run(1)
        self.assertEqual(known, [("b", ["b"])])
        self.assertTrue(self.b.nodes.is_up("a"))
        link = self.a.links.find("b")
        assert link is not None
        self.assertFalse(link.is_kept)

    def test_nobody_there(self) -> None:
        """An address where nobody is fails the contact at once."""
        self.holder = "c"
        self.failureResultOf(self.a.links.contact(self.dial), LinkLost)

    def test_wrong_secret(self) -> None:
        """A node that does not know the secret is refused, and its name is not kept."""
        self.mesh.add_node("c", secret=b"other")
        self.holder = "c"
        found = self.a.links.contact(self.dial)
        self.cluster.run(1)
        self.failureResultOf(found, LinkRefused)
        self.assertEqual(list(self.a.links), [])

    def test_names_are_not_collected(self) -> None:
        """An impostor that says another name each time fills nothing."""
        for number in range(20):
            self.mesh.add_node(f"c{number}", secret=b"other")
            self.holder = f"c{number}"
            self.a.links.contact(self.dial).addErrback(lambda _: None)
            self.cluster.run(0.1)
        self.assertEqual(list(self.a.links), [])

    def test_itself(self) -> None:
        """A node that meets itself at the address is refused."""
        self.holder = "a"
        found = self.a.links.contact(self.dial)
        self.cluster.run(1)
        self.failureResultOf(found, LinkRefused)

    def test_silent(self) -> None:
        """One that never answers fails the contact within five seconds."""
        found = self.a.links.contact(self.dial)
        self.cluster.run(0.002, 0.001)
        self.mesh.black_hole()
        self.cluster.run(5.1)
        self.failureResultOf(found, LinkLost)
        self.assertEqual(self.a.links.statistics()["greetings"], 0)

    def test_cancelled(self) -> None:
        """A contact that is given up, at whatever point, fails and leaves no connection."""
        for steps in range(6):
            found = self.a.links.contact(self.dial)
            for _ in range(steps):
                self.mesh.clock.advance(0.0005)
            found.cancel()
            self.failureResultOf(found)
            self.cluster.run(1)
            self.assertEqual(self.mesh.open_connections(), [], steps)

    def test_stopped(self) -> None:
        """Links that are stopped end their contacts and take no new ones."""
        found = self.a.links.contact(self.dial)
        self.a.links.stop()
        self.failureResultOf(found)
        self.failureResultOf(self.a.links.contact(self.dial), LinkRefused)

    def test_linked_meanwhile(self) -> None:
        """When the other node dials at the same time there is one connection, met once, and the contact finds it."""
        for seed in range(40):
            self.make(seed, Line(0.001, 0.1))
            found = self.a.links.contact(self.dial)
            self.mesh.keep("b", "a")
            self.cluster.run(3)
            self.assertEqual(self.successResultOf(found), "b", seed)
            self.assertEqual(len(self.mesh.open_connections()), 1, seed)
            self.assertEqual((self.a.observer.events, self.b.observer.events), ([("met", "b")], [("met", "a")]))

    def test_forgotten_while_greeting(self) -> None:
        """A link that is forgotten while a contact is greeted: both ends agree afterwards whether it began anew."""
        for steps in range(2, 12):
            self.make(1)
            self.a.links.contact(self.dial).addErrback(lambda _: None)
            self.cluster.run(steps / 2000, 0.0005)
            self.a.links.forget("b")
            self.cluster.run(0.5)
            self.a.links.contact(self.dial)
            self.cluster.run(0.5)
            told = list(self.b.observer.events)
            self.assertIn(told, ([("met", "a")], [("met", "a"), ("lost", "a"), ("gone", "a"), ("met", "a")]), steps)
            self.mesh.cut()
            self.a.links.contact(self.dial)
            self.cluster.run(0.5)
            self.assertEqual(self.b.observer.events, told, steps)


class DirectoryContactTests(ContactTestCase):
    """Keeping contact."""

    def start(self, dial: Dial | None = None) -> None:
        """Begin to look."""
        self.changes: list[bool] = []
        self.contact = DirectoryContact(
            self.a.links,
            self.a.nodes,
            dial or self.dial,
            self.mesh.clock,
            Backoff(0.2, 2.0, self.mesh.random.uniform),
            self.changes.append,
        )
        self.contact.start()

    def test_found(self) -> None:
        """The node at the address is found and said to be linked."""
        self.start()
        self.cluster.run(1)
        self.assertEqual((self.contact.node_id, self.contact.is_up, self.changes), ("b", True, [True]))

    def test_later(self) -> None:
        """A node that comes later is found soon after."""
        self.b.memory.is_reachable = False
        self.start()
        self.cluster.run(20, 0.05)
        self.assertEqual((self.contact.node_id, self.changes), (None, []))
        self.b.memory.is_reachable = True
        self.cluster.run(2.5)
        self.assertEqual(self.changes, [True])

    def test_cut(self) -> None:
        """A link that breaks is made again."""
        self.start()
        self.cluster.run(1)
        self.mesh.cut()
        self.cluster.run(1)
        self.assertEqual(self.changes, [True, False, True])
        self.assertEqual(self.a.observer.events, [("met", "b")])

    def test_another_node(self) -> None:
        """A holder that was started anew has another ID: it is found, too."""
        self.start()
        self.cluster.run(1)
        self.cluster.kill("b")
        self.cluster.add("z", is_dialled=False)
        self.holder = "z"
        self.cluster.run(3)
        self.assertEqual((self.contact.node_id, self.changes), ("z", [True, False, True]))

    def test_dialled_by_others(self) -> None:
        """When the membership of either node dials as well, the contact goes with it: one link, up once."""
        for seed in range(30):
            self.make(seed, Line(0.001, 0.1))
            self.start()
            self.mesh.keep("a", "b")
            self.mesh.keep("b", "a")
            self.cluster.run(10, 0.02)
            self.assertEqual((self.contact.is_up, self.changes), (True, [True]), seed)
            self.mesh.cut()
            self.cluster.run(10, 0.02)
            self.assertEqual((self.contact.is_up, self.changes), (True, [True, False, True]), seed)
            self.assertEqual(len(self.mesh.open_connections()), 1, seed)

    def test_stopped(self) -> None:
        """After the stop nothing is dialled and nothing is told; the link stays."""
        self.start()
        self.cluster.run(1)
        self.contact.stop()
        self.assertTrue(self.a.nodes.is_up("b"))
        self.mesh.cut()
        self.cluster.run(5)
        self.assertEqual((self.changes, self.a.nodes.is_up("b")), ([True], False))
        link = self.a.links.find("b")
        assert link is not None
        self.assertEqual(link.state, LinkState.IDLE)

    def test_stopped_while_dialling(self) -> None:
        """A stop ends what is under way."""
        self.start()
        self.contact.stop()
        self.cluster.run(5)
        self.assertEqual((self.changes, self.a.nodes.known()), ([], []))
