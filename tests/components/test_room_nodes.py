"""Rooms among nodes that misbehave, and links that take no more."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.components.node_post import NodePost
from meshrelay.components.place_ids import new_place_id, node_key
from meshrelay.components.room_nodes import RoomCasts
from meshrelay.errors import ErrorCode
from meshrelay.model import Status
from meshrelay.testing.builders import make_sid
from meshrelay.testing.paired_nodes import PairedNodes
from meshrelay.wire.commands import Command, encode_gid_message
from meshrelay.wire.frame import encode_push
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.room_node import (
    MAX_ANSWER_BYTES,
    RoomAnswer,
    RoomAsk,
    RoomCastEntry,
    RoomOp,
    RoomOut,
    decode_room_answer,
    decode_room_ask,
    encode_room_answer,
    encode_room_ask,
    encode_room_cast,
    encode_room_cast_entry,
    encode_room_out,
)
from tests.components.room_home_kit import HomeKit
from tests.components.room_kit import RoomTestCase, Told, told


class StrangerTestCase(RoomTestCase):
    """Node a, and a node "s" that says what the test wants."""

    node_ids = ("a",)

    def setUp(self) -> None:
        """Link them."""
        super().setUp()
        self.asked: list[RoomAsk] = []
        self.answers: list[RoomAnswer] = []
        self.outs: list[bytes] = []
        linked = self.cluster.links.add("s")
        self.nodes = linked.nodes
        for kind, take in (
            (NodeKind.ROOM_ASK, lambda _, data: self.asked.append(decode_room_ask(data))),
            (NodeKind.ROOM_ANSWER, lambda _, data: self.answers.append(decode_room_answer(data))),
            (NodeKind.ROOM_CAST, lambda _, data: None),
            (NodeKind.ROOM_OUT, lambda _, data: self.outs.append(data)),
        ):
            linked.nodes.handle(kind, take)
        self.cluster.links.linked()

    def tell(self, kind: NodeKind, payload: bytes) -> None:
        """Send anything to node a, and let it arrive."""
        assert self.nodes.send("a", kind, payload)
        self.cluster.run(0.1)

    def ask_home(self, number: int, op: int, room_id: str, user_id: str = "zoe", data: bytes = b"") -> None:
        """Ask node a for something."""
        sid = make_sid(user_id) if user_id else ""
        self.tell(NodeKind.ROOM_ASK, encode_room_ask(RoomAsk(number, op, True, room_id, user_id, sid, data)))


class AskedTests(StrangerTestCase):
    """What the stranger asks of a room of node a."""

    def setUp(self) -> None:
        """Ann's room."""
        super().setUp()
        [self.ann] = self.sign_in("ann")
        self.den = self.create(self.ann)

    def test_answers(self) -> None:
        """Each ask is answered once under its number, refusals with code and text; number 0 is not."""
        self.ask_home(7, RoomOp.JOIN, self.den)
        self.ask_home(8, RoomOp.JOIN, self.den)
        self.ask_home(0, RoomOp.JOIN, self.den)
        self.ask_home(9, 99, self.den)
        self.ask_home(10, RoomOp.JOIN, "x" * 52)
        self.assertEqual(self.answers[0], RoomAnswer(7, False, 0, b"\x03ann"))
        codes = [(each.number, each.code) for each in self.answers[1:]]
        self.assertEqual(
            codes, [(8, ErrorCode.ALREADY_MEMBER), (9, ErrorCode.UNKNOWN_COMMAND), (10, ErrorCode.ROOM_NOT_FOUND)]
        )

    def test_long_answer(self) -> None:
        """A long answer is cut into parts that say that more follows."""
        for number in range(400):
            user_id = f"{number:0100d}"
            self.ask_home(0, RoomOp.JOIN, self.den, user_id)
            self.ask_home(0, RoomOp.FACTS, self.den, user_id, bytes(512))
        self.ask_home(5, RoomOp.SNAPSHOT, self.den, "")
        parts = [each for each in self.answers if each.number == 5]
        self.assertEqual([each.has_more for each in parts], [True] * (len(parts) - 1) + [False])
        self.assertGreater(len(parts), 1)
        self.assertEqual([len(each.data) for each in parts[:-1]], [MAX_ANSWER_BYTES] * (len(parts) - 1))

    def test_garbage(self) -> None:
        """What cannot be read is counted, and the node goes on."""
        for kind in (NodeKind.ROOM_ASK, NodeKind.ROOM_ANSWER, NodeKind.ROOM_CAST, NodeKind.ROOM_OUT):
            self.tell(kind, b"x")
        self.assertEqual(self.cluster.links["a"].nodes.statistics()["malformed"], 4)
        self.assertEqual(self.members(self.ann, self.den), ("ann", ["ann"]))

    def test_foreign_home(self) -> None:
        """No node speaks for the rooms of another."""
        frame = encode_push(1, 103, encode_gid_message(self.den, b"\x03bobforged"))
        entry = encode_room_cast_entry(RoomCastEntry(True, "", (), frame))
        self.tell(NodeKind.ROOM_CAST, encode_room_cast(self.den, [entry]))
        self.tell(NodeKind.ROOM_OUT, encode_room_out(RoomOut(self.den, "", "")))
        self.assertEqual(told(self.ann), [])
        self.assertEqual(self.members(self.ann, self.den), ("ann", ["ann"]))


