"""WebSockets of the overlay after the opening handshake, at both ends; frames are typed in by hand."""

from __future__ import annotations

from struct import pack

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.overlay.interfaces import IOverlayLink
from meshrelay.transport.overlay_link import (
    CLOSE_SECONDS,
    DEAD_SECONDS,
    MAX_FRAME_BYTES,
    MESSAGE_SECONDS,
    PING_SECONDS,
    STALLED_SECONDS,
    LinkTraits,
    OverlayWebSocket,
    is_own_header,
)
from meshrelay.transport.overlay_queue import MAX_WAITING_BYTES
from meshrelay.wire.websocket import encode_header
from tests.transport.overlay_kit import MemoryLink, OverlayKit, SwappingStream
from tests.transport.test_websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, masked

#: What a mask of the tests turns into bytes that no UTF-8 has.
NOT_UTF8 = b'"\xc3("'


def plain(payload: bytes, opcode: int = BINARY, is_last: bool = True) -> bytes:
    """One WebSocket frame of a server."""
    header = encode_header(len(payload), opcode)
    return bytes((header[0] if is_last else opcode,)) + header[1:] + payload


class OverlayLinkTestCase(SynchronousTestCase):
    """A link to a peer that dialled."""

    is_outgoing = False

    def setUp(self) -> None:
        """A link, open."""
        self.kit = OverlayKit()
        self.peer = MemoryLink(self.kit, self.is_outgoing)
        self.link = self.peer.link
        self.receiver = self.peer.receiver
        self.frame = plain if self.is_outgoing else masked

    def give(self, payload: bytes, opcode: int = TEXT, is_last: bool = True) -> None:
        """Let a WebSocket frame of the other end come."""
        self.peer.stream.give(self.frame(payload, opcode, is_last))

    def closed_with(self) -> tuple[int, bytes]:
        """Code and reason of the close frame, which is the last that was written."""
        *_, last = self.peer.written()
        self.assertEqual(last.opcode, CLOSE)
        return int.from_bytes(last.payload[:2], "big"), last.payload[2:]


