"""Tests of `meshrelay.components.group_log`: a store that can be away, and messages that come as they like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import group_log
from meshrelay.components.group_log import GroupLog
from meshrelay.config.schema import StaticGroup
from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.history import HistoryStore, MemoryHistory
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.machine.message_logs import LogLimits
from meshrelay.mesh.alone import Alone
from meshrelay.testing.heap_clock import HeapClock
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.node import MemoryClient, MemoryNode, NodeSurroundings, make_node
from meshrelay.wire.commands import Command, JoinRandom, PushedMessage, encode_join_random
from meshrelay.wire.group_log import LogEntry, LogPage, LogRun, encode_entry
from meshrelay.wire.history_commands import LoggedPush, Recovered, decode_logged_push
from tests.components.log_kit import log_config, recover


class MoodyStore:
    """A store that can be away, or hold its answers back."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store
        self.is_away = False
        self.is_holding = False
        self.held: list[Deferred[None]] = []
        self.batches: list[int] = []

    def _wait(self, answer: Deferred[object]) -> Deferred[object]:
        if self.is_away:
            return fail(DirectoryUnavailable("away"))
        if not self.is_holding:
            return answer
        held: Deferred[None] = Deferred()
        self.held.append(held)
        return held.addCallback(lambda _: answer)

    def release(self) -> None:
        """Let the answers go."""
        self.is_holding = False
        held, self.held = self.held, []
        for each in held:
            each.callback(None)

    def append(
        self, group_id: str, known_epoch: int, entries: Sequence[bytes], limits: LogLimits
    ) -> Deferred[tuple[int, int]]:
        """See `HistoryStore`."""
        self.batches.append(len(entries))
        if self.is_away:
            return fail(DirectoryUnavailable("away"))
        return self._wait(self._store.append(group_id, known_epoch, entries, limits))  # type: ignore[arg-type, return-value]

    def read(
        self, group_id: str, known_epoch: int, after: int, bounds: tuple[int, int], limits: LogLimits
    ) -> Deferred[LogPage]:
        """See `HistoryStore`."""
        return self._wait(self._store.read(group_id, known_epoch, after, bounds, limits))  # type: ignore[arg-type, return-value]

    def statistics(self) -> Mapping[str, int]:
        """See `HistoryStore`."""
        return self._store.statistics()

    def stop(self) -> Deferred[None]:
        """See `HistoryStore`."""
        return self._store.stop()


class LogCase(SynchronousTestCase):
    """A node with a moody store; ann made the lobby, bob and cid are members."""

    size = 100

    def setUp(self) -> None:
        """Bob follows with offsets, cid without."""
        clock = HeapClock()
        self.numbers = iter(range(1, 1_000_000))
        self.store = MoodyStore(MemoryHistory(1 << 20, clock, lambda _: next(self.numbers)))
        around = NodeSurroundings(Alone("node-1"), clock, MemoryDirectory(clock, Random(1)), history=self.store)
        self.node: MemoryNode = make_node(log_config(self.size), around=around)
        self.ann, self.bob, self.cid = (self.node.sign_in(name) for name in ("ann", "bob", "cid"))
        self.lobby = self.ann.create_group()
        self.cid.join(self.lobby)
        self.start = recover(self.bob, self.lobby)

    @property
    def log(self) -> GroupLog:
        """The history of the lobby."""
        group = self.node.table.find(self.lobby)
        assert group is not None
        assert group.log is not None
        return group.log

    def say(self, *messages: bytes) -> None:
        """Let ann broadcast."""
        for message in messages:
            self.ann.broadcast(self.lobby, message, reliable=True)
        self.node.settle()

    def logged(self, client: MemoryClient) -> list[tuple[int, bytes]]:
        """Offsets and messages that came since the last call."""
        return [(push.offset, push.message) for push in self.pushes(client)]

    def pushes(self, client: MemoryClient) -> list[LoggedPush]:
        """Pushes with offsets that came since the last call."""
        frames = [frame for frame in client.pushes() if frame.cmd == Command.GROUP_RECOVER]
        return [decode_logged_push(frame.payload) for frame in frames]

    def entry(self, number: int, message: bytes, sender: str = "zoe") -> bytes:
        """A message of another node."""
        return encode_entry(LogEntry(True, number, sender, 1, 113, message))

    def count(self, name: str) -> int:
        """A counter."""
        return self.node.groups.statistics()[f"group_log_{name}"]


