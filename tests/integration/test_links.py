"""P2P links by real daemons: what clients of all transports are told, and packets through the nodes."""

from __future__ import annotations

import base64
import json
import struct
from contextlib import ExitStack
from typing import Any
from unittest import TestCase

from meshrelay.interfaces import IMeshRelay
from meshrelay.model import User
from tests.integration.cluster import Node, cluster_config, wait_until
from tests.integration.wire_clients import TcpClient, UdpClient, connect

__all__ = ["setup"]

ROOM_CREATE, ROOM_JOIN, ROOM_LEAVE = 100, 101, 102
ADDRESSES, START, RELAY, STATE, FORWARD = range(130, 135)

NODE_IDS = ("n0", "n1")


def setup(relay: IMeshRelay) -> None:
    """Be the application of a node: (2, 1) with a room ID tells the pairs of its links."""

    async def pairs(ver: int, cmd: int, payload: bytes, user: User) -> bytes:
        count, pairs = await relay.links.link_pairs(payload.decode())
        return json.dumps([count, [[pair.user_id, pair.peer_id, pair.state, pair.reason] for pair in pairs]]).encode()

    relay.command(2, 1, pairs)


def str8(text: str) -> bytes:
    """A text as the protocol has it."""
    return bytes((len(text.encode()),)) + text.encode()


def sized(data: bytes, start: int) -> tuple[bytes, int]:
    """A field of sync bytes, and where the next one begins."""
    size = struct.unpack_from("!I", data, start)[0]
    return data[start + 4 : start + 4 + size], start + 4 + size


def read_sync_bytes(data: bytes) -> dict[str, list[str]]:
    """Users, and the addresses of each, from the published layout alone."""
    users: dict[str, list[str]] = {}
    start = 48
    while start < len(data):
        user_id, start = sized(data, start)
        encoded, start = sized(data, start)
        packed, place = base64.b64decode(encoded, validate=True), 0
        addresses = users[user_id.decode()] = []
        while place < len(packed):
            address, place = sized(packed, place)
            addresses.append(address.decode())
    return users


def next_push(client: TcpClient, cmd: int) -> bytes:
    """The payload of the next push of this command; others are passed over."""
    while True:
        frame = client.push()
        if (frame.ver, frame.cmd) == (1, cmd):
            return frame.payload


def own_address(client: TcpClient) -> str:
    """Where a UDP client is."""
    host, port = client.socket.getsockname()
    return f"{host}:{port}"


