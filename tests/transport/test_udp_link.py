"""One UDP session: frames into sealed packets, and packets into frames."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.config.schema import Config, SessionConfig
from meshrelay.errors import ErrorCode
from meshrelay.fanout.outbox import DROP_NEWEST, DROP_OLDEST
from meshrelay.interfaces import IDownlink, IMeshRelay, ISession
from meshrelay.machine.reliability import Closed, Finished, MessageReceived, PeerFinished, ReliabilityOptions
from meshrelay.model import CloseReason, Status
from meshrelay.testing.contracts import DownlinkUnderTest, check_downlink
from meshrelay.transport.stream_link import CLOSE_SECONDS
from meshrelay.transport.udp_link import UdpLink
from meshrelay.wire.commands import Command, CoreCommand, decode_error, decode_goodbye, encode_direct
from meshrelay.wire.datagram import MAX_DATAGRAM_BYTES, TO_CLIENT, TO_NODE, PacketCodec, PacketKind
from meshrelay.wire.frame import Frame, FrameRun, encode_frame, encode_push, whole_frames
from meshrelay.wire.hello import decode_welcome
from meshrelay.wire.prepared import MAX_DATAGRAM_CONTENT, Batch
from tests.transport.udp_kit import HOME, UdpClient, UdpKit

ELSEWHERE = ("203.0.113.9", 9)

#: Commands of the application below.
BIG, SLOW = 1, 2


class Answers:
    """An application: BIG answers as many bytes as it is told, SLOW when it is let go."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[bytes]] = []
        self.ran = 0

    def setup(self, relay: IMeshRelay) -> None:
        """See `IMeshRelayApp`."""
        relay.command(2, BIG, lambda ver, cmd, payload, user: bytes(int.from_bytes(payload, "big")))
        relay.command(2, SLOW, self.slow)

    def slow(self, ver: int, cmd: int, payload: bytes, user: object) -> Deferred[bytes]:
        """Wait."""
        self.ran += 1
        self.waiting.append(Deferred())
        return self.waiting[-1]


def session_of(kit: UdpKit, user_id: str = "ann") -> ISession:
    """The session of a user who is signed in."""
    session = kit.node.registry.find_user(user_id)
    assert session is not None
    return session


def link_of(kit: UdpKit) -> UdpLink:
    """The link of the only connection."""
    (connection,) = kit.node.reception.connections
    assert isinstance(connection.link, UdpLink)
    return connection.link


def messages(client: UdpClient) -> list[Frame]:
    """All frames that came by the reliable stream."""
    data = [event.data for event in client.events if isinstance(event, MessageReceived)]
    return [frame for each in data for frame in whole_frames(each, 1 << 24)]


class ContractTests(SynchronousTestCase):
    """What a link promises to the session layer."""

    def test_downlink(self) -> None:
        """It is a downlink like every other."""
        key = bytes(range(32))

        def make() -> DownlinkUnderTest:
            kit = UdpKit()
            sid = bytes(16)
            link = UdpLink(kit.parts, sid, PacketCodec(sid, key, TO_CLIENT), HOME, kit.sender, lambda _: None)
            client = PacketCodec(sid, key, TO_NODE)
            frames: list[Frame] = []

            def received() -> list[Frame]:
                kit.settle()
                packets, kit.socket.packets = kit.socket.packets, []
                for packet in [client.open(sealed) for sealed, _ in packets]:
                    if packet.kind is PacketKind.DATA:
                        frames.extend(whole_frames(packet.content, 65536))
                return frames

            return DownlinkUnderTest(link, received)

        check_downlink(make)


