"""The other nodes: met, lost, back, gone, and what they say."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedFrame
from meshrelay.mesh.errors import CallFailed, LinkLost
from meshrelay.mesh.nodes import NodesOptions
from meshrelay.mesh.strand import StrandOptions
from meshrelay.testing.memory_mesh import Line
from meshrelay.testing.memory_nodes import ClusterNode, MemoryCluster, check_nodes, endpoint


class ClusterTestCase(SynchronousTestCase):
    """Nodes a, b and c, linked to each other."""

    def setUp(self) -> None:
        """Link them."""
        self.cluster = MemoryCluster(["a", "b", "c"])
        self.cluster.linked()
        self.mesh = self.cluster.mesh
        self.a, self.b, self.c = self.cluster

    def told(self, node: ClusterNode, of: str) -> list[str]:
        """What a node was told of another one behind the first meeting."""
        events = node.observer.of(of)
        self.assertEqual(events[0], "met")
        return events[1:]


class StateTests(ClusterTestCase):
    """What observers are told."""

    def test_contract(self) -> None:
        """`Nodes` keeps the promises of every INodes."""
        check_nodes(self.a.nodes)

    def test_met(self) -> None:
        """Linked nodes are met once, known in order, and up."""
        self.assertEqual(sorted(self.a.observer.events), [("met", "b"), ("met", "c")])
        self.assertEqual(self.b.nodes.known(), ["a", "c"])
        self.assertTrue(self.b.nodes.is_up("a"))
        self.assertFalse(self.b.nodes.is_lost("a"))

    def test_short_cut(self) -> None:
        """A link that is back within two seconds is nobody's concern, and what was sent meanwhile arrives."""
        got: list[bytes] = []
        self.b.nodes.handle(1, lambda _, payload: got.append(payload))
        self.mesh.part("a", "b")
        self.assertTrue(self.a.nodes.send("b", 1, b"waits"))
        self.cluster.run(1.5)
        self.assertEqual((self.a.nodes.is_up("b"), self.a.nodes.known()), (False, ["b", "c"]))
        self.mesh.join("a", "b")
        self.cluster.run(3)
        self.assertEqual((got, self.told(self.a, "b"), self.told(self.b, "a")), ([b"waits"], [], []))

    def test_seen_by_others(self) -> None:
        """A node that another node sees is not lost, however long our own link is down."""
        self.mesh.part("a", "b")
        self.cluster.run(60, 0.05)
        self.assertEqual((self.told(self.a, "b"), self.told(self.b, "a")), ([], []))
        self.assertTrue(self.a.nodes.send("b", 1, b""))
        self.mesh.part("c", "b")
        self.cluster.run(8, 0.05)
        self.assertEqual(self.told(self.a, "b"), ["lost", "gone"])

    def test_killed(self) -> None:
        """A node that was killed is lost within 3 seconds for all, and gone after 30; then nothing waits for it."""
        self.cluster.kill("b")
        self.cluster.run(3)
        for node in (self.a, self.c):
            self.assertEqual(self.told(node, "b"), ["lost"])
            self.assertTrue(node.nodes.is_lost("b"))
            self.assertTrue(node.nodes.send("b", 1, b"waits"))
        self.cluster.run(26, 0.05)
        self.assertEqual(self.told(self.a, "b"), ["lost"])
        self.cluster.run(8, 0.05)
        self.assertEqual(self.told(self.a, "b"), ["lost", "gone"])
        self.assertEqual((self.a.nodes.known(), self.a.nodes.send("b", 1, b"")), (["c"], False))
        self.assertIsNone(self.a.links.find("b"))

    def test_black_hole(self) -> None:
        """A node that answers nothing is lost within 8 seconds, and back when it speaks again."""
        self.mesh.black_hole("a", "b")
        self.mesh.black_hole("c", "b")
        self.b.memory.is_reachable = False
        self.mesh.parted.add(frozenset("bc"))
        self.cluster.run(8)
        self.assertEqual((self.told(self.a, "b"), self.told(self.c, "b")), (["lost"], ["lost"]))
        self.b.memory.is_reachable = True
        self.mesh.join("b", "c")
        self.cluster.run(6)
        self.assertEqual((self.told(self.a, "b"), self.told(self.c, "b")), (["lost", "back"], ["lost", "back"]))

    def test_goodbye(self) -> None:
        """A node that stops cleanly is lost at once."""
        self.cluster.stop("b")
        self.assertEqual((self.told(self.a, "b"), self.told(self.c, "b")), (["lost"], ["lost"]))

    def test_started_anew(self) -> None:
        """A node that comes back under its ID as a new process is gone, then met."""
        self.assertTrue(self.a.nodes.send("b", 1, b"on its way"))
        self.cluster.kill("b")
        self.cluster.run(0.5)
        again = self.cluster.add("b")
        self.cluster.linked()
        self.assertEqual(self.told(self.a, "b"), ["gone", "met"])
        self.assertEqual(again.observer.of("a"), ["met"])

    def test_clock_set(self) -> None:
        """A clock that jumps by an hour while a link is down makes nobody lost or gone."""
        self.mesh.part("a", "b")
        self.mesh.part("c", "b")
        self.cluster.run(0.5)
        self.cluster.clock.advance(3600)
        self.cluster.run(0.5)
        self.mesh.join("a", "b")
        self.mesh.join("c", "b")
        self.cluster.run(4)
        self.assertEqual((self.told(self.a, "b"), self.told(self.c, "b")), ([], []))

    def test_nobody_to_ask(self) -> None:
        """Of two nodes alone, each loses the other after the same two seconds."""
        cluster = MemoryCluster(["a", "b"])
        cluster.linked()
        cluster.mesh.part("a", "b")
        cluster.run(1.9)
        self.assertEqual(self.told(cluster["a"], "b"), [])
        cluster.run(0.5)
        self.assertEqual(self.told(cluster["a"], "b"), ["lost"])

    def test_witness_that_does_not_answer(self) -> None:
        """A node that is asked and says nothing delays the loss by its second, no longer."""
        self.cluster.kill("b")
        self.mesh.black_hole("a", "c")
        self.cluster.run(3.4)
        self.assertEqual(self.told(self.a, "b"), ["lost"])

    def test_late_answer(self) -> None:
        """What others said of an earlier cut does not count for the next one."""
        self.mesh.part("a", "b")
        self.mesh.black_hole("a", "c")
        self.cluster.run(2.5)
        self.a.nodes.link_up("b")
        self.a.nodes.link_down("b", "again")
        self.cluster.run(1.5)
        self.assertEqual(self.told(self.a, "b"), [])
        self.cluster.run(2)
        self.assertEqual(self.told(self.a, "b"), ["lost"])

    def test_stopped(self) -> None:
        """A node that goes down tells its own components of no losses."""
        self.a.nodes.stop()
        self.a.links.stop()
        self.cluster.run(40, 0.05)
        self.assertEqual((self.told(self.a, "b"), self.a.nodes.known()), ([], []))

    def test_observer_that_raises(self) -> None:
        """An observer or a watcher that fails is logged, and the next one is told."""

        class Broken:
            """Raises."""

            def node_lost(self, node_id: str) -> None:
                """See `INodeObserver`."""
                raise RuntimeError(node_id)

        def broken(node_id: str, is_up: bool) -> None:
            raise RuntimeError(node_id)

        cluster = MemoryCluster(["a"])
        watched: list[tuple[str, bool]] = []
        cluster["a"].nodes._observers.insert(0, Broken())  # type: ignore[arg-type]
        cluster["a"].nodes.watch_links(broken)
        cluster["a"].nodes.watch_links(lambda *args: watched.append(args))
        cluster.add("b")
        cluster.linked()
        cluster.kill("b")
        cluster.run(4)
        self.assertEqual(cluster["a"].observer.of("b"), ["met", "lost"])
        self.assertEqual(watched, [("b", True), ("b", False)])
        # Met and lost by the first observer, up and down by the first watcher.
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError, AttributeError)), 4)