class LinkTests(TestCase):
    """Two nodes; the directory is the first one's. Ann's room is on the second one."""

    def setUp(self) -> None:
        """Start the nodes, and let clients of all transports join."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        sections: dict[str, Any] = {"app": {"module": "tests.integration.test_links"}}
        first = stack.enter_context(Node(cluster_config("n0", **sections)))
        second = stack.enter_context(Node(cluster_config("n1", "pb:" + first.places["mesh"], **sections)))
        self.nodes = [first, second]
        for node in self.nodes:
            node.wait_linked(1)
        self.clients: dict[str, TcpClient] = {}
        for name, place, transport in (
            ("ann", 1, "rudp"),
            ("bob", 0, "rudp"),
            ("cat", 0, "tcp"),
            ("dan", 1, "ws"),
            ("eve", 0, "udp"),
        ):
            node = self.nodes[place]
            client = UdpClient(node, name) if transport == "udp" else connect(node, transport, name)
            self.addCleanup(client.close)
            self.clients[name] = client
        self.den = self.clients["ann"].ask(1, ROOM_CREATE, struct.pack("!HBIH", 0, 2, 60, 0))
        for name, client in self.clients.items():
            if name != "ann":
                client.ask(1, ROOM_JOIN, self.den)

    def start(self, starter: str, size: int = 0) -> dict[str, bytes]:
        """Start links, and return what each is pushed."""
        self.clients[starter].ask(1, START, self.den + bytes((size,)))
        return {name: next_push(client, START) for name, client in self.clients.items()}

    def test_links(self) -> None:
        """All members learn keys and addresses of their group; who has no UDP is among them without an address."""
        clients = self.clients
        for name, client in clients.items():
            own = own_address(client) if name in ("ann", "bob", "eve") else ""
            self.assertEqual(client.ask(1, ADDRESSES, str8("10.1.2.3:4000")), str8(own))
        self.assertEqual(clients["ann"].refused(1, ADDRESSES, str8("169.254.169.254:80")), 1)
        told = self.start("cat")
        self.assertEqual(len(set(told.values())), 1)
        users = read_sync_bytes(told["dan"])
        expected: dict[str, list[str]] = {"cat": [], "dan": []}
        expected |= {name: [own_address(clients[name]), "10.1.2.3:4000"] for name in ("ann", "bob", "eve")}
        self.assertEqual(users, expected)
        again = self.start("ann", 3)
        self.assertNotEqual(again["ann"][:48], told["ann"][:48])
        self.assertEqual(sorted(len(read_sync_bytes(each)) for each in again.values()), [2, 2, 3, 3, 3])

    def test_forward(self) -> None:
        """Packets go through the nodes between any two transports; to strangers, and behind a leave, they do not."""
        names = list(self.clients)
        self.start("ann")
        for sender in names:
            for peer in names:
                if sender != peer:
                    packet = f"{sender} to {peer}".encode() + b"." * 1000
                    self.clients[sender].send(1, FORWARD, self.den + str8(peer) + packet, reliable=False)
                    got = next_push(self.clients[peer], FORWARD)
                    self.assertEqual(got, self.den + str8(sender) + packet)
        ann, bob = self.clients["ann"], self.clients["bob"]
        self.assertEqual(ann.refused(1, FORWARD, self.den + str8("nobody") + b"x"), 30)
        self.assertEqual(ann.refused(1, FORWARD, b"x" * 52 + str8("bob") + b"x"), 24)
        bob.ask(1, ROOM_LEAVE, self.den)
        next_push(ann, ROOM_LEAVE)
        self.assertEqual(ann.refused(1, FORWARD, self.den + str8("bob") + b"x"), 30)
        self.assertEqual(bob.refused(1, FORWARD, self.den + str8("ann") + b"x"), 24)

    def test_relay_and_states(self) -> None:
        """One of each group is given a message; how pairs are reached is seen on any node, and on the pages."""
        clients = self.clients
        told = {name: list(read_sync_bytes(each)) for name, each in self.start("bob", 2).items()}
        self.assertEqual(clients["ann"].ask(1, RELAY, self.den + b"hi"), b"\1")
        nearest = {group[0] for group in told.values()} - {told["ann"][0]}
        self.assertEqual(len(nearest), 2)
        for name in nearest:
            self.assertEqual(next_push(clients[name], RELAY), self.den + str8("ann") + b"hi")
        states = b"".join(str8(peer) + b"\2" for peer in told["bob"] if peer != "bob")
        clients["bob"].ask(1, STATE, self.den + states + str8("stranger") + b"\1")
        expected = {"relayed"} if states else set()
        wait_until(lambda: self.reported(clients["ann"]) == expected, what="a report")
        self.assertEqual(self.reported(clients["cat"]), expected)
        for node in self.nodes:
            status, page = node.get(f"/links/{self.den.decode()}")
            self.assertEqual((status, page["pairs_left_out"]), (200, 0))
            self.assertEqual({pair["state"] for pair in page["pairs"] if pair["user"] == "bob"}, expected)
        self.assertEqual([len(node.get("/links")[1]["rooms"]) for node in self.nodes], [0, 1])
        self.assertEqual(self.nodes[1].get("/links/" + "x" * 52)[0], 404)
        self.assertEqual(self.nodes[1].metric("meshrelay_peer_link_starts_total"), 1)

    def reported(self, client: TcpClient) -> set[str]:
        """How bob reaches others, as a node tells it."""
        _, pairs = json.loads(client.ask(2, 1, self.den))
        return {state for user_id, _, state, _ in pairs if user_id == "bob"}

    def test_errors(self) -> None:
        """What cannot be has its code, on the node of the room and on others."""
        for name in ("ann", "cat"):
            client = self.clients[name]
            for cmd, payload, code in (
                (START, self.den + b"\1", 41),
                (START, self.den + b"\xff", 41),
                (START, b"x" * 52 + b"\0", 25),
                (START, b"short", 1),
                (RELAY, b"x" * 52, 25),
                (STATE, b"x" * 52, 25),
                (STATE, self.den + b"\1a\7", 1),
            ):
                self.assertEqual((cmd, client.refused(1, cmd, payload)), (cmd, code), payload)
        outside = connect(self.nodes[0], "tcp", "outside")
        self.addCleanup(outside.close)
        for cmd, payload in ((START, self.den + b"\0"), (RELAY, self.den), (STATE, self.den)):
            self.assertEqual(outside.refused(1, cmd, payload), 24)
        for name in ("bob", "eve"):
            self.clients[name].ask(1, ROOM_LEAVE, self.den)
        self.assertEqual(self.clients["cat"].refused(1, START, self.den + b"\0"), 40)