class DataTests(SynchronousTestCase):
    """A client that never opens the reliable stream."""

    def setUp(self) -> None:
        """A client whose session is live."""
        self.answers = Answers()
        self.kit = UdpKit(set_up=self.answers.setup)
        self.client = self.kit.client()
        self.client.send_data()
        self.client.frames()
        self.session = session_of(self.kit)

    def test_interface(self) -> None:
        """The link names its transport and its client."""
        link = link_of(self.kit)
        verifyObject(IDownlink, link)
        self.assertEqual((link.transport_name, link.peer), ("udp", "192.0.2.1:7"))
        self.assertIsNone(link.undelivered())

    def test_packing(self) -> None:
        """Frames of a turn share datagrams of at most 1,400 bytes, whole and in order."""
        for number in range(40):
            self.session.push(2, 1, bytes((number,)) * 100, False)
        packets = self.client.packets()
        self.assertEqual(len(packets), 4)
        sizes = [len(packet) for packet, _ in self.kit.socket.packets]
        self.assertLessEqual(max(sizes), MAX_DATAGRAM_BYTES)
        frames = [frame for packet in packets for frame in whole_frames(packet.content, 65536)]
        self.assertEqual([frame.payload[0] for frame in frames], list(range(40)))

    def test_largest(self) -> None:
        """A frame that just fits is sent; one byte more is dropped and counted."""
        self.session.push(2, 1, bytes(MAX_DATAGRAM_CONTENT - 12), True)
        self.session.push(2, 1, bytes(MAX_DATAGRAM_CONTENT - 11), True)
        self.assertEqual([len(frame.payload) for frame in self.client.frames()], [MAX_DATAGRAM_CONTENT - 12])
        self.assertEqual(len(self.kit.socket.packets[-1][0]), MAX_DATAGRAM_BYTES)
        self.assertEqual(self.kit.counters.packets_dropped["too_large"], 1)

    def test_large_answer(self) -> None:
        """An answer that fits no datagram becomes code 5, so that nobody waits for it."""
        self.client.send_data(BIG, (5000).to_bytes(2, "big"), ver=2, request_id=9)
        (answer,) = self.client.frames()
        self.assertEqual((answer.ver, answer.cmd, answer.request_id, answer.status), (2, BIG, 9, Status.BAD))
        self.assertEqual(decode_error(answer.payload)[0], ErrorCode.MESSAGE_TOO_LARGE)

    def test_much_in_one_turn(self) -> None:
        """What one turn has for a client does not pile up without end: it goes out by 64 KiB."""
        link = link_of(self.kit)
        for _ in range(60):
            link.send_batch(Batch([encode_push(2, 1, bytes(1300))]))
        self.assertLessEqual(link.queued_bytes, 65536)
        self.assertGreater(self.kit.bytes_out, 60_000)
        self.assertEqual(len(self.client.frames()), 60)

    def test_malformed(self) -> None:
        """A datagram that ends inside a frame is against the protocol: the client is told and closed."""
        self.client.send(PacketKind.DATA, encode_frame(0, 0, 2, 1, b"ping")[:-1])
        data, rst = self.client.packets()
        self.assertEqual(decode_goodbye(data.content[12:])[0], CloseReason.PROTOCOL_ERROR.code)
        self.assertEqual(rst.kind, PacketKind.RST)

    def test_too_large_a_frame(self) -> None:
        """A frame over max_payload_bytes closes with FRAME_TOO_LARGE."""
        kit = UdpKit(Config(session=SessionConfig(max_payload_bytes=64)))
        client = kit.client()
        client.send_data(payload=bytes(65))
        data = client.packets()[0]
        self.assertEqual(decode_goodbye(data.content[12:])[0], CloseReason.FRAME_TOO_LARGE.code)

    def test_reset_by_the_client(self) -> None:
        """An RST ends the connection at once; the session waits for a resume, and nothing is sent back."""
        sent = self.kit.bytes_out
        self.client.send(PacketKind.RST, b"\x0f\xa0")
        self.kit.settle()
        self.assertEqual((self.kit.bytes_out, len(self.kit.node.reception.connections)), (sent, 0))
        self.assertEqual(self.kit.node.registry.away_count, 1)
        self.client.send_data()
        self.assertEqual(self.client.packets(), [])

    def test_idle(self) -> None:
        """A client that says nothing for 10 seconds is gone; one last RST tells it why, should it still be there."""
        self.kit.node.advance(10.2)
        *_, rst = self.client.packets()
        self.assertEqual((rst.kind, rst.content[:2]), (PacketKind.RST, CloseReason.IDLE.code.to_bytes(2, "big")))

    def test_goodbye(self) -> None:
        """A client that says GOODBYE is gone without another word."""
        self.client.send_data(CoreCommand.GOODBYE, request_id=0)
        self.assertEqual(self.client.packets(), [])
        self.assertEqual(len(self.kit.node.registry), 0)

    def test_pending_commands(self) -> None:
        """Commands behind a slow one wait up to the bound; a datagram cannot be left for later, so more are dropped."""
        for _ in range(100):
            self.client.send_data(SLOW, ver=2)
        self.assertEqual(self.kit.counters.packets_dropped["pending_commands"], 100 - 1 - 64)
        for _ in range(65):
            self.answers.waiting.pop(0).callback(b"")
        self.assertEqual((self.answers.ran, self.answers.waiting), (65, []))


