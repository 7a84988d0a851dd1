"""The UDP port: which sealed datagram belongs to which session, and who is told nothing."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config, SessionConfig
from meshrelay.machine.reliability import MessageReceived
from meshrelay.model import CloseReason, Status
from meshrelay.session.auth import Identity
from meshrelay.testing.builders import make_sid
from meshrelay.transport import udp
from meshrelay.transport.udp import MAX_RESERVATIONS, REMEMBER_SECONDS, SOCKET_BUFFER_BYTES
from meshrelay.transport.udp_link import UdpLink
from meshrelay.wire.commands import (
    CORE_VER,
    Command,
    CoreCommand,
    decode_direct,
    decode_error,
    decode_goodbye,
    encode_direct,
)
from meshrelay.wire.datagram import PacketKind
from meshrelay.wire.frame import encode_frame, encode_push, whole_frames
from meshrelay.wire.hello import Welcome, decode_welcome
from meshrelay.wire.session_node import Handover
from tests.transport.udp_kit import HOME, UdpClient, UdpKit


class ReservationTests(SynchronousTestCase):
    """Secrets that were handed out and not used yet."""

    def setUp(self) -> None:
        """A UDP port."""
        self.kit = UdpKit()

    def test_secrets(self) -> None:
        """Each secret has 16 bytes, and none is like another, not even for the same user."""
        first, second = self.kit.reserve("ann"), self.kit.reserve("ann")
        self.assertEqual({len(secret) for secret in (*first, *second)}, {16})
        self.assertEqual(len({*first, *second}), 8)

    def test_disturbs_nobody(self) -> None:
        """Asking for secrets sends nothing, opens no session and leaves an older connection of the user alone."""
        older = self.kit.node.sign_in("ann")
        self.kit.reserve("ann")
        self.kit.settle()
        self.assertEqual((self.kit.bytes_out, older.link.is_closed), (0, False))
        self.assertEqual(self.kit.listener.reservation_count, 1)

    def test_first_packet(self) -> None:
        """The first packet that opens makes the session live and takes over from an older connection of the user."""
        older = self.kit.node.sign_in("ann")
        client = self.kit.client("ann")
        client.send_data(payload=b"there?")
        self.assertEqual([frame.payload for frame in client.frames()], [b"there?"])
        self.assertIs(older.link.close_reason, CloseReason.REPLACED)
        session = self.kit.node.registry.find_user("ann")
        assert session is not None
        self.assertEqual((session.user.sid, session.user.transport), (client.sid.hex(), "udp"))
        self.assertEqual(self.kit.listener.reservation_count, 0)

    def test_expiry(self) -> None:
        """Secrets that are not used in time are forgotten, and a packet sealed with them says nothing any more."""
        client = self.kit.client()
        self.kit.node.advance(9.9)
        self.assertEqual(self.kit.listener.reservation_count, 1)
        self.kit.node.advance(0.2)
        self.assertEqual(self.kit.listener.reservation_count, 0)
        client.send_data()
        self.kit.settle()
        self.assertEqual((self.kit.counters.packets_rejected["sid"], self.kit.bytes_out), (1, 0))

    def test_one_for_each_user(self) -> None:
        """A user has one reservation; the newest counts."""
        first, second = self.kit.client("ann"), self.kit.client("ann")
        self.assertEqual(self.kit.listener.reservation_count, 1)
        first.send_data()
        self.assertEqual(self.kit.bytes_out, 0)
        second.send_data()
        self.assertEqual(len(second.frames()), 1)

    def test_newer_outlives_the_older_deadline(self) -> None:
        """The deadline of an older reservation does not end a newer one of the same session."""
        client = self.kit.client("ann")
        client.send_data()
        client.frames()
        self.kit.reserve("ann", client.sid.hex())
        self.kit.node.advance(6)
        client.send_data()
        again = self.kit.client("ann", client.sid.hex())
        self.kit.node.advance(6)
        again.send_data()
        self.assertEqual(len(again.frames()), 1)

    def test_bound(self) -> None:
        """Beyond the bound the oldest is forgotten and counted; the newest always works."""
        self.assertEqual(MAX_RESERVATIONS, 16_384)
        self.patch(udp, "MAX_RESERVATIONS", 3)
        clients = [self.kit.client(name) for name in ("ann", "bob", "cy", "dan")]
        self.assertEqual(self.kit.listener.reservation_count, 3)
        self.assertEqual(self.kit.counters.refused["reservations"], 1)
        for client in clients:
            client.send_data()
        self.assertEqual(self.kit.counters.packets_rejected["sid"], 1)
        self.assertIsNone(self.kit.node.registry.find_user("ann"))
        self.assertIsNotNone(self.kit.node.registry.find_user("dan"))

    def test_draining(self) -> None:
        """A node that is going down lets nobody in, and says nothing."""
        client = self.kit.client()
        self.kit.node.reception.is_draining = True
        client.send_data()
        self.kit.settle()
        self.assertEqual((len(self.kit.node.registry), self.kit.bytes_out), (0, 0))

    def test_full(self) -> None:
        """A node that is full does not let the session live."""
        kit = UdpKit(Config(session=SessionConfig(max_connections=1)))
        kit.node.connect()
        client = kit.client()
        client.send_data()
        self.assertEqual(client.frames(), [])
        self.assertEqual((len(kit.node.registry), kit.counters.refused["max_connections"]), (0, 1))


class ResumeTests(SynchronousTestCase):
    """A session that goes on over UDP."""

    def setUp(self) -> None:
        """A user who has lost a TCP connection; three pushes were sent to it, two came while it was away."""
        self.kit = UdpKit()
        self.tcp = self.kit.node.sign_in("ann", acks=True)
        for number in range(3):
            self.push(number)
        self.tcp.lose()
        self.push(3)
        self.push(4)

    def push(self, number: int) -> None:
        """Push a number."""
        session = self.kit.node.registry.find_user("ann")
        assert session is not None
        session.push(2, 1, bytes((number,)), True)
        self.kit.settle()

    def pushed(self, client: UdpClient) -> list[int]:
        """Numbers that came."""
        return [frame.payload[0] for frame in client.frames() if frame.ver == 2]

    def test_with_count(self) -> None:
        """A client that says what it has received gets the rest, once and in order."""
        client = self.kit.client("ann", self.tcp.sid, received=2)
        self.assertEqual(client.sid.hex(), self.tcp.sid)
        client.send_data()
        self.assertEqual(self.pushed(client), [2, 3, 4])

    def test_without_count(self) -> None:
        """A client that does not say gets what came while it was away."""
        client = self.kit.client("ann", self.tcp.sid)
        client.send_data()
        self.assertEqual(self.pushed(client)[-2:], [3, 4])

    def test_not_theirs(self) -> None:
        """Another user's session, or one that nobody has, is passed over: the client gets a new one."""
        for user_id, sid in (("bob", self.tcp.sid), ("ann", "00" * 16)):
            client = self.kit.client(user_id, sid)
            self.assertNotIn(client.sid.hex(), (self.tcp.sid, "00" * 16))

    def test_over_a_live_udp_session(self) -> None:
        """A UDP client that asks for secrets anew goes on in its session; the old secrets work until the new do."""
        old = self.kit.client("ann", self.tcp.sid, received=5)
        old.send_data()
        old.frames()
        new = self.kit.client("ann", self.tcp.sid, received=5)
        old.send_data()
        self.assertEqual([frame.cmd for frame in old.frames()], [CoreCommand.PING])
        new.send_data()
        self.assertEqual(len(self.kit.node.registry), 1)
        self.push(5)
        sealed = [packet for packet, _ in self.kit.socket.packets[-1:]]
        self.assertEqual(new.codec.open(sealed[0]).content[-1:], b"\x05")