class ForgottenTests(SynchronousTestCase):
    """Nodes that forgot each other, both or one of them."""

    def cluster(self, seed: int, b_gone_seconds: float = 30.0) -> MemoryCluster:
        """a and b, of which b forgets after another time."""
        cluster = MemoryCluster(["a"], seed, Line(0.001, 0.05, 0.02))
        cluster.add("b", nodes_options=NodesOptions(gone_seconds=b_gone_seconds))
        cluster.linked()
        return cluster

    def cut(self, cluster: MemoryCluster, seconds: float) -> None:
        """Cut them in the middle of traffic."""
        for node, other in (("a", "b"), ("b", "a")):
            for number in range(50):
                cluster[node].nodes.send(other, 1, b"%d" % number)
        cluster.run(0.01)
        cluster.mesh.part("a", "b")
        cluster.run(seconds, 0.05)
        cluster.mesh.join("a", "b")
        cluster.redial()
        cluster.linked()

    def test_both(self) -> None:
        """After 40 seconds both have forgotten each other, meet anew, and messages flow from the first on."""
        for seed in range(10):
            cluster = self.cluster(seed)
            self.cut(cluster, 40)
            for node, other in (("a", "b"), ("b", "a")):
                self.assertEqual(cluster[node].observer.of(other), ["met", "lost", "gone", "met"], seed)
            self.check_flow(cluster)

    def test_one(self) -> None:
        """When one forgot the other and not the reverse, both meet anew, whoever it was."""
        for seed in range(10):
            for gone_seconds, first, second in ((5.0, "b", "a"), (90.0, "a", "b")):
                cluster = self.cluster(seed, gone_seconds)
                self.cut(cluster, 20 if gone_seconds < 30 else 40)
                self.assertEqual(cluster[first].observer.of(second), ["met", "lost", "gone", "met"], seed)
                self.assertEqual(cluster[second].observer.of(first), ["met", "lost", "gone", "met"], seed)
                self.check_flow(cluster)

    def test_neither(self) -> None:
        """After 20 seconds none has forgotten the other: lost and back, and nothing was lost."""
        cluster = self.cluster(1)
        self.cut(cluster, 20)
        for node, other in (("a", "b"), ("b", "a")):
            self.assertEqual(cluster[node].observer.of(other), ["met", "lost", "back"])
            link = cluster[node].links.find(other)
            assert link is not None
            cluster.run(5)
            self.assertEqual(link.statistics()["dropped_messages"], 0)

    def check_flow(self, cluster: MemoryCluster) -> None:
        """Messages of now, and only those, arrive."""
        got: list[tuple[str, bytes]] = []
        for node, other in (("a", "b"), ("b", "a")):
            cluster[node].nodes.handle(2, lambda sender, payload: got.append((sender, payload)))
            self.assertTrue(cluster[node].nodes.send(other, 2, b"now"))
        cluster.run(2)
        self.assertEqual(sorted(got), [("a", b"now"), ("b", b"now")])


