"""What is sent in a room."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.components.room_outlet import MAX_CAST_BYTES, OutletWays, RoomOutlet
from meshrelay.components.room_seats import RoomSeats
from meshrelay.counters import NodeCounters
from meshrelay.fanout.hub import Hub
from meshrelay.fanout.turn import Turn
from meshrelay.testing.builders import make_group_id, make_session
from meshrelay.testing.link import MemoryLink
from meshrelay.wire.frame import encode_push
from meshrelay.wire.room_node import RoomCastEntry, decode_room_cast

DEN = make_group_id("den")


class RoomOutletTests(SynchronousTestCase):
    """A room of node a with ann here, bob on b and cat on c."""

    def setUp(self) -> None:
        """No interval."""
        self.make(0)

    def make(self, interval_ms: int) -> None:
        """Make the outlet and its surroundings."""
        self.clock = Clock()
        turn = Turn(self.clock)
        self.link = MemoryLink()
        seats = RoomSeats(Hub(turn, self.clock, NodeCounters()), 10)
        seats.add(DEN, "a", interval_ms, make_session("ann", self.link))
        self.sent: list[tuple[str, list[RoomCastEntry], bool]] = []
        ways = OutletWays("a", seats, turn, Alarms(self.clock), self.send)
        self.outlet = RoomOutlet(DEN, interval_ms, ways)
        for node_id in "abc":
            self.outlet.member_came(node_id)

    def send(self, room_id: str, node_id: str, cast: bytes, reliable: bool) -> None:
        """Take a cast."""
        named, entries = decode_room_cast(cast)
        self.assertEqual((room_id, named), (DEN, DEN))
        self.sent.append((node_id, entries, reliable))

    def say(self, message: bytes, sender: tuple[str, str] | None = None, reliable: bool = True) -> bytes:
        """Publish, and return the push."""
        frame = encode_push(1, 103, message)
        self.outlet.publish(frame, sender, reliable)
        return frame

    def here(self) -> list[bytes]:
        """What ann got."""
        self.link.read()
        return [frame.payload for frame in self.link.received]

    def test_one_cast_a_turn(self) -> None:
        """Each node gets all of a turn in one cast; only the sender's node hears who is to be left out."""
        one, two = self.say(b"1", ("bob", "b")), self.say(b"2", ("ann", "a"), reliable=False)
        self.assertEqual(self.sent, [])
        self.clock.advance(0)
        second = RoomCastEntry(False, "", (), two)
        self.assertEqual(
            self.sent,
            [
                ("b", [RoomCastEntry(True, "bob", (), one), second], True),
                ("c", [RoomCastEntry(True, "", (), one), second], True),
            ],
        )
        self.assertEqual(self.here(), [b"1"])

    def test_loose(self) -> None:
        """A cast of which all may be lost says so."""
        self.say(b"1", reliable=False)
        self.clock.advance(0)
        self.assertEqual([reliable for _, _, reliable in self.sent], [False, False])
        self.say(b"2")
        self.clock.advance(0)
        self.assertEqual([reliable for _, _, reliable in self.sent], [False, False, True, True])

    def test_some(self) -> None:
        """What is for some goes to their nodes alone."""
        frame = encode_push(1, 103, b"x")
        self.outlet.push_to([("ann", "a"), ("cat", "c"), ("dan", "c")], frame, True)
        self.clock.advance(0)
        self.assertEqual(self.sent, [("c", [RoomCastEntry(True, "", ("cat", "dan"), frame)], True)])
        self.assertEqual(self.here(), [b"x"])

    def test_members(self) -> None:
        """What was said before a member comes or goes is sent first; a node without members gets nothing more."""
        self.say(b"1")
        self.outlet.member_came("b")
        self.assertEqual([node_id for node_id, _, _ in self.sent], ["b"])
        self.say(b"2")
        self.outlet.member_went("b", "bob", "")
        self.assertEqual(self.outlet.node_ids, ["b", "c"])
        self.outlet.member_went("b", "ben", "")
        self.assertEqual((self.outlet.node_ids, len(self.sent)), (["c"], 2))
        self.say(b"3")
        self.clock.advance(0)
        self.assertEqual([node_id for node_id, _, _ in self.sent], ["b", "b", "c"])

    def test_interval(self) -> None:
        """With an interval it all waits for its end."""
        self.make(300)
        self.say(b"1")
        self.clock.advance(0.2)
        self.say(b"2")
        self.assertEqual((self.sent, self.here()), ([], []))
        self.clock.pump([0.2])
        self.assertEqual([len(entries) for _, entries, _ in self.sent], [2, 2])
        self.assertEqual(self.here(), [b"1", b"2"])

    def test_bound(self) -> None:
        """So much waits at most, and no cast is longer than a message may be."""
        for _ in range(4):
            self.say(bytes(MAX_CAST_BYTES // 2 - 100))
        self.assertEqual([(node_id, len(entries)) for node_id, entries, _ in self.sent], [("b", 2), ("c", 2)])
        self.say(bytes(2 * MAX_CAST_BYTES))
        self.assertEqual([len(entries) for _, entries, _ in self.sent], [2, 2, 2, 1, 2, 1])
