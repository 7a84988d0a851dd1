"""Rooms of several real daemons, on all transports.

The module is also the application of the nodes: it says by which node a loss was told.
"""

from __future__ import annotations

import itertools
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from unittest import TestCase

from meshrelay.interfaces import IMeshRelay
from tests.integration.cluster import Node, cluster_config, wait_until
from tests.integration.wire_clients import BAD, OK, ReliableUdpClient, TcpClient, connect

__all__ = ["setup"]

CREATE, JOIN, LEAVE, BROADCAST, MEMBERS, OWNER, LOST = range(100, 107)

RESUME_SECONDS = 4.0

#: In one write.
MANY = 300


def setup(relay: IMeshRelay) -> None:
    """Be the application of a node; see the module."""
    message = f"says {relay.node_id}".encode()
    relay.rooms.on_discard_message(lambda room_id, user_id, sid: message)


def str8(text: str) -> bytes:
    """A text as the protocol has it."""
    return bytes((len(text.encode()),)) + text.encode()


def create(client: TcpClient, max_members: int = 0, flags: int = 2) -> bytes:
    """Make a room and return its ID."""
    return client.ask(1, CREATE, struct.pack("!HBIH", max_members, flags, 60, 0))


def heard(client: TcpClient, room_id: bytes) -> tuple[int, str, bytes]:
    """The next push, which must be of the room: cmd, user, message."""
    frame = client.push()
    assert (frame.ver, frame.payload[:52]) == (1, room_id), frame
    size = frame.payload[52]
    return frame.cmd, frame.payload[53 : 53 + size].decode(), frame.payload[53 + size :]


