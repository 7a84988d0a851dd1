"""The published client protocol, as a program that knows nothing else would use it, against a whole daemon.

What `tests.integration` tries by other means is not repeated; here are the bytes, bounds and orders that a reader of
the page would rely on.
"""

from __future__ import annotations

import json
import struct
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.daemon import Daemon
from tests.integration.wire_clients import BAD, OK, PUSH, Frame, TcpClient, UdpClient, WebSocketClient, pack

CREATE = struct.pack("!BIH", 3, 60, 0)
ROOM = struct.pack("!HBIH", 2, 3, 60, 0)


def str8(text: str) -> bytes:
    """Length and UTF-8."""
    return bytes((len(text.encode()),)) + text.encode()


class PageTestCase(SynchronousTestCase):
    """A daemon, and clients of it."""

    def setUp(self) -> None:
        """Start it; it must end well, too."""
        self.daemon = Daemon({"session": {"resume_seconds": 3.0}})
        self.daemon.__enter__()
        self.addCleanup(self.daemon.__exit__, None, None, None)

    def client(self, user: str = "", kind: type[TcpClient] = TcpClient) -> TcpClient:
        """Connect, and sign in unless `user` is empty."""
        client = kind(self.daemon)
        self.addCleanup(client.close)
        if user:
            client.hello(user)
        return client

    def pushed(self, client: TcpClient, cmd: int, payload: bytes) -> None:
        """The next push is exactly this."""
        self.assertEqual(client.push(), Frame(1, PUSH, cmd, 0, payload))

    def silent(self, client: TcpClient) -> None:
        """Nothing waits for a client: the next frame is the answer to a PING."""
        request_id = client.send(0, 2, b"still here")
        self.assertEqual(client.answer(request_id).payload, b"still here")
        self.assertEqual([frame for frame in client.pushes if frame.ver], [])


class SignInTests(PageTestCase):
    """HELLO, what comes before it, and what ends it."""

    def test_strict_types(self) -> None:
        """Every member of the answer has the type of the page: whole numbers are written without a fraction."""
        client = self.client()
        payload = client.ask(0, 1, b'{"protocol":1,"user":"typed"}')
        types = {name: type(value).__name__ for name, value in json.loads(payload).items()}
        expected = {
            **dict.fromkeys(("protocol", "heartbeat_seconds", "max_payload_bytes"), "int"),
            **dict.fromkeys(("sid", "node", "user"), "str"),
            **dict.fromkeys(("resumed", "recovered"), "bool"),
        }
        self.assertEqual(types, expected)

    def test_wrong_members(self) -> None:
        """A member of another type is code 1, and the connection ends with 4502."""
        for members in (
            {"protocol": "1"},
            {"protocol": True},
            {"user": 3},
            {"user": ""},
            {"user": "é" * 65},
            {"acks": 1},
            {"resume": 1},
            {"received": -1},
            {"received": 1 << 32},
            {"client": 1},
            {"token": 5},
        ):
            client = self.client()
            body = json.dumps({"protocol": 1, "user": "wrong", **members}).encode()
            self.assertEqual((members, client.refused(0, 1, body)), (members, 1))
            self.assertEqual(client.goodbye()[0], 4502)
            self.assertTrue(client.is_closed())

    def test_null_members(self) -> None:
        """An optional member may be null, and one that is not known may be there."""
        members = dict.fromkeys(("token", "client", "acks", "resume", "received", "later"))
        self.assertFalse(self.client().hello("nulls", **members)["resumed"])

    def test_goodbye_first(self) -> None:
        """Who leaves before signing in is let go without a word."""
        for kind in (TcpClient, WebSocketClient):
            client = self.client(kind=kind)
            client.send(0, 4)
            self.assertTrue(client.is_closed())
            self.assertEqual(client.pushes, [])

    def test_behind_goodbye(self) -> None:
        """What stands before GOODBYE in the same bytes is answered, what stands behind it is not."""
        client = self.client("leaving")
        client.send_bytes(pack(0, 0, 2, 71, b"a") + pack(0, 0, 4, 0) + pack(0, 0, 2, 72, b"b"))
        self.assertEqual(client.receive(), Frame(0, OK, 2, 71, b"a"))
        self.assertTrue(client.is_closed())

    def test_all_at_once(self) -> None:
        """Commands may stand behind HELLO in the same bytes, cut anywhere; the answers come in their order."""
        data = pack(0, 0, 1, 1, b'{"protocol":1,"user":"eager"}') + pack(0, 0, 2, 2, b"a") + pack(1, 0, 115, 3)
        for cut in (1, 11, 12, 13, len(data) - 1):
            client = self.client()
            client.send_bytes(data[:cut])
            time.sleep(0.01)
            client.send_bytes(data[cut:])
            self.assertEqual([client.receive().request_id for _ in range(3)], [1, 2, 3])
            client.send(0, 4)
            self.assertTrue(client.is_closed())

    def test_no_response(self) -> None:
        """A request ID of 0 gets no response, whatever becomes of the command."""
        client = self.client("mute")
        for ver, cmd, payload in (
            (0, 2, b"x"),
            (0, 2, b"x" * 65),
            (0, 77, b""),
            (1, 110, CREATE),
            (1, 111, b""),
            (9, 9, b""),
        ):
            client.send_bytes(pack(ver, 0, cmd, 0, payload))
        self.silent(client)

    def test_pushes_only(self) -> None:
        """Commands that are pushes only, and numbers that are none, are code 2 with the header of the request."""
        client = self.client("curious")
        for ver, cmd in (
            (0, 0),
            (0, 6),
            (1, 105),
            (1, 106),
            (1, 116),
            (1, 117),
            (1, 122),
            (1, 135),
            (2, 0),
            (255, 65535),
        ):
            request_id = client.send(ver, cmd, b"abc")
            answer = client.receive()
            self.assertEqual(answer[:4], (ver, BAD, cmd, request_id))
            self.assertEqual(answer.payload[:2], b"\0\2")