class RejectionTests(SynchronousTestCase):
    """Whatever does not open is counted and never answered."""

    def setUp(self) -> None:
        """A client whose session is live."""
        self.kit = UdpKit()
        self.client = self.kit.client()
        self.client.send_data()
        self.client.frames()
        self.sent = self.kit.bytes_out

    def check(self, datagram: bytes, reason: str) -> None:
        """Send `datagram`: it must be counted under `reason` and cause not one byte."""
        before = self.kit.counters.packets_rejected[reason]
        self.client.send_packet(datagram)
        self.kit.settle()
        self.assertEqual((reason, self.kit.counters.packets_rejected[reason]), (reason, before + 1))
        self.assertEqual((reason, self.kit.bytes_out), (reason, self.sent))

    def test_reasons(self) -> None:
        """Each way of being wrong has its own counter."""
        good = self.client.codec.seal(PacketKind.DATA, b"x" * 20)
        self.check(b"", "short")
        self.check(good[:41], "short")
        self.check(good + bytes(1400), "long")
        self.check(good[:1] + b"\x02" + good[2:], "version")
        self.check(b"\x63" + good[1:], "kind")
        self.check(good[:2] + bytes(16) + good[18:], "sid")
        self.check(good[:-1] + bytes((good[-1] ^ 1,)), "seal")
        self.check(good[:18] + bytes(8) + good[26:], "old")

    def test_replayed(self) -> None:
        """A packet that somebody recorded does nothing the second time, wherever it comes from."""
        packet = self.client.codec.seal(PacketKind.DATA, b"")
        self.client.send_packet(packet)
        self.client.address = ("203.0.113.9", 9)
        self.check(packet, "replayed")
        self.assertEqual(self.kit.counters.address_changes, 0)

    def test_unexpected(self) -> None:
        """A reliable packet before the SYN makes no sense and is not answered."""
        self.check(self.client.codec.seal(PacketKind.DAT, b"\0\0\0\1\0\0\0\1x"), "unexpected")

    def test_not_alive(self) -> None:
        """What does not open keeps nobody alive."""
        for _ in range(12):
            self.kit.node.advance(1)
            self.client.send_packet(bytes((1, 1)) + self.client.sid + bytes(40))
        self.assertEqual(self.kit.counters.closes["udp", "idle"], 1)

    def test_our_bug(self) -> None:
        """An unexpected error is logged and costs one packet, not the port."""

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        self.patch(udp, "packet_sid", fail)
        self.client.send_data()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_bytes_are_counted(self) -> None:
        """What comes for a session, or could be, is counted as received."""
        before = self.kit.counters.transports["udp"].bytes_received
        packet = self.client.codec.seal(PacketKind.DATA, b"")
        self.client.send_packet(packet)
        self.assertEqual(self.kit.counters.transports["udp"].bytes_received - before, len(packet))


