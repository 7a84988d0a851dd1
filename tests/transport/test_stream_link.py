"""What TCP and WebSocket share: waiting, pausing and closing."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import ITLSTransport
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, providedBy

from meshrelay.fanout.outbox import DROP_NEWEST, DROP_OLDEST
from meshrelay.model import CloseReason
from meshrelay.transport.stream_link import CLOSE_SECONDS, goodbye_frame, peer_of
from meshrelay.transport.tcp import TcpLink
from meshrelay.wire.commands import decode_goodbye
from meshrelay.wire.frame import encode_frame, encode_push, whole_frames
from meshrelay.wire.prepared import Batch
from tests.transport.stream_kit import MemoryStream, RecordingUplink, StreamKit, TcpStream

#: 12 bytes of header and 88 of payload.
PUSH = encode_push(1, 113, b"x" * 88)


class StreamLinkTests(SynchronousTestCase):
    """A link, and somebody behind it."""

    def make(self, kit: StreamKit, stream: MemoryStream) -> tuple[TcpLink, RecordingUplink]:
        """Return a link and its uplink."""
        link = TcpLink(stream, kit.parts)
        uplink = RecordingUplink()
        link.uplink = uplink
        return link, uplink

    def setUp(self) -> None:
        """A link with room for 1,000 bytes."""
        self.kit = StreamKit(limit_bytes=1000)
        self.stream = TcpStream()
        self.link, self.uplink = self.make(self.kit, self.stream)
        #: What the transport tells to wait and to go on.
        self.producer: Any = self.stream.producer

    def test_reading(self) -> None:
        """Reading stops and goes on when the session layer says so."""
        self.link.pause_reading()
        self.assertEqual(self.stream.producerState, "paused")
        self.link.resume_reading()
        self.assertEqual(self.stream.producerState, "producing")

    def test_waits_for_slow_reader(self) -> None:
        """While the transport is full everything waits, and leaves in order when it has room again."""
        self.producer.pauseProducing()
        self.link.send_batch(Batch([PUSH]))
        self.link.send_frame(encode_frame(1, 1, 113, 7, b"answer"))
        self.kit.end_turn()
        self.assertEqual((self.stream.value(), self.link.queued_bytes), (b"", 118))
        self.producer.resumeProducing()
        self.assertEqual(self.stream.value(), PUSH + encode_frame(1, 1, 113, 7, b"answer"))
        self.assertEqual(self.link.queued_bytes, 0)

    def test_bound(self) -> None:
        """Exactly outbox_bytes may wait; one byte more and the session layer is told how much there is."""
        self.producer.pauseProducing()
        for _ in range(10):
            self.link.send_batch(Batch([PUSH]))
        self.assertEqual(self.uplink.told, [])
        self.link.send_frame(b"x")
        self.assertEqual(self.uplink.told, ["overflowed: 1001"])

    def test_policies(self) -> None:
        """With a dropping policy the session layer hears how many pushes are lost, and the connection stays."""
        for policy in (DROP_OLDEST, DROP_NEWEST):
            kit = StreamKit(limit_bytes=1000, policy=policy)
            stream = TcpStream()
            link, uplink = self.make(kit, stream)
            producer: Any = stream.producer
            producer.pauseProducing()
            for _ in range(12):
                link.send_batch(Batch([PUSH]))
            self.assertEqual((policy, uplink.told), (policy, ["dropped: 1", "dropped: 1"]))
            self.assertEqual(kit.counters.outbox_dropped[policy], 2)

    def test_close_waits(self) -> None:
        """GOODBYE comes behind what waits, and the end behind GOODBYE."""
        self.producer.pauseProducing()
        self.link.send_batch(Batch([PUSH]))
        self.link.close(CloseReason.KICKED, "go")
        self.link.send_batch(Batch([PUSH]))
        self.assertEqual((self.stream.value(), self.stream.ends), (b"", []))
        self.producer.resumeProducing()
        first, last = whole_frames(self.stream.value(), 65536)
        self.assertEqual(len(first.payload), 88)
        self.assertEqual(decode_goodbye(last.payload), (CloseReason.KICKED.code, "go"))
        self.assertEqual(self.stream.ends, ["lose write"])

    def test_close_does_not_wait_for_ever(self) -> None:
        """A client that does not read GOODBYE is aborted after 5 seconds."""
        self.producer.pauseProducing()
        self.link.close(CloseReason.KICKED, "go")
        self.kit.clock.advance(CLOSE_SECONDS - 0.1)
        self.assertEqual(self.stream.ends, [])
        self.kit.clock.advance(0.2)
        self.assertEqual((self.stream.value(), self.stream.ends), (b"", ["abort"]))

    def test_close_twice(self) -> None:
        """Only the first close counts."""
        self.link.close(CloseReason.KICKED, "go")
        self.link.close(CloseReason.INTERNAL, "")
        self.assertEqual(len(whole_frames(self.stream.value(), 65536)), 1)

    def test_tls(self) -> None:
        """TLS has an end of its own and no half to close; it is no longer held up by a producer."""
        stream = TcpStream()
        directlyProvides(stream, ITLSTransport, providedBy(stream))
        link, _ = self.make(self.kit, stream)
        link.close(CloseReason.KICKED, "go")
        self.assertEqual(stream.ends, ["lose"])
        self.assertIsNone(stream.producer)

    def test_abort(self) -> None:
        """An abort forgets what waits."""
        self.producer.pauseProducing()
        self.link.send_batch(Batch([PUSH]))
        self.link.abort()
        self.assertEqual((self.stream.ends, self.link.queued_bytes), (["abort"], 0))
        self.assertIsNone(self.stream.producer)

    def test_lost(self) -> None:
        """When the connection is gone its uplink hears of it once, and nothing is written or aborted any more."""
        self.link.send_batch(Batch([PUSH]))
        self.link.close(CloseReason.KICKED, "go")
        self.stream.clear()
        self.link.connection_lost("gone")
        self.link.connection_lost("gone again")
        self.link.send_frame(b"too late")
        self.kit.clock.advance(10)
        self.assertEqual((self.uplink.told, self.stream.value()), (["lost: gone"], b""))
        self.assertEqual(self.stream.ends, ["lose write"])

    def test_undelivered(self) -> None:
        """A stream does not know what its other end has read."""
        downlink: Any = self.link
        self.assertIsNone(downlink.undelivered())

    def test_goodbye_frame(self) -> None:
        """GOODBYE is a core push with code and text."""
        (decoded,) = whole_frames(goodbye_frame(CloseReason.PROTOCOL_ERROR, "hi"), 64)
        self.assertEqual(decoded[:4], (0, 255, 4, 0))
        self.assertEqual(decode_goodbye(decoded.payload), (CloseReason.PROTOCOL_ERROR.code, "hi"))


class PeerTests(SynchronousTestCase):
    """What logs call the other end."""

    def test_peers(self) -> None:
        """Host and port where there are any, else the kind of address."""
        expected = {
            IPv4Address("TCP", "192.0.2.1", 7): "192.0.2.1:7",
            IPv6Address("TCP", "2001:db8::1", 7): "[2001:db8::1]:7",
            UNIXAddress(b"/run/x"): "UNIXAddress",
        }
        for address, text in expected.items():
            self.assertEqual(peer_of(StringTransport(peerAddress=address)), text)

    def test_behind_a_proxy(self) -> None:
        """A client whose address comes with its first bytes, as by the PROXY protocol, is named by that address."""
        stream = TcpStream()
        stream.peerAddr = IPv4Address("TCP", "127.0.0.1", 1)
        link = TcpLink(stream, StreamKit().parts)
        stream.peerAddr = IPv4Address("TCP", "192.0.2.1", 7)
        self.assertEqual(link.peer, "192.0.2.1:7")
