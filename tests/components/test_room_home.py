"""What the home of rooms makes of what nodes want, in the cases that a whole cluster hardly meets."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import room_home
from meshrelay.components.room_home import MAX_FACTS_BYTES
from meshrelay.errors import (
    AlreadyMember,
    EmptyAndNotJoined,
    InvalidTTL,
    MalformedFrame,
    MalformedPayload,
    MessageTooLarge,
    NodeOffline,
    NotInRoom,
    RoomFull,
    RoomNewError,
    RoomNotFound,
    TooManyRooms,
    UnknownCommand,
)
from meshrelay.model import User
from meshrelay.testing.builders import make_sid
from meshrelay.wire.frame import encode_push
from meshrelay.wire.room_commands import NewRoom
from meshrelay.wire.room_node import RoomOp, RoomOut, decode_snapshot
from tests.components.room_home_kit import HomeKit, Sent


class CreateTests(SynchronousTestCase):
    """What a room may be."""

    def test_refused(self) -> None:
        """What cannot be is refused for the first reason there is, and is a RoomNewError."""
        kit = HomeKit()
        kit.is_draining = True
        for wanted, error_class in (
            (NewRoom(6, False, False, 10, 0), MalformedPayload),
            (NewRoom(5, False, False, 10, 0), InvalidTTL),
            (NewRoom(5, False, False, 11, 0), EmptyAndNotJoined),
            (NewRoom(5, True, False, 11, 0), NodeOffline),
        ):
            error = self.assertRaises(error_class, kit.home.create, None, wanted)
            self.assertEqual(isinstance(error, RoomNewError), error_class is not MalformedPayload)
        kit.is_draining = False
        for _ in range(10):
            kit.create()
        self.assertRaises(TooManyRooms, kit.create)

    def test_settings(self) -> None:
        """0 members means as many as may be; a short interval means none."""
        kit = HomeKit()
        for asked, interval_ms, settings in ((0, 99, (5, True, 60, 0)), (2, 100, (2, True, 60, 100))):
            room = kit.home.create(None, NewRoom(asked, True, False, 60, interval_ms))
            self.assertEqual(tuple(room.settings), settings)
            self.assertEqual(kit.home.interval_ms(room.id), settings[3])
        self.assertEqual(kit.home.interval_ms("x" * 52), 0)

    def test_first_member(self) -> None:
        """Who makes a room and joins it is its owner."""
        room = HomeKit().home.create(User("ann", "0" * 32), NewRoom(0, False, True, 60, 0))
        self.assertEqual(room.owner, "ann")


class MemberTests(SynchronousTestCase):
    """Who is in."""

    def setUp(self) -> None:
        """A room with ann and bob on b, cat on c."""
        self.kit = HomeKit()
        self.room = self.kit.create()
        self.kit.join(self.room, "ann@b", "bob@b", "cat@c")
        self.kit.sent()

    def ids(self) -> list[str]:
        """The members."""
        return list(self.room.members)

    def test_again(self) -> None:
        """Joining twice is refused; a newer session of the user takes over, and is the last one in."""
        self.assertRaises(AlreadyMember, self.kit.ask, self.room, RoomOp.JOIN, "ann", "b")
        self.kit.ask(self.room, RoomOp.JOIN, "ann", "c", encode_push(3, 1, b"hi"), sid="0" * 32)
        self.assertEqual(self.ids(), ["bob", "cat", "ann"])
        expected = [("ROOM_LOST", "ann", b""), ("owner", "bob", b""), ("app", "", b"hi")]
        self.assertEqual([each[1:] for each in self.kit.sent() if each.node_id == "c"], expected)

    def test_again_alone(self) -> None:
        """A newer session of the only member finds the room still there."""
        room = self.kit.home.create(User("eve", "1" * 32), NewRoom(0, False, True, 60, 0))
        self.kit.ask(room, RoomOp.JOIN, "eve", "b")
        self.assertEqual((list(room.members), room.is_gone), (["eve"], False))

    def test_full(self) -> None:
        """Nobody joins a full room, and nobody is told of the try."""
        self.kit.join(self.room, "dan@b", "eve@b")
        self.kit.sent()
        self.assertRaises(RoomFull, self.kit.ask, self.room, RoomOp.JOIN, "fay", "b", encode_push(3, 1, b"hi"))
        self.assertEqual(self.kit.sent(), [])

    def test_wrong_session(self) -> None:
        """What is asked under another sid is refused: it is not the member who asks."""
        not_of_a_member = (RoomOp.JOIN, RoomOp.SEND_TO, RoomOp.SNAPSHOT, RoomOp.CLOSE)
        for op in (op for op in RoomOp if op not in not_of_a_member):
            self.assertRaises(NotInRoom, self.kit.ask, self.room, op, "ann", "b", b"", "0" * 32)
        self.assertEqual(self.ids(), ["ann", "bob", "cat"])

    def test_late_word(self) -> None:
        """What a node says of a session that has moved on from it means nothing."""
        self.kit.ask(self.room, RoomOp.ADOPT, "ann", "c")
        self.kit.ask(self.room, RoomOp.LOST, "ann", "b")
        self.kit.ask(self.room, RoomOp.MOVED, "ann", "b")
        self.kit.clock.advance(10)
        self.assertEqual((self.ids(), self.kit.home.lost), (["ann", "bob", "cat"], 0))

    def test_moved_for_good(self) -> None:
        """A session that left its node and came nowhere is lost after a while."""
        self.kit.ask(self.room, RoomOp.MOVED, "ann", "b")
        self.kit.clock.advance(3)
        self.assertEqual(self.kit.sent(), [])
        self.kit.clock.advance(2)
        told = [Sent("c", "ROOM_LOST", "ann"), Sent("c", "owner", "bob")]
        self.assertEqual([each for each in self.kit.sent() if each.node_id == "c"], told)
        self.assertEqual(self.kit.outs, [("b", RoomOut(self.room.id, "ann", make_sid("ann")))])

    def test_node_lost(self) -> None:
        """The members of a lost node are expected for a while; then they are lost, and the next owner is told once."""
        self.kit.home.node_lost("b")
        self.kit.clock.advance(3)
        self.assertEqual(self.ids(), ["ann", "bob", "cat"])
        self.kit.clock.advance(2)
        expected = [Sent("c", "ROOM_LOST", "ann"), Sent("c", "ROOM_LOST", "bob"), Sent("c", "owner", "cat")]
        self.assertEqual(self.kit.sent(), expected)
        self.assertEqual(self.kit.home.lost, 2)

    def test_node_back(self) -> None:
        """When the node is back in time nobody is lost, but who was on the way elsewhere and did not arrive."""
        self.kit.ask(self.room, RoomOp.MOVED, "ann", "b")
        self.kit.home.node_lost("b")
        self.kit.clock.advance(3)
        self.kit.home.node_back("b")
        self.kit.clock.advance(10)
        self.assertEqual(self.ids(), ["bob", "cat"])
        self.kit.home.node_back("c")

    def test_node_gone(self) -> None:
        """A node that began anew does not bring its members back; who joins anew is not lost with them."""
        self.kit.home.node_lost("b")
        self.kit.home.node_gone("b")
        self.kit.clock.advance(1)
        self.kit.ask(self.room, RoomOp.JOIN, "ann", "b")
        self.kit.home.node_back("b")
        self.kit.clock.advance(10)
        self.assertEqual(self.ids(), ["cat", "ann"])

    def test_adopt_from_lost_node(self) -> None:
        """A session of a lost node that goes on elsewhere keeps its place."""
        self.kit.home.node_lost("b")
        self.assertEqual(self.kit.ask(self.room, RoomOp.ADOPT, "ann", "c"), b"\x03ann")
        self.kit.clock.advance(10)
        self.assertEqual(self.ids(), ["ann", "cat"])
        self.assertEqual(self.room.outlet.node_ids, ["c"])

    def test_link_full(self) -> None:
        """Members on a node that misses something are out, and told so; the others are not touched."""
        self.kit.home.link_full(self.room.id, "b")
        self.kit.home.link_full("x" * 52, "b")
        self.assertEqual(self.ids(), ["cat"])
        self.assertEqual([(node_id, out.user_id) for node_id, out in self.kit.outs], [("b", "ann"), ("b", "bob")])

    def test_close(self) -> None:
        """A closed room tells each node once that all are out."""
        self.kit.ask(self.room, RoomOp.CLOSE)
        everybody = RoomOut(self.room.id, "", "")
        self.assertEqual(self.kit.outs, [("a", everybody), ("b", everybody), ("c", everybody)])
        self.assertRaises(RoomNotFound, self.kit.ask, self.room, RoomOp.SNAPSHOT)
        self.assertEqual((len(self.kit.table), self.kit.table.member_count), (0, 0))


class AskTests(SynchronousTestCase):
    """Bounds, and what no node of this version sends."""

    def setUp(self) -> None:
        """A room with ann."""
        self.kit = HomeKit()
        self.room = self.kit.create()
        self.kit.join(self.room, "ann@b")

    def test_unknown(self) -> None:
        """A later version may ask for more, and learns that it is not to be had here."""
        self.assertRaises(UnknownCommand, self.kit.ask, self.room, 99, "ann")

    def test_malformed(self) -> None:
        """Pushes that are none are the node's fault, and change nothing."""
        for op in (RoomOp.BROADCAST, RoomOp.LEAVE, RoomOp.SEND_TO):
            self.assertRaises(MalformedFrame, self.kit.ask, self.room, op, "ann", "b", b"\x00\x01x")
        self.assertRaises(MalformedFrame, self.kit.ask, self.room, RoomOp.JOIN, "bob", "b", b"x")
        self.assertEqual(list(self.room.members), ["ann"])

    def test_facts(self) -> None:
        """Facts have so many bytes at most."""
        self.kit.ask(self.room, RoomOp.FACTS, "ann", "b", bytes(MAX_FACTS_BYTES))
        self.assertRaises(
            MessageTooLarge, self.kit.ask, self.room, RoomOp.FACTS, "ann", "b", bytes(MAX_FACTS_BYTES + 1)
        )
        snapshot = decode_snapshot(self.room.id, self.kit.ask(self.room, RoomOp.SNAPSHOT))
        self.assertEqual(snapshot.members[0].facts, bytes(MAX_FACTS_BYTES))

    def test_list_too_long(self) -> None:
        """A list of members that no frame holds is refused, not cut."""
        kit = HomeKit(max_members=20)
        room = kit.create()
        kit.join(room, *(f"{number:0100d}@b" for number in range(9)))
        first = f"{0:0100d}"
        self.assertRaises(MessageTooLarge, kit.ask, room, RoomOp.MEMBERS, first)
        kit.ask(room, RoomOp.LEAVE, f"{8:0100d}")
        self.assertEqual(len(kit.ask(room, RoomOp.MEMBERS, first)), 9 * 101)

    def test_snapshot_too_long(self) -> None:
        """A room that is too large for a link is not told as a whole."""
        size = len(self.kit.ask(self.room, RoomOp.SNAPSHOT))
        self.patch(room_home, "MAX_SNAPSHOT_BYTES", size)
        self.kit.ask(self.room, RoomOp.SNAPSHOT)
        self.kit.join(self.room, "bob@b")
        self.assertRaises(MessageTooLarge, self.kit.ask, self.room, RoomOp.SNAPSHOT)
