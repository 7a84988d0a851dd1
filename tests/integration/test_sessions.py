"""One suite of sessions and groups over all three transports, by clients that know only the published protocol."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import wait_until
from tests.integration.daemon import Daemon
from tests.integration.wire_clients import (
    ANSWER_SECONDS,
    BAD,
    Closed,
    Frame,
    ReliableUdpClient,
    TcpClient,
    UdpClient,
    WebSocketClient,
    connect,
    pack,
)

TRANSPORTS = ("tcp", "websocket", "udp")

NEW_GROUP = struct.pack("!BIH", 2, 60, 0)

DRAINING, IDLE, SLOW_CONSUMER, INTERNAL = 4000, 4001, 4002, 4003
REPLACED, BAD_TOKEN, PROTOCOL_ERROR, FRAME_TOO_LARGE = 4500, 4501, 4502, 4503
KICKED, HELLO_TIMEOUT, RATE_LIMITED = 4504, 4505, 4506


def envelope(group: bytes, user: str, message: bytes) -> bytes:
    """What the other members are pushed."""
    return group + bytes((len(user),)) + user.encode() + message


class MixedGroupTests(SynchronousTestCase):
    """Users of three transports in one group."""

    def test_everybody_gets_what_the_others_broadcast_in_order(self) -> None:
        """A TCP, a WebSocket and a UDP client each receive what the others broadcast, in each sender's order."""
        with Daemon() as daemon:
            clients = {name: connect(daemon, name, name) for name in TRANSPORTS}
            group = clients["tcp"].ask(1, 110, NEW_GROUP)
            clients["websocket"].ask(1, 111, group)
            clients["udp"].ask(1, 111, group)
            for number in range(200):
                for client in clients.values():
                    client.send_bytes(pack(1, 1, 113, 0, group + b"%d" % number))
                if not number % 10:
                    # Datagrams are lost where nobody reads them in time, at either end.
                    clients["udp"].ask(0, 2, b"read")
            for name, client in clients.items():
                heard: dict[str, list[int]] = {other: [] for other in TRANSPORTS if other != name}
                for _ in range(400):
                    frame = client.push()
                    self.assertEqual((frame.ver, frame.cmd, frame.request_id), (1, 113, 0))
                    size = frame.payload[52]
                    heard[frame.payload[53 : 53 + size].decode()].append(int(frame.payload[53 + size :]))
                for numbers in heard.values():
                    self.assertEqual(numbers, list(range(200)))
                client.close()


