"""Tests of `meshrelay.client.joined_rooms`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client import Connected, Disconnected, RoomMemberLost
from meshrelay.client.joined_rooms import JoinedRooms


class JoinedRoomsTests(SynchronousTestCase):
    """Where a client is."""

    def setUp(self) -> None:
        self.rooms = JoinedRooms()
        for room_id in ("a", "b", "a"):
            self.rooms.add(room_id)

    def test_order(self) -> None:
        """The room that was joined last is the last one, and each is there once."""
        self.assertEqual((list(self.rooms), len(self.rooms), "b" in self.rooms), (["b", "a"], 2, True))
        self.rooms.remove("b")
        self.rooms.remove("b")
        self.assertEqual(list(self.rooms), ["a"])

    def test_lost(self) -> None:
        """A room that the node says we are lost from is none of ours; the loss of others means nothing."""
        self.rooms.heard(RoomMemberLost("a", "bob", b""), "ann")
        self.rooms.heard(RoomMemberLost("b", "ann", b""), "ann")
        self.assertEqual(list(self.rooms), ["a"])

    def test_sessions(self) -> None:
        """A resumed session is where it was; a new one, and one that is over, is in no room."""
        self.rooms.heard(Disconnected(None, "cut", True), "ann")
        self.rooms.heard(Connected("ann", "n", "s", True, True), "ann")
        self.assertEqual(len(self.rooms), 2)
        self.rooms.heard(Connected("ann", "n", "s", False, False), "ann")
        self.assertEqual(len(self.rooms), 0)
        self.rooms.add("a")
        self.rooms.heard(Disconnected(4500, "replaced", False), "ann")
        self.assertEqual(len(self.rooms), 0)