class Talker:
    """Sends numbered messages to all it knows, and checks what comes: from 0 on since the meeting, none missing."""

    def __init__(self, cluster: MemoryCluster, node: ClusterNode) -> None:
        self._cluster = cluster
        self._node = node
        self._sent: dict[str, int] = {}
        #: Node -> number that must come next.
        self.next: dict[str, int] = {}
        node.nodes.add_observer(self)  # type: ignore[arg-type]
        node.nodes.handle(7, self._received)

    def node_met(self, node_id: str) -> None:
        """Both numberings begin."""
        self._sent[node_id] = self.next[node_id] = 0

    def node_lost(self, node_id: str) -> None:
        """Nothing changes."""

    def node_back(self, node_id: str) -> None:
        """Nothing changes."""

    def node_gone(self, node_id: str) -> None:
        """Both numberings end."""
        del self._sent[node_id], self.next[node_id]

    def _received(self, node_id: str, payload: bytes) -> None:
        expected = self.next[node_id]
        if int(payload) != expected:
            raise AssertionError(f"{self._node.node_id} got {payload!r} of {node_id} instead of {expected}")
        self.next[node_id] += 1

    def talk(self) -> None:
        """Send one message to each."""
        for node_id in self._node.nodes.known():
            if self._node.nodes.send(node_id, 7, b"%d" % self._sent[node_id]):
                self._sent[node_id] += 1

    def owed(self, node_id: str) -> int:
        """How many were sent to the node since it was met."""
        return self._sent[node_id]


