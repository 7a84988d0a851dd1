"""What becomes of places in rooms when sessions and homes come and go, in the cases that a cluster hardly meets."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.components.node_post import NodePost
from meshrelay.components.place_ids import new_place_id, node_key
from meshrelay.components.room_asks import RoomAsks
from meshrelay.components.room_edge import ADOPT_TRIES, RoomEdge
from meshrelay.errors import RoomTimeout, TooManyRooms
from meshrelay.session.session import Session
from meshrelay.testing.builders import make_session
from meshrelay.testing.link import MemoryLink
from meshrelay.testing.paired_nodes import PairedNodes
from meshrelay.wire.commands import decode_pushed_message
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.room_node import RoomAnswer, RoomAsk, RoomOp, decode_room_ask, encode_room_answer
from tests.components.room_home_kit import HomeKit


class RoomEdgeTests(SynchronousTestCase):
    """Node a, with ann; rooms of node b, which is played by the test."""

    def setUp(self) -> None:
        """Ann is in no room yet."""
        self.kit = HomeKit()
        self.clock: Clock = self.kit.clock
        nodes = PairedNodes("ab")
        alarms = Alarms(self.clock)
        self.asked: list[RoomAsk] = []
        nodes["b"].handle(NodeKind.ROOM_ASK, lambda _, payload: self.asked.append(decode_room_ask(payload)))
        post = NodePost(nodes["a"], alarms)
        self.asks = RoomAsks(nodes["a"], post, alarms, self.kit.home.perform)
        self.asks.node_met("b")
        self.edge = RoomEdge(nodes["a"], self.kit.home, self.asks, self.kit.seats, alarms, 4.0)
        self.link = MemoryLink()
        self.ann = make_session("ann", self.link)
        self.den, self.hall = (new_place_id(node_key("b"), fill.__mul__) for fill in (b"d", b"h"))

    def answer(self, data: bytes = b"\x03bob", code: int = 0) -> None:
        """Answer the last ask of the home."""
        self.asks.answer_received("b", encode_room_answer(RoomAnswer(self.asked[-1].number, False, code, data)))

    def join(self, room_id: str, session: Session | None = None) -> Deferred[str]:
        """Join a room."""
        return Deferred.fromCoroutine(self.edge.join(session or self.ann, room_id, b"", True))

    def adopt(self, *room_ids: str) -> Deferred[None]:
        """Give ann, who comes from another node, her places."""
        return Deferred.fromCoroutine(self.edge.adopt(self.ann, list(room_ids)))

    def ops(self) -> list[int]:
        """What was asked since the last call."""
        asked, self.asked = self.asked, []
        return [ask.op for ask in asked]

    def lost(self) -> list[tuple[str, str]]:
        """What ann was told to be out of."""
        self.link.read()
        pushed = [decode_pushed_message(frame.payload) for frame in self.link.received if frame.cmd == 106]
        return [(each.group_id, each.user_id) for each in pushed]

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([0.25] * round(seconds * 4))

    def test_cancelled_join(self) -> None:
        """A join that nobody waits for any more is taken back."""
        joining = self.join(self.den)
        joining.addErrback(lambda _: None)
        joining.cancel()
        self.assertEqual(self.ops(), [RoomOp.JOIN, RoomOp.LOST])

    def test_joins_at_once(self) -> None:
        """Joins under way together do not get past the bound of one user."""
        rooms = [new_place_id(node_key("b"), bytes([n]).__mul__) for n in range(11)]
        joining = [self.join(room_id) for room_id in rooms]
        for ask in list(self.asked):
            answer = RoomAnswer(ask.number, False, 0, b"\x03bob")
            self.asks.answer_received("b", encode_room_answer(answer))
        for each in joining[:10]:
            self.assertEqual(self.successResultOf(each), "bob")
        self.failureResultOf(joining[10], TooManyRooms)
        self.assertEqual(self.ops()[11:], [RoomOp.LOST])

    def test_home_lost(self) -> None:
        """The members of a home that is lost for long are out, and it is told when it can be."""
        self.join(self.den)
        self.answer()
        self.edge.home_lost("b")
        self.advance(3)
        self.edge.home_back("b")
        self.advance(3)
        self.assertEqual(self.lost(), [])
        self.edge.home_lost("b")
        self.edge.home_back("b")
        self.edge.home_lost("b")
        self.advance(5)
        self.assertEqual(self.lost(), [(self.den, "ann")])
        self.assertEqual((self.ops(), self.edge.outs), ([RoomOp.JOIN, RoomOp.LOST], 1))

    def test_adopt(self) -> None:
        """A session that comes is asked in where it was, and not told of anything."""
        done = self.adopt(self.den, self.hall)
        self.assertEqual([(ask.op, ask.room_id) for ask in self.asked], [(5, self.den), (5, self.hall)])
        self.assertNoResult(done)
        for ask in self.asked:
            self.asks.answer_received("b", encode_room_answer(RoomAnswer(ask.number, False, 0, b"\x03bob")))
        self.successResultOf(done)
        self.assertEqual(self.edge.room_ids(self.ann), [self.den, self.hall])
        self.assertEqual(self.lost(), [])

    def test_adopt_refused(self) -> None:
        """Where the home knows nothing of the session any more, the client is told that it is out."""
        done = self.adopt(self.den)
        self.answer(b"no", 24)
        self.successResultOf(done)
        self.assertEqual((self.lost(), self.edge.room_ids(self.ann)), ([(self.den, "ann")], []))

    def test_adopt_again(self) -> None:
        """A home that does not answer is asked again a few times, and in the end told that nobody is here."""
        done = self.adopt(self.den)
        self.advance(5.5 * ADOPT_TRIES)
        self.assertNoResult(done)
        self.advance(ADOPT_TRIES + 2)
        self.successResultOf(done)
        self.assertEqual(self.ops(), [RoomOp.ADOPT] * ADOPT_TRIES + [RoomOp.LOST])
        self.assertEqual(self.lost(), [(self.den, "ann")])

    def test_adopt_too_late(self) -> None:
        """A session that ends on its way in is told to be lost, and nothing is delivered to it."""
        done = self.adopt(self.den)
        self.ann.is_over = True
        number = self.asked[-1].number
        self.edge.session_closed(self.ann)
        self.asks.answer_received("b", encode_room_answer(RoomAnswer(number, False, 0, b"\x03bob")))
        self.successResultOf(done)
        self.assertEqual(self.ops(), [RoomOp.ADOPT, RoomOp.LOST])
        self.assertEqual(self.lost(), [])

    def test_over_before_it_asks_again(self) -> None:
        """A session that ends between two asks is told to be lost: the home may let it in all the same."""
        done = self.adopt(self.den)
        self.advance(5.5)
        self.ann.is_over = True
        self.edge.session_closed(self.ann)
        self.advance(2)
        self.successResultOf(done)
        self.assertEqual(self.ops(), [RoomOp.ADOPT, RoomOp.LOST])

    def test_moved_before_it_is_in(self) -> None:
        """A session that goes on before a home has answered takes that room along, and is not said to be lost."""
        done = self.adopt(self.den, self.hall)
        den, hall = self.asked
        self.asks.answer_received("b", encode_room_answer(RoomAnswer(den.number, False, 0, b"\x03bob")))
        self.assertEqual(self.edge.room_ids(self.ann), [self.den, self.hall])
        self.ann.is_over = True
        self.edge.session_moved(self.ann)
        self.asks.answer_received("b", encode_room_answer(RoomAnswer(hall.number, False, 0, b"\x03bob")))
        self.successResultOf(done)
        self.assertEqual(self.ops(), [RoomOp.ADOPT, RoomOp.ADOPT, RoomOp.MOVED, RoomOp.MOVED])

    def test_leave_without_answer(self) -> None:
        """Who leaves and is not answered is out, here and as soon as the home hears of it, and may come in again."""
        self.join(self.den)
        self.answer()
        leaving = Deferred.fromCoroutine(self.edge.leave(self.ann, self.den, b"", True))
        self.advance(5.5)
        self.failureResultOf(leaving, RoomTimeout)
        self.assertEqual(self.lost(), [(self.den, "ann")])
        again = self.join(self.den)
        self.answer()
        self.assertEqual(self.successResultOf(again), "bob")
        self.assertEqual(self.ops(), [RoomOp.JOIN, RoomOp.LEAVE, RoomOp.LOST, RoomOp.JOIN])

    def test_moved(self) -> None:
        """A session that goes on elsewhere is said to have moved, in each of its rooms."""
        for room_id in (self.den, self.hall):
            self.join(room_id)
            self.answer()
        self.ops()
        self.edge.session_moved(self.ann)
        self.assertEqual([(ask.op, ask.room_id) for ask in self.asked], [(4, self.den), (4, self.hall)])
        self.edge.session_closed(self.ann)
        self.assertEqual(len(self.asked), 2)
