"""Tests of direct messages, on whole nodes in memory."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.components.node_post import RETRY_SECONDS
from meshrelay.config.schema import Config, DirectConfig, SessionConfig
from meshrelay.errors import ErrorCode, MessageIsEmpty, MessageTooLarge, UserDeclined, UserNotFound
from meshrelay.interfaces import IComponent, IDirectMessages, IMeshRelay
from meshrelay.model import CloseReason, Status, User
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.memory_mesh import Line
from meshrelay.testing.node import MemoryClient, make_node
from meshrelay.wire.commands import Command, decode_error, decode_pushed_direct, encode_direct
from meshrelay.wire.node_kinds import NodeKind


def told(client: MemoryClient, cmd: int = Command.DM_SEND) -> list[tuple[str, bytes]]:
    """What came to a client by direct messages since the last call: (sender, message)."""
    return [
        (pushed.user_id, pushed.message)
        for pushed in (decode_pushed_direct(frame.payload) for frame in client.pushes() if frame.cmd == cmd)
    ]


class OneNodeTests(SynchronousTestCase):
    """Users of the same node."""

    def setUp(self) -> None:
        """Ann and bob."""
        self.node = make_node(set_up=self.set_up)
        self.ann = self.node.sign_in("ann")
        self.bob = self.node.sign_in("bob", "websocket")

    def set_up(self, relay: IMeshRelay) -> None:
        """Register callbacks; for tests that have some."""
        self.direct = relay.direct

    def user(self, name: str) -> User:
        """The application's view of a user."""
        session = self.node.registry.find_user(name)
        assert session is not None
        return session.user

    def send(self, user: User | None, peer: str, message: bytes, ver: int = 2, cmd: int = 9) -> Deferred[None]:
        """Send as the application does."""
        sent = Deferred.fromCoroutine(self.direct.send_direct(user, peer, ver, cmd, message))
        self.node.settle()
        return sent

    def test_contracts(self) -> None:
        """Direct messages are what the application and the node take them for."""
        verifyObject(IDirectMessages, self.node.direct)
        verifyObject(IComponent, self.node.direct)

    def test_send(self) -> None:
        """The peer gets sender and message, the sender an empty OK."""
        answer = self.ann.request(Command.DM_SEND, encode_direct("bob", b"hello"))
        self.assertEqual((answer.status, answer.payload), (Status.OK, b""))
        self.assertEqual(told(self.bob), [("ann", b"hello")])
        self.assertEqual(told(self.ann), [])

    def test_to_oneself(self) -> None:
        """A user may write to itself."""
        self.ann.request(Command.DM_SEND, encode_direct("ann", b"note"))
        self.assertEqual(told(self.ann), [("ann", b"note")])

    def test_unknown(self) -> None:
        """No such user is code 30."""
        self.assertEqual(self.ann.refusal(Command.DM_SEND, encode_direct("nobody", b"x"))[:2], (Status.BAD, 30))

    def test_empty(self) -> None:
        """An empty message is code 31."""
        self.assertEqual(self.ann.refusal(Command.DM_SEND, encode_direct("bob", b""))[:2], (Status.BAD, 31))

    def test_too_large(self) -> None:
        """A message that would not fit the peer's push is code 5, and names the limit."""
        limit = 65536 - 4
        self.assertEqual(self.ann.request(Command.DM_SEND, encode_direct("b", b"x" * limit)).payload[:2], b"\x00\x1e")
        status, code, text = self.ann.refusal(Command.DM_SEND, encode_direct("b", b"x" * (limit + 1)))
        self.assertEqual((status, code), (Status.BAD, ErrorCode.MESSAGE_TOO_LARGE))
        self.assertIn(str(limit), text)

    def test_malformed(self) -> None:
        """A user ID that is none is code 1 and names the field."""
        for payload in (b"", b"\x00x", b"\x05ab", b"\x02\xff\xfex", b"\x81" + b"a" * 129 + b"x"):
            self.assertEqual(self.ann.refusal(Command.DM_SEND, payload)[:2], (Status.BAD, 1))

    def test_application(self) -> None:
        """The application sends under its own numbers, for a user or as the server, and the bytes are as given."""
        self.assertIsNone(self.successResultOf(self.send(self.user("ann"), "bob", b"one")))
        self.assertIsNone(self.successResultOf(self.send(None, "bob", b"two", 3, 4)))
        self.assertEqual(
            [(frame.ver, frame.cmd, frame.payload) for frame in self.bob.pushes()], [(2, 9, b"one"), (3, 4, b"two")]
        )

    def test_application_errors(self) -> None:
        """The application is told what is wrong."""
        self.failureResultOf(self.send(None, "nobody", b"x"), UserNotFound)
        self.failureResultOf(self.send(None, "bob", b""), MessageIsEmpty)
        self.failureResultOf(self.send(None, "bob", b"x" * 65537), MessageTooLarge)
        self.failureResultOf(self.send(None, "bob", b"x", 0), ValueError)

    def test_away(self) -> None:
        """What is sent to a user whose connection broke comes when the user is back."""
        self.bob.lose()
        self.assertEqual(self.ann.request(Command.DM_SEND, encode_direct("bob", b"later")).status, Status.OK)
        bob = self.node.sign_in("bob", resume=self.bob.sid)
        self.assertEqual(told(bob), [("ann", b"later")])

    def test_declined(self) -> None:
        """A callback that says False declines: code 33, nothing is delivered."""
        seen: list[tuple[int, int, bytes, str, str]] = []

        def decline(ver: int, cmd: int, message: bytes, sender_id: str, receiver: User) -> bool:
            seen.append((ver, cmd, message, sender_id, receiver.user_id))
            return message != b"spam"

        self.direct.on_receive(decline)
        self.assertEqual(self.ann.refusal(Command.DM_SEND, encode_direct("bob", b"spam"))[:2], (Status.BAD, 33))
        self.failureResultOf(self.send(None, "bob", b"spam"), UserDeclined)
        self.ann.request(Command.DM_SEND, encode_direct("bob", b"ham"))
        self.assertEqual(told(self.bob), [("ann", b"ham")])
        self.assertEqual(seen[0], (1, Command.DM_SEND, b"spam", "ann", "bob"))

    def test_changed(self) -> None:
        """Callbacks change a message in order: None leaves it, the last bytes win, empty bytes send nothing."""
        answers: list[bytes | None] = []
        for index in range(2):
            self.direct.on_message(lambda ver, cmd, message, sender, receiver, index=index: answers[index])
        for answers[:], expected in (
            ([None, None], [b"text"]),
            ([b"one", None], [b"one"]),
            ([b"one", b"two"], [b"two"]),
            ([b"", None], []),
            ([None, b""], []),
            ([b"", b"two"], [b"two"]),
        ):
            self.assertEqual(self.ann.request(Command.DM_SEND, encode_direct("bob", b"text")).status, Status.OK)
            self.assertEqual([message for _, message in told(self.bob)], expected)

    def test_callback_raises(self) -> None:
        """A callback that raises costs the sender code 7, and is logged."""

        def bug(*arguments: object) -> bool:
            raise KeyError("a bug")

        self.direct.on_receive(bug)
        self.assertEqual(self.ann.refusal(Command.DM_SEND, encode_direct("bob", b"x"))[:2], (Status.ERROR, 7))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_slow_callback(self) -> None:
        """A callback that waits holds up its own pair only, and keeps the order."""
        waiting: list[Deferred[bool]] = []

        def slow(ver: int, cmd: int, message: bytes, sender_id: str, receiver: User) -> Deferred[bool] | bool:
            if message != b"slow":
                return True
            waiting.append(Deferred())
            return waiting[-1]

        self.direct.on_receive(slow)
        cid = self.node.sign_in("cid")
        asked = [self.ann.ask(Command.DM_SEND, encode_direct("bob", text)) for text in (b"slow", b"fast")]
        self.assertEqual(cid.request(Command.DM_SEND, encode_direct("bob", b"other")).status, Status.OK)
        self.assertEqual(told(self.bob), [("cid", b"other")])
        self.assertIsNone(self.ann.answer_to(asked[1]))
        waiting[0].callback(True)
        self.node.settle()
        self.assertEqual(told(self.bob), [("ann", b"slow"), ("ann", b"fast")])

    def test_endless_callback(self) -> None:
        """A callback that never ends is given up in time; the sender is told, and the next message goes on."""
        self.direct.on_receive(lambda *_: Deferred() if _[2] == b"stuck" else True)
        first = self.ann.ask(Command.DM_SEND, encode_direct("bob", b"stuck"))
        second = self.ann.ask(Command.DM_SEND, encode_direct("bob", b"next"))
        self.node.advance(4)
        answers = [self.ann.answer_to(each) for each in (first, second)]
        assert answers[0] is not None
        assert answers[1] is not None
        self.assertEqual((answers[0].status, decode_error(answers[0].payload)[0]), (Status.ERROR, ErrorCode.TIMED_OUT))
        self.assertEqual(answers[1].status, Status.OK)
        self.assertEqual(told(self.bob), [("ann", b"next")])

    def test_clear(self) -> None:
        """A channel that ends with a message tells the peer; without one it tells the application."""
        cleared: list[tuple[str, str]] = []
        self.direct.on_clear_cache(lambda user_id, user: cleared.append((user_id, user.user_id)))
        self.assertEqual(self.ann.request(Command.DM_CLEAR, encode_direct("bob", b"bye")).status, Status.OK)
        self.assertEqual(told(self.bob, Command.DM_CLEAR), [])
        self.ann.request(Command.DM_SEND, encode_direct("bob", b"x"))
        self.ann.request(Command.DM_CLEAR, encode_direct("bob", b"bye"))
        self.assertEqual(told(self.bob, Command.DM_CLEAR), [("ann", b"bye")])
        self.assertEqual(cleared, [])
        self.ann.request(Command.DM_SEND, encode_direct("bob", b"x"))
        self.ann.request(Command.DM_CLEAR, encode_direct("bob", b""))
        self.assertEqual(told(self.bob, Command.DM_CLEAR), [])
        self.assertEqual(cleared, [("ann", "bob")])

    def test_peer_gone(self) -> None:
        """When a user is gone for good its peers are pushed what the application makes; strangers are not."""
        self.direct.on_user_disconnect(lambda user, peer_id: f"{user.user_id} left {peer_id}".encode())
        cid = self.node.sign_in("cid")
        self.ann.request(Command.DM_SEND, encode_direct("bob", b"x"))
        self.bob.messages  # noqa: B018
        self.bob.pushes()
        self.ann.send(4, ver=0)
        self.node.settle()
        self.assertEqual(told(self.bob, Command.DM_PEER_GONE), [("ann", b"ann left bob")])
        self.assertEqual(told(cid, Command.DM_PEER_GONE), [])

    def test_peer_elsewhere(self) -> None:
        """Nobody is told of a user whose session ends only because it, or a newer one, is at another node."""
        self.direct.on_user_disconnect(lambda user, peer_id: b"gone")
        for reason in (CloseReason.REPLACED, CloseReason.MOVED):
            ann = self.node.sign_in("ann")
            ann.request(Command.DM_SEND, encode_direct("bob", b"x"))
            ann.connection.close(reason)
            self.node.settle()
            session = self.node.registry.find_user("ann")
            if session is not None:
                self.node.registry.end(session, reason)
            self.assertEqual(told(self.bob, Command.DM_PEER_GONE), [])

    def test_answerer_gone(self) -> None:
        """Who was written to is missed as well."""
        self.direct.on_user_disconnect(lambda user, peer_id: b"gone")
        self.ann.request(Command.DM_SEND, encode_direct("bob", b"x"))
        self.bob.send(4, ver=0)
        self.node.settle()
        self.assertEqual(told(self.ann, Command.DM_PEER_GONE), [("bob", b"gone")])

    def test_bounded(self) -> None:
        """A million peers leave no more behind than may be remembered."""
        node = make_node(Config(dm=DirectConfig(max_channels=100)))
        ann = node.sign_in("ann")
        for number in range(1000):
            ann.send(Command.DM_SEND, encode_direct(f"user-{number}", b"x"))
        node.settle()
        for number in range(300):
            node.sign_in(f"peer-{number}")
            ann.send(Command.DM_SEND, encode_direct(f"peer-{number}", b"x"))
        node.advance(1)
        counts = node.direct.statistics()
        self.assertEqual(counts["direct_channels"], 100)
        self.assertEqual(counts["direct_pending"], 0)
        node.advance(310, 5)
        self.assertEqual(node.direct.statistics()["direct_channels"], 0)


