"""Users and peers of the overlay write to each other, at a node that is one of those peers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import CommandError, MessageTooLarge, UserDeclined, UserNotFound
from meshrelay.overlay.bridge import Bridge, BridgeLimits
from meshrelay.overlay.errors import NotDelivered, NotLinked, PeerDestroyed, TooMuchWaiting, UnusableData
from meshrelay.wire.direct_node import Direct
from meshrelay.wire.overlay_bridge import MAX_BRIDGED_BYTES, BridgeOutcome, user_of_peer
from tests.overlay.bridge_kit import ALICE, BOB, HERE, MemoryPeer


class MemoryUsers:
    """`BridgedUsers` that takes everything, or raises what the test wants."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, bytes]] = []
        self.error: Exception | None = None
        self.waiting: Deferred[None] | None = None

    async def send_from_outside(self, sender_id: str, peer_id: str, message: bytes) -> None:
        """See `BridgedUsers`."""
        if self.waiting is not None:
            waited: Deferred[None] = Deferred()
            self.waiting.addCallback(waited.callback)
            await waited
        if self.error is not None:
            raise self.error
        self.got.append((sender_id, peer_id, message))


class BridgeTestCase(SynchronousTestCase):
    """A bridge between users and a peer."""

    def setUp(self) -> None:
        """Build it."""
        self.build()

    def build(self, **limits: Any) -> None:
        """Build it with other limits."""
        self.now = 0.0
        self.peer, self.users = MemoryPeer(), MemoryUsers()
        self.bridge = Bridge(self.peer, self.users, lambda: self.now, BridgeLimits(**limits))

    def send(self, message: bytes, peer_id: bytes = ALICE, sender: str = "ann") -> list[BridgeOutcome]:
        """Send to a peer; what became of it stands in the list once it is known."""
        outcomes: list[BridgeOutcome] = []
        direct = Direct(sender, "", user_of_peer(peer_id), 1, 120, True, message)
        self.bridge.send(peer_id, direct, outcomes.append)
        return outcomes

    def count(self, name: str) -> int:
        """One of the counts."""
        return self.bridge.statistics()[name]


class ToPeersTests(BridgeTestCase):
    """What users send."""

    def test_text_and_bytes(self) -> None:
        """A peer gets the sender and a string, or a Buffer where the message is no text."""
        self.assertEqual(self.send(b"hello") + self.send(b"\xff", BOB, ""), [BridgeOutcome.TAKEN] * 2)
        buffer = {"type": "Buffer", "data": [255]}
        self.assertEqual(
            self.peer.take(), [(ALICE, {"from": "ann", "data": "hello"}), (BOB, {"from": "", "data": buffer})]
        )
        self.assertEqual(self.count("to_peers"), 2)

    def test_acknowledged(self) -> None:
        """The sender hears of it when the overlay has handed the message over, and not before."""
        self.peer.is_slow = True
        outcomes = self.send(b"hello")
        self.assertEqual((outcomes, self.count("to_peers_pending")), ([], 1))
        self.peer.finish()
        self.assertEqual((outcomes, self.count("to_peers_pending")), ([BridgeOutcome.TAKEN], 0))

    def test_failures(self) -> None:
        """Each way to fail has its outcome, at once or later."""
        for error, expected in (
            (NotDelivered("lost"), BridgeOutcome.NOT_FOUND),
            (NotLinked("none"), BridgeOutcome.NOT_FOUND),
            (UnusableData("long"), BridgeOutcome.TOO_LARGE),
            (TooMuchWaiting("much"), BridgeOutcome.TOO_MANY),
            (PeerDestroyed(), BridgeOutcome.NO_OVERLAY),
        ):
            self.peer.is_slow, self.peer.error = True, None
            outcomes = self.send(b"x")
            self.peer.finish(error)
            self.peer.error = error
            self.assertEqual(outcomes + self.send(b"x"), [expected, expected])
        self.assertEqual((self.count("to_peers_failed"), self.count("to_peers_pending")), (10, 0))

    def test_bug(self) -> None:
        """What nobody has thought of is logged, and the sender is told of a failure."""
        self.peer.error = KeyError("a bug")
        self.assertEqual(self.send(b"x"), [BridgeOutcome.FAILED])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_no_way(self) -> None:
        """A node without a link knows no way to anybody, and nobody reads what is written to the node itself."""
        self.assertEqual(self.send(b"x", HERE), [BridgeOutcome.NOT_FOUND])
        self.peer.channels.clear()
        self.assertEqual(self.send(b"x"), [BridgeOutcome.NOT_FOUND])
        self.assertEqual(self.peer.take(), [])

    def test_size(self) -> None:
        """A message of as many bytes as the overlay takes is sent, one byte more is refused."""
        around = len('{"from":"ann","data":""}')
        self.assertEqual(self.send(b"x" * (MAX_BRIDGED_BYTES - around)), [BridgeOutcome.TAKEN])
        self.assertEqual(self.send(b"x" * (MAX_BRIDGED_BYTES - around + 1)), [BridgeOutcome.TOO_LARGE])
        self.assertEqual(len(self.peer.take()), 1)

    def test_bound(self) -> None:
        """No more messages are under way than the limit says, and there is room again when they have arrived."""
        self.build(max_pending=2)
        self.peer.is_slow = True
        self.assertEqual([self.send(b"1"), self.send(b"2"), self.send(b"3")], [[], [], [BridgeOutcome.TOO_MANY]])
        self.peer.finish()
        self.assertEqual(self.send(b"4"), [])
        self.assertEqual(len(self.peer.take()), 3)


