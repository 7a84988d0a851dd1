"""Links as the node of a member sees them: what it takes from other nodes."""

from __future__ import annotations

from typing import Any

from meshrelay.components.link_edge import RoomLinks
from meshrelay.errors import MalformedFrame
from meshrelay.wire.commands import Command
from meshrelay.wire.frame import encode_push
from meshrelay.wire.link_node import LinkPackets, LinkPlan, PlanMember, encode_packets, encode_plan
from tests.components.link_kit import LinkTestCase


class EdgeTests(LinkTestCase):
    """Node b, with bob and cat in a room of node a."""

    node_ids = ("a", "b")

    def setUp(self) -> None:
        """Start links."""
        super().setUp()
        self.ann, self.bob, self.cat = self.client("ann"), self.client("bob", "b"), self.client("cat", "b")
        self.den = self.room_of(self.ann, self.bob, self.cat)
        self.start(self.ann, self.den)
        self.quiet(self.ann, self.bob, self.cat)
        self.edge: Any = self.links("b")._edge

    def plan(self, number: int, *members: PlanMember, sync_bytes: bytes = b"", index: int = 0) -> bytes:
        """A LINK_PLAN of the room."""
        return encode_plan(LinkPlan(self.den, number, 1, index, 1, Command.LINK_START, sync_bytes, members))

    def packets_for(self, user_id: str, sid: str, room_id: str = "") -> bytes:
        """A LINK_PACKETS with one packet."""
        frame = encode_push(1, Command.LINK_FORWARD, (room_id or self.den).encode() + b"\3annx")
        return encode_packets(LinkPackets(room_id or self.den, "ann", user_id, sid, frame))

    def test_stranger(self) -> None:
        """Only the home of a room says who may speak to whom there."""
        bob = PlanMember("bob", self.bob.sid, "b")
        self.edge.plan_received("c", self.plan(9, bob, PlanMember("eve", "s", "c"), sync_bytes=b"keys"))
        self.assertEqual(self.refusal_of_forward(self.bob, self.den, "eve"), 30)
        self.assertEqual(self.pushes(self.bob, Command.LINK_START), [])

    def test_old(self) -> None:
        """What is said of an earlier start comes too late."""
        self.edge.plan_received("a", self.plan(0, PlanMember("bob", self.bob.sid, "b")))
        self.assertEqual(self.refusal_of_forward(self.bob, self.den, "cat"), 0)

    def test_no_members(self) -> None:
        """A room without members here is forgotten."""
        self.edge.plan_received("a", self.plan(9, PlanMember("ann", self.ann.sid, "a")))
        self.assertEqual(len(self.edge), 0)
        self.assertEqual(self.refusal_of_forward(self.bob, self.den, "ann"), 30)

    def test_other_session(self) -> None:
        """Keys and packets for another session of a user are not for this one, nor is what is for no member."""
        self.edge.plan_received("a", self.plan(9, PlanMember("bob", "another", "b"), sync_bytes=b"keys"))
        self.edge.packets_received("a", self.packets_for("bob", "another"))
        self.edge.packets_received("a", self.packets_for("eve", "sid"))
        self.edge.packets_received("a", self.packets_for("bob", self.bob.sid, "y" * 52))
        self.assertEqual(self.bob.pushes(), [])
        self.assertEqual(self.edge.dropped["gone"], 3)
        self.edge.packets_received("a", self.packets_for("bob", self.bob.sid))
        self.assertEqual(self.packets(self.bob), [("ann", b"x")])

    def test_malformed(self) -> None:
        """What cannot be read is the fault of the node that sent it; without pushes in it it is nothing."""
        for data in (b"", b"x" * 60):
            for receive in (self.edge.plan_received, self.edge.packets_received):
                with self.assertRaises(MalformedFrame):
                    receive("a", data)
        packets = LinkPackets(self.den, "ann", "bob", self.bob.sid, b"cut off")
        with self.assertRaises(MalformedFrame):
            self.edge.packets_received("a", encode_packets(packets))
        self.edge.packets_received("a", encode_packets(packets._replace(frames=b"")))
        self.assertEqual(self.packets(self.bob), [])

    def test_home_gone(self) -> None:
        """The rooms of a node that is gone are forgotten, and no others."""
        self.edge.home_gone("c")
        self.assertEqual(len(self.edge), 1)
        self.edge.home_gone("a")
        self.assertEqual(len(self.edge), 0)

    def test_group_replaced(self) -> None:
        """A group that is said again takes the place of the one before."""
        links = RoomLinks("b", "a", 1, 2)
        session: Any = self.bob.connection.session
        bob = PlanMember("bob", self.bob.sid, "b")
        links.set_group(1, [bob, PlanMember("ann", "s", "a")])
        links.set_group(2, [PlanMember("ann", "s", "a")])
        self.assertEqual(len(links), 1)
        self.assertEqual(list(links.group_of(session) or ()), ["bob", "ann"])
        links.set_group(1, [bob])
        self.assertEqual(list(links.group_of(session) or ()), ["bob"])
        links.set_group(1, [bob._replace(sid="another")])
        self.assertIsNone(links.group_of(session))
        links.set_group(1, [])
        self.assertEqual(len(links), 0)