class SessionSuite:
    """What holds on every transport. A subclass says which."""

    transport = ""

    def start(self: Any, **sections: Any) -> Daemon:
        """A daemon that ends with the test."""
        daemon = Daemon(sections).__enter__()
        self.addCleanup(daemon.__exit__, None, None, None)
        return daemon

    def connect(self: Any, daemon: Daemon, user: str) -> TcpClient:
        """A signed-in client of this transport that ends with the test."""
        client = connect(daemon, self.transport, user)
        self.addCleanup(client.close)
        return client

    def wait_away(self: Any, daemon: Daemon) -> None:
        """Wait until the node knows that one client is away."""
        wait_until(lambda: daemon.metric("meshrelay_sessions_away") == 1, what="a client that is away")

    def test_ping(self: Any) -> None:
        """PING comes back with the same bytes; more than 64 are refused."""
        client = self.connect(self.start(), "ann")
        self.assertEqual(client.ask(0, 2, b"x" * 64), b"x" * 64)
        self.assertEqual(client.refused(0, 2, b"x" * 65), 1)

    def test_heartbeat(self: Any) -> None:
        """The node sends PINGs of its own, and a client that answers them is not idle."""
        ttl = "udp_ttl_seconds" if self.transport.endswith("udp") else "tcp_ttl_seconds"
        client = self.connect(self.start(session={"heartbeat_seconds": 0.25, ttl: 1.5}), "ann")
        for _ in range(8):
            frame = client.receive()
            self.assertEqual((frame.ver, frame.status, frame.cmd, frame.request_id), (0, 255, 2, 0))
            client.send_bytes(pack(0, 0, 3, 0, frame.payload))
        self.assertEqual(client.ask(0, 2, b"alive"), b"alive")

    def test_idle(self: Any) -> None:
        """A client that says nothing for its ttl is told IDLE and closed."""
        ttl = "udp_ttl_seconds" if self.transport.endswith("udp") else "tcp_ttl_seconds"
        client = self.connect(self.start(session={ttl: 1.0}), "ann")
        self.assertEqual(client.goodbye()[0], IDLE)

    def test_replaced(self: Any) -> None:
        """A newer sign-in of the same user takes over, whatever transport it comes by."""
        daemon = self.start()
        for newer in TRANSPORTS:
            older = self.connect(daemon, "ann")
            connect(daemon, newer, "ann").close()
            self.assertEqual(older.goodbye()[0], REPLACED)

    def test_goodbye(self: Any) -> None:
        """A client that says GOODBYE is gone for good: its memberships are."""
        daemon = self.start()
        client, other = self.connect(daemon, "ann"), self.connect(daemon, "bob")
        group = client.ask(1, 110, NEW_GROUP)
        client.send_bytes(pack(0, 0, 4, 0))
        name = "udp" if self.transport.endswith("udp") else self.transport
        wait_until(lambda: daemon.metric(f'meshrelay_sessions{{transport="{name}"}}') == 1, what="the end of a session")
        self.assertEqual(other.refused(1, 111, group), 21)

    def test_unknown_bits_in_status(self: Any) -> None:
        """A status byte that no client may send is a broken protocol."""
        client = self.connect(self.start(), "ann")
        client.send_bytes(pack(1, 6, 115, 1))
        self.assertEqual(client.goodbye()[0], PROTOCOL_ERROR)

    def test_frame_too_large(self: Any) -> None:
        """A payload over the limit is refused when it is announced; the text names the limit."""
        client = self.connect(self.start(), "ann")
        client.send_bytes(struct.pack("!BBHII", 1, 0, 113, 1, 65537))
        code, text = client.goodbye()
        self.assertEqual(code, FRAME_TOO_LARGE)
        self.assertIn("65536", text)

    def test_commands_that_are_refused(self: Any) -> None:
        """Each bad command gets its code and costs nothing else."""
        client = self.connect(self.start(), "ann")
        group = client.ask(1, 110, NEW_GROUP)
        cases = [
            (2, 0, 199, b""),
            (2, 1, 9999, b""),
            (2, 77, 1, b""),
            (1, 1, 110, b"\x02"),
            (1, 1, 110, struct.pack("!BIH", 0x82, 60, 0)),
            (10, 1, 110, struct.pack("!BIH", 2, 10, 0)),
            (11, 1, 110, struct.pack("!BIH", 0, 60, 0)),
            (1, 1, 111, group[:51]),
            (21, 1, 111, b"x" * 52),
            (20, 1, 111, group),
            (21, 1, 112, b"x" * 52),
            (21, 1, 113, b"x" * 52 + b"hi"),
            (1, 1, 115, b"x"),
            (1, 0, 1, b"{}"),
        ]
        for code, ver, cmd, payload in cases:
            self.assertEqual(client.refused(ver, cmd, payload), code, (ver, cmd, payload))
        self.assertEqual(client.ask(1, 115), group)

    def test_rate_limit(self: Any) -> None:
        """Twice the rate at once is taken, more is refused with code 4, and who does not stop is closed."""
        client = self.connect(self.start(session={"commands_per_second": 1}), "ann")
        codes = [frame for frame in (client.answer(client.send(1, 115)) for _ in range(20)) if frame.status == BAD]
        # One or two are taken at once, and one for each second that the others take.
        self.assertTrue(9 <= len(codes) <= 19, len(codes))
        self.assertEqual({struct.unpack_from("!H", frame.payload)[0] for frame in codes}, {4})
        with contextlib.suppress(Closed, ConnectionError):
            for _ in range(300):
                client.send(1, 115)
                if self.transport.endswith("udp"):
                    time.sleep(0.0005)
        self.assertEqual(client.goodbye()[0], RATE_LIMITED)

    def test_groups(self: Any) -> None:
        """Create, join, broadcast, list, leave."""
        daemon = self.start()
        ann, bob = self.connect(daemon, "ann"), self.connect(daemon, "bob")
        group = ann.ask(1, 110, NEW_GROUP)
        self.assertEqual(len(group), 52)
        self.assertEqual(bob.ask(1, 111, group + b"hello"), b"")
        self.assertEqual(ann.push(), Frame(1, 255, 111, 0, envelope(group, "bob", b"hello")))
        self.assertEqual(ann.ask(1, 113, group + b"all"), b"")
        self.assertEqual(bob.push(), Frame(1, 255, 113, 0, envelope(group, "ann", b"all")))
        created = bob.ask(1, 114, struct.pack("!IBH", 60, 0, 0) + b"hi")
        self.assertEqual(created[:1], b"\x01")
        self.assertEqual(bob.ask(1, 115), group + created[1:])
        self.assertEqual(ann.ask(1, 114, struct.pack("!IBH", 60, 0, 0) + b"hi"), b"\x00" + created[1:])
        self.assertEqual(bob.push(), Frame(1, 255, 111, 0, envelope(created[1:], "ann", b"hi")))
        self.assertEqual(bob.ask(1, 112, group + b"bye"), b"")
        self.assertEqual(ann.push(), Frame(1, 255, 112, 0, envelope(group, "bob", b"bye")))
        self.assertEqual(bob.refused(1, 113, group + b"x"), 22)
        self.assertEqual(ann.ask(1, 112, group), b"")
        self.assertEqual(ann.refused(1, 111, group), 21)

    def test_merging_interval(self: Any) -> None:
        """A group with an interval holds what is sent to it for that long, in order."""
        daemon = self.start()
        ann, bob = self.connect(daemon, "ann"), self.connect(daemon, "bob")
        group = ann.ask(1, 110, struct.pack("!BIH", 2, 60, 400))
        bob.ask(1, 111, group)
        started = time.monotonic()
        for number in range(20):
            ann.ask(1, 113, group + b"%d" % number)
        self.assertEqual([int(bob.push().payload[56:]) for _ in range(20)], list(range(20)))
        self.assertGreater(time.monotonic() - started, 0.35)