class GroupTests(PageTestCase):
    """Pushes of groups and rooms, byte for byte."""

    def test_lost_and_back(self) -> None:
        """The others are told who is lost, who is back, and who has gone for good, by TCP and WebSocket."""
        for kind, name in ((TcpClient, "tom"), (WebSocketClient, "wim")):
            ann, other = self.client(f"ann-{name}"), self.client(kind=kind)
            sid = other.hello(name)["sid"]
            group = ann.ask(1, 110, CREATE)
            self.assertEqual(other.ask(1, 111, group + b"hi"), b"")
            self.pushed(ann, 111, group + str8(name) + b"hi")
            other.close()
            self.pushed(ann, 116, group + str8(name))
            other = self.client(kind=kind)
            self.assertTrue(other.hello(name, resume=sid)["resumed"])
            self.pushed(ann, 117, group + str8(name))
            other.send(0, 4)
            self.assertTrue(other.is_closed())
            self.pushed(ann, 116, group + str8(name))

    def test_join_random(self) -> None:
        """The first one makes the group, the second one joins it and is heard, and nobody joins twice."""
        ann, bob = self.client("random-ann"), self.client("random-bob")
        wanted = struct.pack("!IBH", 60, 0, 0)
        made = ann.ask(1, 114, wanted + b"first")
        self.assertEqual((made[0], len(made)), (1, 53))
        self.assertEqual(bob.ask(1, 114, wanted + b"second"), b"\0" + made[1:])
        self.pushed(ann, 111, made[1:] + str8("random-bob") + b"second")
        self.assertNotEqual(bob.ask(1, 114, wanted)[1:], made[1:])

    def test_room(self) -> None:
        """Joins, the last place, who owns it next, and a member that is lost."""
        ann, bob, cid = (self.client(f"room-{name}") for name in ("ann", "bob", "cid"))
        owner, second = str8("room-ann"), str8("room-bob")
        room = ann.ask(1, 100, ROOM)
        self.assertEqual(bob.ask(1, 101, room), owner)
        self.pushed(ann, 101, room + second)
        self.assertEqual(cid.refused(1, 101, room), 23)
        self.assertEqual(cid.refused(1, 103, room + b"x"), 24)
        self.assertEqual(bob.ask(1, 104, room), owner + owner + second)
        ann.close()
        self.pushed(bob, 106, room + owner)
        self.pushed(bob, 105, room + second)
        self.silent(bob)

    def test_on_another_transport(self) -> None:
        """A session goes on by UDP and by TCP again, with its groups."""
        client = self.client()
        sid = client.hello("wanderer")["sid"]
        group = client.ask(1, 110, CREATE)
        client.close()
        udp = UdpClient(self.daemon, "wanderer", resume=sid)
        self.addCleanup(udp.close)
        self.assertEqual(udp.ask(1, 115), group)
        udp.close()
        client = self.client()
        welcome = client.hello("wanderer", resume=sid)
        self.assertEqual((welcome["resumed"], welcome["recovered"], welcome["sid"]), (True, False, sid))
        self.assertEqual(client.ask(1, 115), group)


class PacketTests(PageTestCase):
    """Numbers of UDP packets."""

    def test_window(self) -> None:
        """1,024 behind the highest number is the last that is taken, and each number is taken once."""
        client = UdpClient(self.daemon, "late")
        self.addCleanup(client.close)
        self.assertEqual(client.ask(0, 2, b"first"), b"first")
        packets = {number: client.seal(1, pack(0, 0, 2, number, b"")) for number in range(100, 1300)}
        numbers = sorted(packets)
        highest = numbers[-1]
        client.socket.send(packets[highest])
        self.assertEqual(client.answer(highest).request_id, highest)
        for behind in (1025, 1024, 1024, 1023, 1, 1):
            client.socket.send(packets[highest - behind])
        client.socket.settimeout(0.5)
        came = []
        try:
            while True:
                frame = client.receive()
                if frame.status != PUSH:
                    came.append(highest - frame.request_id)
        except TimeoutError:
            self.assertEqual(came, [1024, 1023, 1])