class PublishTests(LogCase):
    """What is said here."""

    def test_offsets(self) -> None:
        """Who asked gets each message with its offset, others get what they always got, and the sender nothing."""
        self.say(b"one", b"two")
        self.assertEqual(self.logged(self.bob), [(1, b"one"), (2, b"two")])
        self.assertEqual(self.cid.messages(), [PushedMessage(self.lobby, "ann", each) for each in (b"one", b"two")])
        self.assertEqual(self.ann.pushes(), [])
        self.assertEqual(self.count("logged"), 2)

    def test_own(self) -> None:
        """Who asked for offsets is pushed its own messages as well: that is how it knows their places."""
        self.bob.broadcast(self.lobby, b"mine")
        self.node.settle()
        [push] = self.pushes(self.bob)
        self.assertEqual((push.offset, push.sender, push.message), (1, "bob", b"mine"))

    def test_joins_are_not_kept(self) -> None:
        """Joins and leaves are told as ever, and have no place in the history."""
        dan = self.node.sign_in("dan")
        dan.join(self.lobby, b"hello")
        self.say(b"one")
        frames = self.bob.pushes()
        self.assertEqual([frame.cmd for frame in frames], [Command.GROUP_JOIN, Command.GROUP_RECOVER])
        self.assertEqual(decode_logged_push(frames[1].payload).offset, 1)

    def test_batches(self) -> None:
        """What is said while the store is busy goes to it together, and stays in order."""
        self.store.is_holding = True
        self.say(*(b"%d" % number for number in range(600)))
        self.store.release()
        self.node.settle()
        self.assertEqual([offset for offset, _ in self.logged(self.bob)], list(range(1, 601)))
        self.assertLessEqual(len(self.store.batches), 5)

    def test_waiting_is_bounded(self) -> None:
        """When more waits for the store than may, the rest goes out without offsets: nobody waits for ever."""
        self.patch(group_log, "MAX_WAITING_BYTES", 100)
        self.store.is_holding = True
        self.say(b"x" * 60, b"y" * 60)
        self.assertEqual([(push.epoch, push.offset) for push in self.pushes(self.bob)], [(0, 0)])
        self.assertEqual(self.count("unlogged"), 1)
        self.store.release()

    def test_order_while_unsure(self) -> None:
        """What one says while an earlier message of it is still with a store that fails comes behind that one."""
        self.store.is_holding = True
        self.say(b"1")
        self.log.take(LogRun(0, 0, (self.entry(1, b"x"),)))
        self.say(b"2")
        [held], self.store.held, self.store.is_holding = self.store.held, [], False
        held.errback(DirectoryUnavailable("away"))
        self.node.settle()
        self.assertEqual([each.message for each in self.pushes(self.bob)], [b"x", b"1", b"2"])

    def test_join_random(self) -> None:
        """Who is led into the group by chance is answered once its history is known: from then on nothing is missed."""
        self.log.is_synced = False
        self.store.is_holding = True
        dan = self.node.sign_in("dan")
        number = dan.ask(Command.GROUP_JOIN_RANDOM, encode_join_random(JoinRandom(60, False, 0, b"")))
        self.node.settle()
        self.assertIsNone(dan.answer_to(number))
        self.store.release()
        self.node.settle()
        answer = dan.answer_to(number)
        assert answer is not None
        self.assertEqual((answer.payload, self.log.is_synced), (b"\0" + self.lobby.encode(), True))

    def test_last_words(self) -> None:
        """What the last member said before it left gets its place, and only then is the group gone."""
        dan = self.node.sign_in("dan")
        group_id = dan.create_group()
        self.store.is_holding = True
        dan.broadcast(group_id, b"1")
        self.node.settle()
        dan.broadcast(group_id, b"2")
        dan.leave(group_id)
        self.assertIsNotNone(self.node.table.find(group_id))
        before = self.count("logged")
        self.store.release()
        self.node.settle()
        self.assertEqual(self.count("logged"), before + 2)
        self.assertIsNone(self.node.table.find(group_id))

    def test_last_words_and_away(self) -> None:
        """The same when the store fails on them."""
        dan = self.node.sign_in("dan")
        group_id = dan.create_group()
        self.store.is_holding = True
        dan.broadcast(group_id, b"1")
        self.node.settle()
        dan.leave(group_id)
        held, self.store.held = self.store.held, []
        for each in held:
            each.errback(DirectoryUnavailable("away"))
        self.assertIsNone(self.node.table.find(group_id))

    def test_too_long(self) -> None:
        """A message must fit the push with its place; one byte more is refused to its sender."""
        limit = 65536 - 52 - 1 - 3 - 19
        self.assertEqual(self.ann.request(Command.GROUP_BROADCAST, self.lobby.encode() + b"x" * limit).status, 1)
        self.node.settle()
        self.assertEqual(len(self.logged(self.bob)[0][1]), limit)
        _, code, text = self.ann.refusal(Command.GROUP_BROADCAST, self.lobby.encode() + b"x" * (limit + 1))
        self.assertEqual(code, 5)
        self.assertIn(str(limit), text)