class StreamSuite(SessionSuite):
    """What holds where HELLO signs in."""

    client: type[TcpClient]

    def open(self: Any, daemon: Daemon) -> TcpClient:
        """A client that has not said HELLO."""
        client: TcpClient = self.client(daemon)
        self.addCleanup(client.close)
        return client

    def test_hello_timeout(self: Any) -> None:
        """Who does not say HELLO in time is told so and closed."""
        client = self.open(self.start(session={"hello_timeout_seconds": 0.3}))
        self.assertEqual(client.goodbye()[0], HELLO_TIMEOUT)
        self.assertTrue(client.is_closed())

    def test_command_before_hello(self: Any) -> None:
        """A command before HELLO gets code 3; HELLO is still welcome after it."""
        client = self.open(self.start())
        self.assertEqual(client.refused(1, 115), 3)
        self.assertEqual(client.hello("ann")["user"], "ann")

    def test_bad_hello(self: Any) -> None:
        """A HELLO that cannot be understood is refused with code 1 and the connection closed."""
        daemon = self.start()
        for body in (
            b"",
            b"nonsense",
            b"{}",
            b'{"protocol":2,"user":"ann"}',
            b'{"protocol":1,"user":""}',
            b"[1]",
            b'{"protocol":1,"user":"' + b"x" * 129 + b'"}',
            b'{"protocol":1,"user":"\xff"}',
        ):
            client = self.open(daemon)
            self.assertEqual(client.refused(0, 1, body), 1, body)
            self.assertEqual(client.goodbye()[0], PROTOCOL_ERROR)

    def test_garbage(self: Any) -> None:
        """Garbage costs its sender alone."""
        daemon = self.start()
        good = self.connect(daemon, "good")
        bad = self.open(daemon)
        bad.send_bytes(b"\xff" * 500)
        self.assertIn(bad.goodbye()[0], (PROTOCOL_ERROR, FRAME_TOO_LARGE))
        self.assertEqual(good.ask(0, 2, b"fine"), b"fine")

    def test_resume_without_acks(self: Any) -> None:
        """A resume keeps the memberships, and what was sent reliably meanwhile is delivered."""
        daemon = self.start()
        ann, bob = self.open(daemon), self.connect(daemon, "bob")
        sid = ann.hello("ann")["sid"]
        group = ann.ask(1, 110, NEW_GROUP)
        bob.ask(1, 111, group)
        ann.close()
        self.wait_away(daemon)
        bob.ask(1, 113, group + b"while away")
        again = self.open(daemon)
        welcome = again.hello("ann", resume=sid)
        self.assertEqual((welcome["resumed"], welcome["recovered"], welcome["sid"]), (True, False, sid))
        self.assertEqual(again.push().payload, envelope(group, "bob", b"while away"))
        self.assertEqual(again.ask(1, 115), group)

    def test_resume_with_acks(self: Any) -> None:
        """With acks the node replays exactly what was not received, pushes lost with the connection included."""
        daemon = self.start()
        ann, bob = self.open(daemon), self.connect(daemon, "bob")
        sid = ann.hello("ann", acks=True)["sid"]
        group = ann.ask(1, 110, NEW_GROUP)
        bob.ask(1, 111, group)
        for number in range(10):
            bob.ask(1, 113, group + b"%d" % number)
        received = [ann.push().payload[-1:] for _ in range(4)]
        ann.send_bytes(pack(0, 0, 5, 0, struct.pack("!I", 2)))
        ann.close()
        self.wait_away(daemon)
        bob.ask(1, 113, group + b"A")
        again = self.open(daemon)
        welcome = again.hello("ann", resume=sid, acks=True, received=4)
        self.assertEqual((welcome["resumed"], welcome["recovered"]), (True, True))
        received += [again.push().payload[-1:] for _ in range(7)]
        self.assertEqual(b"".join(received), b"0123456789A")
        self.assertEqual(again.ask(0, 2, b"nothing more"), b"nothing more")
        self.assertEqual(again.pushes, [])

    def test_resume_that_lost_too_much(self: Any) -> None:
        """When the buffer no longer has everything, the node says so and replays nothing."""
        daemon = self.start(session={"replay_bytes": 2000})
        ann, bob = self.open(daemon), self.connect(daemon, "bob")
        sid = ann.hello("ann", acks=True)["sid"]
        group = ann.ask(1, 110, NEW_GROUP)
        bob.ask(1, 111, group)
        ann.close()
        self.wait_away(daemon)
        for _ in range(5):
            bob.ask(1, 113, group + b"x" * 800)
        again = self.open(daemon)
        welcome = again.hello("ann", resume=sid, acks=True, received=0)
        self.assertEqual((welcome["resumed"], welcome["recovered"]), (True, False))
        again.ask(0, 2, b"")
        self.assertEqual(again.pushes, [])

    def test_resume_of_somebody_else(self: Any) -> None:
        """The sid of another user resumes nothing."""
        daemon = self.start()
        ann = self.open(daemon)
        sid = ann.hello("ann")["sid"]
        welcome = self.open(daemon).hello("eve", resume=sid)
        self.assertFalse(welcome["resumed"])
        self.assertNotEqual(welcome["sid"], sid)

    def test_bad_token(self: Any) -> None:
        """In mode "token" a HELLO without a valid token gets code 3 and BAD_TOKEN, and not which check failed."""
        secret = self.mktemp()
        with open(secret, "wb") as stream:
            stream.write(b"s" * 32)
        daemon = self.start(auth={"mode": "token", "secret_file": os.path.abspath(secret)})
        client = self.open(daemon)
        self.assertEqual(client.refused(0, 1, b'{"protocol":1,"user":"ann","token":"x.y.z"}'), 3)
        self.assertEqual(client.goodbye(), (BAD_TOKEN, "sign-in refused"))