class RoomTests(TestCase):
    """Three nodes; the directory is the first one's."""

    def setUp(self) -> None:
        """Start the nodes."""
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        sections: dict[str, Any] = {
            "app": {"module": "tests.integration.test_rooms"},
            "session": {"resume_seconds": RESUME_SECONDS},
        }
        first = self.stack.enter_context(Node(cluster_config("n0", **sections)))
        directory = "pb:" + first.places["mesh"]
        others = [Node(cluster_config(name, directory, **sections)) for name in ("n1", "n2")]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Node.__enter__, others))
        for node in others:
            self.stack.push(node)
        self.nodes = [first, *others]
        for node in self.nodes:
            node.wait_linked(2)

    def connect(self, node: Node, transport: str, user: str) -> TcpClient:
        """A client that is signed in."""
        client = connect(node, transport, user)
        self.addCleanup(client.close)
        return client

    def wait_away(self, node: Node) -> None:
        """Wait until a node knows that one client is away."""
        wait_until(lambda: node.metric("meshrelay_sessions_away") == 1, what="a client that is away")

    def members(self, client: TcpClient, room_id: bytes) -> list[str]:
        """The owner, and the members."""
        answer, names = client.ask(1, MEMBERS, room_id), []
        while answer:
            names.append(answer[1 : 1 + answer[0]].decode())
            answer = answer[1 + answer[0] :]
        return names

    def test_everybody(self) -> None:
        """Users of three nodes and all transports share a room: all of it arrives, once and in one order."""
        names = [
            f"{node.node_id}-{transport}" for node, transport in itertools.product(self.nodes, ("tcp", "ws", "rudp"))
        ]
        places = itertools.product(self.nodes, ("tcp", "ws", "rudp"))
        clients = {name: self.connect(*place, name) for name, place in zip(names, places, strict=True)}
        owner = clients["n1-rudp"]
        room_id = create(owner)
        joined = ["n1-rudp"]
        for name, client in clients.items():
            if client is not owner:
                self.assertEqual(client.ask(1, JOIN, room_id + b"hi"), str8("n1-rudp"))
                joined.append(name)
        for name in joined[:-1]:
            for later in joined[max(1, joined.index(name) + 1) :]:
                self.assertEqual(heard(clients[name], room_id), (JOIN, later, b"hi"))
        self.assertEqual(self.members(clients["n2-ws"], room_id), ["n1-rudp", *joined])
        for number in range(5):
            for client in clients.values():
                client.ask(1, BROADCAST, room_id + b"%d" % number)
        seen = {
            name: [heard(client, room_id) for _ in range(5 * (len(clients) - 1))] for name, client in clients.items()
        }
        everything = sorted((BROADCAST, name, b"%d" % number) for name in clients for number in range(5))
        for name, pushes in seen.items():
            self.assertEqual(sorted(pushes), [each for each in everything if each[1] != name])
        first, second, *rest = joined
        for name in rest:
            ours = [each for each in seen[first] if each[1] not in (first, name)]
            theirs = [each for each in seen[name] if each[1] not in (first, name)]
            self.assertEqual(theirs, ours)
        clients[first].ask(1, LEAVE, room_id + b"bye")
        for name in joined[1:]:
            self.assertEqual(heard(clients[name], room_id), (LEAVE, first, b"bye"))
            self.assertEqual(heard(clients[name], room_id), (OWNER, second, b""))

    def test_pipelined(self) -> None:
        """Hundreds of broadcasts in one write are all answered, and come in order."""
        ann, bob = self.connect(self.nodes[1], "tcp", "ann"), self.connect(self.nodes[2], "ws", "bob")
        room_id = create(bob)
        ann.ask(1, JOIN, room_id)
        heard(bob, room_id)
        payloads = [room_id + b"%d" % number for number in range(MANY)]
        ann.send_bytes(
            b"".join(
                struct.pack("!BBHII", 1, 1, BROADCAST, 1000 + number, len(payload)) + payload
                for number, payload in enumerate(payloads)
            )
        )
        answers = {frame.request_id: frame.status for frame in (ann.receive() for _ in range(MANY))}
        self.assertEqual(answers, {1000 + number: OK for number in range(MANY)})
        expected = [(BROADCAST, "ann", b"%d" % number) for number in range(MANY)]
        self.assertEqual([heard(bob, room_id) for _ in range(MANY)], expected)

    def test_last_place(self) -> None:
        """Of many who want the last place at the same time one gets it, whoever asks where."""
        owner = self.connect(self.nodes[0], "tcp", "owner")
        clients = [
            self.connect(node, transport, f"{node.node_id}-{transport}")
            for node, transport in itertools.product(self.nodes, ("tcp", "ws"))
        ]
        for _ in range(5):
            room_id = create(owner, max_members=2)
            asked = [(client, client.send(1, JOIN, room_id)) for client in clients]
            answers = [client.answer(request_id) for client, request_id in asked]
            self.assertEqual(sorted(each.status for each in answers), [OK] + [BAD] * (len(clients) - 1))
            full = {each.payload[:2] for each in answers if each.status == BAD}
            self.assertEqual(full, {struct.pack("!H", 23)})

    def test_errors(self) -> None:
        """What cannot be has its code, on the node of the room and on others."""
        ann, bob = self.connect(self.nodes[1], "tcp", "ann"), self.connect(self.nodes[2], "rudp", "bob")
        room_id = create(ann, max_members=1)
        for client, cmd, payload, code in (
            (bob, JOIN, room_id, 23),
            (ann, JOIN, room_id, 20),
            (bob, LEAVE, room_id, 24),
            (bob, BROADCAST, room_id + b"x", 24),
            (bob, MEMBERS, room_id, 24),
            (bob, JOIN, b"x" * 52, 25),
            (bob, BROADCAST, b"x" * 52, 25),
            (bob, JOIN, b"short", 1),
            (bob, CREATE, struct.pack("!HBIH", 0, 2, 10, 0), 10),
            (bob, CREATE, struct.pack("!HBIH", 0, 0, 11, 0), 11),
            (bob, CREATE, struct.pack("!HBIH", 1001, 2, 11, 0), 1),
            (bob, OWNER, room_id, 2),
        ):
            self.assertEqual((cmd, payload, client.refused(1, cmd, payload)), (cmd, payload, code))

    def three(self) -> tuple[TcpClient, TcpClient, TcpClient, bytes]:
        """Ann, bob and cat of three nodes in ann's room of node n1."""
        ann, bob, cat = (
            self.connect(self.nodes[place], transport, name)
            for place, transport, name in ((1, "tcp", "ann"), (2, "ws", "bob"), (0, "tcp", "cat"))
        )
        room_id = create(ann)
        bob.ask(1, JOIN, room_id)
        cat.ask(1, JOIN, room_id)
        self.assertEqual([heard(ann, room_id)[1] for _ in range(2)], ["bob", "cat"])
        self.assertEqual(heard(bob, room_id)[1], "cat")
        return ann, bob, cat, room_id

    def test_goodbye_and_break(self) -> None:
        """Who leaves without a word is lost at once after GOODBYE, and after a while when the connection broke."""
        ann, bob, cat, room_id = self.three()
        cat.send(0, 4)
        self.assertEqual(heard(ann, room_id), (LOST, "cat", b"says n1"))
        started = time.monotonic()
        bob.close()
        self.assertEqual(heard(ann, room_id), (LOST, "bob", b"says n1"))
        self.assertGreater(time.monotonic() - started, RESUME_SECONDS - 0.5)

    def test_resume(self) -> None:
        """A member that comes back in time was never away for the others, and gets what was said meanwhile."""
        ann, _, _, room_id = self.three()
        dan = TcpClient(self.nodes[2])
        sid = dan.hello("dan")["sid"]
        dan.ask(1, JOIN, room_id)
        self.assertEqual(heard(ann, room_id)[:2], (JOIN, "dan"))
        dan.close()
        self.wait_away(self.nodes[2])
        ann.ask(1, BROADCAST, room_id + b"1")
        again = TcpClient(self.nodes[2])
        self.addCleanup(again.close)
        self.assertTrue(again.hello("dan", resume=sid)["resumed"])
        ann.ask(1, BROADCAST, room_id + b"2")
        self.assertEqual([heard(again, room_id)[2] for _ in range(2)], [b"1", b"2"])
        again.ask(1, BROADCAST, room_id + b"3")
        self.assertEqual(heard(ann, room_id), (BROADCAST, "dan", b"3"))

    def test_move(self) -> None:
        """A member that resumes at another node keeps its place, and is told what is said from then on."""
        ann, bob, _, room_id = self.three()
        dan = TcpClient(self.nodes[2])
        sid = dan.hello("dan")["sid"]
        dan.ask(1, JOIN, room_id)
        self.assertEqual([heard(each, room_id)[1] for each in (ann, bob)], ["dan", "dan"])
        for place in (2, 0, 1):
            dan.close()
            ann.ask(1, BROADCAST, room_id + b"meanwhile")
            dan = TcpClient(self.nodes[place])
            welcome = dan.hello("dan", resume=sid)
            self.assertEqual((welcome["resumed"], welcome["sid"]), (True, sid))
            ann.ask(1, BROADCAST, room_id + b"here")
            while heard(dan, room_id) != (BROADCAST, "ann", b"here"):
                pass
        dan.ask(1, BROADCAST, room_id + b"thanks")
        self.assertEqual(heard(ann, room_id), (BROADCAST, "dan", b"thanks"))
        self.assertEqual(self.members(dan, room_id), ["ann", "ann", "bob", "cat", "dan"])
        dan.close()

    def test_node_dies(self) -> None:
        """The members of a killed node are lost when they had time to come back."""
        ann, _, cat, room_id = self.three()
        self.nodes[2].kill()
        self.assertEqual(heard(ann, room_id), (LOST, "bob", b"says n1"))
        self.assertEqual(heard(cat, room_id), (LOST, "bob", b"says n1"))
        self.assertEqual(self.members(cat, room_id), ["ann", "ann", "cat"])

    def test_home_dies(self) -> None:
        """Members of a room whose node was killed are told that they are out, and there is no such room any more."""
        _, bob, cat, room_id = self.three()
        self.nodes[1].kill()
        self.assertEqual(heard(bob, room_id), (LOST, "bob", b""))
        self.assertEqual(heard(cat, room_id), (LOST, "cat", b""))
        self.assertIn(bob.refused(1, BROADCAST, room_id + b"x"), (6, 25))

    def test_home_stops(self) -> None:
        """Members of a room whose node stops in order are told at once."""
        _, bob, cat, room_id = self.three()
        started = time.monotonic()
        process = self.nodes[1].process
        assert process is not None
        process.terminate()
        self.assertEqual(heard(bob, room_id), (LOST, "bob", b""))
        self.assertEqual(heard(cat, room_id), (LOST, "cat", b""))
        self.assertLess(time.monotonic() - started, RESUME_SECONDS)

    def test_udp_resume(self) -> None:
        """A UDP client that comes back gets what was said meanwhile, and no more."""
        ann = self.connect(self.nodes[1], "tcp", "ann")
        room_id = create(ann)
        bob = ReliableUdpClient(self.nodes[2], "bob")
        bob.ask(1, JOIN, room_id)
        heard(ann, room_id)
        bob.close()
        self.wait_away(self.nodes[2])
        ann.ask(1, BROADCAST, room_id + b"1")
        again = ReliableUdpClient(self.nodes[2], "bob", resume=bob.endpoint["sid"])
        self.addCleanup(again.close)
        ann.ask(1, BROADCAST, room_id + b"2")
        self.assertEqual([heard(again, room_id)[2] for _ in range(2)], [b"1", b"2"])