class AwayTests(LogCase):
    """The store is away."""

    def test_live(self) -> None:
        """Messages go out at once, without a place; the history says so when it is back, by another epoch."""
        self.say(b"one")
        self.store.is_away = True
        self.say(b"two", b"three")
        self.assertEqual(
            [(push.epoch > 0, push.offset, push.message) for push in self.pushes(self.bob)],
            [(True, 1, b"one"), (False, 0, b"two"), (False, 0, b"three")],
        )
        self.assertEqual(len(self.cid.messages()), 3)
        self.assertEqual(self.count("unsure"), 1)
        self.assertEqual(recover(self.bob, self.lobby, self.start.epoch, 1), Recovered(False, 0, 0))
        self.store.is_away = False
        self.node.advance(3.0)
        self.assertEqual(self.count("unsure"), 0)
        self.say(b"four")
        [push] = self.pushes(self.bob)
        self.assertEqual((push.epoch > self.start.epoch, push.offset), (True, 1))
        self.assertFalse(recover(self.bob, self.lobby, self.start.epoch, 1).recovered)

    def test_many_groups(self) -> None:
        """While it is away one group asks each second; when it is back all begin anew soon."""
        groups = [self.ann.create_group() for _ in range(100)]
        self.store.is_away = True
        for group_id in groups:
            self.ann.broadcast(group_id, b"x")
        self.node.settle()
        self.assertEqual(self.count("unsure"), 100)
        before = self.count("append_failures")
        self.node.advance(10.0)
        self.assertEqual((self.count("unsure"), self.count("append_failures")), (100, before))
        self.store.is_away = False
        self.node.advance(2.0)
        self.assertEqual(self.count("unsure"), 0)