class EndTests(SynchronousTestCase):
    """Sessions that are over."""

    def setUp(self) -> None:
        """A client that was sent away and has not heard of it."""
        self.kit = UdpKit()
        self.client = self.kit.client()
        self.client.send_data()
        self.client.frames()
        self.kit.node.registry.kick("ann", "go")
        self.last = self.client.packets()

    def test_told(self) -> None:
        """It is told by GOODBYE, and by RST with the same code and text."""
        data, rst = self.last
        self.assertEqual(decode_goodbye(data.content[12:]), (CloseReason.KICKED.code, "go"))
        self.assertEqual((rst.kind, rst.content), (PacketKind.RST, CloseReason.KICKED.code.to_bytes(2, "big") + b"go"))

    def test_told_again(self) -> None:
        """Each packet that it still sends is answered by one RST where it is now, and an RST by nothing."""
        self.client.address = ("203.0.113.9", 9)
        for _ in range(3):
            self.client.send_data()
            (rst,) = self.client.packets(self.client.address)
            self.assertEqual((rst.kind, rst.content[:2]), (PacketKind.RST, CloseReason.KICKED.code.to_bytes(2, "big")))
        self.client.send(PacketKind.RST, b"\x0f\xa0")
        self.assertEqual(self.client.packets(), [])

    def test_forgotten(self) -> None:
        """After a while it is forgotten and told nothing any more."""
        self.kit.node.advance(REMEMBER_SECONDS + 0.1)
        self.client.send_data()
        self.assertEqual(self.client.packets(), [])
        self.assertEqual(self.kit.counters.packets_rejected["sid"], 1)


