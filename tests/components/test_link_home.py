"""Links of the rooms of this node: bounds, and what is sent to whom."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from meshrelay.components import link_home
from meshrelay.errors import NotInRoom, RateLimited
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.commands import Command
from meshrelay.wire.link_commands import LinkState
from meshrelay.wire.link_node import LinkAsk, LinkFact, encode_facts
from tests.components.link_kit import LinkTestCase, link_config


class HomeTests(LinkTestCase):
    """Node a, with ann; bob is on node b, cat on c."""

    def setUp(self) -> None:
        """Their room."""
        super().setUp()
        self.ann, self.bob, self.cat = self.client("ann"), self.client("bob", "b"), self.client("cat", "c")
        self.all = (self.ann, self.bob, self.cat)
        self.den = self.room_of(*self.all)
        self.home: Any = self.links()._home

    def wish(self) -> LinkAsk:
        """Ann wants to start."""
        return LinkAsk(self.den, "ann", self.ann.sid, 0, 1, Command.LINK_START)

    def test_rate(self) -> None:
        """Ten starts at once and two a second; the rate of a room is forgotten with it."""
        self.patch(self.home, "members", lambda room_id: Deferred())
        for _ in range(link_home.STARTS_AT_ONCE):
            self.assertNoResult(Deferred.fromCoroutine(self.home.start(self.wish())))
        self.failureResultOf(Deferred.fromCoroutine(self.home.start(self.wish())), RateLimited)
        self.cluster.run(0.6)
        self.assertNoResult(Deferred.fromCoroutine(self.home.start(self.wish())))
        self.assertEqual(len(self.home._rates), 1)
        self.result(self.rooms().close_room(self.den))
        self.assertEqual(len(self.home._rates), 0)

    def test_outsider(self) -> None:
        """Who is not in the room uses up none of its starts; who leaves while nodes are asked starts nothing."""
        eve = self.client("eve")
        for _ in range(link_home.STARTS_AT_ONCE + 1):
            self.assertEqual(self.code_of(self.try_start(eve, self.den)), 24)
        done = Deferred.fromCoroutine(self.home.start(self.wish()))
        self.leave(self.ann, self.den)
        self.cluster.run(0.2)
        self.failureResultOf(done, NotInRoom)
        self.assertEqual(self.count("starts"), 0)

    def test_reports_bound(self) -> None:
        """Beyond the bound nothing is kept of more pairs, and it is counted."""
        self.patch(link_home, "MAX_REPORTS", 2)
        self.start(self.ann, self.den)
        states = (("bob", LinkState.DIRECT), ("cat", LinkState.RELAYED))
        self.report(self.ann, self.den, *states)
        self.report(self.bob, self.den, ("ann", LinkState.DIRECT))
        self.assertEqual((self.home.report_count, self.home.reports_ignored), (2, 1))
        self.report(self.ann, self.den, ("bob", LinkState.LOST))
        self.assertEqual(self.count("pairs_lost"), 1)

    def test_told_bounds(self) -> None:
        """Of many pairs and rooms the first are told, and how many there are."""
        self.patch(link_home, "MAX_PAIRS_TOLD", 4)
        self.patch(link_home, "MAX_ROOMS_TOLD", 1)
        loft = self.create(self.ann)
        self.join(self.bob, loft)
        self.start(self.ann, loft)
        self.start(self.ann, self.den)
        for node_id in "ab":
            count, pairs = self.result(self.links(node_id).link_pairs(self.den))
            self.assertEqual((count, len(pairs)), (6, 4))
        self.assertEqual(self.links().started_rooms(), (2, [(loft, 1, 2)]))

    def test_odd_facts(self) -> None:
        """A node speaks for its own members alone, and hands on nothing that this node may not."""
        address, private = UdpAddress("198.51.100.7", 7), UdpAddress("127.0.0.1", 7)
        facts = {
            "b": [
                LinkFact("bob", self.bob.sid, "b", "udp", 0.1, (private,)),
                LinkFact("cat", self.cat.sid, "b", "udp", 0.1, (address,)),
                LinkFact("ann", self.ann.sid, "a", "udp", 0.1, (address,)),
            ],
            "c": [
                LinkFact("cat", self.cat.sid, "c", "udp", 0.1, (address,)),
                LinkFact("dan", "another", "c", "udp", 0.1, (address,)),
            ],
        }
        self.join(self.client("dan", "c"), self.den)
        self.patch(self.home._nodes, "call", lambda node_id, name, payload: succeed(encode_facts(facts[node_id], 0)))
        told = self.result(self.home.members(self.den))
        self.assertEqual(
            [(fact.user_id, fact.node_id) for fact in told],
            [(name, node) for name, node in zip(("ann", "bob", "cat", "dan"), "abcc", strict=True)],
        )
        self.assertEqual([len(fact.addresses) for fact in told], [1, 0, 1, 0])
        self.assertNotEqual(told[0].addresses, (address,))

    def test_unreadable_facts(self) -> None:
        """A node that says what cannot be read costs its members their addresses, and nobody else anything."""
        answers = {"b": b"", "c": encode_facts([], 0)}
        self.patch(self.home._nodes, "call", lambda node_id, name, payload: succeed(answers[node_id]))
        told = self.result(self.home.members(self.den))
        self.assertEqual([len(fact.addresses) for fact in told], [1, 0, 0])

    def test_pages(self) -> None:
        """Facts that do not fit one answer are asked for again, from where they stopped."""
        self.patch(link_home, "encode_page", lambda room_id, offset: b"%d" % offset)
        facts = [LinkFact(user, sid, "b", "udp", 0.1, ()) for user, sid in (("x", "s"), ("bob", self.bob.sid))]
        asked: list[bytes] = []

        def call(node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
            if node_id == "c":
                return succeed(encode_facts([], 0))
            asked.append(payload)
            number = int(payload)
            return succeed((1 - number).to_bytes(4, "big") + encode_facts(facts[number : number + 1], 0)[4:])

        self.patch(self.home._nodes, "call", call)
        told = self.result(self.home.members(self.den))
        self.assertEqual(asked, [b"0", b"1"])
        self.assertEqual(told[1].latency_seconds, 0.1)

    def test_quiet_change(self) -> None:
        """Members that go together are told of together; a start in between leaves nothing behind on any node."""
        self.start(self.ann, self.den)
        room = self.rooms()._table.find(self.den)
        assert room is not None
        self.rooms()._home.put_out(room, [room.members["bob"], room.members["cat"]])
        self.home.start(self.wish()).close()
        self.cluster.run(0.3)
        self.assertEqual([self.count("rooms_seated", node_id) for node_id in "abc"], [1, 0, 0])

    def test_start_behind_change(self) -> None:
        """A node whose members go in the moment of a start keeps nothing of the one before."""
        self.start(self.ann, self.den)
        dan = self.client("dan")
        self.join(dan, self.den)
        done = Deferred.fromCoroutine(self.home.start(self.wish()))
        self.cluster.run(0.0)
        room = self.rooms()._table.find(self.den)
        assert room is not None
        self.rooms()._home.put_out(room, [room.members["bob"], room.members["cat"]])
        self.cluster.run(0.3)
        self.successResultOf(done)
        self.assertEqual([self.count("rooms_seated", node_id) for node_id in "abc"], [1, 0, 0])


class LongTests(LinkTestCase):
    """A room whose sync bytes are long."""

    config = link_config(max_payload_bytes=300)
    node_ids = ("a",)

    def test_too_long(self) -> None:
        """A group that no push holds is refused with code 5; smaller ones may be started."""
        clients = [self.client(f"user{number}") for number in range(8)]
        den = self.room_of(*clients)
        self.assertEqual(self.code_of(self.try_start(clients[0], den)), 5)
        self.start(clients[0], den, 4)
        self.assertEqual(self.group(clients[0]), [f"user{number}" for number in range(4)])