class TcpSessionTests(StreamSuite, SynchronousTestCase):
    """The suite over TCP."""

    transport = "tcp"
    client = TcpClient

    def test_every_cut(self) -> None:
        """Frames cut anywhere are the same frames."""
        client = self.connect(self.start(), "ann")
        for byte in pack(0, 0, 2, 77, b"slow"):
            client.socket.sendall(bytes((byte,)))
        self.assertEqual(client.receive().payload, b"slow")

    def test_slow_consumer(self) -> None:
        """A client that does not read is closed with SLOW_CONSUMER, and another one's broadcasts go on."""
        daemon = self.start(session={"outbox_bytes": 65536})
        ann = self.open(daemon)
        ann.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        ann.hello("ann")
        bob = self.connect(daemon, "bob")
        group = ann.ask(1, 110, NEW_GROUP)
        bob.ask(1, 111, group)
        name = 'meshrelay_closes_total{reason="slow_consumer",transport="tcp"}'
        for _ in range(600):
            bob.ask(1, 113, group + b"x" * 60000)
            if daemon.metric(name):
                break
        self.assertEqual(daemon.metric(name), 1.0)


class WebSocketSessionTests(StreamSuite, SynchronousTestCase):
    """The suite over WebSocket."""

    transport = "websocket"
    client = WebSocketClient

    def test_text_message(self) -> None:
        """A text message is a broken protocol; the close code says so as well."""
        client = self.connect(self.start(), "ann")
        assert isinstance(client, WebSocketClient)
        client.send_message(b"hello", opcode=1)
        self.assertEqual(client.goodbye()[0], PROTOCOL_ERROR)
        with self.assertRaises(Closed) as closed:
            client.receive()
        self.assertEqual(closed.exception.args, (PROTOCOL_ERROR,))

    def test_message_that_ends_inside_a_frame(self) -> None:
        """A message must hold whole frames."""
        client = self.connect(self.start(), "ann")
        client.send_bytes(pack(0, 0, 2, 1, b"cut")[:-1])
        self.assertEqual(client.goodbye()[0], PROTOCOL_ERROR)

    def test_many_frames_in_one_message(self) -> None:
        """One message may hold several frames."""
        client = self.connect(self.start(), "ann")
        client.send_bytes(b"".join(pack(0, 0, 2, number, b"%d" % number) for number in range(1, 6)))
        self.assertEqual([client.receive().payload for _ in range(5)], [b"1", b"2", b"3", b"4", b"5"])

    def test_origin(self) -> None:
        """A page of another host may not connect, one of the same host may."""
        daemon = self.start()
        for origin, expected in (("http://evil.example", b"403"), ("http://127.0.0.1:7000", b"101"), ("null", b"403")):
            with socket.create_connection(daemon.address("websocket")) as connection:
                host = daemon.places["websocket"]
                connection.sendall(
                    f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    f"Origin: {origin}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    "Sec-WebSocket-Version: 13\r\n\r\n".encode()
                )
                self.assertEqual(connection.recv(4096).split(b" ")[1], expected, origin)