class AddressTests(SynchronousTestCase):
    """A client that comes from somewhere else."""

    def setUp(self) -> None:
        """A client whose session is live at one address."""
        self.kit = UdpKit()
        self.client = self.kit.client()
        self.client.send_data()
        self.client.frames()

    def challenge(self) -> bytes:
        """Return the payload of the PING that asks for a proof."""
        frames = [frame for frame in self.client.frames() if frame.status == Status.PUSH]
        (ping,) = [frame for frame in frames if (frame.ver, frame.cmd) == (0, CoreCommand.PING)]
        return ping.payload

    def push(self, size: int) -> None:
        """Push one frame of `size` bytes of payload."""
        session_of(self.kit).push(2, 1, bytes(size), False)

    def test_moves_at_once(self) -> None:
        """The newest packet that opens says where the client is, and it is asked to prove it there."""
        self.client.address = ELSEWHERE
        self.client.send_data()
        packets = self.client.packets(ELSEWHERE)
        self.assertGreaterEqual(len(packets), 1)
        self.assertEqual(self.kit.counters.address_changes, 1)
        self.assertEqual(link_of(self.kit).peer, "203.0.113.9:9")

    def test_late_packet(self) -> None:
        """An older packet that took another way moves nobody, but counts."""
        late = self.client.codec.seal(PacketKind.DATA, encode_frame(0, 0, 2, 1, b"late"))
        self.client.send_data()
        self.client.frames()
        self.client.address = ELSEWHERE
        self.client.send_packet(late)
        self.assertEqual(len(self.client.packets(HOME)), 1)
        self.assertEqual(self.kit.counters.address_changes, 0)

    def test_three_times(self) -> None:
        """An address that is not proved gets at most three times what came from it, however much there is to send."""
        self.client.address = ELSEWHERE
        packet = self.client.codec.seal(PacketKind.DATA, encode_frame(0, 0, 2, 1, b""))
        self.client.send_packet(packet)
        for _ in range(50):
            self.push(100)
        self.kit.settle()
        to_new = sum(len(sealed) for sealed, address in self.kit.socket.packets if address == ELSEWHERE)
        self.assertLessEqual(to_new, 3 * len(packet))
        self.assertGreater(self.kit.counters.packets_dropped["unproved"], 0)

    def test_three_times_one_by_one(self) -> None:
        """The bound is the same for pushes that each go in a turn of their own."""
        self.client.address = ELSEWHERE
        packet = self.client.codec.seal(PacketKind.DATA, encode_frame(0, 0, 2, 1, b""))
        self.client.send_packet(packet)
        for _ in range(5):
            self.push(40)
            self.kit.settle()
        to_new = sum(len(sealed) for sealed, address in self.kit.socket.packets if address == ELSEWHERE)
        self.assertLessEqual(to_new, 3 * len(packet))

    def test_proof(self) -> None:
        """An answer to the PING proves the address: all is sent there from then on, and others may be told of it."""
        link = link_of(self.kit)
        self.assertEqual(link.udp_address, self.client.address)
        self.client.address = ELSEWHERE
        self.client.send_data()
        self.assertIsNone(link.udp_address)
        self.client.send_data(CoreCommand.PONG, self.challenge(), request_id=0)
        self.assertEqual(link.udp_address, ELSEWHERE)
        for _ in range(50):
            self.push(1000)
        self.assertEqual(len(self.client.packets(ELSEWHERE)), 50)
        self.assertEqual(self.kit.counters.packets_dropped["unproved"], 0)

    def test_wrong_proof(self) -> None:
        """A wrong answer proves nothing."""
        self.client.address = ELSEWHERE
        self.client.send_data()
        self.challenge()
        self.client.send_data(CoreCommand.PONG, bytes(8), request_id=0)
        for _ in range(50):
            self.push(1000)
        self.kit.settle()
        self.assertGreater(self.kit.counters.packets_dropped["unproved"], 0)

    def test_asked_again(self) -> None:
        """A challenge that was lost is repeated with the next packet from there."""
        self.client.address = ELSEWHERE
        self.client.send_data()
        first = self.challenge()
        self.client.send_data()
        self.assertEqual(self.challenge(), first)

    def test_moves_on(self) -> None:
        """A proof of one address is none for the next."""
        self.client.address = ELSEWHERE
        self.client.send_data()
        first = self.challenge()
        self.client.address = ("198.51.100.5", 5)
        self.client.send_data()
        second = self.challenge()
        self.assertNotEqual(first, second)
        self.client.send_data(CoreCommand.PONG, first, request_id=0)
        for _ in range(50):
            self.push(1000)
        self.kit.settle()
        self.assertGreater(self.kit.counters.packets_dropped["unproved"], 0)

    def test_back_home(self) -> None:
        """Packets that come from the old address again take the session back there."""
        self.client.address = ELSEWHERE
        self.client.send_data()
        self.client.frames()
        self.client.address = HOME
        self.client.send_data()
        self.assertGreaterEqual(len(self.client.packets(HOME)), 1)
        self.assertEqual(self.kit.counters.address_changes, 2)


