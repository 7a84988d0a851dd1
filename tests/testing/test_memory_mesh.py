"""The mesh in memory: what it does to the links of many nodes."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.mesh.link import LinkState
from meshrelay.testing.link_contract import CallFailedOnPurpose, LinksUnderTest, check_links
from meshrelay.testing.memory_mesh import Line, MemoryMesh

#: The messages of the long run.
MANY = 100_000


def make() -> LinksUnderTest:
    """Two nodes for the contract."""
    mesh = MemoryMesh()
    left, right = mesh.add_node("left"), mesh.add_node("right")
    dial = mesh.dialer("left", "right")
    return LinksUnderTest(left.links, right.links, left.observer, right.observer, dial, mesh.cut, mesh.run)


class MemoryMeshTests(SynchronousTestCase):
    """Links of many nodes on one clock."""

    def test_contract(self) -> None:
        """Links in memory promise what links over sockets do."""
        check_links(make)
        self.assertEqual(len(self.flushLoggedErrors(CallFailedOnPurpose)), 1)

    def test_many_messages_over_cuts(self) -> None:
        """100,000 messages over a lossy line that is cut 20 times arrive exactly once and in order."""
        mesh = MemoryMesh(seed=11, line=Line(0.002, 0.02, 0.01))
        mesh.add_node("a")
        node = mesh.add_node("b")
        link = mesh.keep("a", "b")
        cuts = {mesh.random.randrange(MANY // 100) for _ in range(40)}
        done = 0
        for step in range(MANY // 100):
            for number in range(step * 100, step * 100 + 100):
                link.send(1, b"%d" % number)
            mesh.run(0.02)
            if step in cuts and done < 20:
                done += mesh.cut()
        mesh.run(10, 0.02)
        came = node.observer.messages["a"]
        self.assertEqual(len(came), MANY)
        self.assertEqual(came, [(1, b"%d" % number) for number in range(MANY)])
        self.assertGreaterEqual(done, 20)
        self.assertEqual(link.sender.dropped_messages, 0)
        self.assertGreater(link.sender.resent_batches, 0)

    def test_same_seed(self) -> None:
        """The same seed gives the same run."""
        runs = []
        for _ in range(2):
            mesh = MemoryMesh(seed=4, line=Line(0.001, 0.1, 0.1))
            mesh.add_node("a")
            mesh.add_node("b")
            link = mesh.keep("a", "b")
            for _ in range(50):
                link.send(1, b"x")
                mesh.run(0.05)
            runs.append((mesh.carried_count, link.rtt_seconds, mesh.random.random()))
        self.assertEqual(runs[0], runs[1])

    def test_every_node_dials_every_other(self) -> None:
        """12 nodes that all dial each other at once settle on one connection for each two of them."""
        mesh = MemoryMesh(seed=5, line=Line(0.001, 0.05))
        names = [f"n{number:02}" for number in range(12)]
        for name in names:
            mesh.add_node(name)
        for source in names:
            for target in names:
                if source != target:
                    mesh.keep(source, target)
        mesh.run(10)
        self.assertEqual(len(mesh.open_connections()), 12 * 11 // 2)
        for name, node in mesh.nodes.items():
            states = {link.state for link in node.links}
            self.assertEqual((len(list(node.links)), states), (11, {LinkState.UP}), name)
            self.assertNotIn("reset", [event for event, _ in node.observer.events])

    def test_kill(self) -> None:
        """A killed node is lost to the others, and comes back as a new one."""
        mesh = MemoryMesh()
        observer = mesh.add_node("a").observer
        mesh.add_node("b")
        link = mesh.keep("a", "b")
        mesh.run(1)
        mesh.kill("b")
        link.send(1, b"for the old one")
        mesh.run(1)
        self.assertEqual(observer.events, [("up", "b"), ("down", "b")])
        mesh.add_node("b")
        mesh.run(10)
        self.assertEqual(observer.events, [("up", "b"), ("down", "b"), ("reset", "b"), ("up", "b")])
        link.send(1, b"for the new one")
        mesh.run(1)
        self.assertEqual(observer.dropped, [1])
        self.assertEqual(mesh.nodes["b"].observer.messages, {"a": [(1, b"for the new one")]})

    def test_kill_in_traffic(self) -> None:
        """What the old node had not acknowledged is dropped and told when the new one comes."""
        mesh = MemoryMesh()
        observer = mesh.add_node("a").observer
        mesh.add_node("b")
        link = mesh.keep("a", "b")
        mesh.run(1)
        link.send(1, b"one")
        mesh.run(1)
        mesh.black_hole()
        link.send(1, b"two")
        mesh.run(0.1)
        mesh.kill("b")
        node = mesh.add_node("b")
        link.send(1, b"three")
        mesh.run(10)
        self.assertEqual(observer.events, [("up", "b"), ("down", "b"), ("reset", "b"), ("up", "b")])
        self.assertEqual((observer.dropped, node.observer.messages), ([2], {}))

    def test_dial_given_up(self) -> None:
        """A dial that is cancelled connects nobody."""
        mesh = MemoryMesh()
        mesh.add_node("a")
        node = mesh.add_node("b")
        dialled: Deferred[object] = mesh.dialer("a", "b")()  # type: ignore[assignment]
        dialled.cancel()
        self.failureResultOf(dialled)
        mesh.run(1)
        self.assertEqual(list(node.links), [])