class SeededTests(SynchronousTestCase):
    """Many things go wrong at once."""

    def test_anything(self) -> None:
        """Through cuts, holes, partings and kills nodes are told of others in legal order, and nothing is missing."""
        for seed in range(6):
            self.run_seed(seed)

    def run_seed(self, seed: int) -> None:
        """Four minutes of trouble, then peace."""
        random = Random(seed)
        # Lost and gone come sooner here, so that more of them fit into the time.
        options = NodesOptions(lost_seconds=1.0, gone_seconds=6.0, probe_seconds=0.5)
        cluster = MemoryCluster([], seed, Line(0.001, 0.05, 0.01), options)
        talkers = {each: Talker(cluster, cluster.add(each)) for each in "abcd"}
        for _ in range(240):
            self.trouble(cluster, random, talkers)
            cluster.redial()
            for _ in range(4):
                for talker in talkers.values():
                    talker.talk()
                cluster.run(0.25, 0.025)
        cluster.mesh.parted.clear()
        # Who was lost just now may still become gone: then it is dialled anew.
        for _ in range(20):
            cluster.redial()
            cluster.run(1, 0.05)
        cluster.linked()
        self.assertEqual(self.flushLoggedErrors(), [], seed)
        for node_id, other in ((one, two) for one in "abcd" for two in "abcd" if one != two):
            self.assertEqual(talkers[other].next[node_id], talkers[node_id].owed(other), (seed, node_id, other))

    def trouble(self, cluster: MemoryCluster, random: Random, talkers: dict[str, Talker]) -> None:
        """Let something go wrong, or get better."""
        one, two = random.sample("abcd", 2)
        chance = random.random()
        if chance < 0.08:
            cluster.mesh.cut(one, two)
        elif chance < 0.16:
            cluster.mesh.black_hole(one, two)
        elif chance < 0.30:
            cluster.mesh.part(one, two)
        elif chance < 0.34:
            for other in "abcd":
                if other != one:
                    cluster.mesh.part(one, other)
        elif chance < 0.36:
            cluster.kill(one)
            talkers[one] = Talker(cluster, cluster.add(one))
        elif chance < 0.50 and cluster.mesh.parted:
            cluster.mesh.parted.discard(random.choice(sorted(cluster.mesh.parted, key=sorted)))
        elif chance < 0.53:
            cluster.mesh.parted.clear()