class ReliableTests(SynchronousTestCase):
    """A client that opens the reliable stream."""

    def setUp(self) -> None:
        """A client that has begun with a SYN."""
        self.start(UdpKit(set_up=Answers().setup))

    def start(self, kit: UdpKit, options: ReliabilityOptions | None = None) -> None:
        """Let a client begin with a SYN."""
        self.kit = kit
        self.client = kit.client()
        self.machine = self.client.connect(options)
        self.session = session_of(kit)

    def told(self) -> list[bytes]:
        """Payloads of application pushes that came by the stream."""
        return [frame.payload for frame in messages(self.client) if frame.ver == 2 and frame.status == Status.PUSH]

    def test_syn_while_the_session_is_fetched(self) -> None:
        """Who sends SYN while its session is on its way is welcomed when that has come."""
        kit = UdpKit(set_up=Answers().setup)
        first = kit.client()
        first.send_data()
        client = kit.client(resume=first.sid.hex())
        coming: Deferred[None] = Deferred()
        self.patch(kit.node.reception, "arrivals", SimpleNamespace(fetch=lambda identity, sid: coming))
        client.send_data()
        client.connect()
        self.assertEqual(messages(client), [])
        coming.callback(None)
        client.exchange()
        self.assertEqual([frame.cmd for frame in messages(client)][:1], [CoreCommand.HELLO])

    def test_welcome(self) -> None:
        """The first thing that comes is what a HELLO would have been answered."""
        first = messages(self.client)[0]
        self.assertEqual((first.ver, first.status, first.cmd), (0, Status.PUSH, CoreCommand.HELLO))
        welcome = decode_welcome(first.payload)
        self.assertEqual((welcome.sid, welcome.user, welcome.resumed), (self.client.sid.hex(), "ann", False))

    def test_welcome_once(self) -> None:
        """A SYN that is sent again is answered again, but greeted once."""
        hellos = [frame for frame in messages(self.client) if frame.cmd == CoreCommand.HELLO]
        self.assertEqual(len(hellos), 1)

    def test_syn_after_data(self) -> None:
        """A client may open the stream later; it is greeted then, and pushes are reliable from then on."""
        client = self.kit.client("bob")
        client.send_data()
        client.frames()
        client.connect()
        session_of(self.kit, "bob").push(2, 1, b"reliable", True)
        client.exchange()
        payloads = [frame.payload for frame in messages(client)]
        self.assertEqual((decode_welcome(payloads[0]).user, payloads[1]), ("bob", b"reliable"))

    def test_request_and_answer(self) -> None:
        """A request that comes by the stream is answered by the stream, however large the answer is."""
        self.machine.send_message(encode_frame(2, 1, BIG, 9, (5000).to_bytes(2, "big")))
        self.client.exchange()
        answer = messages(self.client)[-1]
        self.assertEqual((answer.request_id, answer.status, len(answer.payload)), (9, Status.OK, 5000))

    def test_answer_the_way_it_came(self) -> None:
        """A request that comes as DATA is answered as DATA if the answer fits, else by the stream."""
        self.client.send_data(BIG, (500).to_bytes(2, "big"), ver=2, request_id=9)
        self.assertEqual([frame.request_id for frame in self.client.frames()], [9])
        self.client.send_data(BIG, (5000).to_bytes(2, "big"), ver=2, request_id=10)
        self.client.exchange()
        answer = messages(self.client)[-1]
        self.assertEqual((answer.request_id, answer.status, len(answer.payload)), (10, Status.OK, 5000))

    def test_reliable_and_not(self) -> None:
        """Reliable pushes go by the stream, others as DATA."""
        self.session.push(2, 1, b"sure", True)
        self.session.push(2, 1, b"maybe", False)
        self.kit.settle()
        packets = self.client.packets()
        loose = [packet.content[12:] for packet in packets if packet.kind is PacketKind.DATA]
        self.assertEqual(loose, [b"maybe"])
        self.assertIn(PacketKind.DAT, [packet.kind for packet in packets])

    def test_unreliable_too_large(self) -> None:
        """An unreliable push that fits no datagram goes by the stream rather than nowhere."""
        self.session.push(2, 1, bytes(5000), False)
        self.client.exchange()
        self.assertEqual(self.told(), [bytes(5000)])

    def test_lost_packets(self) -> None:
        """What is lost on the way is sent again."""
        self.session.push(2, 1, b"once", True)
        self.client.packets()  # the network drops them
        for _ in range(20):
            self.kit.node.advance(0.1, 0.01)
            self.client.exchange(1)
        self.assertEqual(self.told(), [b"once"])

    def test_joined(self) -> None:
        """Pushes that come joined are counted one by one, as the client counts them."""
        link = link_of(self.kit)
        pushes = [encode_push(2, 1, bytes((number,))) for number in range(3)]
        link.send_batch(Batch([b"".join(pushes), pushes[0]], None, [3, 1]))
        self.client.exchange()
        self.assertEqual(link.undelivered(), (4, []))
        self.assertEqual(self.told(), [b"\0", b"\1", b"\2", b"\0"])

    def test_undelivered(self) -> None:
        """The link knows what was not acknowledged: that is what a resume has to send again."""
        self.session.push(2, 1, b"arrives", True)
        self.client.exchange()
        self.session.push(2, 1, b"on its way", True)
        self.kit.settle()
        self.assertEqual(link_of(self.kit).undelivered(), (2, [encode_push(2, 1, b"on its way")]))

    def test_moves(self) -> None:
        """A client that moves in the middle of the stream loses nothing."""
        self.session.push(2, 1, b"before", True)
        self.client.address = ELSEWHERE
        self.client.send_data(payload=bytes(500))
        for _ in range(20):
            for frame in self.client.frames():
                if (frame.ver, frame.cmd, frame.status) == (0, CoreCommand.PING, Status.PUSH):
                    self.client.send_data(CoreCommand.PONG, frame.payload, request_id=0)
            self.kit.node.advance(0.1, 0.01)
            self.client.exchange(1)
        self.assertEqual(self.told(), [b"before"])
        self.assertEqual(self.kit.socket.packets[-1][1], ELSEWHERE)

    # The end.

    def test_kicked(self) -> None:
        """GOODBYE comes behind all that the client is owed, then RST with the same code."""
        for number in range(20):
            self.session.push(2, 1, bytes((number,)) * 1000, True)
        self.kit.node.registry.kick("ann", "go")
        self.client.exchange(40)
        frames = messages(self.client)
        self.assertEqual(len(self.told()), 20)
        self.assertEqual(decode_goodbye(frames[-1].payload), (CloseReason.KICKED.code, "go"))
        (closed,) = [event for event in self.client.events if isinstance(event, Closed)]
        self.assertEqual((closed.code, closed.text), (CloseReason.KICKED.code, "go"))

    def test_kicked_and_silent(self) -> None:
        """A client that acknowledges nothing is told by RST after 5 seconds, and forgotten."""
        self.kit.node.registry.kick("ann", "go")
        self.kit.node.advance(CLOSE_SECONDS - 0.2, 0.1)
        self.assertNotIn(PacketKind.RST, [packet.kind for packet in self.client.packets()])
        self.kit.node.advance(0.4, 0.1)
        self.assertIn(PacketKind.RST, [packet.kind for packet in self.client.packets()])
        self.assertEqual(len(self.kit.node.reception.lingering), 0)

    def test_client_finishes(self) -> None:
        """A client that closes its direction is answered by the node's, and both know that all has arrived."""
        self.machine.send_message(encode_frame(0, 0, CoreCommand.GOODBYE, 0, b""))
        self.machine.finish()
        self.client.exchange(20)
        kinds = [type(event) for event in self.client.events]
        self.assertIn(PeerFinished, kinds)
        self.assertIn(Finished, kinds)
        self.assertEqual(len(self.kit.node.registry), 0)

    def read_together(self, contents: list[tuple[PacketKind, bytes]]) -> list[Frame]:
        """Let the node read packets of the client together; return the frames that came as DATA afterwards."""
        packets = [(self.client.codec.seal(kind, content), self.client.address) for kind, content in contents]
        self.kit.listener.datagrams_received(packets)
        return self.client.frames()

    def request(self, request_id: int) -> bytes:
        """A direct message to nobody: a command that may be kept until the read ends."""
        return encode_frame(1, 1, Command.DM_SEND, request_id, encode_direct("bob", b""))

    def test_ways_in_one_read(self) -> None:
        """What was read together and came two ways is answered in two ways, and run in the order in which it came."""
        ran: list[list[int]] = []
        dispatcher = self.kit.node.dispatcher
        dispatch_run = dispatcher.dispatch_run

        def record(session: Any, command: Any, run: FrameRun) -> None:
            ran.append(run.request_ids)
            dispatch_run(session, command, run)

        self.patch(dispatcher, "dispatch_run", record)
        self.machine.send_message(self.request(3))
        stream = self.machine.packets_to_send(self.kit.clock.seconds())
        data = [(PacketKind.DATA, self.request(request_id)) for request_id in (1, 2, 4)]
        by_data = self.read_together([*data[:2], *stream, data[2]])
        self.client.exchange()
        by_stream = [frame.request_id for frame in messages(self.client) if frame.request_id]
        self.assertEqual(ran, [[1, 2], [3], [4]])
        self.assertEqual(([frame.request_id for frame in by_data], by_stream), ([1, 2, 4], [3]))

    def test_many_answers(self) -> None:
        """Requests that were read together are all answered, also when their answers fit no single packet."""
        bob = self.kit.client("bob")
        bob.send_data()
        frames = [encode_frame(1, 0, Command.DM_SEND, number, encode_direct("bob", b"hi")) for number in range(1, 301)]
        by_data = self.read_together([(PacketKind.DATA, frame) for frame in frames])
        self.assertEqual([frame.request_id for frame in by_data], list(range(1, 301)))
        for frame in frames:
            self.machine.send_message(frame)
        self.client.exchange(40)
        by_stream = [frame.request_id for frame in messages(self.client) if frame.ver == 1]
        self.assertEqual(by_stream, list(range(1, 301)))

    def test_request_before_the_end(self) -> None:
        """A request is answered, although the end of the client's stream was read together with it."""
        self.machine.send_message(self.request(3))
        packets = self.machine.packets_to_send(self.kit.clock.seconds())
        packets.append((PacketKind.FIN, (4_000_000_000).to_bytes(4, "big")))
        answers: list[int] = []
        send_frame = UdpLink.send_frame

        def record(link: UdpLink, frame: bytes, count: int = 1) -> None:
            answers.append(link.queued_bytes)
            send_frame(link, frame, count)
            answers.append(link.queued_bytes)

        self.patch(UdpLink, "send_frame", record)
        self.read_together(packets)
        self.assertEqual(len(answers), 2)
        self.assertLess(*answers)

    def test_client_finishes_without_goodbye(self) -> None:
        """A client that only closes its stream may come back: its session is kept for a while."""
        self.machine.finish()
        self.client.exchange(20)
        self.assertIn(Finished, [type(event) for event in self.client.events])
        self.assertEqual(self.kit.node.registry.away_count, 1)

    def test_last_acknowledgement_lost(self) -> None:
        """The node answers a FIN that is repeated, for some seconds after the end."""
        self.machine.finish()
        self.client.exchange(20)
        self.client.packets()
        self.client.send(PacketKind.FIN, (4_000_000_000 - 1).to_bytes(4, "big"))
        self.assertIn(PacketKind.ACK, [packet.kind for packet in self.client.packets()])