class SocketTests(SynchronousTestCase):
    """The datagram socket."""

    def setUp(self) -> None:
        """A UDP port."""
        self.kit = UdpKit()

    def test_buffers(self) -> None:
        """Large buffers are asked of the kernel, and what it grants is known."""
        self.assertEqual(self.kit.socket.asked, [SOCKET_BUFFER_BYTES] * 2)
        listener = self.kit.listener
        self.assertEqual((listener.receive_buffer_bytes, listener.send_buffer_bytes), (425_984, 425_984))

    def test_not_sent(self) -> None:
        """What the kernel does not take is dropped and counted, by what it said."""
        client = self.kit.client()
        cases = {
            "socket_full": BlockingIOError(errno.EAGAIN, "full"),
            "unreachable": OSError(errno.EHOSTUNREACH, "no route"),
        }
        for reason, error in cases.items():
            self.kit.socket.error = error
            client.send_data()
            self.kit.settle()
            self.assertEqual((reason, self.kit.counters.packets_dropped[reason]), (reason, 1))
        self.assertEqual(self.kit.counters.transports["udp"].bytes_sent, 0)

    def test_sent(self) -> None:
        """What it takes is counted."""
        client = self.kit.client()
        client.send_data()
        client.frames()
        self.assertEqual(self.kit.counters.transports["udp"].bytes_sent, self.kit.bytes_out)

    def much(self) -> UdpClient:
        """A client that was pushed what takes some datagrams of one size and a shorter one."""
        client = self.kit.client()
        client.send_data()
        client.frames()
        session = self.kit.node.registry.find_user("ann")
        assert session is not None
        self.kit.socket.calls = 0
        for number in range(45):
            session.push(2, 1, bytes((number,)) * 128, False)
        return client

    def numbers(self, client: UdpClient) -> list[int]:
        """What it was pushed."""
        return [frame.payload[0] for frame in client.frames()]

    def test_sent_together(self) -> None:
        """Packets for one client leave by one call, and all of them are counted as sent."""
        client = self.much()
        before = self.kit.bytes_out
        self.assertEqual(self.numbers(client), list(range(45)))
        self.assertEqual(self.kit.socket.calls, 1)
        self.assertEqual(self.kit.counters.transports["udp"].bytes_sent, self.kit.bytes_out)
        self.assertGreater(self.kit.bytes_out - before, 45 * 128)

    def test_not_together(self) -> None:
        """A path that wants its packets one by one gets them so, and nothing is dropped."""
        client = self.much()
        self.kit.socket.segment_error = OSError(errno.EINVAL, "path MTU")
        self.assertEqual(self.numbers(client), list(range(45)))
        self.assertEqual((self.kit.socket.calls, self.kit.counters.packets_dropped), (6, {}))

    def test_full_for_all(self) -> None:
        """When there is no room for packets that go together, each of them is counted as dropped."""
        client = self.much()
        self.kit.socket.segment_error = BlockingIOError(errno.EAGAIN, "full")
        self.assertEqual(self.numbers(client), [])
        self.assertEqual((self.kit.socket.calls, self.kit.counters.packets_dropped), (1, {"socket_full": 5}))

    def test_closed(self) -> None:
        """When the port is closed nothing is sent and nothing raises."""
        client = self.kit.client()
        client.send_data()
        self.kit.listener.stopProtocol()
        self.kit.settle()
        self.assertEqual((self.kit.bytes_out, self.kit.counters.packets_dropped), (0, {}))

    def test_command(self) -> None:
        """A client uses commands like everybody; what is refused is answered."""
        client = self.kit.client()
        client.send_data(Command.GROUP_JOIN, b"no such group", ver=1)
        (answer,) = client.frames()
        self.assertEqual((answer.status, answer.cmd), (Status.BAD, Command.GROUP_JOIN))
        self.assertNotEqual(decode_error(answer.payload)[1], "")

    def test_sign_in_again(self) -> None:
        """HELLO has no place here: a UDP client has signed in by asking for its secrets."""
        client = self.kit.client()
        client.send_data(CoreCommand.HELLO, b"{}", CORE_VER)
        (answer,) = client.frames()
        self.assertEqual(answer.status, Status.BAD)

    def test_identity(self) -> None:
        """The session has the claims that the endpoint page found."""
        secrets = self.kit.listener.reserve(Identity("ann", {"level": 3}), "")
        client = UdpClient(self.kit, secrets)
        client.send_data()
        session = self.kit.node.registry.find_user("ann")
        assert session is not None
        self.assertEqual(session.user.claims, {"level": 3})


