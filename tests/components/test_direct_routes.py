"""At the node of the sender, and what nodes tell each other: other nodes say what the test wants."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import direct, direct_routes
from meshrelay.config.schema import Config, DirectConfig
from meshrelay.directory.records import NodeRecord, UserRecord
from meshrelay.errors import (
    CommandError,
    ErrorCode,
    MalformedPayload,
    MessageIsEmpty,
    MessageTooLarge,
    UserDeclined,
    UserNotFound,
)
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import Status
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.node import MemoryClient
from meshrelay.wire.commands import Command, decode_error, encode_direct
from meshrelay.wire.direct_node import (
    Clear,
    Direct,
    Gone,
    Outcome,
    Parcel,
    decode_results,
    encode_clear,
    encode_gone,
    encode_results,
    encode_send,
)
from meshrelay.wire.node_kinds import NodeKind
from tests.components.direct_stranger import DirectStranger
from tests.components.test_direct import told

NOT_FOUND = 30
NO_NODES = 32
DECLINED = 33


class RoutesTestCase(SynchronousTestCase):
    """Node a with ann; b and c are strangers, bob is on b."""

    def setUp(self) -> None:
        """Start."""
        self.start()

    def start(self, **keys: object) -> None:
        """Start the cluster; `keys` are of [dm]."""
        config = Config(dm=DirectConfig(**keys))  # type: ignore[arg-type]
        self.cluster = GroupCluster("a", config, set_up=self.set_up)
        self.node = self.cluster["a"]
        self.b, self.c = (DirectStranger(self.cluster, name) for name in "bc")
        self.cluster.links.linked()
        self.ann = self.node.sign_in("ann")
        self.b.claim("bob")

    def set_up(self, relay: IMeshRelay) -> None:
        """Say who is gone."""
        relay.direct.on_user_disconnect(lambda user, peer_id: f"{user.user_id} left".encode())

    def ask(self, *messages: bytes, peer: str = "bob", seconds: float = 0.05) -> list[int]:
        """Let ann write, and let it arrive; return the IDs of the requests."""
        asked = [self.ann.ask(Command.DM_SEND, encode_direct(peer, message)) for message in messages]
        self.cluster.run(seconds)
        return asked

    def code(self, request_id: int, client: MemoryClient | None = None) -> int | None:
        """Error code of an answer; 0 = OK, None = there is none yet."""
        answer = (client or self.ann).answer_to(request_id)
        if answer is None:
            return None
        return 0 if answer.status == Status.OK else decode_error(answer.payload)[0]

    def codes(self, request_ids: list[int]) -> list[int | None]:
        """Those of several."""
        return [self.code(request_id) for request_id in request_ids]

    def count(self, name: str) -> int:
        """One of the counts of node a."""
        return self.node.direct.statistics()[f"direct_{name}"]


class OutcomeTests(RoutesTestCase):
    """What the other node may say."""

    def test_outcomes(self) -> None:
        """Each outcome is what the sender is told."""
        for outcome, code in (
            (Outcome.TAKEN, 0),
            (Outcome.DECLINED, DECLINED),
            (Outcome.FAILED, 7),
            (Outcome.TIMED_OUT, ErrorCode.TIMED_OUT),
            (200, 7),
        ):
            asked = self.ask(b"hi")
            self.assertEqual(self.codes(asked), [None])
            self.b.answer(outcome)
            self.assertEqual((outcome, self.codes(asked)), (outcome, [code]))
        self.assertEqual(self.count("in_flight"), 0)

    def test_some(self) -> None:
        """Answers may come one by one, and each is passed on at once."""
        asked = self.ask(b"1", b"2", b"3")
        self.b.answer(Outcome.TAKEN, 2)
        self.assertEqual(self.codes(asked), [0, 0, None])

    def test_unknown_numbers(self) -> None:
        """Results of messages that nobody sent, or told twice, change nothing."""
        asked = self.ask(b"1")
        number = self.b.parcels[0].number
        self.b.send(NodeKind.DIRECT_RESULTS, encode_results([(number + 1, 0), (2**64 - 1, 1), (0, 2)]))
        self.assertEqual(self.codes(asked), [None])
        self.b.send(NodeKind.DIRECT_RESULTS, encode_results([(number, 0), (number, 1), (number, 2)]))
        self.assertEqual(self.codes(asked), [0])
        self.assertEqual(self.ask(b"2"), [asked[0] + 1])
        self.assertEqual(len(self.b.parcels), 2)

    def test_stale(self) -> None:
        """A peer who has moved is looked up once more, and what was sent comes before what was written meanwhile."""
        self.ask(b"0")
        self.b.take()
        asked = self.ask(b"1", b"2")
        self.c.claim("bob", 2)
        self.b.answer(Outcome.NOT_HERE, 1)
        asked += self.ask(b"3")
        self.assertEqual(self.c.parcels, [])
        self.assertEqual(self.b.answer(Outcome.NOT_HERE), [b"2"])
        asked += self.ask(b"4")
        self.assertEqual(self.c.take(), [b"1", b"2", b"3", b"4"])
        self.assertEqual(self.codes(asked), [0, 0, 0, 0])
        self.assertEqual((self.count("lookups"), self.count("stale")), (2, 2))

    def test_never_there(self) -> None:
        """A peer who is not where the directory says, again and again, counts as gone in time."""
        asked = self.ask(b"hi")
        looked = 1
        for _ in range(40):
            if self.b.parcels:
                self.b.answer(Outcome.NOT_HERE)
                looked += 1
            self.cluster.run(0.1)
        self.assertIn(self.codes(asked)[0], (NOT_FOUND, ErrorCode.TIMED_OUT))
        self.assertLess(looked, direct_routes.MAX_TRIES + 3)

    def test_order_across_a_resend(self) -> None:
        """Whatever is refused and however late, the messages that are taken are taken in order."""
        random = Random(1)
        taken: list[bytes] = []
        refused = {"b": 0, "c": 0}
        sent = 0
        here, elsewhere = self.b, self.c
        for turn in range(300):
            if turn < 200:
                for _ in range(random.randrange(3)):
                    self.ask(b"%d" % sent, seconds=0.01)
                    sent += 1
                if random.random() < 0.3:
                    here, elsewhere = elsewhere, here
                    here.claim("bob", 2 + turn)
            else:
                self.cluster.run(0.1)
            for node in (here, elsewhere):
                while node.parcels and random.random() < 0.8:
                    generation = node.parcels[0].generation
                    if node is here and generation > refused[node.node_id]:
                        taken += node.answer(Outcome.TAKEN, 1)
                    else:
                        # As every node does: what comes behind is refused as well.
                        refused[node.node_id] = max(generation, refused[node.node_id])
                        node.answer(Outcome.NOT_HERE, 1)
        numbers = [int(message) for message in taken]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertGreater(len(numbers), sent // 2)
        self.assertGreater(self.count("stale"), 10)


class TimeTests(RoutesTestCase):
    """What is not answered."""

    def test_silent_node(self) -> None:
        """A node that answers nothing costs its senders lookup_timeout_seconds; a late answer changes nothing."""
        asked = self.ask(b"1", b"2", seconds=2.9)
        self.assertEqual(self.codes(asked), [None, None])
        self.cluster.run(0.5)
        self.assertEqual(self.codes(asked), [ErrorCode.TIMED_OUT] * 2)
        self.assertEqual((self.count("timeouts"), self.count("pending")), (2, 0))
        self.b.take()
        self.assertEqual(self.codes(asked), [ErrorCode.TIMED_OUT] * 2)
        asked = self.ask(b"3")
        self.b.take()
        self.assertEqual(self.codes(asked), [0])

    def test_refused_late(self) -> None:
        """What timed out is not sent again when it comes back at last; what was written behind it is."""
        self.ask(b"1", seconds=2.0)
        behind = self.ask(b"2", seconds=1.3)
        self.assertEqual(self.code(behind[0]), None)
        self.c.claim("bob", 2)
        self.b.answer(Outcome.NOT_HERE)
        self.cluster.run(0.05)
        self.assertEqual(self.c.take(), [b"2"])
        self.assertEqual(self.codes(behind), [0])

    def test_lost_node(self) -> None:
        """When the node of a peer is lost nobody waits, and the pair works again as soon as the peer is elsewhere."""
        self.ask(b"0")
        self.b.take()
        asked = self.ask(b"1", b"2", b"3")
        # One has come back; what is behind it never will.
        self.b.answer(Outcome.NOT_HERE, 1)
        self.c.claim("bob", 2)
        self.cluster.links.kill("b")
        self.cluster.run(4)
        self.assertEqual(self.codes(asked[1:]), [ErrorCode.TIMED_OUT] * 2)
        asked = self.ask(b"4")
        self.assertEqual(self.c.take()[-1:], [b"4"])
        self.assertEqual((self.codes(asked), self.count("in_flight")), ([0], 0))

    def test_node_without_link(self) -> None:
        """A peer on a node that this one does not know is code 32."""
        self.cluster.directory.register_node(
            NodeRecord(node_id="x", incarnation="1", mesh_endpoint="x.example:1", places={}, load=0.0, protocol=1)
        )
        self.cluster.directory.claim_user(UserRecord(user_id="bob", node_id="x", sid="9" * 32, stamp=9))
        self.assertEqual(self.codes(self.ask(b"hi")), [NO_NODES])


class BoundTests(RoutesTestCase):
    """Everything that others can make grow."""

    def test_pending(self) -> None:
        """Only so many messages are under way; one more is refused at once, until some are done."""
        self.patch(direct_routes, "MAX_PENDING", 5)
        asked = self.ask(*[b"%d" % number for number in range(8)])
        self.assertEqual(self.codes(asked), [None] * 5 + [ErrorCode.TIMED_OUT] * 3)
        self.assertEqual((self.count("pending"), len(self.b.parcels)), (5, 5))
        self.b.take()
        self.cluster.run(0.3)
        asked = self.ask(b"again")
        self.b.take()
        self.assertEqual(self.codes(asked), [0])

    def test_pending_behind_a_slow_one(self) -> None:
        """A message that nobody answers takes the room of one, not of all that were done behind it."""
        self.patch(direct_routes, "MAX_PENDING", 5)
        self.c.claim("cid")
        self.ask(b"slow")
        for _ in range(10):
            asked = self.ask(b"1", b"2", b"3", peer="cid", seconds=0.1)
            self.c.take()
            self.cluster.run(0.2)
            self.assertEqual(self.codes(asked), [0, 0, 0])

    def test_not_overtaken_behind_a_callback(self) -> None:
        """What a callback kept until its session was over is refused like any other, with all that is behind it."""
        answer: Deferred[bool] = Deferred()
        self.node.direct.on_receive(lambda ver, cmd, message, *_: answer if message == b"slow" else True)

        def parcel(number: int, generation: int, message: bytes) -> None:
            sent = Direct("eve", "s" * 32, "dan", 1, Command.DM_SEND, True, message)
            self.b.send(NodeKind.DIRECT_SEND, encode_send(Parcel(number, generation, sent)))

        self.node.sign_in("dan")
        parcel(1, 5, b"slow")
        dan = self.node.sign_in("dan")
        parcel(2, 5, b"queued")
        answer.callback(True)
        self.cluster.run(0.05)
        parcel(3, 5, b"late")
        parcel(4, 6, b"again")
        self.cluster.run(0.05)
        outcomes = [each for payload in self.b.results for each in decode_results(payload)]
        self.assertEqual(outcomes, [(1, 1), (2, 1), (3, 1), (4, 0)])
        self.assertEqual(told(dan), [("eve", b"again")])

    def test_refused_generations(self) -> None:
        """What is remembered of refused messages is bounded, and forgotten in time."""
        self.patch(direct, "MAX_REFUSED", 10)
        for number in range(35):
            self.parcel(number, f"nobody-{number}")
            self.assertLessEqual(self.count("refused_kept"), 20)
        self.assertEqual(len(self.b.results), 35)
        self.cluster.run(2 * direct.REFUSED_SECONDS + 1, 0.25)
        self.assertEqual(self.count("refused_kept"), 0)

    def parcel(self, number: int, peer: str, generation: int = 1, message: bytes = b"hi") -> list[tuple[int, Outcome]]:
        """Let b send a message of eve to a user of a; return what a says."""
        sent = Parcel(number, generation, Direct("eve", "s" * 32, peer, 1, Command.DM_SEND, True, message))
        self.b.send(NodeKind.DIRECT_SEND, encode_send(sent))
        return decode_results(self.b.results[-1])

    def test_not_overtaken(self) -> None:
        """What is sent behind a refused message is refused too until its node has looked again, or began anew."""
        self.assertEqual(self.parcel(1, "dan", 5), [(1, Outcome.NOT_HERE)])
        dan = self.node.sign_in("dan")
        self.assertEqual(self.parcel(2, "dan", 5), [(2, Outcome.NOT_HERE)])
        self.assertEqual(self.parcel(3, "dan", 4), [(3, Outcome.NOT_HERE)])
        self.assertEqual(self.parcel(4, "dan", 6, b"at last"), [(4, Outcome.TAKEN)])
        self.assertEqual(told(dan), [("eve", b"at last")])
        self.node.direct.node_met("b")
        self.assertEqual(self.parcel(5, "dan", 1), [(5, Outcome.TAKEN)])

    def test_generations_only_grow(self) -> None:
        """A channel that was forgotten and made again does not look like an older one."""
        generations = []
        for _ in range(3):
            self.ask(b"hi")
            generations.append(self.b.parcels[0].generation)
            self.b.take()
            self.ann.send(Command.DM_CLEAR, encode_direct("bob", b""))
            self.cluster.run(0.05)
        self.assertEqual(generations, sorted(set(generations)))
        self.assertEqual(len(self.b.cleared), 3)

    def test_cache_seconds(self) -> None:
        """A channel that was not used for cache_seconds is forgotten, and the peer looked up anew."""
        self.start(cache_seconds=10.0)
        for expected in (1, 1, 2):
            self.ask(b"hi")
            self.b.take()
            self.assertEqual(self.count("lookups"), expected)
            if expected == 1 and self.count("sent") == 2:
                self.cluster.run(16, 0.25)
                self.assertEqual(self.count("channels"), 0)

    def test_max_channels(self) -> None:
        """Over max_channels the longest unused go."""
        self.start(max_channels=3)
        for number in range(6):
            self.b.claim(f"peer-{number}")
            self.ask(b"hi", peer=f"peer-{number}")
            self.b.take()
        self.assertEqual((self.count("channels"), self.count("channels_evicted")), (3, 3))


class GarbageTests(RoutesTestCase):
    """Payloads that are none."""

    def test_malformed(self) -> None:
        """Whatever another node sends, messages go on afterwards."""
        kinds = (NodeKind.DIRECT_SEND, NodeKind.DIRECT_RESULTS, NodeKind.DIRECT_CLEAR, NodeKind.DIRECT_GONE)
        random = Random(2)
        for kind in kinds:
            for payload in (b"", b"\xff", b"\xff" * 40, random.randbytes(60), bytes(64)):
                self.b.send(kind, payload)
        asked = self.ask(b"hi")
        self.assertEqual(self.b.take()[-1:], [b"hi"])
        self.assertEqual(self.codes(asked), [0])
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_nobody(self) -> None:
        """Ends of channels and users that nobody knows change nothing."""
        self.b.send(NodeKind.DIRECT_CLEAR, encode_clear(Clear("x", "y", 1, Command.DM_CLEAR, True, b"bye")))
        self.b.send(NodeKind.DIRECT_GONE, encode_gone(Gone("x", "s", "ann", b"bye")))
        self.assertEqual(self.ann.pushes(), [])


class EndTests(RoutesTestCase):
    """Users that are gone."""

    def end(self, sid: str = "s", node: DirectStranger | None = None) -> list[tuple[str, bytes]]:
        """Let a node say that bob is gone; return what ann is told."""
        (node or self.b).send(NodeKind.DIRECT_GONE, encode_gone(Gone("bob", sid, "ann", b"bob left")))
        return told(self.ann, Command.DM_PEER_GONE)

    def test_gone(self) -> None:
        """The node of a peer says that it is gone, also under a sid that came after the cached one: once."""
        self.ask(b"hi")
        self.b.take()
        self.assertEqual(self.end("another"), [("bob", b"bob left")])
        self.assertEqual(self.end("another"), [])

    def test_gone_from_where_it_was(self) -> None:
        """A peer who is on another node by now is not gone when its earlier node says so."""
        self.ask(b"0")
        self.b.take()
        self.c.claim("bob", 2)
        self.ask(b"1")
        self.b.answer(Outcome.NOT_HERE)
        self.cluster.run(0.1)
        self.c.take()
        self.assertEqual(self.end(f"{1:032x}"), [])
        self.assertEqual(self.end(f"{2:032x}", self.c), [("bob", b"bob left")])

    def test_node_dies(self) -> None:
        """When the node of a peer dies and the peer does not come back it is gone, whatever the directory remembers."""
        self.ask(b"hi")
        self.b.take()
        self.cluster.links.kill("b")
        self.cluster.run(25, 0.05)
        self.assertEqual(told(self.ann, Command.DM_PEER_GONE), [])
        self.cluster.run(40, 0.05)
        self.assertEqual(told(self.ann, Command.DM_PEER_GONE), [("bob", b"bob left")])

    def test_own_user(self) -> None:
        """All peers of a user who leaves are told, at their nodes; one who signs in anew is not gone."""
        self.c.claim("cid")
        for peer in ("bob", "cid"):
            self.ask(b"hi", peer=peer)
        self.b.take()
        self.c.take()
        self.ann = self.node.sign_in("ann")
        self.cluster.run(0.1)
        self.assertEqual((self.b.gone, self.c.gone), ([], []))
        self.ann.send(4, ver=0)
        self.cluster.run(0.1)
        self.assertEqual((len(self.b.gone), len(self.c.gone)), (1, 1))
        self.assertEqual(self.count("channels"), 0)


class _Outside:
    """`Outside` that knows everybody whose ID begins with "out:"."""

    def __init__(self) -> None:
        self.sent: list[Direct] = []
        self.error: CommandError | None = None

    def has(self, user_id: str) -> bool:
        """See `Outside`."""
        return user_id.startswith("out:")

    def send(self, direct: Direct, done: Callable[[CommandError | None], object]) -> None:
        """See `Outside`."""
        self.sent.append(direct)
        done(self.error)


class OutsideTests(RoutesTestCase):
    """Somebody who can be written to and signs in nowhere."""

    def setUp(self) -> None:
        """Start."""
        super().setUp()
        self.outside = _Outside()
        self.node.direct.use_outside(self.outside)

    def test_sent(self) -> None:
        """What is for somebody outside goes there, among messages to others, and no node is asked who that is."""
        asked = self.ask(b"1", peer="out:x") + self.ask(b"2") + self.ask(b"3", peer="out:x")
        self.b.take()
        self.assertEqual(self.codes(asked), [0, 0, 0])
        self.assertEqual(
            [(sent.sender_id, sent.peer_id, sent.message) for sent in self.outside.sent],
            [("ann", "out:x", b"1"), ("ann", "out:x", b"3")],
        )
        self.assertEqual((self.count("lookups"), self.count("channels")), (1, 1))

    def test_refused(self) -> None:
        """What goes wrong outside is what the sender is told."""
        self.outside.error = UserDeclined()
        self.assertEqual(self.codes(self.ask(b"1", peer="out:x")), [DECLINED])

    def test_from_outside(self) -> None:
        """A user gets what somebody outside sends, on this node and on others."""
        sent = [
            Deferred.fromCoroutine(self.node.direct.send_from_outside("out:x", user_id, b"hi"))
            for user_id in ("ann", "bob")
        ]
        self.cluster.run(0.1)
        self.assertEqual(told(self.ann), [("out:x", b"hi")])
        self.assertEqual(self.b.parcels[0].direct, Direct("out:x", "", "bob", 1, Command.DM_SEND, True, b"hi"))
        self.b.take()
        self.assertEqual([self.successResultOf(each) for each in sent], [None, None])

    def test_not_missed(self) -> None:
        """A user does not hear that somebody outside has gone when the node that brought the message is gone."""
        direct = Direct("out:x", "", "ann", 1, Command.DM_SEND, True, b"hi")
        self.b.send(NodeKind.DIRECT_SEND, encode_send(Parcel(1, 1, direct)))
        self.assertEqual(told(self.ann), [("out:x", b"hi")])
        self.assertEqual(self.count("channels"), 0)
        self.cluster.links.kill("b")
        self.cluster.run(200, 1.0)
        self.assertEqual(told(self.ann, Command.DM_PEER_GONE), [])

    def test_errors_from_outside(self) -> None:
        """Somebody outside is bound by what users are bound by."""
        for user_id, message, error in (
            ("nobody", b"hi", UserNotFound),
            ("ann", b"", MessageIsEmpty),
            ("ann", b"x" * (65536 - 5), MessageTooLarge),
            ("", b"hi", MalformedPayload),
        ):
            sent = Deferred.fromCoroutine(self.node.direct.send_from_outside("out:x", user_id, message))
            self.cluster.run(0.3)
            self.failureResultOf(sent, error)
