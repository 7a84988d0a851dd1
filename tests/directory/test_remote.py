"""Tests of `meshrelay.directory.remote`: the contract over slow calls, and what happens when the other node is away."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from traceback import walk_stack
from typing import Any

from twisted.internet import reactor as trial_reactor  # noqa: TID251  (the contract waits, so it has to turn)
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from meshrelay.directory.calls import CALLS, EPOCH, MAX_REFRESH_ENTRIES, NODES, REFRESH, NodesPage
from meshrelay.directory.errors import DirectoryUnavailable, NodeUnknown
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import MAX_SETTINGS_BYTES, UserRecord
from meshrelay.directory.remote import CALL_WINDOW, REFRESH_WINDOW, RemoteCalls, RemoteDirectory, split_refresh
from meshrelay.directory.serving import DirectoryServer
from meshrelay.errors import MeshError
from meshrelay.testing.directory_contract import (
    CONTRACT_MAX_NODES,
    GROUP,
    DirectoryContract,
    make_node_record,
    make_user_record,
)

#: One way of a call, virtual seconds.
DELAY = 0.001


class NoLink(MeshError):
    """What a link says that is down."""

    retryable = True


class MemoryLink:
    """Carries calls to the server of a directory, each way in its own time.

    :ivar is_up: False: calls fail at once, those on their way, too.
    :ivar is_silent: calls arrive nowhere, and nobody says so.
    :ivar asked: names and payloads of all calls.
    """

    def __init__(self, clock: Clock, directory: IDirectory) -> None:
        self.clock = clock
        self.answers = DirectoryServer(directory).answers()
        self.is_up = True
        self.is_silent = False
        self.asked: list[tuple[str, bytes]] = []
        self.waiting: dict[Deferred[bytes], None] = {}

    def call(self, name: str, payload: bytes) -> Deferred[bytes]:
        """Ask, as whatever node the arguments speak for."""
        self.asked.append((name, payload))
        if not self.is_up:
            return fail(NoLink("the link is down"))
        result: Deferred[bytes] = Deferred()
        self.waiting[result] = None
        if not self.is_silent:
            self.clock.callLater(DELAY, self.arrived, name, payload, result)
        return result

    def arrived(self, name: str, payload: bytes, result: Deferred[bytes]) -> None:
        """At the node that has the directory."""
        speaker = next(call for call in CALLS if call.name == name).decode_arguments(payload).speaker
        answer = self.answers[name](speaker or "node-z", payload)
        answer.addCallback(lambda data: self.clock.callLater(DELAY, self.came_back, result, data))

    def came_back(self, result: Deferred[bytes], data: bytes) -> None:
        """At the node that asked."""
        if result in self.waiting:
            del self.waiting[result]
            result.callback(data)

    def cut(self) -> None:
        """Lose the link."""
        self.is_up = False
        while self.waiting:
            self.waiting.popitem()[0].errback(NoLink("the link was lost"))


class TurningLink(MemoryLink):
    """Lets virtual time pass while somebody waits for a call, one turn of the reactor for each way."""

    def call(self, name: str, payload: bytes) -> Deferred[bytes]:
        """As `MemoryLink.call`."""
        result = super().call(name, payload)
        self.turn()
        return result

    def arrived(self, name: str, payload: bytes, result: Deferred[bytes]) -> None:
        """As `MemoryLink.arrived`."""
        super().arrived(name, payload, result)
        self.turn()

    def turn(self) -> None:
        """Advance in the next turn."""
        later: Any = trial_reactor
        later.callLater(0, self.clock.advance, DELAY)


class RemoteContractTests(DirectoryContract, TestCase):
    """The remote directory keeps the promises of all directories."""

    def setUp(self) -> None:
        """One store for all nodes of a test."""
        self.clock = Clock()
        self.options = DirectoryOptions(max_nodes=CONTRACT_MAX_NODES)
        self.memory = MemoryDirectory(self.clock, Random(1), self.options)

    async def open_directory(self) -> IDirectory:
        """Each node has a link of its own to the one store."""
        link = TurningLink(self.clock, self.memory)
        directory = RemoteDirectory(link.call, self.clock, Random(2), self.options)
        self.addCleanup(directory.stop)
        return directory

    async def pass_a_lease(self) -> None:
        """Move the clock."""
        self.clock.advance(self.memory.lease_seconds + 0.1)

    async def pass_half_a_lease(self) -> None:
        """Move the clock."""
        self.clock.advance(self.memory.lease_seconds * 0.6)

    async def lose_data(self, directory: IDirectory) -> None:
        """Forget everything; a started directory asks within a second, and the answer is on its way."""
        self.memory.clear()
        self.clock.advance(self.options.check_seconds)


class RemoteDirectoryTests(SynchronousTestCase):
    """The directory of another node that comes and goes."""

    def setUp(self) -> None:
        """A node that has a directory, and a link to it."""
        self.clock = Clock()
        self.options = DirectoryOptions(max_pending=100)
        self.memory = MemoryDirectory(self.clock, Random(1))
        self.link = MemoryLink(self.clock, self.memory)
        self.directory = RemoteDirectory(self.link.call, self.clock, Random(2), self.options)
        self.losses = 0
        self.directory.watch_lost(self.lost)

    def lost(self) -> None:
        """A watcher."""
        self.losses += 1

    def turn(self, seconds: float = 0.1) -> None:
        """Let time pass in small steps."""
        self.clock.pump([DELAY] * round(seconds / DELAY))

    def result(self, call: Deferred[Any]) -> Any:
        """What a call gives, after its time."""
        self.turn()
        return self.successResultOf(call)

    def start(self) -> None:
        """Start, and have the first look over."""
        self.directory.start()
        self.turn()

    def epochs_asked(self) -> int:
        """How often it looked."""
        return sum(name == EPOCH.name for name, _ in self.link.asked)

    def test_interface(self) -> None:
        """It has everything that the interface names, and what was said need not be said again."""
        self.assertTrue(verifyObject(IDirectory, self.directory))
        self.assertEqual((self.directory.refresh_seconds, self.directory.lease_seconds), (0.0, 10.0))

    def test_quiet(self) -> None:
        """As long as nothing happens the watchers hear nothing, and one small question a second is asked."""
        self.start()
        self.turn(10.0)
        self.assertEqual(self.losses, 0)
        self.assertTrue(10 <= self.epochs_asked() <= 14, self.epochs_asked())
        self.assertEqual({name for name, _ in self.link.asked}, {EPOCH.name})

    def test_spread(self) -> None:
        """Nodes that were started together do not ask together for ever."""
        times = set()
        for seed in range(5):
            clock = Clock()
            link = MemoryLink(clock, MemoryDirectory(clock, Random(1)))
            RemoteDirectory(link.call, clock, Random(seed)).start()
            clock.pump([DELAY] * 10)
            times.add(round(clock.getDelayedCalls()[0].getTime(), 3))
        self.assertEqual(len(times), 5)

    def test_wiped(self) -> None:
        """Another epoch is told within a second, once."""
        self.start()
        self.memory.clear()
        self.turn(3.0)
        self.assertEqual((self.losses, self.directory.statistics()["losses"]), (1, 1))

    def test_gone(self) -> None:
        """While the node is away all calls fail at once, and none of them hangs."""
        self.link.cut()
        for call in (
            self.directory.register_node(make_node_record()),
            self.directory.nodes(),
            self.directory.find_user("ann"),
            self.directory.refresh("node-a", [make_user_record()], []),
            self.directory.loopback("token"),
        ):
            self.assertTrue(self.failureResultOf(call, DirectoryUnavailable).value.retryable)

    def test_lost_on_the_way(self) -> None:
        """A call whose link is lost fails with it, and does not wait for its deadline."""
        calls = [self.directory.find_user("ann"), self.directory.nodes()]
        self.link.cut()
        for call in calls:
            self.failureResultOf(call, DirectoryUnavailable)

    def test_back(self) -> None:
        """A node that is back is told at once and once, even when its data look the same."""
        self.start()
        self.link.cut()
        self.directory.link_changed(False)
        self.turn(5.0)
        self.link.is_up = True
        self.directory.link_changed(True)
        self.turn(0.01)
        self.assertEqual(self.losses, 1)
        self.turn(5.0)
        self.assertEqual(self.losses, 1)

    def test_back_unsaid(self) -> None:
        """A node that is back is found within a second when nobody tells of the link."""
        self.start()
        self.link.cut()
        self.turn(5.0)
        self.link.is_up = True
        self.turn(1.1)
        self.assertEqual(self.losses, 1)

    def test_late(self) -> None:
        """A directory that was away from the start is told when it comes: nothing could be registered before."""
        self.link.cut()
        self.start()
        self.assertEqual(self.losses, 0)
        self.link.is_up = True
        self.turn(1.1)
        self.assertEqual(self.losses, 1)

    def test_restarted(self) -> None:
        """After the node with the directory began anew all is said again within a second, and found."""
        users = [make_user_record(f"user-{number}") for number in range(500)]

        async def heal() -> None:
            await self.directory.register_node(make_node_record())
            await self.directory.refresh("node-a", users, [(GROUP, b"settings")])

        self.directory.watch_lost(lambda: Deferred.fromCoroutine(heal()))
        self.start()
        self.link.cut()
        self.turn(3.0)
        memory = MemoryDirectory(self.clock, Random(9))
        self.link.answers = DirectoryServer(memory).answers()
        self.link.is_up = True
        self.turn(1.1)
        self.assertEqual(self.successResultOf(memory.find_user("user-499")), users[499])
        self.assertIsNotNone(self.successResultOf(memory.find_group(GROUP)))
        self.assertEqual(self.losses, 1)

    def test_silent(self) -> None:
        """A node that hangs costs each caller the deadline and no more; when it goes on the watchers hear of it."""
        self.start()
        self.link.is_silent = True
        calls: list[Deferred[Any]] = [
            self.directory.find_user("ann"),
            self.directory.nodes(),
            self.directory.refresh("node-a", [make_user_record()], []),
        ]
        self.turn(1.9)
        for call in calls:
            self.assertNoResult(call)
        self.turn(0.2)
        for call in calls:
            self.failureResultOf(call, DirectoryUnavailable)
        self.assertGreaterEqual(self.directory.statistics()["timeouts"], 3)
        self.turn(3.0)
        self.link.is_silent = False
        self.turn(3.1)
        self.assertEqual(self.losses, 1)

    def test_not_started(self) -> None:
        """Before the start nobody looks, but calls work."""
        self.assertFalse(self.result(self.directory.register_node(make_node_record())))
        self.directory.link_changed(False)
        self.directory.link_changed(True)
        self.turn(5.0)
        self.assertEqual((self.epochs_asked(), self.losses), (0, 0))

    def test_stop(self) -> None:
        """At the end calls in flight and those that wait fail at once, and nothing is left on the clock."""
        self.start()
        calls: list[Deferred[Any]] = [self.directory.find_user("ann") for _ in range(CALL_WINDOW + 5)]
        asked_count = len(self.link.asked)
        self.successResultOf(self.directory.stop())
        for call in [*calls, self.directory.epoch()]:
            self.failureResultOf(call, DirectoryUnavailable)
        self.turn()
        self.assertEqual((len(self.link.asked), self.clock.getDelayedCalls()), (asked_count, []))
        self.directory.link_changed(True)
        self.successResultOf(self.directory.stop())

    def test_unreadable(self) -> None:
        """An answer that cannot be read is the directory being away, counted, and not an error in our face."""
        for garbage in (b"", b"\x00\xc1", b"\x01\x80", NODES.encode_value(NodesPage(records=(), is_cut=False))):
            self.answer_all(garbage)
            call = self.directory.find_user("ann")
            self.turn()
            self.failureResultOf(call, DirectoryUnavailable)
        self.assertEqual(self.directory.statistics()["unreadable"], 4)

    def answer_all(self, data: bytes) -> None:
        """Answer all calls alike."""
        self.link.answers = {call.name: lambda node_id, payload: succeed(data) for call in CALLS}

    def test_other_token(self) -> None:
        """A token that comes back as another one did not come back."""
        self.answer_all(EPOCH.encode_value("other"))
        call = self.directory.loopback("token")
        self.turn()
        self.failureResultOf(call, DirectoryUnavailable)

    def test_endless_nodes(self) -> None:
        """A list of nodes that never ends, or goes round in a circle, is given up."""
        page = NodesPage(records=(make_node_record("node-a"),), is_cut=True)
        empty = NodesPage(records=(), is_cut=True)
        for answer in (page, empty):
            self.answer_all(NODES.encode_value(answer))
            call = self.directory.nodes()
            self.turn()
            self.failureResultOf(call, DirectoryUnavailable)

    def test_growing_nodes(self) -> None:
        """A list that goes on for ever is given up at the bound of nodes."""
        numbers = iter(range(10_000, 99_999))

        def answer(node_id: str, payload: bytes) -> Deferred[bytes]:
            records = tuple(make_node_record(f"node-{next(numbers)}") for _ in range(100))
            return succeed(NODES.encode_value(NodesPage(records=records, is_cut=True)))

        self.link.answers = {NODES.name: answer}
        call = self.directory.nodes()
        self.turn()
        self.failureResultOf(call, DirectoryUnavailable)
        self.assertEqual(len(self.link.asked), 11)

    def test_slow_nodes(self) -> None:
        """Pages that come one by one have one deadline together."""

        def answer(node_id: str, payload: bytes) -> Deferred[bytes]:
            later: Deferred[bytes] = Deferred()
            record = make_node_record(f"node-{self.clock.seconds():09.3f}")
            page = NodesPage(records=(record,), is_cut=True)
            self.clock.callLater(0.7, later.callback, NODES.encode_value(page))
            return later

        self.link.answers = {NODES.name: answer}
        call = self.directory.nodes()
        self.turn(2.1)
        self.failureResultOf(call, DirectoryUnavailable)
        self.assertEqual(self.directory.statistics()["pending"], 0)

    def test_refresh_window(self) -> None:
        """A refresh of many users has few batches on their way, and takes no more users than it needs for them."""
        taken = 0

        def users() -> Iterator[UserRecord]:
            nonlocal taken
            for number in range(3_000):
                taken += 1
                yield make_user_record(f"user-{number}")

        self.result(self.directory.register_node(make_node_record()))
        self.link.asked.clear()
        done = self.directory.refresh("node-a", users(), [])
        self.assertEqual(len(self.link.asked), REFRESH_WINDOW)
        self.assertLessEqual(taken, (REFRESH_WINDOW + 1) * MAX_REFRESH_ENTRIES)
        self.assertEqual(self.result(done), [])
        self.assertEqual((len(self.link.asked), taken), (15, 3_000))
        self.assertEqual(self.successResultOf(self.memory.find_user("user-2999")), make_user_record("user-2999"))

    def test_refresh_lost(self) -> None:
        """A refresh whose link is lost half-way fails, and says nothing more."""
        self.result(self.directory.register_node(make_node_record()))
        done = self.directory.refresh("node-a", (make_user_record(f"user-{n}") for n in range(3_000)), [])
        self.link.cut()
        self.failureResultOf(done, DirectoryUnavailable)
        count = len(self.link.asked)
        self.turn()
        self.assertEqual(len(self.link.asked), count)

    def test_refresh_nothing(self) -> None:
        """A node with nothing to say still learns that it has no lease."""
        call = self.directory.refresh("node-a", [], [])
        self.turn()
        self.failureResultOf(call, NodeUnknown)


class SplitRefreshTests(SynchronousTestCase):
    """Batches of a refresh."""

    def test_sizes(self) -> None:
        """However large the entries are, each batch fits a call with room to spare, and nothing is left out."""
        users = [make_user_record("漢" * 42 + str(number % 10), "n" * 255, "s" * 255) for number in range(500)]
        groups = [(f"{number:064}", bytes(MAX_SETTINGS_BYTES)) for number in range(100)]
        batches = list(split_refresh("n" * 255, users, groups))
        self.assertLess(max(len(REFRESH.encode_arguments(batch)) for batch in batches), 256 * 1024)
        self.assertEqual([user for batch in batches for user in batch.users], users)
        self.assertEqual([group for batch in batches for group in batch.groups], groups)
        self.assertEqual(max(len(batch.groups) for batch in batches), 46)

    def test_entries(self) -> None:
        """Small entries are bounded by their number."""
        groups = [(f"{number:052}", b"") for number in range(2 * MAX_REFRESH_ENTRIES + 1)]
        sizes = [len(batch.groups) for batch in split_refresh("node-a", [], groups)]
        self.assertEqual(sizes, [MAX_REFRESH_ENTRIES, MAX_REFRESH_ENTRIES, 1])


class RemoteCallsTests(SynchronousTestCase):
    """Calls on one link."""

    def setUp(self) -> None:
        """A link that answers when it is told to."""
        self.clock = Clock()
        self.asked: list[tuple[bytes, Deferred[bytes]]] = []
        self.max_pending = CALL_WINDOW + 10
        self.calls = RemoteCalls(self.call, self.clock, DirectoryOptions(max_pending=self.max_pending))

    def call(self, name: str, payload: bytes) -> Deferred[bytes]:
        """Remember."""
        answer: Deferred[bytes] = Deferred()
        self.asked.append((payload, answer))
        return answer

    def ask(self, count: int) -> list[Deferred[bytes]]:
        """Numbered calls."""
        return [self.calls.ask("directory.test", b"%d" % number) for number in range(count)]

    def test_window(self) -> None:
        """A storm of sign-ins does not fill the link: calls wait, and go out in order as answers come."""
        results = self.ask(CALL_WINDOW + 2)
        self.assertEqual(len(self.asked), CALL_WINDOW)
        self.asked[1][1].callback(b"one")
        self.assertEqual(self.successResultOf(results[1]), b"one")
        self.asked[0][1].callback(b"zero")
        self.assertEqual([payload for payload, _ in self.asked[-2:]], [b"64", b"65"])
        self.assertEqual(self.calls.statistics()["pending"], CALL_WINDOW)
        for result in results:
            result.addErrback(lambda _: None)
        self.calls.stop()

    def test_bound(self) -> None:
        """One call more than may wait fails at once and is counted."""
        results = self.ask(self.max_pending + 1)
        self.failureResultOf(results.pop(), DirectoryUnavailable)
        self.assertEqual(self.calls.statistics()["refused_busy"], 1)
        self.clock.advance(2.0)
        for result in results:
            self.failureResultOf(result, DirectoryUnavailable)
        statistics = self.calls.statistics()
        self.assertEqual((statistics["pending"], statistics["timeouts"]), (0, self.max_pending))

    def test_deadline_of_waiting(self) -> None:
        """A call that waits has the same deadline as one on its way, and is not sent when it is over."""
        results = self.ask(CALL_WINDOW)
        self.clock.advance(1.0)
        late = self.calls.ask("directory.test", b"late")
        self.clock.advance(1.0)
        self.assertEqual(self.asked[-1][0], b"late")
        gone = self.ask(CALL_WINDOW)[-1]
        self.clock.advance(1.0)
        self.failureResultOf(late, DirectoryUnavailable)
        self.clock.advance(1.0)
        self.failureResultOf(gone, DirectoryUnavailable)
        for result in results:
            self.failureResultOf(result, DirectoryUnavailable)

    def test_late_answer(self) -> None:
        """An answer that comes after the deadline is passed over."""
        [result] = self.ask(1)
        self.clock.advance(2.0)
        self.failureResultOf(result, DirectoryUnavailable)
        self.asked[0][1].callback(b"late")
        self.assertEqual(self.calls.statistics()["pending"], 0)

    def test_cancelled(self) -> None:
        """A caller that gives up frees its place."""
        results = self.ask(CALL_WINDOW + 2)
        results[CALL_WINDOW].cancel()
        results[0].cancel()
        self.failureResultOf(results[0])
        self.failureResultOf(results[CALL_WINDOW])
        self.assertEqual(self.asked[-1][0], b"65")
        for result in results[1:]:
            result.addErrback(lambda _: None)
        self.calls.stop()

    def test_stop(self) -> None:
        """Whoever is told of the end may give up all other calls, and none of them goes out then."""
        results = self.ask(CALL_WINDOW + 2)

        def give_up(failure: Failure) -> None:
            told.append(failure)
            for result in results:
                result.cancel()

        told: list[Failure] = []
        for result in results:
            result.addErrback(give_up)
        self.calls.stop()
        self.assertEqual((len(told), len(self.asked)), (CALL_WINDOW + 2, CALL_WINDOW))

    def test_many_fail(self) -> None:
        """Thousands that wait fail one after the other when the link is lost, not inside each other."""
        asked: list[Deferred[bytes]] = []
        depths: list[int] = []

        def call(name: str, payload: bytes) -> Deferred[bytes]:
            depths.append(sum(1 for _ in walk_stack(None)))
            asked.append(Deferred() if len(asked) < CALL_WINDOW else fail(NoLink("the link is down")))
            return asked[-1]

        calls = RemoteCalls(call, self.clock, DirectoryOptions(max_pending=2_000))
        results = [calls.ask("directory.test", b"") for _ in range(2_000)]
        for answer in asked[:CALL_WINDOW]:
            answer.errback(NoLink("the link was lost"))
        for result in results:
            self.failureResultOf(result, DirectoryUnavailable)
        self.assertEqual((len(asked), calls.statistics()["pending"]), (2_000, 0))
        self.assertLess(max(depths), min(depths) + 20)

    def test_bug(self) -> None:
        """What is no failure of a link is not told as one."""

        def call(name: str, payload: bytes) -> Deferred[bytes]:
            raise RuntimeError("a bug")

        calls = RemoteCalls(call, self.clock, DirectoryOptions())
        self.failureResultOf(calls.ask("directory.test", b""), RuntimeError)
