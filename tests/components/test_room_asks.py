"""What a node wants of rooms of another one."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.components import room_asks
from meshrelay.components.node_post import NodePost
from meshrelay.components.place_ids import new_place_id, node_key
from meshrelay.components.room_asks import ANSWER_SECONDS, RoomAsks
from meshrelay.errors import (
    AlreadyMember,
    CommandError,
    InternalError,
    MalformedFrame,
    RoomFull,
    RoomJoinError,
    RoomNotFound,
    RoomTimeout,
)
from meshrelay.model import User
from meshrelay.testing.paired_nodes import PairedNode, PairedNodes
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.room_node import RoomAnswer, RoomAsk, RoomOp, decode_room_ask, encode_room_answer

ANN = User("ann", "0" * 32)


class LosingNode(PairedNode):
    """A node that may have lost others, and links that may be full."""

    lost: tuple[str, ...] = ()
    is_full = False

    def is_lost(self, node_id: str) -> bool:
        """See `INodes`."""
        return node_id in self.lost

    def send(self, node_id: str, kind: int, payload: bytes) -> bool:
        """See `INodes`."""
        return not self.is_full and super().send(node_id, kind, payload)


class RoomAsksTests(SynchronousTestCase):
    """Node a, which has a room, and b, which has another."""

    def setUp(self) -> None:
        """B is known to a."""
        self.clock = Clock()
        self.nodes = PairedNodes("abc")
        self.node = LosingNode(self.nodes, "a")
        self.here, self.there = (new_place_id(node_key(name), bytes) for name in "ab")
        self.asked: list[RoomAsk] = []
        self.nodes["b"].handle(NodeKind.ROOM_ASK, lambda _, payload: self.asked.append(decode_room_ask(payload)))
        alarms = Alarms(self.clock)
        self.asks = RoomAsks(self.node, NodePost(self.node, alarms), alarms, self.perform)
        self.asks.node_met("b")
        self.refusal: CommandError | None = None

    def perform(self, node_id: str, ask: RoomAsk) -> bytes:
        """Be the home of the room here."""
        self.assertEqual(node_id, "a")
        if self.refusal is not None:
            raise self.refusal
        return ask.data + b" done"

    def answer(self, number: int, data: bytes, code: int = 0, has_more: bool = False, node_id: str = "b") -> None:
        """Let an answer come."""
        self.asks.answer_received(node_id, encode_room_answer(RoomAnswer(number, has_more, code, data)))

    def test_here(self) -> None:
        """What is asked of this node is done at once, and refused at once."""
        self.assertEqual(self.successResultOf(self.asks.ask(RoomOp.MEMBERS, self.here, ANN, b"it")), b"it done")
        self.refusal = RoomFull()
        self.failureResultOf(self.asks.ask(RoomOp.JOIN, self.here, ANN), RoomFull)
        self.asks.submit(RoomOp.JOIN, self.here, ANN, b"", True)

    def test_there(self) -> None:
        """What is asked of another node goes there in order, and each has the answer of its own."""
        waiting = [self.asks.ask(RoomOp.LEAVE, self.there, ANN, b"%d" % number) for number in range(3)]
        self.assertEqual(
            [(ask.user_id, ask.sid, ask.data) for ask in self.asked], [("ann", ANN.sid, b"%d" % n) for n in range(3)]
        )
        for ask in reversed(self.asked):
            self.answer(ask.number, b"answer to " + ask.data)
        self.assertEqual([self.successResultOf(each) for each in waiting], [b"answer to %d" % n for n in range(3)])
        self.assertEqual(self.asks.pending_count, 0)

    def test_nobody_waits(self) -> None:
        """What nobody wants to know about is sent without a number."""
        self.asks.submit(RoomOp.FACTS, self.there, ANN, b"x", True)
        self.asks.tell(RoomOp.LOST, self.there, ANN)
        self.assertEqual([(ask.number, ask.op) for ask in self.asked], [(0, RoomOp.FACTS), (0, RoomOp.LOST)])

    def test_refused(self) -> None:
        """A refusal comes back as what it is; an unknown one as an error of the node."""
        waiting = [self.asks.ask(RoomOp.JOIN, self.there, ANN) for _ in range(3)]
        for ask, code in zip(self.asked, (20, 23, 999), strict=True):
            self.answer(ask.number, b"text %d" % code, code)
        for each, (error_class, text) in zip(
            waiting, ((AlreadyMember, "text 20"), (RoomFull, "text 23"), (InternalError, "text 999")), strict=True
        ):
            error = self.failureResultOf(each, error_class).value
            self.assertEqual(str(error), text)
        self.assertIsInstance(AlreadyMember(), RoomJoinError)

    def test_parts(self) -> None:
        """A long answer comes in parts, and one that is far too long is given up."""
        waiting = [self.asks.ask(RoomOp.SNAPSHOT, self.there, None) for _ in range(2)]
        for ask in self.asked:
            self.answer(ask.number, b"one ", has_more=True)
        self.answer(self.asked[0].number, b"two")
        self.assertEqual(self.successResultOf(waiting[0]), b"one two")
        self.patch(room_asks, "MAX_DATA_BYTES", 10)
        self.answer(self.asked[1].number, bytes(7))
        self.failureResultOf(waiting[1], InternalError)

    def test_foreign_answer(self) -> None:
        """Another node cannot answer for the one that was asked, and what was answered is over."""
        waiting = self.asks.ask(RoomOp.JOIN, self.there, ANN)
        number = self.asked[0].number
        self.answer(number, b"forged", node_id="c")
        self.assertNoResult(waiting)
        self.answer(number, b"true")
        self.answer(number, b"twice")
        self.assertEqual(self.successResultOf(waiting), b"true")
        self.assertRaises(MalformedFrame, self.asks.answer_received, "b", b"short")

    def test_timeout(self) -> None:
        """An answer that does not come is waited for so long, and counted."""
        waiting = self.asks.ask(RoomOp.JOIN, self.there, ANN)
        self.clock.pump([0.25] * int(4 * ANSWER_SECONDS - 1))
        self.assertNoResult(waiting)
        self.clock.pump([0.25] * 3)
        self.failureResultOf(waiting, RoomTimeout)
        self.assertEqual((self.asks.timeouts, self.asks.pending_count), (1, 0))

    def test_unknown(self) -> None:
        """A room of no known node is not there."""
        for room_id in ("x" * 52, new_place_id(node_key("c"), bytes), "short", ""):
            self.failureResultOf(self.asks.ask(RoomOp.JOIN, room_id, ANN), RoomNotFound)
        self.asks.tell(RoomOp.LOST, "x" * 52, ANN)

    def test_lost(self) -> None:
        """A home that is lost keeps nobody waiting; one that is gone has no rooms."""
        waiting = self.asks.ask(RoomOp.JOIN, self.there, ANN)
        self.node.lost = ("b",)
        self.asks.node_lost("b")
        self.failureResultOf(waiting, RoomTimeout)
        self.failureResultOf(self.asks.ask(RoomOp.JOIN, self.there, ANN), RoomTimeout)
        self.asks.node_gone("b")
        self.failureResultOf(self.asks.ask(RoomOp.JOIN, self.there, ANN), RoomNotFound)

    def test_full(self) -> None:
        """What a full link does not take is refused at once."""
        self.node.is_full = True
        self.failureResultOf(self.asks.ask(RoomOp.JOIN, self.there, ANN), RoomTimeout)

    def test_bound(self) -> None:
        """So many wait at most, and the next one may when one was answered."""
        self.patch(room_asks, "MAX_PENDING", 2)
        for _ in range(2):
            self.assertNoResult(self.asks.ask(RoomOp.JOIN, self.there, ANN))
        self.failureResultOf(self.asks.ask(RoomOp.JOIN, self.there, ANN), RoomTimeout)
        self.answer(self.asked[0].number, b"")
        self.assertNoResult(self.asks.ask(RoomOp.JOIN, self.there, ANN))

    def test_cancelled(self) -> None:
        """Who stops waiting is not answered."""
        waiting = self.asks.ask(RoomOp.JOIN, self.there, ANN)
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.answer(self.asked[0].number, b"")
        self.assertEqual(self.asks.pending_count, 0)