class FrameTests(OverlayLinkTestCase):
    """Frames in messages."""

    def test_contract(self) -> None:
        """It is what a peer takes it for."""
        verifyObject(IOverlayLink, self.link)
        self.assertEqual(self.link.remote_address, "192.0.2.1:7")
        self.assertEqual((self.link.is_outgoing, self.link.is_own), (self.is_outgoing, True))
        self.assertFalse(self.link.has_origin)
        self.assertTrue(self.peer.stream.is_without_delay)

    def test_received(self) -> None:
        """Text and binary messages are frames, in one piece or in many, with control frames in between."""
        self.give(b'"text"')
        self.give(b'"binary"', BINARY)
        self.give(b'"in ', TEXT, is_last=False)
        self.give(b"ask", PING)
        self.give(b"", CONTINUATION, is_last=False)
        self.give(b'pieces"', CONTINUATION)
        self.assertEqual(self.receiver.frames, [b'"text"', b'"binary"', b'"in pieces"'])
        self.assertEqual(self.peer.written(), [(PONG, b"ask")])
        self.assertEqual(self.kit.counters.messages_received, 3)

    def test_cut_anywhere(self) -> None:
        """It does not matter how the network cuts the stream."""
        data = self.frame(b'"one"', TEXT) + self.frame(b'"' + b"x" * 300 + b'"', TEXT) + self.frame(b'"three"', TEXT)
        for octet in data:
            self.peer.stream.give(bytes((octet,)))
        self.assertEqual([len(frame) for frame in self.receiver.frames], [5, 302, 7])

    def test_sent(self) -> None:
        """Frames leave as text, those of a turn in one write."""
        self.assertTrue(self.link.send(b'"one"'))
        self.assertTrue(self.link.send(b'"' + b"x" * 300 + b'"'))
        self.assertEqual(self.peer.stream.value(), b"")
        self.kit.end_turn()
        self.assertEqual(self.kit.counters.transport_writes, 1)
        self.assertEqual([(opcode, len(payload)) for opcode, payload in self.peer.written()], [(TEXT, 5), (TEXT, 302)])
        self.assertEqual(self.kit.counters.messages_sent, 2)

    def test_answers_from_inside(self) -> None:
        """Who receives may send and close at once."""

        def answer(frame: bytes) -> None:
            self.link.send(frame)
            self.link.close()

        self.receiver.answer = answer
        self.give(b'"one"')
        self.give(b'"two"')
        self.assertEqual(self.peer.written(), [(TEXT, b'"one"'), (CLOSE, pack("!H", 1000))])
        self.assertEqual(self.receiver.frames, [b'"one"'])

    def test_aborted_from_inside(self) -> None:
        """A receiver that aborts hears nothing of what came in the same read."""
        self.receiver.answer = lambda _: self.link.abort()
        self.peer.stream.give(self.frame(b"1", TEXT) + self.frame(b"2", TEXT) + self.frame(b"3", BINARY))
        self.assertEqual((self.receiver.frames, self.peer.stream.ends), ([b"1"], ["abort"]))

    def test_longest(self) -> None:
        """The longest frame passes, both ways; a longer one is not sent."""
        self.give(bytes(MAX_FRAME_BYTES))
        self.assertEqual([len(frame) for frame in self.receiver.frames], [MAX_FRAME_BYTES])
        self.assertFalse(self.link.send(bytes(MAX_FRAME_BYTES + 1)))
        self.assertEqual(self.kit.counters.dropped_frames, 1)

    def test_too_long(self) -> None:
        """A longer message is refused when it is announced, with 1009, and not kept."""
        self.peer.stream.give(self.frame(bytes(MAX_FRAME_BYTES + 1), TEXT)[:100])
        self.assertEqual(self.closed_with()[0], 1009)
        self.assertEqual(self.kit.counters.closes, {"oversized": 1})
        self.assertEqual(self.receiver.frames, [])

    def test_too_long_in_pieces(self) -> None:
        """So is one that grows too long piece by piece."""
        self.give(bytes(MAX_FRAME_BYTES), TEXT, is_last=False)
        self.assertEqual(self.peer.written(), [])
        self.give(b"x", CONTINUATION, is_last=False)
        self.assertEqual(self.closed_with()[0], 1009)

    def test_endless_pieces(self) -> None:
        """Pieces without content cost nothing, however many."""
        self.give(b"", TEXT, is_last=False)
        for _ in range(1000):
            self.give(b"", CONTINUATION, is_last=False)
        message = self.link._message
        assert message is not None
        self.assertEqual(len(message), 0)
        self.give(b"1", CONTINUATION)
        self.assertEqual(self.receiver.frames, [b"1"])

    def test_not_utf8(self) -> None:
        """A text that is not UTF-8 ends the link with 1007; a binary message is not looked into."""
        self.give(NOT_UTF8, BINARY)
        self.assertEqual(self.receiver.frames, [NOT_UTF8])
        self.give(NOT_UTF8)
        self.assertEqual(self.closed_with()[0], 1007)
        self.assertEqual(self.kit.counters.closes, {"broken": 1})

    def test_broken(self) -> None:
        """Who breaks the rules of WebSocket is told so, and dropped."""
        self.give(b"x", 3)
        self.assertEqual(self.closed_with(), (1002, b"there are no data frames of opcode 3"))
        self.assertEqual(self.peer.stream.ends, ["lose"])
        self.peer.stream.give(b"\x00" * 100)
        self.peer.stream.lose()
        self.assertEqual(self.receiver.lost, ["there are no data frames of opcode 3"])
        self.assertEqual(self.kit.counters.closes, {"broken": 1})

    def test_wrong_mask(self) -> None:
        """A frame that is masked as only the other side's may be ends the link."""
        self.peer.stream.give((masked if self.is_outgoing else plain)(b"1", TEXT))
        self.assertEqual(self.closed_with()[0], 1002)

    def test_failing_receiver(self) -> None:
        """A bug of whoever receives costs this link alone, and is logged."""
        self.receiver.answer = lambda _: 1 // 0
        self.give(b"1")
        self.assertEqual(self.closed_with()[0], 1011)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.kit.counters.closes, {"failed": 1})


class DialledFrameTests(FrameTests):
    """The same when this end has dialled."""

    is_outgoing = True

    def test_masks(self) -> None:
        """Each frame has a mask of its own."""
        self.link.send(b"same")
        self.link.send(b"same")
        self.kit.end_turn()
        data = self.peer.stream.value()
        self.assertEqual(len(data), 20)
        self.assertNotEqual(data[2:6], data[12:16])


