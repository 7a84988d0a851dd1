"""Tests of `meshrelay.client.p2p.room_finder`."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.p2p.room_finder import MAX_ROOMS_ASKED, RoomFinder
from meshrelay.errors import RoomNotFound
from meshrelay.wire.room_commands import RoomList


class RoomFinderTests(SynchronousTestCase):
    """Which room is meant."""

    def setUp(self) -> None:
        self.rooms: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.finder = RoomFinder(self.rooms.keys(), self.members)

    def members(self, room_id: str) -> Deferred[RoomList]:
        """The node's answer; it does not know empty rooms."""
        self.asked.append(room_id)
        members = self.rooms[room_id]
        return succeed(RoomList(members[0], members)) if members else fail(RoomNotFound())

    def find(self, *user_ids: str) -> list[str]:
        """What is found."""
        return self.successResultOf(self.finder.find(user_ids))

    def test_one(self) -> None:
        """Who is in one room need not ask; who is in none has none."""
        self.assertEqual(self.find("ann"), [])
        self.rooms["a"] = ["bob"]
        self.assertEqual((self.find("ann"), self.asked), (["a"], []))

    def test_members(self) -> None:
        """Of several rooms those count that have all the users; rooms that the node does not know do not."""
        self.rooms.update(c=["ann", "bob"], a=["ann"], b=["cyd", "bob", "ann"], gone=[])
        self.assertEqual(self.find("ann", "cyd"), ["b"])
        self.assertEqual(self.find("ann", "bob"), ["b", "c"])
        self.assertEqual(self.find("dan"), [])

    def test_started(self) -> None:
        """The room that we have asked to start is preferred, if it can be it."""
        self.rooms.update(c=["ann", "bob"], a=["ann"], b=["cyd", "bob", "ann"])
        self.finder.starting = {"c", "a"}
        self.assertEqual(self.find("ann", "bob"), ["c"])

    def test_bound(self) -> None:
        """No more than so many rooms are asked for, the newest."""
        self.rooms.update((f"{number:03}", ["ann"]) for number in range(MAX_ROOMS_ASKED + 5))
        self.assertEqual((len(self.find("ann")), self.asked[0]), (MAX_ROOMS_ASKED, "005"))