class BoundTests(SynchronousTestCase):
    """A client that takes less than it is sent."""

    def start(self, policy: str) -> tuple[UdpKit, UdpClient, Any]:
        """Return a client with an open stream whose node holds at most 10,000 bytes for it."""
        kit = UdpKit(Config(session=SessionConfig(outbox_bytes=10_000)), policy)
        client = kit.client()
        client.connect()
        return kit, client, session_of(kit)

    def test_disconnect(self) -> None:
        """With policy disconnect the connection is closed with SLOW_CONSUMER, and the session may come back."""
        kit, client, session = self.start("disconnect")
        for _ in range(12):
            session.push(2, 1, bytes(1000), True)
            kit.settle()
        self.assertEqual(kit.counters.closes["udp", "slow_consumer"], 1)
        *_, rst = client.packets()
        self.assertEqual(
            (rst.kind, rst.content[:2]), (PacketKind.RST, CloseReason.SLOW_CONSUMER.code.to_bytes(2, "big"))
        )

    def test_drop(self) -> None:
        """With a dropping policy the newest pushes go, are counted, and the connection stays."""
        for policy in (DROP_OLDEST, DROP_NEWEST):
            kit, client, session = self.start(policy)
            for number in range(15):
                session.push(2, 1, bytes((number,)) * 1000, True)
                kit.settle()
            dropped = kit.counters.outbox_dropped[policy]
            self.assertGreater(dropped, 0)
            client.exchange(40)
            numbers = [frame.payload[0] for frame in messages(client) if frame.ver == 2]
            self.assertEqual((policy, numbers), (policy, list(range(15 - dropped))))
            self.assertEqual(len(kit.node.reception.connections), 1)

    def test_answers_are_not_dropped(self) -> None:
        """An answer that does not fit closes the connection, whatever the policy is: nobody waits for nothing."""
        kit, _, session = self.start(DROP_NEWEST)
        for _ in range(9):
            session.push(2, 1, bytes(1000), True)
            kit.settle()
        session.reply(9, Status.OK, 2, 1, bytes(2000))
        self.assertEqual(kit.counters.closes["udp", "slow_consumer"], 1)


