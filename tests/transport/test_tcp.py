"""Frames back to back on a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config, SessionConfig
from meshrelay.model import CloseReason
from meshrelay.testing.contracts import DownlinkUnderTest, check_downlink, check_stream_decoder
from meshrelay.testing.node import MemoryNode, make_node
from meshrelay.transport.stream_link import StreamParts
from meshrelay.transport.tcp import TcpFactory, TcpProtocol
from meshrelay.wire.commands import CORE_VER, CoreCommand, decode_goodbye
from meshrelay.wire.frame import Frame, encode_frame, encode_push, whole_frames
from meshrelay.wire.hello import Hello, encode_hello
from meshrelay.wire.prepared import Batch
from tests.transport.stream_kit import MemoryStream, StreamKit, TcpStream


def frame(payload: bytes, cmd: int = 113) -> bytes:
    """One command of a client."""
    return encode_frame(1, 0, cmd, 7, payload)


def connect(kit: StreamKit, stream: MemoryStream | None = None) -> tuple[TcpProtocol, MemoryStream]:
    """Return a connection and its transport."""
    stream = stream or TcpStream()
    protocol = TcpFactory(kit.accept, kit.parts).buildProtocol(None)
    protocol.makeConnection(stream)
    return protocol, stream


class ReceivingTests(SynchronousTestCase):
    """Bytes of a client become frames."""

    def setUp(self) -> None:
        """A connection."""
        self.kit = StreamKit(max_payload_bytes=64)
        self.protocol, self.stream = connect(self.kit)
        self.uplink = self.kit.uplinks[0]

    def test_every_cut(self) -> None:
        """However the network cuts the stream, the same frames come out, none too early."""
        payloads = [b"", b"one", b"x" * 64]
        stream, ends = b"", []
        for payload in payloads:
            stream += frame(payload)
            ends.append((len(stream), Frame(1, 0, 113, 7, payload)))

        def make_decode() -> Callable[[bytes], Iterable[Frame]]:
            protocol, _ = connect(self.kit)
            uplink = self.kit.uplinks[-1]

            def decode(data: bytes) -> list[Frame]:
                known = len(uplink.frames)
                protocol.dataReceived(data)
                return uplink.frames[known:]

            return decode

        check_stream_decoder(make_decode, stream, ends)

    def test_counted(self) -> None:
        """Every read is counted and heard once, before its frames, however many it holds."""
        data = frame(b"one") + frame(b"two")
        self.protocol.dataReceived(data)
        self.protocol.dataReceived(frame(b"three")[:5])
        self.assertEqual(self.uplink.heard_count, 2)
        self.assertEqual(self.kit.transport_counters("tcp").bytes_received, len(data) + 5)

    def test_too_large(self) -> None:
        """A frame over the limit breaks the connection as soon as its header is there, after the frames before it."""
        too_large = frame(b"x" * 65)
        self.protocol.dataReceived(frame(b"good") + too_large[:12])
        self.assertEqual([each.payload for each in self.uplink.frames], [b"good"])
        self.assertEqual(self.uplink.told, ["broken: payload of 65 bytes is over max_payload_bytes 64"])

    def test_after_broken_frame(self) -> None:
        """What comes after a broken frame is thrown away and keeps nobody alive."""
        self.protocol.dataReceived(frame(b"x" * 65)[:12] + frame(b"same read"))
        received = self.kit.transport_counters("tcp").bytes_received
        self.protocol.dataReceived(frame(b"next read"))
        self.assertEqual(self.uplink.frames, [])
        self.assertEqual((len(self.uplink.told), self.uplink.heard_count), (1, 1))
        self.assertEqual(self.kit.transport_counters("tcp").bytes_received, received)

    def test_our_bug(self) -> None:
        """An unexpected error is logged and costs this connection alone."""
        self.kit.fails_at = b"bug"
        broken, _ = connect(self.kit)
        broken.dataReceived(frame(b"fine") + frame(b"bug") + frame(b"never seen"))
        broken.dataReceived(frame(b"too late"))
        self.assertEqual([each.payload for each in self.kit.uplinks[1].frames], [b"fine"])
        self.assertEqual(self.kit.uplinks[1].told, ["failed"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.protocol.dataReceived(frame(b"others go on"))
        self.assertEqual([each.payload for each in self.uplink.frames], [b"others go on"])

    def test_lost(self) -> None:
        """A connection that is gone is told once, with what the network said; nothing is read after it."""
        self.protocol.connectionLost(Failure(ConnectionDone("cable cut")))
        self.protocol.connectionLost()
        self.protocol.dataReceived(frame(b"too late"))
        self.assertEqual(len(self.uplink.told), 1)
        self.assertIn("cable cut", self.uplink.told[0])
        self.assertEqual(self.uplink.frames, [])

    def test_refused(self) -> None:
        """A connection that is not let in is aborted, and what it sends is not read."""
        protocol = TcpFactory(self.kit.refuse, self.kit.parts).buildProtocol(None)
        stream = TcpStream()
        protocol.makeConnection(stream)
        protocol.dataReceived(frame(b"x"))
        self.assertEqual(stream.ends, ["abort"])
        self.assertEqual(self.kit.transport_counters("tcp").bytes_received, 0)
        protocol.connectionLost()


class SendingTests(SynchronousTestCase):
    """Frames of the node become bytes."""

    def setUp(self) -> None:
        """A connection."""
        self.kit = StreamKit()
        self.protocol, self.stream = connect(self.kit)
        self.link = self.kit.links[0]

    def test_contract(self) -> None:
        """It is a downlink like every other, over TCP and over other streams."""
        for kind in (TcpStream, MemoryStream):

            def make(kind: type[MemoryStream] = kind) -> DownlinkUnderTest:
                _, stream = connect(self.kit, kind())

                def received() -> list[Frame]:
                    self.kit.end_turn()
                    return whole_frames(stream.value(), 65536)

                return DownlinkUnderTest(self.kit.links[-1], received)

            check_downlink(make)

    def test_one_write_a_turn(self) -> None:
        """What a turn has for a client leaves at its end, back to back."""
        batch = Batch([encode_push(1, 113, b"a"), encode_push(1, 113, b"b")])
        self.link.send_frame(frame(b"answer"))
        self.link.send_batch(batch)
        self.assertEqual(self.stream.value(), b"")
        self.kit.end_turn()
        self.assertEqual(self.stream.value(), frame(b"answer") + batch.stream)
        counters = self.kit.transport_counters("tcp")
        self.assertEqual((counters.messages_sent, counters.transport_writes), (3, 1))
        self.assertEqual(counters.bytes_sent, len(self.stream.value()))

    def test_goodbye_first(self) -> None:
        """A client that is sent away reads GOODBYE; then only our direction is closed, for a reset would eat it."""
        self.link.close(CloseReason.KICKED, "go")
        *_, last = whole_frames(self.stream.value(), 65536)
        self.assertEqual(decode_goodbye(last.payload), (CloseReason.KICKED.code, "go"))
        self.assertEqual(self.stream.ends, ["lose write"])
        self.kit.clock.advance(4.9)
        self.assertEqual(self.stream.ends, ["lose write"])
        self.kit.clock.advance(0.2)
        self.assertEqual(self.stream.ends, ["lose write", "abort"])

    def test_client_closes_in_time(self) -> None:
        """A client that closes its end after GOODBYE is not aborted."""
        self.link.close(CloseReason.KICKED, "go")
        self.protocol.connectionLost()
        self.kit.clock.advance(10)
        self.assertEqual(self.stream.ends, ["lose write"])

    def test_client_left_itself(self) -> None:
        """A client that said GOODBYE is sent what it is owed, and closed."""
        self.link.send_frame(frame(b"owed"))
        self.link.close(None, "")
        self.assertEqual(self.stream.value(), frame(b"owed"))
        self.assertEqual(self.stream.ends, ["lose"])

    def test_other_streams(self) -> None:
        """A stream that is not TCP has no half to close: it is closed behind GOODBYE."""
        _, stream = connect(self.kit, MemoryStream())
        self.kit.links[1].close(CloseReason.KICKED, "go")
        self.assertEqual(stream.ends, ["lose"])

    def test_no_delay(self) -> None:
        """What is written leaves at once: the node has joined it already."""
        assert isinstance(self.stream, TcpStream)
        self.assertTrue(self.stream.is_without_delay)


class NodeTests(SynchronousTestCase):
    """A client that talks to a whole node."""

    def connect(self, session: SessionConfig) -> tuple[TcpProtocol, MemoryStream, MemoryNode]:
        """Return a connection whose client has signed in."""
        kit = StreamKit(session.outbox_bytes, session.slow_consumer)
        node = make_node(Config(session=session))
        parts = StreamParts(node.turn, node.alarms, kit.parts.limits, node.counters, session.max_payload_bytes)
        protocol = TcpFactory(node.reception.accept, parts).buildProtocol(None)
        stream = TcpStream()
        protocol.makeConnection(stream)
        hello = encode_hello(Hello(protocol=1, user="ann"))
        protocol.dataReceived(encode_frame(CORE_VER, 0, CoreCommand.HELLO, 1, hello))
        node.clock.advance(0)
        return protocol, stream, node

    def goodbye(self, stream: MemoryStream) -> int:
        """Return the code of the GOODBYE that came last."""
        *_, last = whole_frames(stream.value(), 65536)
        self.assertEqual((last.ver, last.cmd), (CORE_VER, CoreCommand.GOODBYE))
        return decode_goodbye(last.payload)[0]

    def test_broken_protocol(self) -> None:
        """Who announces too large a frame reads why it is closed."""
        protocol, stream, _ = self.connect(SessionConfig(max_payload_bytes=64))
        protocol.dataReceived(frame(b"x" * 65))
        self.assertEqual(self.goodbye(stream), CloseReason.FRAME_TOO_LARGE.code)

    def test_slow_reader(self) -> None:
        """A client that does not read is closed at outbox_bytes and aborted when it still does not read."""
        _, stream, node = self.connect(SessionConfig(outbox_bytes=1024))
        assert stream.producer is not None
        stream.producer.pauseProducing()
        stream.clear()
        session = node.registry.find_user("ann")
        assert session is not None
        for _ in range(8):
            session.push(2, 1, b"x" * 128, True)
        node.clock.advance(0)
        self.assertEqual(len(node.reception.connections), 0)
        self.assertEqual(node.counters.closes["tcp", "slow_consumer"], 1)
        self.assertEqual((stream.value(), stream.ends), (b"", []))
        node.clock.advance(5.1)
        self.assertEqual(stream.ends, ["abort"])

    def test_slow_reader_that_reads_on(self) -> None:
        """A client closed for reading too slowly that reads after all finds GOODBYE, and no more of what waited."""
        _, stream, node = self.connect(SessionConfig(outbox_bytes=1024))
        producer = stream.producer
        assert producer is not None
        producer.pauseProducing()
        stream.clear()
        session = node.registry.find_user("ann")
        assert session is not None
        for _ in range(8):
            session.push(2, 1, b"x" * 128, True)
        node.clock.advance(0)
        producer.resumeProducing()
        self.assertEqual(len(whole_frames(stream.value(), 65536)), 1)
        self.assertEqual(self.goodbye(stream), CloseReason.SLOW_CONSUMER.code)