class UdpSessionTests(SessionSuite, SynchronousTestCase):
    """The suite over UDP."""

    transport = "udp"

    def test_packets_that_do_not_open(self) -> None:
        """Whatever does not open is never answered, and disturbs nobody."""
        daemon = self.start()
        client = self.connect(daemon, "ann")
        assert isinstance(client, UdpClient)
        good = client.seal(1, pack(0, 0, 2, 5, b"once"))
        forged = [
            b"",
            b"x",
            b"x" * 1400,
            b"x" * 2000,
            good[:-1],
            good[:41],
            good[:26] + bytes(len(good) - 26),
            b"\x09" + good[1:],
            good[:1] + b"\x02" + good[2:],
            good[:2] + bytes(16) + good[18:],
        ]
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(stranger.close)
        stranger.settimeout(0.3)
        for packet in forged:
            stranger.sendto(packet, daemon.address("udp"))
        with self.assertRaises(TimeoutError):
            stranger.recv(2048)
        client.socket.send(good)
        self.assertEqual(client.receive().payload, b"once")
        client.socket.send(good)
        client.socket.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            client.receive()
        self.assertEqual(daemon.metric('meshrelay_packets_rejected_total{reason="replayed"}'), 1.0)

    def test_asking_alone_disturbs_nobody(self) -> None:
        """The endpoint call replaces nobody; the first packet does."""
        daemon = self.start()
        older = connect(daemon, "tcp", "ann")
        self.addCleanup(older.close)
        newer = UdpClient(daemon, "ann")
        self.addCleanup(newer.close)
        self.assertEqual(older.ask(0, 2, b"still here"), b"still here")
        newer.ask(0, 2, b"here")
        self.assertEqual(older.goodbye()[0], REPLACED)

    def test_address_change(self) -> None:
        """A newer packet from another address moves the session there."""
        daemon = self.start()
        client = self.connect(daemon, "ann")
        client.socket.close()
        client.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.socket.connect(daemon.address("udp"))
        client.socket.settimeout(ANSWER_SECONDS)
        self.assertEqual(client.ask(0, 2, b"moved"), b"moved")

    def test_resume(self) -> None:
        """A session is resumed by the endpoint call: same sid, same memberships, what was sent meanwhile."""
        daemon = self.start(session={"udp_ttl_seconds": 1.5})
        ann, bob = self.connect(daemon, "ann"), connect(daemon, "tcp", "bob")
        self.addCleanup(bob.close)
        assert isinstance(ann, UdpClient)
        group = ann.ask(1, 110, NEW_GROUP)
        bob.ask(1, 111, group)
        self.assertEqual(ann.goodbye()[0], IDLE)
        bob.ask(1, 113, group + b"while away")
        again = UdpClient(daemon, "ann", resume=ann.sid.hex())
        self.addCleanup(again.close)
        self.assertEqual(again.sid, ann.sid)
        self.assertEqual(again.ask(1, 115), group)
        self.assertEqual(again.push().payload, envelope(group, "bob", b"while away"))

    def test_answer_that_fits_no_datagram(self) -> None:
        """An answer that no datagram holds becomes code 5."""
        client = self.connect(self.start(), "ann")
        for _ in range(26):
            client.ask(1, 110, NEW_GROUP)
        self.assertEqual(client.refused(1, 115), 5)