class FlowTests(OverlayLinkTestCase):
    """A peer that does not read."""

    def test_full(self) -> None:
        """What does not fit is dropped, counted, and said to whoever sent it."""
        self.peer.stream.pause()
        sent = 0
        while self.link.send(bytes(10_000)):
            sent += 1
        self.assertLessEqual(self.link.waiting_bytes, MAX_WAITING_BYTES)
        self.assertGreater(self.link.waiting_bytes, MAX_WAITING_BYTES - 20_000)
        self.assertEqual(self.kit.counters.dropped_frames, 1)
        self.peer.stream.resume()
        self.assertEqual(len(self.peer.written()), sent)
        self.assertTrue(self.link.send(b"again"))

    def test_reads_on(self) -> None:
        """What such a peer sends is still taken."""
        self.peer.stream.pause()
        self.give(b"1")
        self.assertEqual(self.receiver.frames, [b"1"])

    def test_stalled(self) -> None:
        """A peer that takes nothing for long is dropped, though it goes on sending."""
        self.peer.stream.pause()
        self.link.send(b"1")
        for second in range(int(STALLED_SECONDS)):
            self.assertEqual(self.peer.stream.ends, [], second)
            self.kit.pass_time(1.0)
            self.give(b"1")
        self.kit.pass_time(0.5)
        self.assertEqual((self.peer.stream.ends, self.kit.counters.closes), (["abort"], {"stalled": 1}))
        self.peer.stream.lose()
        self.assertEqual(self.receiver.lost, ["nothing was taken for 30 s"])

    def test_slow(self) -> None:
        """A slow peer is not dropped: it takes something now and then."""
        for _ in range(20):
            self.peer.stream.pause()
            self.link.send(b"1")
            self.kit.pass_time(STALLED_SECONDS - 5.0)
            self.give(b"1")
            self.peer.stream.resume()
        self.assertEqual(self.peer.stream.ends, [])


class SilenceTests(OverlayLinkTestCase):
    """A peer of which nothing is heard."""

    def test_pinged(self) -> None:
        """It is asked after 25 seconds, asked again, and dropped after a minute."""
        self.kit.pass_time(PING_SECONDS - 1.0)
        self.assertEqual(self.peer.written(), [])
        self.kit.pass_time(1.5)
        self.assertEqual(self.peer.written(), [(PING, b"")])
        self.kit.pass_time(PING_SECONDS)
        self.assertEqual(self.peer.written(), [(PING, b"")])
        self.assertEqual(self.peer.stream.ends, [])
        self.kit.pass_time(DEAD_SECONDS - 2 * PING_SECONDS)
        self.assertEqual((self.peer.stream.ends, self.kit.counters.closes), (["abort"], {"silent": 1}))

    def test_answers(self) -> None:
        """As long as it answers the link lives, and costs one ping in 25 seconds."""
        for _ in range(10):
            self.kit.pass_time(PING_SECONDS + 0.2)
            self.assertEqual(self.peer.written(), [(PING, b"")])
            self.give(b"", PONG)
        self.assertEqual(self.peer.stream.ends, [])

    def test_talks(self) -> None:
        """Who talks is not asked."""
        for _ in range(100):
            self.kit.pass_time(PING_SECONDS / 2)
            self.give(b"1")
        self.assertEqual(self.peer.written(), [])

    def test_unfinished(self) -> None:
        """A message that never ends, drop by drop, ends the link."""
        self.give(b"1", TEXT, is_last=False)
        for _ in range(int(MESSAGE_SECONDS)):
            self.kit.pass_time(1.0)
            self.give(b"1", CONTINUATION, is_last=False)
        self.kit.pass_time(0.5)
        self.assertEqual((self.peer.stream.ends, self.kit.counters.closes), (["abort"], {"unfinished": 1}))

    def test_slow_messages(self) -> None:
        """Many messages in pieces, each in time, are no such message."""
        for _ in range(20):
            self.give(b"1", TEXT, is_last=False)
            self.kit.pass_time(9.0)
            self.give(b"2", CONTINUATION)
        self.assertEqual((len(self.receiver.frames), self.peer.stream.ends), (20, []))


