"""At the node of the peer: callbacks, their order, and what waits behind them."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import direct_delivery
from meshrelay.components.direct_delivery import DirectDelivery, push_direct
from meshrelay.model import User
from meshrelay.testing.node import make_node
from meshrelay.wire.commands import Command
from meshrelay.wire.direct_node import Direct, Outcome

SECONDS = 3.0


def direct(message: bytes, sender: str = "ann", peer: str = "bob", has_envelope: bool = False) -> Direct:
    """Return a message under (2, 9)."""
    return Direct(sender, "s", peer, 2, 9, has_envelope, message)


class DeliveryTests(SynchronousTestCase):
    """Messages for users of one node."""

    def setUp(self) -> None:
        """Bob and cid are there."""
        self.node = make_node()
        self.clients = {name: self.node.sign_in(name) for name in ("bob", "cid")}
        self.clock = Clock()
        self.delivery = DirectDelivery(self.clock, SECONDS)
        self.outcomes: list[tuple[bytes, Outcome]] = []
        self.asked: list[tuple[bytes, Deferred[bool]]] = []

    def deliver(self, message: bytes, sender: str = "ann", peer: str = "bob") -> None:
        """Bring a message to bob, or cid."""
        session = self.node.registry.find_user(peer)
        assert session is not None
        self.delivery.deliver(
            direct(message, sender, peer), session, lambda outcome: self.outcomes.append((message, outcome))
        )

    def came(self, name: str = "bob") -> list[bytes]:
        """What a client was pushed since the last call."""
        return [frame.payload for frame in self.clients[name].pushes()]

    def ask_slowly(self) -> None:
        """Register a callback that answers when the test says so."""

        def slow(ver: int, cmd: int, message: bytes, sender_id: str, receiver: User) -> Deferred[bool]:
            answer: Deferred[bool] = Deferred()
            self.asked.append((message, answer))
            return answer

        self.delivery.on_receive(slow)

    def test_push(self) -> None:
        """Without callbacks a message is pushed at once: as it is, or with its sender in front."""
        self.deliver(b"hi")
        self.assertEqual(self.outcomes, [(b"hi", Outcome.TAKEN)])
        session = self.node.registry.find_user("bob")
        assert session is not None
        push_direct(session, direct(b"hi", has_envelope=True)._replace(cmd=Command.DM_SEND), b"changed")
        plain, wrapped = self.clients["bob"].pushes()
        self.assertEqual((plain.ver, plain.cmd, plain.payload), (2, 9, b"hi"))
        self.assertEqual((wrapped.ver, wrapped.cmd, wrapped.payload), (1, Command.DM_SEND, b"\x03annchanged"))

    def test_order_of_callbacks(self) -> None:
        """All that may decline are asked before any that may change, each in the order of registration."""
        seen: list[str] = []

        def asked(name: str) -> bool:
            seen.append(name)
            return True

        self.delivery.on_message(lambda *_: seen.append("change 1"))
        self.delivery.on_receive(lambda *_: asked("ask 1"))
        self.delivery.on_message(lambda *_: seen.append("change 2"))
        self.delivery.on_receive(lambda *_: asked("ask 2"))
        self.deliver(b"hi")
        self.assertEqual(seen, ["ask 1", "ask 2", "change 1", "change 2"])

    def test_first_no_counts(self) -> None:
        """Who declines is the last to be asked; only False declines, nothing is no answer."""
        seen: list[int] = []
        answers: list[object] = [None, False, True]

        def ask(index: int) -> object:
            seen.append(index)
            return answers[index]

        for index in range(3):
            self.delivery.on_receive(lambda *_, index=index: ask(index))  # type: ignore[arg-type]
        self.delivery.on_message(lambda *_: b"never")
        self.deliver(b"hi")
        self.assertEqual((seen, self.outcomes, self.came()), ([0, 1], [(b"hi", Outcome.DECLINED)], []))
        self.assertEqual(self.delivery.declined, 1)

    def test_changes_add_up(self) -> None:
        """Each callback is given what the one before made of the message."""
        self.delivery.on_message(lambda ver, cmd, message, sender, receiver: message + b"1")
        self.delivery.on_message(lambda ver, cmd, message, sender, receiver: succeed(message + b"2"))
        self.deliver(b"m")
        self.assertEqual(self.came(), [b"m12"])

    def test_not_bytes(self) -> None:
        """A callback that returns no bytes is a bug: logged, and the sender is told."""
        self.delivery.on_message(lambda *_: "text")  # type: ignore[arg-type]
        self.deliver(b"hi")
        self.assertEqual((self.outcomes, self.came()), ([(b"hi", Outcome.FAILED)], []))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_order_behind_a_slow_one(self) -> None:
        """Messages of one pair wait for each other, also when each of them is slow; other pairs do not."""
        self.ask_slowly()
        for message in (b"1", b"2", b"3"):
            self.deliver(message)
        self.deliver(b"other", sender="dan")
        self.deliver(b"elsewhere", peer="cid")
        self.assertEqual([message for message, _ in self.asked], [b"1", b"other", b"elsewhere"])
        self.assertEqual(self.delivery.waiting_count, 2)
        self.asked[1][1].callback(True)
        self.asked[0][1].callback(True)
        self.assertEqual([message for message, _ in self.asked][3:], [b"2"])
        self.asked[3][1].callback(False)
        self.asked[4][1].callback(True)
        self.assertEqual(self.came(), [b"other", b"1", b"3"])
        self.assertEqual(self.outcomes[-2:], [(b"2", Outcome.DECLINED), (b"3", Outcome.TAKEN)])
        self.assertEqual(self.delivery.waiting_count, 0)

    def test_sent_when_one_is_done(self) -> None:
        """What is sent because one is done comes behind what waited already."""
        first: Deferred[bool] = Deferred()
        self.delivery.on_receive(lambda ver, cmd, message, *_: first if message == b"1" else True)
        session = self.node.registry.find_user("bob")
        assert session is not None
        self.deliver(b"1")
        self.delivery.deliver(direct(b"2"), session, lambda outcome: self.deliver(b"4"))
        self.deliver(b"3")
        first.callback(True)
        self.assertEqual(self.came(), [b"1", b"2", b"3", b"4"])

    def test_timeout(self) -> None:
        """All callbacks of one message have lookup_timeout_seconds together; the ones behind it have their own."""
        self.ask_slowly()
        self.deliver(b"1")
        self.deliver(b"2")
        self.clock.advance(SECONDS - 0.1)
        self.assertEqual(self.outcomes, [])
        self.clock.advance(0.2)
        self.assertEqual(self.outcomes, [(b"1", Outcome.TIMED_OUT)])
        self.clock.advance(SECONDS - 0.2)
        self.asked[1][1].callback(True)
        self.assertEqual((self.outcomes[1:], self.came()), ([(b"2", Outcome.TAKEN)], [b"2"]))
        self.assertEqual(self.delivery.failed, 1)

    def test_goes_on(self) -> None:
        """A callback that does not heed its end holds up nobody, and what it says later delivers nothing."""
        late: Deferred[bool] = Deferred()

        async def stubborn(ver: int, cmd: int, message: bytes, sender_id: str, receiver: User) -> bool:
            try:
                return await Deferred[bool]()
            except CancelledError:
                return await late

        self.delivery.on_receive(stubborn)
        self.deliver(b"1")
        self.deliver(b"2")
        self.clock.advance(SECONDS)
        self.clock.advance(SECONDS)
        self.assertEqual(self.outcomes, [(b"1", Outcome.TIMED_OUT), (b"2", Outcome.TIMED_OUT)])
        late.callback(True)
        self.assertEqual((self.came(), self.delivery.waiting_count), ([], 0))

    def test_bound(self) -> None:
        """Only so many messages wait behind slow callbacks; one more is refused, and the rest is not harmed."""
        self.patch(direct_delivery, "MAX_WAITING", 3)
        self.ask_slowly()
        for number in range(6):
            self.deliver(b"%d" % number)
        self.assertEqual(self.delivery.waiting_count, 3)
        self.assertEqual(self.outcomes, [(b"4", Outcome.TIMED_OUT), (b"5", Outcome.TIMED_OUT)])
        while self.asked:
            self.asked.pop()[1].callback(True)
        self.assertEqual(self.came(), [b"0", b"1", b"2", b"3"])

    def test_gone_meanwhile(self) -> None:
        """A user whose session ended while a callback thought gets nothing, and the sender's node looks again."""
        self.ask_slowly()
        self.deliver(b"1")
        self.deliver(b"2")
        self.clients["bob"].send(4, ver=0)
        self.node.settle()
        self.asked[0][1].callback(True)
        self.asked[1][1].callback(True)
        self.assertEqual(self.outcomes, [(b"1", Outcome.NOT_HERE), (b"2", Outcome.NOT_HERE)])
        self.assertEqual(self.delivery.delivered, 0)
