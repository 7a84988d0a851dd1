"""Members of rooms on this node."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.room_seats import RoomSeats
from meshrelay.counters import NodeCounters
from meshrelay.errors import NotSignedIn, TooManyRooms
from meshrelay.fanout.hub import Hub
from meshrelay.fanout.turn import Turn
from meshrelay.session.session import Session
from meshrelay.testing.builders import make_group_id, make_session
from meshrelay.testing.link import MemoryLink
from meshrelay.wire.commands import Command, decode_pushed_message
from meshrelay.wire.frame import encode_push

DEN, HALL = make_group_id("den"), make_group_id("hall")


class RoomSeatsTests(SynchronousTestCase):
    """Who is delivered to."""

    def setUp(self) -> None:
        """Ann and bob in the den, whose home is another node."""
        self.clock = Clock()
        self.seats = RoomSeats(Hub(Turn(self.clock), self.clock, NodeCounters()), 2)
        self.links = {name: MemoryLink() for name in ("ann", "bob")}
        self.ann, self.bob = (make_session(name, link) for name, link in self.links.items())
        for session in (self.ann, self.bob):
            self.seats.add(DEN, "home", 0, session)

    def say(self, message: bytes, sender_id: str = "") -> None:
        """Publish in the den."""
        self.seats.publish(DEN, encode_push(1, 103, message), sender_id, True, 1)

    def came(self, name: str) -> list[bytes]:
        """What was pushed to a user."""
        self.clock.advance(0)
        self.links[name].read()
        return [frame.payload for frame in self.links[name].received]

    def test_publish(self) -> None:
        """All get it but the sender; a room without members here is passed over."""
        self.say(b"1", "ann")
        self.say(b"2", "cat")
        self.seats.publish(HALL, b"x", "", True, 1)
        self.assertEqual((self.came("ann"), self.came("bob")), ([b"2"], [b"1", b"2"]))

    def test_push_to(self) -> None:
        """Some get it, behind what all got before."""
        self.say(b"1")
        self.seats.push_to(DEN, ["bob", "nobody"], encode_push(1, 103, b"2"), True, 1)
        self.seats.push_to(HALL, ["bob"], b"", True, 1)
        self.assertEqual((self.came("ann"), self.came("bob")), ([b"1"], [b"1", b"2"]))

    def test_remove(self) -> None:
        """Who goes gets what was published before; twice does nothing."""
        self.say(b"1")
        self.assertTrue(self.seats.remove(DEN, self.ann))
        self.assertFalse(self.seats.remove(DEN, self.ann))
        self.say(b"2")
        self.assertEqual((self.came("ann"), self.came("bob")), ([b"1"], [b"1", b"2"]))
        self.assertEqual((self.seats.rooms_of(self.ann), len(self.seats)), ([], 1))

    def test_remove_user(self) -> None:
        """A user goes by name and session; another session of the user stays."""
        self.seats.remove_user(DEN, "ann", "0" * 32)
        self.assertTrue(self.seats.has(DEN, self.ann))
        self.seats.remove_user(DEN, "ann", self.ann.user.sid)
        self.assertFalse(self.seats.has(DEN, self.ann))

    def test_out(self) -> None:
        """Who is put out is told so under its own name, and nobody else."""
        self.assertEqual(self.seats.out(DEN, "ann", "0" * 32), 0)
        self.assertEqual(self.seats.out(DEN, "ann", self.ann.user.sid), 1)
        self.assertEqual(self.came("bob"), [])
        self.assertEqual(decode_pushed_message(self.came("ann")[0]), (DEN, "ann", b""))
        self.assertEqual(self.links["ann"].received[0].cmd, Command.ROOM_LOST)
        self.assertEqual((self.seats.out(DEN), self.seats.out(DEN), len(self.seats)), (1, 0, 0))

    def test_bound(self) -> None:
        """A session is in so many rooms at most, and in none when it is over."""
        self.seats.check_room_of(self.ann)
        self.seats.add(HALL, "other", 0, self.ann)
        self.assertRaises(TooManyRooms, self.seats.check_room_of, self.ann)
        self.assertEqual([room.id for room in self.seats.rooms_of(self.ann)], [DEN, HALL])
        self.assertEqual([room.id for room in self.seats.at_home("other")], [HALL])
        gone: Session = self.bob
        gone.is_over = True
        self.assertRaises(NotSignedIn, self.seats.check_room_of, gone)
