"""Tests of `meshrelay.client.p2p.link_table`: its bounds; `test_links` has the rest."""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client import NotConnected
from meshrelay.client.events import Event
from meshrelay.client.p2p.events import LinkRelayReceived, LinksStarted
from meshrelay.client.p2p.link_group import LinkParts
from meshrelay.client.p2p.link_table import MAX_EARLY_RELAYS, MAX_GROUPS, LinkTable
from meshrelay.client.p2p.options import P2POptions
from meshrelay.client.p2p.room_finder import RoomFinder
from meshrelay.client.p2p.sockets import PeerSockets
from meshrelay.machine.nat_kind import MappingObserver
from meshrelay.wire.commands import Command, encode_pushed_message
from meshrelay.wire.room_commands import RoomList
from meshrelay.wire.sync_bytes import SyncUser, encode_sync_bytes

USERS = [SyncUser("ann", ()), SyncUser("bob", ())]


def room(number: int) -> str:
    """A room ID."""
    return f"{number:052}"


class LinkTableTests(SynchronousTestCase):
    """Ann's links."""

    def setUp(self) -> None:
        clock = self.clock = Clock()
        self.told: list[Event] = []
        self.counts: Counter[str] = Counter()
        self.rooms: dict[str, None] = {}
        self.asked: list[tuple[str, Deferred[RoomList]]] = []
        parts = LinkParts(
            clock,
            P2POptions(random=Random(1), hosts=list),
            PeerSockets(clock, lambda datagram, path: None),
            MappingObserver(),
            lambda room_id, user_id, packet: None,
            lambda room_id, user_id, state: None,
            self.told.append,
            self.counts,
        )
        finder = RoomFinder(self.rooms.keys(), self.members)
        self.table = LinkTable(parts, finder, lambda: "ann", lambda: None)

    def members(self, room_id: str) -> Deferred[RoomList]:
        """The question to the node; the test answers."""
        self.asked.append((room_id, Deferred()))
        return self.asked[-1][1]

    def answer(self, *room_ids: str) -> None:
        """Let the node say that these rooms have all users, and the others nobody."""
        asked, self.asked = self.asked, []
        for room_id, answer in asked:
            names = ["ann", "bob"] if room_id in room_ids else ["ann"]
            answer.callback(RoomList("ann", names))

    def start(self, number: int) -> None:
        """The node starts links."""
        self.table.pushed(Command.LINK_START, encode_sync_bytes(number.to_bytes(48, "big"), USERS))

    def test_nothing(self) -> None:
        """Where nothing was started there is nothing to be found."""
        self.assertRaises(NotConnected, self.table.group, "")
        self.assertRaises(NotConnected, self.table.driver, "bob", "")
        self.assertEqual(self.table.sockets_needed(), frozenset())

    def test_put_out_alone(self) -> None:
        """A group without anybody else ends when we are in its room no more."""
        for number in range(MAX_GROUPS + 1):
            self.rooms.clear()
            self.rooms[room(number)] = None
            self.table.pushed(Command.LINK_START, encode_sync_bytes(number.to_bytes(48, "big"), USERS[:1]))
            self.assertEqual(self.table.group("").room_id, room(number))
            self.table.member_gone(room(number), "ann", "was lost")
        self.assertEqual((self.table.statistics()["groups"], self.counts["starts_refused"]), (0, 0))
        self.assertRaises(NotConnected, self.table.group, "")

    def test_groups_bound(self) -> None:
        """Links of more rooms than so many are not made; those of the others stay."""
        for number in range(MAX_GROUPS + 1):
            self.rooms.clear()
            self.rooms[room(number)] = None
            self.start(number)
        self.assertEqual((self.table.statistics()["groups"], self.counts["starts_refused"]), (MAX_GROUPS, 1))
        self.assertEqual(self.table.group("").room_id, room(MAX_GROUPS - 1))
        self.start(500)
        self.assertEqual(self.counts["starts_refused"], 2)

    def test_finding_bound(self) -> None:
        """While the rooms of many starts are looked for no more of them are begun."""
        self.rooms.update({room(1): None, room(2): None})
        for number in range(20):
            self.start(number)
        self.assertEqual((self.counts["starts_refused"], len(self.asked)), (4, 32))
        self.answer(room(2))
        self.assertEqual(sum(isinstance(event, LinksStarted) for event in self.told), 16)
        self.start(99)
        self.answer(room(2))
        self.assertEqual(self.counts["starts_refused"], 4)

    def test_early_relays(self) -> None:
        """Relays that come while the room is looked for are told afterwards, a bounded number of them."""
        self.rooms.update({room(1): None, room(2): None})
        self.start(1)
        for number in range(MAX_EARLY_RELAYS + 2):
            self.table.pushed(Command.LINK_RELAY, encode_pushed_message(room(1), "dan", b"%d" % number))
        self.assertEqual(self.told, [])
        self.answer(room(1))
        self.assertIsInstance(self.told[0], LinksStarted)
        messages = [event.message for event in self.told if isinstance(event, LinkRelayReceived)]
        self.assertEqual(messages, [b"%d" % number for number in range(2, MAX_EARLY_RELAYS + 2)])
        self.assertEqual(self.counts["relay_dropped"], 2)

    def test_abort_while_looking(self) -> None:
        """A client that ends while a room is looked for makes no links afterwards."""
        self.rooms.update({room(1): None, room(2): None})
        self.start(1)
        self.table.abort()
        self.answer(room(1))
        self.assertEqual((list(self.table), self.told), ([], []))