class PauseTests(SynchronousTestCase):
    """A client whose commands wait behind a slow one."""

    def setUp(self) -> None:
        """A node that takes 8 packets ahead, and holds 4 commands behind a slow one."""
        self.answers = Answers()
        config = Config(session=SessionConfig(pending_commands=4, receive_window_packets=8, hook_timeout_seconds=600))
        self.kit = UdpKit(config, set_up=self.answers.setup)
        self.client = self.kit.client()
        self.machine = self.client.connect()

    def send(self, count: int) -> None:
        """Send slow commands by the stream, each large enough to be a packet of its own."""
        for number in range(count):
            self.machine.send_message(encode_frame(2, 1, SLOW, number + 1, bytes(1000)))

    def test_held_requests_are_answered_by_the_stream(self) -> None:
        """Requests of the stream that had to wait are answered there, although DATA came meanwhile."""
        slow = encode_frame(2, 1, SLOW, 1, b"")
        direct = [encode_frame(1, 1, Command.DM_SEND, number, encode_direct("bob", b"")) for number in range(2, 8)]
        self.machine.send_message(slow + b"".join(direct))
        self.client.exchange()
        self.client.send_data()
        self.assertEqual([frame.cmd for frame in self.client.frames()], [CoreCommand.PING])
        self.answers.waiting.pop(0).callback(b"")
        self.assertEqual(self.client.frames(), [])
        self.client.exchange(40)
        answered = [frame.request_id for frame in messages(self.client) if frame.request_id]
        self.assertEqual(answered, list(range(1, 8)))

    def test_window(self) -> None:
        """While the node does not take messages the client's window closes: the rest waits at the client."""
        link_of(self.kit).pause_reading()
        self.send(30)
        self.client.exchange(20)
        self.assertEqual(self.answers.ran, 0)
        self.assertGreaterEqual(self.machine.pending_bytes, 10_000)
        link_of(self.kit).resume_reading()
        self.client.exchange(20)
        self.assertEqual(self.answers.ran, 1)

    def test_nothing_is_lost(self) -> None:
        """A slow command holds the stream up, and when it is through every command behind it has its turn."""
        self.send(30)
        for _ in range(300):
            self.client.exchange(1)
            if self.answers.waiting:
                self.answers.waiting.pop(0).callback(b"")
        self.assertEqual((self.answers.ran, self.kit.counters.packets_dropped), (30, {}))
        self.assertEqual(len(messages(self.client)), 31)

    def test_merged_commands(self) -> None:
        """Nor is a command lost that shared a packet with many others, as small ones do."""
        for number in range(30):
            self.machine.send_message(encode_frame(2, 1, SLOW, number + 1, b""))
        for _ in range(100):
            self.client.exchange(1)
            if self.answers.waiting:
                self.answers.waiting.pop(0).callback(b"")
        self.assertEqual((self.answers.ran, self.kit.counters.packets_dropped), (30, {}))