class ReliableUdpSessionTests(SessionSuite, SynchronousTestCase):
    """The suite over UDP with the reliable kinds."""

    transport = "rudp"

    def test_hello_after_syn(self) -> None:
        """After the SYN exchange the first thing that comes is what HELLO is answered elsewhere, as a push."""
        client = self.connect(self.start(), "ann")
        assert isinstance(client, ReliableUdpClient)
        frame = client.welcome
        self.assertEqual((frame.ver, frame.status, frame.cmd, frame.request_id), (0, 255, 1, 0))
        welcome = json.loads(frame.payload)
        self.assertEqual((welcome["user"], welcome["sid"], welcome["resumed"]), ("ann", client.sid.hex(), False))

    def test_large_messages_both_ways(self) -> None:
        """A message of the largest size travels in fragments, there and back."""
        daemon = self.start()
        ann, bob = self.connect(daemon, "ann"), self.connect(daemon, "bob")
        group = ann.ask(1, 110, NEW_GROUP)
        bob.ask(1, 111, group)
        message = os.urandom(65536 - 52 - 4)
        self.assertEqual(ann.ask(1, 113, group + message), b"")
        self.assertEqual(bob.push().payload, envelope(group, "ann", message))

    def test_resume_replays_what_was_not_acknowledged(self) -> None:
        """What a lost client had not acknowledged, and what came meanwhile, comes after the resume, in order."""
        daemon = self.start(session={"udp_ttl_seconds": 2.0})
        ann, bob = self.connect(daemon, "ann"), connect(daemon, "tcp", "bob")
        self.addCleanup(bob.close)
        assert isinstance(ann, ReliableUdpClient)
        group = ann.ask(1, 110, NEW_GROUP)
        bob.ask(1, 111, group)
        bob.ask(1, 113, group + b"0")
        self.assertEqual(ann.push().payload[-1:], b"0")
        ann.socket.close()
        for number in range(1, 4):
            bob.ask(1, 113, group + b"%d" % number)
        self.wait_away(daemon)
        bob.ask(1, 113, group + b"4")
        again = ReliableUdpClient(daemon, "ann", resume=ann.sid.hex())
        self.addCleanup(again.close)
        welcome = json.loads(again.welcome.payload)
        self.assertEqual((welcome["resumed"], welcome["recovered"]), (True, True))
        self.assertEqual([again.push().payload[-1:] for _ in range(4)], [b"1", b"2", b"3", b"4"])
        self.assertEqual(again.ask(1, 115), group)

    def test_fin(self) -> None:
        """A client that is done says FIN; the node answers, says FIN itself, and the session waits for a resume."""
        daemon = self.start()
        client = self.connect(daemon, "ann")
        assert isinstance(client, ReliableUdpClient)
        client.ask(0, 2, b"hi")
        client.socket.send(client.seal(7, struct.pack("!I", (client.next_sequence - 1) % 2**32)))
        while not client.is_finished:
            client._packet()

    def test_reset(self) -> None:
        """A client that resets is gone at once and may come back."""
        daemon = self.start()
        client = self.connect(daemon, "ann")
        assert isinstance(client, ReliableUdpClient)
        group = client.ask(1, 110, NEW_GROUP)
        client.socket.send(client.seal(5, struct.pack("!H", 4000) + b"bye"))
        again = ReliableUdpClient(daemon, "ann", resume=client.sid.hex())
        self.addCleanup(again.close)
        self.assertEqual(again.ask(1, 115), group)