class ToUsersTests(BridgeTestCase):
    """What peers send."""

    def test_delivered(self) -> None:
        """A user gets what a peer wrote, from a user ID that is the peer."""
        self.peer.hear({"to": "bob", "data": "hé"})
        self.peer.hear({"to": "bob", "data": {"type": "Buffer", "data": [255]}}, BOB)
        self.peer.hear({"to": "bob", "data": {"a": 1}})
        alice, bob = "peer:" + ALICE.hex(), "peer:" + BOB.hex()
        self.assertEqual(
            self.users.got, [(alice, "bob", "hé".encode()), (bob, "bob", b"\xff"), (alice, "bob", b'{"a":1}')]
        )
        self.assertEqual((self.peer.take(), self.count("to_users")), ([], 3))

    def test_errors(self) -> None:
        """A peer hears why a user did not get its message."""
        for error, text in (
            (UserNotFound("none such"), "user not found"),
            (UserDeclined(), UserDeclined.default_text),
            (MessageTooLarge("9 bytes, 8 fit"), "9 bytes, 8 fit"),
        ):
            self.users.error = error
            self.peer.hear({"to": "bob", "data": "hi"})
            self.assertEqual(self.peer.take(), [(ALICE, {"error": text, "to": "bob"})])
        self.assertEqual((self.count("to_users_refused"), self.count("to_users_pending")), (3, 0))

    def test_unusable(self) -> None:
        """A message that cannot be one is answered with the reason."""
        self.peer.hear({"to": "bob", "data": {"type": "Buffer", "data": [256]}})
        [(peer_id, answer)] = self.peer.take()
        self.assertEqual((peer_id, answer["to"]), (ALICE, "bob"))
        self.assertIn("Buffer", answer["error"])

    def test_other_data(self) -> None:
        """What peers send each other otherwise is never answered, nor are answers: two nodes would go on for ever."""
        for data in (None, "hi", [1], {"to": "bob"}, {"from": "ann", "data": "x"}, {"error": "x", "to": "bob"}):
            self.peer.hear(data)
        self.assertEqual((self.peer.take(), self.users.got, self.count("ignored")), ([], [], 6))

    def test_no_detour(self) -> None:
        """A peer cannot reach another peer through the node, behind whose ID it would hide."""
        self.peer.hear({"to": "peer:" + BOB.hex(), "data": "x"})
        self.assertEqual(self.users.got, [])
        self.assertEqual(self.peer.take(), [(ALICE, {"error": "user not found", "to": "peer:" + BOB.hex()})])

    def test_rate(self) -> None:
        """A peer that sends too fast is not heard and not answered for a while; others are."""
        self.build(messages_per_second=10.0)
        for _ in range(25):
            self.peer.hear({"to": "bob", "data": "x"})
        self.assertEqual((len(self.users.got), self.count("to_users_limited")), (20, 5))
        self.peer.hear({"to": "bob", "data": "x"}, BOB)
        self.now = 0.11
        self.peer.hear({"to": "bob", "data": "x"})
        self.assertEqual((len(self.users.got), self.peer.take()), (22, []))

    def test_rate_of_errors(self) -> None:
        """Messages that cannot be delivered are no way around the limit."""
        self.build(messages_per_second=1.0)
        self.users.error = UserNotFound()
        for data in ({"type": "Buffer", "data": [256]}, "x", "x"):
            self.peer.hear({"to": "bob", "data": data})
        self.assertEqual(len(self.peer.take()), 2)

    def test_no_rate(self) -> None:
        """0 messages a second is no limit, and nothing is remembered."""
        self.build(messages_per_second=0.0)
        for _ in range(1000):
            self.peer.hear({"to": "bob", "data": "x"})
        self.assertEqual(len(self.users.got), 1000)

    def test_senders(self) -> None:
        """Of many senders the longest silent one is forgotten, whose allowance is whole again then."""
        self.build(messages_per_second=1.0, max_senders=2)
        carol = b"c" * 20
        for sender in (ALICE, ALICE, BOB, ALICE, carol, ALICE, BOB, BOB):
            self.peer.hear({"to": "bob", "data": "x"}, sender)
        heard = [sender for sender, _, _ in self.users.got]
        self.assertEqual(heard.count("peer:" + ALICE.hex()), 2)
        self.assertEqual(heard.count("peer:" + BOB.hex()), 3)

    def test_bound(self) -> None:
        """No more messages are on their way to users than the limit says; the sender of one more is told."""
        self.build(max_pending=2)
        self.users.waiting = Deferred()
        for _ in range(3):
            self.peer.hear({"to": "bob", "data": "x"})
        self.assertEqual(self.peer.take(), [(ALICE, {"error": "2 messages to users wait", "to": "bob"})])
        self.assertEqual(self.count("to_users_pending"), 2)
        self.users.waiting.callback(None)
        self.assertEqual((len(self.users.got), self.count("to_users_pending")), (2, 0))

    def test_answers_are_bounded(self) -> None:
        """Answers to peers that take nothing are dropped rather than kept."""
        self.build(max_pending=2)
        self.users.error = UserNotFound()
        self.peer.is_slow = True
        for _ in range(5):
            self.peer.hear({"to": "bob", "data": "x"})
        self.assertEqual((len(self.peer.take()), self.count("to_peers_pending")), (2, 2))
        self.peer.finish(NotDelivered("gone"))
        self.assertEqual(self.count("to_peers_pending"), 0)

    def test_bug(self) -> None:
        """A bug on the way to a user is logged and costs this message only."""
        self.users.error = KeyError("a bug")
        self.peer.hear({"to": "bob", "data": "x"})
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(self.count("to_users_pending"), 0)

    def test_any_error(self) -> None:
        """All errors that a sender of direct messages may get have a text for peers."""
        self.users.error = CommandError("something else")
        self.peer.hear({"to": "bob", "data": "x"})
        self.assertEqual(self.peer.take(), [(ALICE, {"error": "something else", "to": "bob"})])