class ClusterTests(SynchronousTestCase):
    """Users of different nodes."""

    def setUp(self) -> None:
        """Ann on a, bob on b."""
        self.cluster = GroupCluster("abc", set_up=self.set_up)
        self.ann = self.cluster["a"].sign_in("ann")
        self.bob = self.cluster["b"].sign_in("bob", "websocket")
        self.cluster.run(0.1)

    def set_up(self, relay: IMeshRelay) -> None:
        """Say who is gone."""
        relay.direct.on_user_disconnect(lambda user, peer_id: f"{user.user_id} left, says {relay.node_id}".encode())

    def say(self, client: MemoryClient, peer: str, message: bytes) -> int:
        """Send and return the error code; 0 = OK."""
        answer = self.cluster.request(client, Command.DM_SEND, encode_direct(peer, message))
        return 0 if answer.status == Status.OK else decode_error(answer.payload)[0]

    def test_across(self) -> None:
        """A message reaches a user of another node, and so does the answer, which needs no look-up."""
        self.assertEqual(self.say(self.ann, "bob", b"hello"), 0)
        self.assertEqual(told(self.bob), [("ann", b"hello")])
        self.assertEqual(self.say(self.bob, "ann", b"hi"), 0)
        self.assertEqual(told(self.ann), [("bob", b"hi")])
        self.assertEqual(self.cluster["a"].direct.statistics()["direct_lookups"], 1)
        self.assertEqual(self.cluster["b"].direct.statistics()["direct_lookups"], 0)

    def test_new_session_behind_a_callback(self) -> None:
        """A peer who signs in anew while a callback has a message gets it before what was sent behind it."""
        waiting: list[Deferred[bool]] = []

        def slow(ver: int, cmd: int, message: bytes, sender_id: str, receiver: User) -> Deferred[bool] | bool:
            if waiting:
                return True
            waiting.append(Deferred())
            return waiting[0]

        self.cluster["b"].direct.on_receive(slow)
        asked = [self.ann.ask(Command.DM_SEND, encode_direct("bob", b"one"))]
        self.cluster.run(0.1)
        bob = self.cluster["b"].sign_in("bob")
        asked.append(self.ann.ask(Command.DM_SEND, encode_direct("bob", b"two")))
        self.cluster.run(0.1)
        waiting[0].callback(True)
        self.cluster.run(1)
        self.assertEqual([message for _, message in told(bob)], [b"one", b"two"])
        self.assertTrue(all(self.ann.answer_to(each) is not None for each in asked))

    def test_clear_behind_a_look_up(self) -> None:
        """A last message comes behind the first one, although nobody knew yet where the peer is."""
        found: Deferred[object] = Deferred()
        find = self.cluster.directory.find_user
        self.patch(self.cluster.directory, "find_user", lambda user_id: found)
        self.ann.ask(Command.DM_SEND, encode_direct("bob", b"one"))
        self.ann.ask(Command.DM_CLEAR, encode_direct("bob", b"bye"))
        self.cluster.run(0.1)
        find("bob").addCallback(found.callback)
        self.cluster.run(0.2)
        pushed = [(frame.cmd, decode_pushed_direct(frame.payload).message) for frame in self.bob.pushes()]
        self.assertEqual(pushed, [(Command.DM_SEND, b"one"), (Command.DM_CLEAR, b"bye")])

    def test_full_link(self) -> None:
        """An outcome that no link takes is told later, so that what is sent to a peer who moves need not wait."""
        nodes, is_full = self.cluster["b"].direct._nodes, True
        send = nodes.send
        self.patch(
            nodes,
            "send",
            lambda node_id, kind, data: not (is_full and kind == NodeKind.DIRECT_RESULTS) and send(node_id, kind, data),
        )
        request_id = self.ann.ask(Command.DM_SEND, encode_direct("bob", b"one"))
        self.cluster.run(0.2)
        self.assertEqual(told(self.bob), [("ann", b"one")])
        self.assertIsNone(self.ann.answer_to(request_id))
        self.assertEqual(self.cluster["b"].direct.statistics()["direct_results_kept"], 1)
        is_full = False
        self.cluster.run(RETRY_SECONDS + 0.1)
        answer = self.ann.answer_to(request_id)
        assert answer is not None
        self.assertEqual(answer.status, Status.OK)
        self.assertEqual(self.cluster["a"].direct.statistics()["direct_in_flight"], 0)

    def test_pipelined(self) -> None:
        """Many messages at once keep their order, and each is answered."""
        asked = [self.ann.ask(Command.DM_SEND, encode_direct("bob", b"%d" % number)) for number in range(200)]
        self.cluster.run(0.2)
        self.assertEqual([message for _, message in told(self.bob)], [b"%d" % number for number in range(200)])
        for request_id in asked:
            answer = self.ann.answer_to(request_id)
            assert answer is not None
            self.assertEqual(answer.status, Status.OK)

    def test_unknown(self) -> None:
        """No such user anywhere is code 30."""
        self.assertEqual(self.say(self.ann, "nobody", b"x"), 30)

    def test_moved(self) -> None:
        """A user who signed in on another node is found there, by the next message and in order."""
        self.say(self.ann, "bob", b"one")
        bob = self.cluster["c"].sign_in("bob")
        self.cluster.run(0.2)
        asked = [self.ann.ask(Command.DM_SEND, encode_direct("bob", b"%d" % number)) for number in range(20)]
        self.cluster.run(1)
        self.assertEqual([message for _, message in told(bob)], [b"%d" % number for number in range(20)])
        self.assertTrue(all(self.ann.answer_to(request_id) is not None for request_id in asked))

    def test_gone(self) -> None:
        """A user who left another node is not found, and the peer was told."""
        self.say(self.ann, "bob", b"one")
        self.bob.send(4, ver=0)
        self.cluster.run(0.5)
        self.assertEqual(told(self.ann, Command.DM_PEER_GONE), [("bob", b"bob left, says b")])
        self.assertEqual(self.say(self.ann, "bob", b"two"), 30)

    def test_node_died(self) -> None:
        """When the node of a peer dies nobody hangs, and the peer who does not come back is said to be gone."""
        self.say(self.ann, "bob", b"one")
        self.cluster.kill("b")
        code = self.say(self.ann, "bob", b"two")
        self.assertIn(code, (ErrorCode.TIMED_OUT, 30))
        self.cluster.run(40, 0.05)
        self.assertEqual(told(self.ann, Command.DM_PEER_GONE), [("bob", b"bob left, says a")])

    def test_resumed_elsewhere(self) -> None:
        """A peer whose node died and who is back on another one is not said to be gone, and gets what is sent then."""
        self.say(self.ann, "bob", b"one")
        self.cluster.kill("b")
        self.cluster.run(5)
        bob = self.cluster["c"].sign_in("bob")
        self.cluster.run(0.5)
        self.assertEqual(self.say(self.ann, "bob", b"two"), 0)
        self.assertEqual(told(bob), [("ann", b"two")])
        self.cluster.run(40, 0.05)
        self.assertEqual(told(self.ann, Command.DM_PEER_GONE), [])

    def test_stopped_node(self) -> None:
        """A node that answers nothing costs the sender lookup_timeout_seconds, not more."""
        self.say(self.ann, "bob", b"one")
        self.cluster.links.mesh.black_hole("a", "b")
        asked = self.ann.ask(Command.DM_SEND, encode_direct("bob", b"two"))
        self.cluster.run(3.5)
        answer = self.ann.answer_to(asked)
        assert answer is not None
        self.assertEqual((answer.status, decode_error(answer.payload)[0]), (Status.ERROR, ErrorCode.TIMED_OUT))

    def test_clear_across(self) -> None:
        """A channel is cleared at both ends, wherever they are."""
        self.say(self.ann, "bob", b"one")
        self.bob.pushes()
        self.cluster.request(self.ann, Command.DM_CLEAR, encode_direct("bob", b"bye"))
        self.cluster.run(0.1)
        self.assertEqual(told(self.bob, Command.DM_CLEAR), [("ann", b"bye")])
        for name in "ab":
            self.assertEqual(self.cluster[name].direct.statistics()["direct_channels"], 0)

    def test_cut_link(self) -> None:
        """Messages with an OK arrive once and in order although links are cut all the time."""
        for seed in range(3):
            cluster = GroupCluster("abc", seed=seed, line=Line(0.001, 0.01, 0.05))
            random = Random(seed)
            ann = cluster["a"].sign_in("ann")
            bob = cluster["b"].sign_in("bob")
            cluster.run(0.2)
            asked = {}
            for number in range(300):
                asked[number] = ann.ask(Command.DM_SEND, encode_direct("bob", b"%d" % number))
                if random.random() < 0.03:
                    cluster.links.mesh.cut("a", "b")
                cluster.run(0.02)
            cluster.run(6)
            came = [int(message) for _, message in told(bob)]
            taken = []
            for number, request_id in asked.items():
                answer = ann.answer_to(request_id)
                assert answer is not None
                if answer.status == Status.OK:
                    taken.append(number)
            self.assertEqual(came, sorted(set(came)))
            self.assertLessEqual(set(taken), set(came))
            self.assertGreater(len(taken), 250)


class CacheTests(SynchronousTestCase):
    """cache_seconds."""

    def test_not_remembered(self) -> None:
        """With cache_seconds = 0 nothing is remembered for longer than a moment, and messages arrive all the same."""
        config = Config(dm=DirectConfig(cache_seconds=0.0), session=SessionConfig())
        cluster = GroupCluster("ab", config)
        ann, bob = cluster["a"].sign_in("ann"), cluster["b"].sign_in("bob")
        cluster.run(0.1)
        for text in (b"one", b"two"):
            cluster.request(ann, Command.DM_SEND, encode_direct("bob", text))
            cluster.run(6, 0.05)
            self.assertEqual(cluster["a"].direct.statistics()["direct_channels"], 0)
        self.assertEqual([message for _, message in told(bob)], [b"one", b"two"])
        self.assertEqual(cluster["a"].direct.statistics()["direct_lookups"], 2)