class TakeTests(LogCase):
    """What other nodes say."""

    def setUp(self) -> None:
        """One message was said."""
        super().setUp()
        self.say(b"one")
        self.logged(self.bob)
        self.epoch = self.log.epoch

    def take(self, offset: int, *messages: bytes, epoch: int | None = None) -> None:
        """Something comes from another node."""
        entries = tuple(self.entry(1000 + offset + index, message) for index, message in enumerate(messages))
        self.log.take(LogRun(self.epoch if epoch is None else epoch, offset, entries))
        self.node.settle()

    def test_order(self) -> None:
        """What comes too early waits, and what comes twice comes once."""
        self.take(3, b"three")
        self.assertEqual(self.logged(self.bob), [])
        self.take(2, b"two")
        self.take(2, b"two", b"three")
        self.assertEqual(self.logged(self.bob), [(2, b"two"), (3, b"three")])

    def test_gap(self) -> None:
        """What does not come is read from the store."""
        limits = self.log.limits
        self.store.append(self.lobby, 0, [self.entry(5, b"two"), self.entry(6, b"three")], limits)
        self.log.take(LogRun(self.epoch, 3, (self.entry(6, b"three"),)))
        self.node.advance(0.5)
        self.assertEqual(self.logged(self.bob), [(2, b"two"), (3, b"three")])
        self.assertEqual(self.count("gap_reads"), 1)

    def test_tail(self) -> None:
        """The last words of a node that died are found when its death is noticed."""
        self.store.append(self.lobby, 0, [self.entry(5, b"two")], self.log.limits)
        self.log.check()
        self.node.advance(0.5)
        self.assertEqual(self.logged(self.bob), [(2, b"two")])

    def test_gone_gap(self) -> None:
        """What nobody has any more is passed over, counted, and shows in the offsets."""
        self.take(9, b"nine")
        self.node.advance(0.5)
        self.assertEqual(self.logged(self.bob), [(9, b"nine")])
        self.assertEqual(self.count("missed"), 7)

    def test_gap_and_away(self) -> None:
        """When the store cannot be asked for a gap, what is there does not wait for ever."""
        self.take(3, b"three")
        self.store.is_away = True
        self.node.advance(5.0)
        self.assertEqual(self.logged(self.bob), [(3, b"three")])

    def test_early_is_bounded(self) -> None:
        """No more than so many wait for an earlier one."""
        self.patch(group_log, "MAX_EARLY", 2)
        self.take(3, b"three", b"four", b"five")
        self.take(2, b"two")
        self.assertEqual([offset for offset, _ in self.logged(self.bob)], [2, 3, 4])

    def test_later_epoch(self) -> None:
        """A greater epoch takes over; what was early in the one before is handed over first."""
        self.take(3, b"three")
        self.take(1, b"anew", epoch=self.epoch + 1)
        self.assertEqual(self.logged(self.bob), [(3, b"three"), (1, b"anew")])
        self.assertEqual(self.count("epochs"), 1)

    def test_older_epoch(self) -> None:
        """Nothing of an older epoch is lost, but the present one ends: nobody could be given it again."""
        self.take(7, b"old", epoch=self.epoch - 1)
        self.assertEqual(self.logged(self.bob), [(0, b"old")])
        self.node.advance(2.0)
        self.assertGreater(self.log.epoch, self.epoch)

    def test_twice_without_place(self) -> None:
        """A message that was told with its place is not told again without."""
        self.log.take(LogRun(self.epoch, 2, (self.entry(5, b"two"),)))
        self.log.take(LogRun(0, 0, (self.entry(5, b"two"),)))
        self.node.settle()
        self.assertEqual(self.logged(self.bob), [(2, b"two")])
        self.assertEqual(self.count("repeated"), 1)