class BatchTests(SynchronousTestCase):
    """Datagrams that were read together."""

    def setUp(self) -> None:
        """Two clients whose sessions are live, and what commands were run together."""
        self.kit = UdpKit()
        self.ann, self.bob = self.kit.client("ann"), self.kit.client("bob")
        for client in (self.ann, self.bob):
            client.send_data()
            client.frames()
        self.runs: list[int] = []
        dispatcher = self.kit.node.dispatcher
        dispatch_run = dispatcher.dispatch_run

        def record(session: Any, command: Any, frames: Any) -> None:
            self.runs.append(len(frames.payloads))
            dispatch_run(session, command, frames)

        self.patch(dispatcher, "dispatch_run", record)

    def direct(self, client: UdpClient, peer_id: str, message: bytes) -> tuple[bytes, tuple[str, int]]:
        """A datagram with a direct message."""
        frame = encode_frame(1, 0, Command.DM_SEND, 0, encode_direct(peer_id, message))
        return client.codec.seal(PacketKind.DATA, frame), client.address

    def received(self, client: UdpClient) -> list[bytes]:
        """Direct messages that came."""
        return [decode_direct(frame.payload).message for frame in client.frames()]

    def test_run_together(self) -> None:
        """Commands of one client are run together, in order, also where packets of others are between them."""
        numbers = [b"%d" % number for number in range(6)]
        batch = [self.direct(self.ann, "bob", number) for number in numbers]
        batch.insert(3, self.direct(self.bob, "ann", b"hi"))
        self.kit.listener.datagrams_received(batch)
        self.assertEqual(self.runs, [6, 1])
        self.assertEqual((self.received(self.bob), self.received(self.ann)), (numbers, [b"hi"]))

    def test_one_is_bad(self) -> None:
        """A packet that does not open costs itself and not those that were read with it."""
        bad = (bytes((1, 1)) + self.ann.sid + bytes(40), self.ann.address)
        self.kit.listener.datagrams_received([bad, self.direct(self.ann, "bob", b"hello"), (b"", HOME), bad])
        self.assertEqual(self.received(self.bob), [b"hello"])
        self.assertEqual(sum(self.kit.counters.packets_rejected.values()), 3)

    def test_our_bug(self) -> None:
        """An unexpected error in what one client sent is logged and keeps nothing of another's."""
        bug = ZeroDivisionError()
        read_ended = UdpLink.read_ended

        def fail_for_ann(link: UdpLink) -> None:
            if link.sid == self.ann.sid:
                raise bug
            read_ended(link)

        self.patch(UdpLink, "read_ended", fail_for_ann)
        self.kit.listener.datagrams_received([self.direct(self.ann, "bob", b"1"), self.direct(self.bob, "ann", b"2")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.received(self.ann), [b"2"])


class OtherNode:
    """Another node, which has one session of ann and may take its time."""

    def __init__(self, kit: UdpKit) -> None:
        self.kit = kit
        self.waiting: Deferred[None] | None = None

    def fetch(self, identity: Identity, sid: str) -> Deferred[None] | None:
        """See `Arrivals`."""
        if sid == make_sid("ann") and identity.user_id == "ann":
            handover = Handover(is_found=True, is_exact=True, frames=encode_push(1, 113, b"missed"))
            self.kit.node.registry.adopt(identity, sid, handover, None)
        return self.waiting or succeed(None)


class RoamingTests(SynchronousTestCase):
    """UDP clients whose session is at another node."""

    def setUp(self) -> None:
        """A node with another one."""
        self.kit = UdpKit()
        self.other = self.kit.node.reception.arrivals = OtherNode(self.kit)

    def greeting(self, client: UdpClient) -> tuple[Welcome, list[bytes]]:
        """What a client was told first, and the pushes behind it."""
        data = b"".join(event.data for event in client.events if isinstance(event, MessageReceived))
        first, *rest = whole_frames(data, 1 << 16)
        self.assertEqual((first.ver, first.cmd), (CORE_VER, CoreCommand.HELLO))
        return decode_welcome(first.payload), [frame.payload for frame in rest]

    def test_found(self) -> None:
        """The session goes on; its packets have a sid that this node made, and the greeting names the session's."""
        client = self.kit.client("ann", make_sid("ann"))
        self.assertNotEqual(client.sid.hex(), make_sid("ann"))
        client.connect()
        welcome, pushed = self.greeting(client)
        self.assertEqual((welcome.sid, welcome.resumed, welcome.recovered), (make_sid("ann"), True, True))
        self.assertEqual(pushed, [b"missed"])

    def test_resumed_here_next(self) -> None:
        """The next resume is one of this node, with the session's sid on the packets."""
        self.kit.client("ann", make_sid("ann")).connect()
        again = self.kit.client("ann", make_sid("ann"), 1)
        self.assertEqual(again.sid.hex(), make_sid("ann"))
        again.connect()
        welcome, pushed = self.greeting(again)
        self.assertEqual((welcome.sid, welcome.recovered, pushed), (make_sid("ann"), True, []))

    def test_takes_time(self) -> None:
        """The stream opens while the session is on its way; what is sent over it waits."""
        self.other.waiting = Deferred()
        client = self.kit.client("ann", make_sid("ann"))
        client.connect()
        self.assertEqual([event for event in client.events if isinstance(event, MessageReceived)], [])
        self.other.waiting.callback(None)
        client.exchange()
        self.assertTrue(self.greeting(client)[0].resumed)

    def test_not_found(self) -> None:
        """A sid that nobody knows, or that is somebody else's, becomes a new session with the sid of the packets."""
        for user_id, resume in (("ann", make_sid("nobody")), ("bob", make_sid("ann"))):
            client = self.kit.client(user_id, resume)
            client.connect()
            welcome, pushed = self.greeting(client)
            self.assertEqual((welcome.sid, welcome.resumed, pushed), (client.sid.hex(), False, []))

    def test_without_stream(self) -> None:
        """A client that opens no stream is never greeted: it has the session whose sid its packets have."""
        client = self.kit.client("ann", make_sid("ann"))
        client.send_data()
        self.kit.settle()
        session = self.kit.node.registry.find_user("ann")
        assert session is not None
        self.assertEqual(session.user.sid, client.sid.hex())