class MessageTests(ClusterTestCase):
    """What nodes say to each other."""

    def test_message(self) -> None:
        """A message reaches the handler of its kind, in order."""
        got: list[tuple[str, bytes]] = []
        self.b.nodes.handle(1, lambda node_id, payload: got.append((node_id, payload)))
        for payload in (b"1", b"2", b"3"):
            self.assertTrue(self.a.nodes.send("b", 1, payload))
        self.assertTrue(self.a.nodes.send("b", 2, b"nobody handles this"))
        self.cluster.run(0.1)
        self.assertEqual(got, [("a", b"1"), ("a", b"2"), ("a", b"3")])

    def test_handler_that_raises(self) -> None:
        """A message that cannot be handled is logged, and those behind it are handled."""
        got: list[bytes] = []

        def handle(_: str, payload: bytes) -> None:
            if payload == b"bug":
                raise RuntimeError("bug")
            if payload == b"malformed":
                raise MalformedFrame("malformed")
            got.append(payload)

        self.b.nodes.handle(1, handle)
        for payload in (b"bug", b"malformed", b"malformed", b"good"):
            self.a.nodes.send("b", 1, payload)
        self.cluster.run(0.1)
        self.assertEqual(got, [b"good"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.b.nodes.statistics()["malformed"], 2)
        self.assertEqual(self.b.nodes.snapshot()["a"].malformed, 2)
        self.assertTrue(self.b.nodes.is_up("a"))

    def test_call(self) -> None:
        """A call is answered by the handler of its name, with bytes now or later."""
        later: Deferred[bytes] = Deferred()
        self.b.nodes.answer("test.now", lambda node_id, payload: node_id.encode() + payload)
        self.b.nodes.answer("test.later", lambda *_: later)
        now = self.a.nodes.call("b", "test.now", b"!")
        waiting = self.a.nodes.call("b", "test.later", b"")
        self.cluster.run(0.1)
        self.assertEqual(self.successResultOf(now), b"a!")
        self.assertNoResult(waiting)
        later.callback(b"late")
        self.cluster.run(0.1)
        self.assertEqual(self.successResultOf(waiting), b"late")

    def test_failing_calls(self) -> None:
        """Calls that nobody answers, that cannot be read, or to nobody, fail and harm nothing."""

        def malformed(*_: object) -> bytes:
            raise MalformedFrame("what is this")

        self.b.nodes.answer("test.malformed", malformed)
        calls = [self.a.nodes.call("b", name, b"") for name in ("test.unknown", "test.malformed")]
        self.cluster.run(0.1)
        for call in calls:
            self.failureResultOf(call, CallFailed)
        statistics = self.b.nodes.statistics()
        self.assertEqual((statistics["unknown_calls"], statistics["malformed"]), (1, 1))
        self.mesh.part("a", "b")
        self.failureResultOf(self.a.nodes.call("b", "test.malformed", b""), LinkLost)

    def test_call_without_end(self) -> None:
        """A call that is never answered fails within 10 seconds."""
        self.b.nodes.answer("test.never", lambda *_: Deferred())
        call = self.a.nodes.call("b", "test.never", b"")
        self.cluster.run(StrandOptions().call_seconds + 0.1)
        self.failureResultOf(call, CallFailed)

    def test_full_queue(self) -> None:
        """What does not fit the queue of a node that is away is dropped and said to be."""
        self.mesh.part("a", "b")
        payload = bytes(512 * 1024)
        taken = [self.a.nodes.send("b", 1, payload) for _ in range(20)]
        self.assertEqual(taken, [True] * 15 + [False] * 5)
        self.assertEqual(self.a.nodes.snapshot()["b"].link["dropped_messages"], 5)


class StatusTests(ClusterTestCase):
    """What people see."""

    def test_snapshot(self) -> None:
        """The status of each node says its state, its place and its round trip."""
        self.a.nodes.set_endpoints({"b": endpoint("b"), "c": ""})
        self.cluster.kill("c")
        self.cluster.run(4)
        status = self.a.nodes.snapshot()
        self.assertEqual(
            [(node, each.state, each.endpoint) for node, each in status.items()],
            [
                ("b", "linked", "b.example:7000"),
                ("c", "lost", "c"),
            ],
        )
        self.assertAlmostEqual(status["b"].rtt_seconds or 0.0, 0.02, places=1)
        self.assertIsNone(status["c"].rtt_seconds)
        self.assertEqual(status["b"].link["ups"], 1)

    def test_statistics(self) -> None:
        """The counts tell linked from lost."""
        self.cluster.kill("c")
        self.cluster.run(4)
        statistics = self.a.nodes.statistics()
        self.assertEqual([statistics[key] for key in ("nodes_known", "nodes_linked", "nodes_lost")], [2, 1, 1])