class RecoverTests(LogCase):
    """Members who come back."""

    size = 5

    def test_exact(self) -> None:
        """Who says where it was is answered, then pushed what it missed, then what is new."""
        self.say(b"1", b"2", b"3")
        self.logged(self.bob)
        request = self.bob.request
        answer = recover(self.bob, self.lobby, self.start.epoch, 1)
        self.assertEqual(answer, Recovered(True, self.start.epoch, 3))
        self.say(b"4")
        self.assertEqual(self.logged(self.bob), [(2, b"2"), (3, b"3"), (4, b"4")])
        self.assertEqual(request, self.bob.request)

    def test_answer_comes_first(self) -> None:
        """The answer comes before the pushes that it announces."""
        self.say(b"1")
        before = len(self.bob.link.received)
        recover(self.bob, self.lobby, self.start.epoch, 0)
        came = [(frame.cmd, frame.request_id > 0) for frame in self.bob.link.received[before:]]
        self.assertEqual(came, [(Command.GROUP_RECOVER, True), (Command.GROUP_RECOVER, False)])

    def test_while_reading(self) -> None:
        """What is said while the store is asked comes behind what was missed, once."""
        self.say(b"1", b"2")
        self.logged(self.bob)
        self.store.is_holding = True
        request_id = self.bob.ask(
            Command.GROUP_RECOVER,
            self.lobby.encode() + self.start.epoch.to_bytes(8, "big") + (0).to_bytes(8, "big"),
        )
        self.node.settle()
        self.log.take(LogRun(self.start.epoch, 3, (self.entry(3, b"3"),)))
        self.node.settle()
        self.assertIsNone(self.bob.answer_to(request_id))
        self.store.release()
        self.node.settle()
        self.assertEqual(self.logged(self.bob), [(1, b"1"), (2, b"2"), (3, b"3")])

    def test_news(self) -> None:
        """What the read brings is news to the node as well: other members hear it now, the one who asked once."""
        self.say(b"1")
        self.logged(self.bob)
        self.cid.messages()
        self.store.append(self.lobby, 0, [self.entry(2, b"2")], self.log.limits)
        self.assertEqual(recover(self.bob, self.lobby, self.start.epoch, 0), Recovered(True, self.start.epoch, 2))
        self.assertEqual(self.logged(self.bob), [(1, b"1"), (2, b"2")])
        self.assertEqual([each.message for each in self.cid.messages()], [b"2"])

    def test_lost(self) -> None:
        """More than is kept, an unknown epoch or an offset that never was: a plain no, and a member all the same."""
        self.say(*(b"%d" % number for number in range(1, 9)))
        epoch = self.start.epoch
        for known, offset in ((epoch, 2), (epoch + 1, 8), (epoch, 99), (0, 0), ((1 << 64) - 1, (1 << 64) - 1)):
            self.assertEqual(recover(self.bob, self.lobby, known, offset), Recovered(False, epoch, 8))
        self.logged(self.bob)
        self.say(b"9")
        self.assertEqual(self.logged(self.bob), [(9, b"9")])
        self.assertTrue(recover(self.bob, self.lobby, epoch, 4).recovered)

    def test_too_much(self) -> None:
        """What is missed beyond what one answer of the store carries is a no: it can be read page by page."""
        self.patch(group_log, "READ_BYTES", 100)
        self.say(b"x" * 60, b"y" * 60)
        self.assertEqual(recover(self.bob, self.lobby, self.start.epoch, 0), Recovered(False, self.start.epoch, 2))

    def test_bound_of_recoveries(self) -> None:
        """Only so many are recovered at a time; one more is told to try again, and stays what it was."""
        self.patch(group_log, "MAX_RECOVERIES", 0)
        _, code, _ = self.cid.refusal(Command.GROUP_RECOVER, self.lobby.encode() + bytes(16))
        self.assertEqual(code, 4)
        self.say(b"1")
        self.assertEqual(len(self.cid.messages()), 1)

    def test_bound_of_one(self) -> None:
        """When too much is said while one is recovered, the answer is no, and nothing comes twice."""
        self.patch(group_log, "MAX_RECOVERY_BYTES", 10)
        self.say(b"1")
        self.logged(self.bob)
        self.store.is_holding = True
        payload = self.lobby.encode() + self.start.epoch.to_bytes(8, "big") + bytes(8)
        request_id = self.bob.ask(Command.GROUP_RECOVER, payload)
        self.node.settle()
        entry = self.entry(2, b"x" * 20)
        self.store.is_holding = False
        self.store.append(self.lobby, 0, [entry], self.log.limits)
        self.log.take(LogRun(self.start.epoch, 2, (entry,)))
        self.store.release()
        self.node.settle()
        answer = self.bob.answer_to(request_id)
        assert answer is not None
        self.assertEqual(answer.payload[0], 0)
        self.say(b"3")
        self.assertEqual(self.logged(self.bob), [(3, b"3")])

    def test_away_member(self) -> None:
        """A member whose connection broke while it was asking gets it all when it resumes."""
        self.say(b"1", b"2")
        self.store.is_holding = True
        payload = self.lobby.encode() + self.start.epoch.to_bytes(8, "big") + bytes(8)
        self.bob.ask(Command.GROUP_RECOVER, payload)
        self.node.settle()
        self.bob.lose()
        self.store.release()
        self.node.settle()
        again = self.node.sign_in("bob", resume=self.bob.sid)
        self.node.settle()
        self.assertEqual(self.logged(again), [(1, b"1"), (2, b"2")])

    def test_left_meanwhile(self) -> None:
        """Who leaves while it is recovered gets nothing more."""
        self.say(b"1")
        self.logged(self.bob)
        self.store.is_holding = True
        self.bob.ask(Command.GROUP_RECOVER, self.lobby.encode() + self.start.epoch.to_bytes(8, "big") + bytes(8))
        self.node.settle()
        group = self.node.table.find(self.lobby)
        assert group is not None
        self.node.table.remove(self.lobby, group.members["bob"])
        self.store.release()
        self.say(b"2")
        self.assertEqual(self.logged(self.bob), [])