class EndTests(OverlayLinkTestCase):
    """How a link ends."""

    def test_closed_by_us(self) -> None:
        """What waits is sent, then a close frame; the connection ends when it is answered."""
        self.peer.stream.pause()
        self.link.send(b"last")
        self.link.close()
        self.link.close()
        self.assertEqual(self.peer.written(), [(TEXT, b"last"), (CLOSE, pack("!H", 1000))])
        self.assertFalse(self.link.send(b"later"))
        self.give(b"crossing")
        self.assertEqual(self.peer.stream.ends, [])
        self.give(pack("!H", 1000), CLOSE)
        self.assertEqual(self.peer.stream.ends, ["lose"])
        self.peer.stream.lose()
        self.assertEqual((self.receiver.frames, self.receiver.lost), ([], ["closed by us"]))
        self.kit.pass_time(100.0)
        self.assertEqual(self.peer.stream.ends, ["lose"])

    def test_garbage_for_an_answer(self) -> None:
        """A peer that answers a close frame with garbage is dropped at once, and its fault is not counted twice."""
        self.link.close()
        self.give(b"x", 3)
        self.assertEqual((self.peer.stream.ends, self.kit.counters.closes), (["lose"], {}))
        self.peer.stream.lose()
        self.assertEqual(self.receiver.lost, ["closed by us"])

    def test_close_not_answered(self) -> None:
        """A peer that does not answer a close frame is dropped."""
        self.link.close()
        self.kit.pass_time(CLOSE_SECONDS - 0.5)
        self.assertEqual(self.peer.stream.ends, [])
        self.kit.pass_time(1.0)
        self.assertEqual(self.peer.stream.ends, ["abort"])

    def test_closed_by_them(self) -> None:
        """A close frame is answered with the same, behind what waits, and the connection ends."""
        self.link.send(b"last")
        self.give(pack("!H", 1001) + b"away", CLOSE)
        self.assertEqual(self.peer.written(), [(TEXT, b"last"), (CLOSE, pack("!H", 1001) + b"away")])
        self.assertEqual(self.peer.stream.ends, ["lose"])
        self.peer.stream.lose()
        self.assertEqual(self.receiver.lost, ["closed by the other end"])

    def test_closed_by_them_and_not_read(self) -> None:
        """A peer that closes and does not read the answer is dropped."""
        self.give(b"", CLOSE)
        self.kit.pass_time(CLOSE_SECONDS + 0.5)
        self.assertEqual(self.peer.stream.ends, ["lose", "abort"])

    def test_aborted(self) -> None:
        """abort ends it at once, without a word."""
        self.link.send(b"1")
        self.link.abort()
        self.assertEqual((self.peer.written(), self.peer.stream.ends), ([], ["abort"]))
        self.assertFalse(self.link.send(b"later"))
        self.peer.stream.lose()
        self.assertEqual(len(self.receiver.lost), 1)

    def test_lost(self) -> None:
        """A connection that breaks is told once, and counted."""
        self.assertEqual(self.kit.counters.connections, 1)
        self.peer.stream.lose()
        self.link.close()
        self.link.abort()
        self.assertEqual((len(self.receiver.lost), self.peer.stream.ends), (1, []))
        self.assertIn("closed cleanly", self.receiver.lost[0])
        self.assertEqual((self.kit.counters.connections, self.kit.counters.connections_total), (0, 1))
        self.assertFalse(self.link.send(b"later"))
        self.kit.pass_time(200.0)
        self.assertEqual(self.kit.clock.getDelayedCalls(), [])


class OpenTests(SynchronousTestCase):
    """Who takes a link."""

    def setUp(self) -> None:
        """A link that nobody has taken."""
        self.kit = OverlayKit()
        self.stream = SwappingStream()
        self.link = OverlayWebSocket(self.stream, self.kit.parts, LinkTraits(False, False, True))

    def test_nobody(self) -> None:
        """A link that nobody wants is dropped."""
        self.link.open(lambda link: None)
        self.assertEqual(self.stream.ends, ["abort"])

    def test_bug(self) -> None:
        """A bug in taking a link costs this link alone."""
        self.link.open(lambda link: 1 // 0)  # type: ignore[arg-type, return-value]
        self.assertEqual(self.stream.ends, ["abort"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_own_header(self) -> None:
        """Only what we say ourselves is the mark of our kind."""
        self.assertTrue(is_own_header({"meshrelay-overlay": "1"}))
        self.assertFalse(is_own_header({"meshrelay-overlay": "1, 1"}))
        self.assertFalse(is_own_header({}))
