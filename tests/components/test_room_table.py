"""The rooms of a node, without commands."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.components.place_ids import home_key, node_key
from meshrelay.components.room_outlet import OutletWays, RoomOutlet
from meshrelay.components.room_seats import RoomSeats
from meshrelay.components.room_table import LiveMember, LiveRoom, RoomSettings, RoomTable
from meshrelay.counters import NodeCounters
from meshrelay.errors import TooManyRooms
from meshrelay.fanout.hub import Hub
from meshrelay.fanout.turn import Turn
from meshrelay.model import RoomMember


class RoomTableTests(SynchronousTestCase):
    """Rooms come, have members, and go."""

    def setUp(self) -> None:
        """A table for two rooms."""
        self.clock = Clock()
        alarms, turn = Alarms(self.clock), Turn(self.clock)
        seats = RoomSeats(Hub(turn, self.clock, NodeCounters()), 10)
        ways = OutletWays("a", seats, turn, alarms, lambda *_: None)
        numbers = iter(range(100))
        self.table = RoomTable(
            "a",
            2,
            alarms,
            lambda size: next(numbers).to_bytes(size, "big"),
            lambda room_id, interval_ms: RoomOutlet(room_id, interval_ms, ways),
        )

    def create(self, allow_empty: bool = False) -> LiveRoom:
        """Make a room for five."""
        return self.table.create(RoomSettings(5, allow_empty, 60, 0))

    def enter(self, room: LiveRoom, user_id: str, node_id: str = "b") -> LiveMember:
        """Add a member."""
        member = LiveMember(user_id, f"sid of {user_id}", node_id)
        self.table.add(room, member)
        return member

    def test_create(self) -> None:
        """A room is found by an ID that names this node."""
        room = self.create()
        self.assertIs(self.table.find(room.id), room)
        self.assertEqual(home_key(room.id), node_key("a"))
        self.assertIsNone(self.table.find("x" * 52))

    def test_watcher(self) -> None:
        """A watcher is told who is gone, who is elsewhere, and which room is no more; of others nothing."""
        told: list[tuple[str, ...]] = []

        class Watcher:
            def member_gone(self, room_id: str, user_id: str, sid: str) -> None:
                told.append(("gone", room_id, user_id, sid))

            def member_moved(self, room_id: str, user_id: str, node_id: str) -> None:
                told.append(("moved", room_id, user_id, node_id))

            def room_gone(self, room_id: str) -> None:
                told.append(("room", room_id))

        self.table.watchers.append(Watcher())
        room = self.create()
        ann = self.enter(room, "ann")
        ann.absence = object()
        self.table.move(room, ann, "c")
        self.assertEqual((ann.node_id, ann.absence, room.outlet.node_ids), ("c", None, ["c"]))
        self.table.remove(room, ann)
        self.table.settle(room)
        self.table.discard(room)
        expected = [("moved", room.id, "ann", "c"), ("gone", room.id, "ann", "sid of ann"), ("room", room.id)]
        self.assertEqual(told, expected)

    def test_bound(self) -> None:
        """There are so many rooms at most."""
        self.create(True)
        self.table.check_room()
        self.create(True)
        self.assertRaises(TooManyRooms, self.table.check_room)

    def test_owner(self) -> None:
        """The first one is the owner, and the next one when it has gone."""
        room = self.create()
        self.assertIsNone(room.owner)
        ann, _ = self.enter(room, "ann"), self.enter(room, "bob")
        self.assertEqual(room.owner, "ann")
        self.table.remove(room, ann)
        self.assertEqual(room.owner, "bob")
        self.assertEqual(room.snapshot().members, (RoomMember("bob", "sid of bob", "b"),))

    def test_recall(self) -> None:
        """Rooms of a session are told to who knows its sid."""
        rooms = [self.create(), self.create()]
        member, _ = (self.enter(room, "ann") for room in rooms)
        self.assertEqual(self.table.recall("ann", "sid of ann"), [room.id for room in rooms])
        self.assertEqual(self.table.recall("ann", "a guess"), [])
        self.assertEqual(self.table.recall("bob", "sid of ann"), [])
        self.table.remove(rooms[0], member)
        self.assertEqual((self.table.recall("ann", "sid of ann"), self.table.member_count), ([rooms[1].id], 1))

    def test_members_at(self) -> None:
        """The members of a node are found in all rooms."""
        rooms = [self.create(), self.create()]
        for room in rooms:
            self.enter(room, "ann", "b")
            self.enter(room, "bob", "c")
        self.assertEqual(
            [(room, member.user_id) for room, member in self.table.members_at("c")], [(room, "bob") for room in rooms]
        )
        self.assertEqual(self.table.members_at("d"), [])

    def test_settle(self) -> None:
        """An empty room goes unless it may be empty, or somebody is about to come in; in the end at its time."""
        room, lasting, pinned = self.create(), self.create(True), self.create()
        pinned.is_pinned = True
        for each in (room, lasting, pinned):
            self.table.settle(each)
        self.assertEqual([each.is_gone for each in (room, lasting, pinned)], [True, False, False])
        self.assertIsNone(self.table.find(room.id))
        member = self.enter(lasting, "ann")
        self.clock.pump([30] * 3)
        self.assertFalse(lasting.is_gone)
        self.table.remove(lasting, member)
        self.table.settle(lasting)
        self.assertEqual((lasting.is_gone, len(self.table)), (True, 1))

    def test_nothing_is_left(self) -> None:
        """A room that is discarded early leaves no alarm behind for the rest of its time."""
        room = self.create(True)
        assert room.ttl_alarm is not None
        self.table.discard(room)
        self.table.discard(room)
        self.assertFalse(room.ttl_alarm.is_set)