class ClusterTests(SynchronousTestCase):
    """The home of the group is a; bob is a member there, cid at b."""

    def test_died_in_between(self) -> None:
        """What a node appended and could not tell any more is heard when the node is lost, and not only when another
        message shows that it is missing."""
        cluster = GroupCluster(["a", "b"], log_config())
        bob, cid = cluster["a"].sign_in("bob"), cluster["b"].sign_in("cid")
        lobby = bob.create_group()
        cluster.join(cid, lobby)
        entry = encode_entry(LogEntry(True, 1, "cid", 1, 113, b"last words"))
        groups = cluster["b"].table
        group = groups.find(lobby)
        assert group is not None
        assert group.log is not None
        group.log._store.append(lobby, 0, [entry], group.log.limits)
        cluster.run(0.5)
        self.assertEqual(bob.messages(), [])
        cluster.kill("b")
        cluster.run(10.0)
        self.assertEqual([each.message for each in bob.messages() if each.message], [b"last words"])

    def test_much_without_place(self) -> None:
        """What waited for a store that fails goes out in pieces that a link takes, however much it is."""
        cluster = GroupCluster(["a", "b"], log_config())
        ann, bob, cid = cluster["a"].sign_in("ann"), cluster["a"].sign_in("bob"), cluster["b"].sign_in("cid")
        lobby = ann.create_group()
        bob.join(lobby)
        cluster.join(cid, lobby)
        group = cluster["a"].table.find(lobby)
        assert group is not None
        assert group.log is not None
        store = MoodyStore(group.log._store)
        group.log._store = store
        store.is_holding = True
        said = [b"%02d" % number + b"x" * 40_000 for number in range(14)]
        for message in said:
            ann.broadcast(lobby, message, reliable=True)
        cluster.run(0.1)
        [held], store.held, store.is_holding = store.held, [], False
        held.errback(DirectoryUnavailable("away"))
        cluster.run(1.0)
        for client in (bob, cid):
            self.assertEqual([each.message for each in client.messages()], said)


class AnewTests(SynchronousTestCase):
    """A node that was started anew, and a store that was not."""

    def test_hole_in_an_unknown_epoch(self) -> None:
        """What is said before the store could be asked for the epoch ends that epoch all the same."""
        clock = HeapClock()
        numbers = iter(range(1, 1000))
        store = MoodyStore(MemoryHistory(1 << 20, clock, lambda _: next(numbers)))
        lobby = "lobby".ljust(52, "-")
        config = log_config(static_groups=(StaticGroup(group_id=lobby),))

        def node() -> MemoryNode:
            directory = MemoryDirectory(clock, Random(1))
            return make_node(config, around=NodeSurroundings(Alone("node-1"), clock, directory, history=store))

        first = node()
        ann, bob = first.sign_in("ann"), first.sign_in("bob")
        start = recover(bob, lobby)
        ann.join(lobby)
        ann.broadcast(lobby, b"one")
        first.settle()
        store.is_away = True
        second = node()
        ann = second.sign_in("ann")
        ann.join(lobby)
        ann.broadcast(lobby, b"two")
        second.settle()
        store.is_away = False
        second.advance(3.0)
        self.assertFalse(recover(second.sign_in("bob"), lobby, start.epoch, 1).recovered)
