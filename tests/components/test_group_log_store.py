"""Tests of `meshrelay.components.group_log_store`."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import group_log_store
from meshrelay.components.group_log_store import NodesHistory
from meshrelay.components.place_ids import new_place_id, node_key
from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.history import MemoryHistory
from meshrelay.errors import MeshError
from meshrelay.machine.message_logs import LogLimits
from meshrelay.mesh.alone import Alone
from meshrelay.mesh.errors import LinkLost
from meshrelay.testing.heap_clock import HeapClock
from meshrelay.testing.memory_nodes import MemoryCluster
from meshrelay.wire.group_log import LogPage

LIMITS = LogLimits(10, 60.0)
ALL = (100, 1 << 20)


class NodesHistoryTests(SynchronousTestCase):
    """Three nodes; the group was made on b."""

    def setUp(self) -> None:
        """All are linked."""
        self.cluster = MemoryCluster(["a", "b", "c"])
        self.stores: dict[str, NodesHistory] = {}
        for node in self.cluster:
            own = MemoryHistory(1 << 20, self.cluster.clock, Random(node.node_id).randrange)
            self.stores[node.node_id] = NodesHistory(node.nodes, own, self.cluster.clock)
        self.cluster.linked()
        self.lobby = new_place_id(node_key("b"), Random(1).randbytes)

    def test_one_place(self) -> None:
        """All ask the home of the group, and share one history."""
        placed = [self.stores[node_id].append(self.lobby, 0, [node_id.encode()], LIMITS) for node_id in "bac"]
        self.cluster.run(0.2)
        (epoch, _), *_ = places = [self.successResultOf(each) for each in placed]
        self.assertEqual(places, [(epoch, 1), (epoch, 2), (epoch, 3)])
        page = self.stores["c"].read(self.lobby, 0, 0, ALL, LIMITS)
        self.cluster.run(0.2)
        self.assertEqual(self.successResultOf(page), LogPage(epoch, 3, 1, (b"b", b"a", b"c")))
        self.assertEqual(self.stores["b"].statistics()["group_log_messages"], 3)
        self.assertEqual(self.stores["a"].statistics()["group_log_calls"], 1)

    def test_many_wait_and_the_link_breaks(self) -> None:
        """All that wait fail, however many they are, and nothing of them is left."""
        out: list[Deferred[bytes]] = []

        class Breaking(Alone):
            """A link to b that breaks."""

            is_broken = False

            def known(self) -> list[str]:
                """See `INodes`."""
                return ["b"]

            def call(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
                """See `INodes`."""
                if self.is_broken:
                    return fail(LinkLost(node_id, "broken"))
                out.append(Deferred())
                return out[-1]

        nodes, clock = Breaking("a"), HeapClock()
        store = NodesHistory(nodes, MemoryHistory(1 << 20, clock, Random(1).randrange), clock)
        answers = [store.append(self.lobby, 0, [b"x"], LIMITS) for _ in range(900)]
        nodes.is_broken = True
        for each in out:
            each.errback(LinkLost("b", "broken"))
        for answer in answers:
            self.failureResultOf(answer, MeshError)
        self.assertEqual(store._lines, {})

    def test_homeless(self) -> None:
        """A group that no node made is kept at one node, the same for all, and not all at the same."""
        places = set()
        for number in range(20):
            static = f"static-{number}".ljust(52, "-")
            [place] = {store.place_of(static) for store in self.stores.values()}
            places.add(place)
        self.assertGreater(len(places), 1)

    def test_dead_home(self) -> None:
        """When the home dies calls fail at once, then another node takes its place, under a greater epoch."""
        placed = self.stores["a"].append(self.lobby, 0, [b"x"], LIMITS)
        self.cluster.run(0.2)
        epoch, _ = self.successResultOf(placed)
        self.cluster.kill("b")
        failed = self.stores["a"].append(self.lobby, epoch, [b"y"], LIMITS)
        self.cluster.run(2.5)
        self.failureResultOf(failed, MeshError)
        self.cluster.run(10.0)
        places = {self.stores[node_id].place_of(self.lobby) for node_id in "ac"}
        self.assertEqual(len(places), 1)
        placed = self.stores["c"].append(self.lobby, epoch, [b"z"], LIMITS)
        self.cluster.run(0.2)
        later, offset = self.successResultOf(placed)
        self.assertEqual((later > epoch, offset), (True, 1))

    def test_bounded(self) -> None:
        """Only so many calls are on their way and wait; one more fails at once and is counted."""
        self.patch(group_log_store, "MAX_CALLS", 1)
        self.patch(group_log_store, "MAX_QUEUED", 2)
        store = self.stores["a"]
        placed = [store.append(self.lobby, 0, [b"x"], LIMITS) for _ in range(4)]
        self.failureResultOf(placed.pop(), DirectoryUnavailable)
        self.assertEqual(store.statistics()["group_log_calls_refused"], 1)
        self.cluster.run(0.5)
        self.assertEqual([self.successResultOf(each)[1] for each in placed], [1, 2, 3])

    def test_silent(self) -> None:
        """A node that does not answer is given two seconds."""

        class Silent(Alone):
            """Links that lead nowhere."""

            def known(self) -> list[str]:
                return ["b"]

            def call(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
                return Deferred()

        clock = HeapClock()
        store = NodesHistory(Silent("a"), MemoryHistory(1 << 20, clock, Random(1).randrange), clock)
        placed = store.append(self.lobby, 0, [b"x"], LIMITS)
        clock.advance(1.9)
        self.assertNoResult(placed)
        clock.advance(0.2)
        self.failureResultOf(placed, DirectoryUnavailable)

    def test_strange(self) -> None:
        """An answer that cannot be read is as good as none."""

        class Strange(Alone):
            """A node that answers nonsense."""

            def known(self) -> list[str]:
                return ["b"]

            def call(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
                answer: Deferred[bytes] = Deferred()
                answer.callback(b"?")
                return answer

        clock = HeapClock()
        store = NodesHistory(Strange("a"), MemoryHistory(1 << 20, clock, Random(1).randrange), clock)
        self.failureResultOf(store.append(self.lobby, 0, [b"x"], LIMITS), DirectoryUnavailable)
        self.successResultOf(store.stop())