class StrangeHomeTests(StrangerTestCase):
    """What the stranger says of a room of its own."""

    def setUp(self) -> None:
        """Ann joins it, and waits."""
        super().setUp()
        [self.ann] = self.sign_in("ann")
        self.den = new_place_id(node_key("s"), bytes)
        self.request_id = self.ann.ask(Command.ROOM_JOIN, encode_gid_message(self.den, b"hi"))
        self.cluster.run(0.1)

    def answer(self, data: bytes = b"\x03bob", code: int = 0) -> None:
        """Answer the last ask."""
        self.tell(NodeKind.ROOM_ANSWER, encode_room_answer(RoomAnswer(self.asked[-1].number, False, code, data)))

    def test_timeout(self) -> None:
        """A home that does not answer: code 6, and the join is taken back; a late answer changes nothing."""
        self.assertIsNone(self.ann.answer_to(self.request_id))
        number = self.asked[-1].number
        self.cluster.run(6)
        answer = self.ann.answer_to(self.request_id)
        assert answer is not None
        self.assertEqual(answer.payload[:2], b"\x00\x06")
        self.assertEqual([ask.op for ask in self.asked], [RoomOp.JOIN, RoomOp.LOST])
        self.tell(NodeKind.ROOM_ANSWER, encode_room_answer(RoomAnswer(number, False, 0, b"\x03bob")))
        self.assertEqual(self.rooms().statistics()["room_seats"], 0)

    def test_gone_meanwhile(self) -> None:
        """Who is gone when the home says yes is told to be lost at once."""
        self.ann.send(4, ver=0)
        self.cluster.run(0.1)
        self.answer()
        self.assertEqual([ask.op for ask in self.asked], [RoomOp.JOIN, RoomOp.LOST])

    def test_bad_answer(self) -> None:
        """An answer that makes no sense is the node's fault, not the client's, and the join is taken back."""
        self.answer(b"")
        answer = self.ann.answer_to(self.request_id)
        assert answer is not None
        self.assertEqual((answer.status, answer.payload[:2]), (Status.ERROR, b"\x00\x07"))
        self.assertEqual([ask.op for ask in self.asked], [RoomOp.JOIN, RoomOp.LOST])
        self.assertEqual(self.rooms().statistics()["room_seats"], 0)

    def test_out(self) -> None:
        """Who is put out is told so, and is asked for no more; an out of another session means nothing."""
        self.answer()
        self.tell(NodeKind.ROOM_OUT, encode_room_out(RoomOut(self.den, "ann", "0" * 32)))
        self.assertEqual(told(self.ann), [])
        self.tell(NodeKind.ROOM_OUT, encode_room_out(RoomOut(self.den, "ann", self.ann.sid)))
        self.assertEqual(told(self.ann), [Told("lost", "ann")])
        self.ann.send(4, ver=0)
        self.cluster.run(0.1)
        self.assertEqual([ask.op for ask in self.asked], [RoomOp.JOIN])

    def test_disagreement(self) -> None:
        """When the home says that somebody is not in, it is right: nothing more is delivered."""
        self.answer()
        leaving = self.ann.ask(Command.ROOM_LEAVE, encode_gid_message(self.den, b""))
        self.cluster.run(0.1)
        self.answer(b"not in the room", 24)
        answer = self.ann.answer_to(leaving)
        assert answer is not None
        self.assertEqual(answer.payload[:2], b"\x00\x18")
        self.assertEqual(self.rooms().statistics()["room_seats"], 0)

    def test_dies_meanwhile(self) -> None:
        """A home that dies answers nobody: code 6 as soon as that is noticed."""
        self.cluster.links.kill("s")
        self.cluster.run(3)
        answer = self.ann.answer_to(self.request_id)
        assert answer is not None
        self.assertEqual(answer.payload[:2], b"\x00\x06")


class RoomCastsTests(SynchronousTestCase):
    """Casts that no link takes."""

    def test_full(self) -> None:
        """Members on a node that misses what must arrive are out; what may be lost is only counted."""
        kit = HomeKit()
        room = kit.create()
        kit.join(room, "bob@b", "cat@c")
        nodes = PairedNodes("abc")
        post = NodePost(nodes["a"], Alarms(kit.clock))
        casts = RoomCasts(nodes["a"], post, Alarms(kit.clock))
        casts.home = kit.home
        # As when a link is full: what was told before waits, and nothing may overtake it.
        self.patch(nodes["a"], "send", lambda *_: False)
        casts.send(room.id, "b", b"", False)
        kit.clock.advance(1)
        self.assertEqual(list(room.members), ["bob", "cat"])
        casts.send(room.id, "b", b"", True)
        self.assertEqual(list(room.members), ["bob", "cat"])
        kit.clock.advance(1)
        self.assertEqual((list(room.members), casts.lost), (["cat"], 2))

    def test_unknown_node(self) -> None:
        """A node that is gone is sent nothing, and its members may still come back elsewhere."""
        kit = HomeKit()
        room = kit.create()
        kit.join(room, "dan@d")
        node, alarms = PairedNodes("abc")["a"], Alarms(kit.clock)
        casts = RoomCasts(node, NodePost(node, alarms), alarms)
        casts.home = kit.home
        casts.send(room.id, "d", b"", True)
        kit.clock.advance(1)
        self.assertEqual(list(room.members), ["dan"])
