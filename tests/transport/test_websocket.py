"""Frames in binary WebSocket messages; handshakes and messages are typed in by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import pack, unpack_from
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.interfaces import IDownlink, IUplink
from meshrelay.model import CloseReason
from meshrelay.testing.contracts import DownlinkUnderTest, check_downlink, check_stream_decoder
from meshrelay.testing.node import make_node
from meshrelay.transport.stream_link import StreamParts
from meshrelay.transport.websocket import (
    MAX_HANDSHAKE_BYTES,
    MIN_MESSAGE_LIMIT_BYTES,
    NodeWebSocketFactory,
    WebSocketRules,
    is_origin_allowed,
)
from meshrelay.wire.commands import CoreCommand, decode_goodbye
from meshrelay.wire.frame import Frame, FrameRun, encode_frame, encode_push, whole_frames
from meshrelay.wire.prepared import Batch
from tests.transport.stream_kit import RecordingUplink, StreamKit, TcpStream

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: relay.example:7300\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)

#: The answer to the key above, from the example of RFC 6455, section 1.3.
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

MASK = b"\x01\x02\x03\x04"


def frame(payload: bytes, cmd: int = 113) -> bytes:
    """One command of a client."""
    return encode_frame(1, 0, cmd, 7, payload)


def masked(payload: bytes, opcode: int = BINARY, is_last: bool = True) -> bytes:
    """One WebSocket frame of a client."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 * is_last | opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((0x80 * is_last | opcode, 0x80 | 126)) + pack("!H", size)
    else:
        head = bytes((0x80 * is_last | opcode, 0x80 | 127)) + pack("!Q", size)
    key = (MASK * (size // 4 + 1))[:size]
    data = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + MASK + data.to_bytes(size, "big")


class Message(NamedTuple):
    """One WebSocket frame of the node."""

    opcode: int
    payload: bytes


def unmasked(data: bytes) -> list[Message]:
    """Read what the node wrote behind its handshake."""
    messages = []
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = unpack_from("!H", data, 2)[0], 4
        elif size == 127:
            size, start = unpack_from("!Q", data, 2)[0], 10
        messages.append(Message(data[0] & 15, data[start : start + size]))
        data = data[start + size :]
    return messages


def frames_in(messages: Iterable[Message]) -> list[Frame]:
    """The relay frames of binary messages; each message must hold whole ones."""
    return [each for opcode, payload in messages if opcode == BINARY for each in whole_frames(payload, 1 << 24)]


class Client:
    """One WebSocket without a socket."""

    def __init__(
        self, kit: StreamKit, rules: WebSocketRules | None = None, accept: Any = None, parts: StreamParts | None = None
    ) -> None:
        rules = rules or WebSocketRules((), 5.0)
        self.kit = kit
        self.stream = TcpStream()
        self.factory = NodeWebSocketFactory(accept or kit.accept, parts or kit.parts, rules, kit.clock)
        self.protocol = self.factory.buildProtocol(None)
        self.protocol.makeConnection(self.stream)

    def shake_hands(self, headers: bytes = b"", request: bytes = REQUEST) -> bytes:
        """Send the opening handshake and return the answer's head."""
        self.protocol.dataReceived(request + headers + b"\r\n")
        head: bytes = self.stream.value().partition(b"\r\n\r\n")[0]
        self.stream.clear()
        return head

    def send(self, data: bytes) -> None:
        """Send WebSocket frames."""
        self.protocol.dataReceived(data)

    def messages(self) -> list[Message]:
        """What the node wrote since the handshake."""
        self.kit.end_turn()
        return unmasked(self.stream.value())


class HandshakeTests(SynchronousTestCase):
    """Who gets in."""

    def setUp(self) -> None:
        """Parts of a node."""
        self.kit = StreamKit()

    def status(self, rules: WebSocketRules | None = None, headers: bytes = b"", request: bytes = REQUEST) -> int:
        """Return the HTTP status of a handshake."""
        head = Client(self.kit, rules).shake_hands(headers, request)
        return int(head.split(b" ")[1])

    def test_accepted(self) -> None:
        """A right handshake is answered as the standard's example says, and the session layer gets a link."""
        head = Client(self.kit).shake_hands()
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
        self.assertIn(b"Sec-WebSocket-Accept: " + ACCEPT, head)
        (link,) = self.kit.links
        self.assertEqual((link.transport_name, link.peer), ("websocket", "192.0.2.1:7"))

    def test_cut_anywhere(self) -> None:
        """A handshake that drips in byte by byte is as good, and the first message may come along with it."""
        client = Client(self.kit)
        for byte in REQUEST + b"\r\n" + masked(frame(b"hello")):
            client.send(bytes((byte,)))
        self.assertEqual([each.payload for each in self.kit.uplinks[0].frames], [b"hello"])

    def test_no_deflate(self) -> None:
        """Compression is never agreed on, whatever a browser offers."""
        head = Client(self.kit).shake_hands(b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
        self.assertNotIn(b"extensions", head.lower())

    def test_no_versions(self) -> None:
        """Nobody is told which software of which version runs here."""
        head = Client(self.kit).shake_hands()
        self.assertIn(b"Server: meshrelay\r\n", head + b"\r\n")
        self.assertNotIn(b"autobahn", head.lower())

    def test_path(self) -> None:
        """There are WebSockets at / only."""
        self.assertEqual(self.status(request=REQUEST.replace(b"GET / ", b"GET /chat ")), 404)
        self.assertEqual(self.status(request=REQUEST.replace(b"GET / ", b"GET /?from=page ")), 101)
        self.assertEqual(len(self.kit.links), 1)

    def test_not_a_websocket(self) -> None:
        """A plain HTTP request is refused and no link is made."""
        status = self.status(request=b"GET / HTTP/1.1\r\nHost: relay.example:7300\r\n")
        self.assertGreaterEqual(status, 400)
        self.assertEqual(self.kit.links, [])

    def test_foreign_page(self) -> None:
        """A page of another site is refused and counted."""
        self.assertEqual(self.status(headers=b"Origin: https://evil.example\r\n"), 403)
        self.assertEqual(self.status(headers=b"Origin: null\r\n"), 403)
        self.assertEqual(self.kit.counters.refused["origin"], 2)
        self.assertEqual(self.kit.links, [])

    def test_own_page(self) -> None:
        """A page of the same host may, on whatever port it is."""
        self.assertEqual(self.status(headers=b"Origin: https://relay.example\r\n"), 101)

    def test_allowed_page(self) -> None:
        """With a list of origins those may and no other, not even the same host."""
        rules = WebSocketRules(("https://game.example",), 5.0)
        self.assertEqual(self.status(rules, b"Origin: https://game.example\r\n"), 101)
        self.assertEqual(self.status(rules, b"Origin: https://relay.example\r\n"), 403)

    def test_null_page(self) -> None:
        """A page without an origin, such as a file, may if it is listed."""
        self.assertEqual(self.status(WebSocketRules(("null",), 5.0), b"Origin: null\r\n"), 101)

    def test_reloaded_origins(self) -> None:
        """Origins that were reloaded count for connections made from then on."""
        client = Client(self.kit)
        client.factory.set_rules(WebSocketRules(("https://game.example",), 5.0))
        later = client.factory.buildProtocol(None)
        stream = TcpStream()
        later.makeConnection(stream)
        later.dataReceived(REQUEST + b"Origin: https://game.example\r\n\r\n")
        self.assertTrue(stream.value().startswith(b"HTTP/1.1 101 "))
        head = client.shake_hands(b"Origin: https://game.example\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 403 "))

    def test_eager_client(self) -> None:
        """What comes in one read with the handshake is read, once, even a close."""
        client = Client(self.kit)
        client.send(REQUEST + b"\r\n" + masked(b"", PING))
        self.kit.end_turn()
        self.assertEqual(client.stream.value().count(b"\x8a\x00"), 1)
        client = Client(self.kit)
        client.send(REQUEST + b"\r\n" + masked(frame(b"one")) + masked(frame(b"two")) + masked(b"", CLOSE))
        self.assertEqual([each.payload for each in self.kit.uplinks[1].frames], [b"one", b"two"])
        self.assertEqual(client.stream.ends, ["lose"])

    def test_deadline(self) -> None:
        """Who does not finish the handshake in time is aborted and counted."""
        client = Client(self.kit)
        client.send(REQUEST)
        self.kit.clock.advance(4.9)
        self.assertEqual(client.stream.ends, [])
        self.kit.clock.advance(0.2)
        self.assertEqual(client.stream.ends, ["abort"])
        self.assertEqual(self.kit.counters.refused["handshake_timeout"], 1)

    def test_endless_head(self) -> None:
        """A head that does not end is kept up to its bound, however much time is left."""
        client = Client(self.kit)
        client.send(REQUEST + b"X: " + bytes(MAX_HANDSHAKE_BYTES - len(REQUEST) - 3))
        self.assertEqual(client.stream.ends, [])
        client.send(b"x")
        self.assertEqual((client.stream.ends, client.protocol.data), (["abort"], b""))
        self.assertEqual(self.kit.counters.refused["handshake_bytes"], 1)

    def test_deadline_is_over(self) -> None:
        """Who has finished it is not aborted, nor is who has gone."""
        client = Client(self.kit)
        client.shake_hands()
        gone = Client(self.kit)
        gone.protocol.connectionLost()
        self.kit.clock.advance(10)
        self.assertEqual((client.stream.ends, gone.stream.ends), ([], []))

    def test_refused_by_the_node(self) -> None:
        """A connection that the node does not let in is aborted, and what it sends is not read."""
        client = Client(self.kit, accept=self.kit.refuse)
        client.shake_hands()
        client.send(masked(frame(b"x")))
        self.assertEqual(client.stream.ends, ["abort"])


class OriginTests(SynchronousTestCase):
    """Which pages may connect."""

    def test_table(self) -> None:
        """Without a list the same host, with one those of the list, with a star everybody; programs always."""
        host, star, game = "relay.example:7300", ("*",), ("https://game.example",)
        cases: list[tuple[str | None, str, tuple[str, ...], bool]] = [
            (None, host, (), True),
            (None, host, game, True),
            ("", host, game, True),
            ("https://relay.example", host, (), True),
            ("http://relay.example:8000", host, (), True),
            ("https://relay.example.evil", host, (), False),
            ("https://evil-relay.example", host, (), False),
            ("null", host, (), False),
            ("http://[::1]:8000", "[::1]:7300", (), True),
            ("http://[::2]:8000", "[::1]:7300", (), False),
            ("https://[", host, (), False),
            ("https://game.example", host, game, True),
            ("https://game.example:444", host, game, False),
            ("https://relay.example", host, game, False),
            ("https://anything.example", host, star, True),
        ]
        for case in cases:
            self.assertEqual((case, is_origin_allowed(*case[:3])), (case, case[3]))


class ReceivingTests(SynchronousTestCase):
    """Messages of a client become frames."""

    def setUp(self) -> None:
        """A client that may send payloads of 64 bytes."""
        self.kit = StreamKit(max_payload_bytes=64)
        self.client, self.uplink = self.connect()

    def connect(self) -> tuple[Client, Any]:
        """Return a client after its handshake, and what it speaks to."""
        client = Client(self.kit)
        client.shake_hands()
        return client, self.kit.uplinks[-1]

    def payloads(self) -> list[bytes]:
        """Payloads of the frames that came."""
        return [each.payload for each in self.uplink.frames]

    def test_every_cut(self) -> None:
        """However the network cuts the stream, the same frames come out, none too early."""
        stream, ends = b"", []
        for payload in (b"", b"one", b"x" * 64):
            stream += masked(frame(payload))
            ends.append((len(stream), Frame(1, 0, 113, 7, payload)))

        def make_decode() -> Callable[[bytes], Iterable[Frame]]:
            client, uplink = self.connect()

            def decode(data: bytes) -> list[Frame]:
                known = len(uplink.frames)
                client.send(data)
                frames: list[Frame] = uplink.frames[known:]
                return frames

            return decode

        check_stream_decoder(make_decode, stream, ends)

    def test_many_in_one_message(self) -> None:
        """A message may hold many frames; each read is heard and counted once."""
        data = masked(frame(b"one") + frame(b"two"))
        before = self.kit.transport_counters("websocket").bytes_received
        self.client.send(data)
        self.assertEqual((self.payloads(), self.uplink.heard_count), ([b"one", b"two"], 1))
        self.assertEqual(self.kit.transport_counters("websocket").bytes_received - before, len(data))

    def test_read_ended(self) -> None:
        """However many messages a read holds, its end is told once, behind all of them."""
        told: list[bytes] = []

        class Uplink(RecordingUplink):
            def run_received(self, run: FrameRun) -> None:
                told.extend(run.payloads)

            def read_ended(self) -> None:
                told.append(b"end")

        client = Client(self.kit, accept=lambda link: Uplink())
        client.shake_hands()
        client.send(masked(frame(b"one")) + masked(b"", PING) + masked(frame(b"two") + frame(b"three")))
        client.send(masked(frame(b"four")))
        self.assertEqual(told, [b"one", b"two", b"three", b"end", b"four", b"end"])

    def test_one_run(self) -> None:
        """Messages of one read that are of one kind are handed over together."""
        told: list[list[bytes]] = []

        class Uplink(RecordingUplink):
            def run_received(self, run: FrameRun) -> None:
                told.append(run.payloads)

        client = Client(self.kit, accept=lambda link: Uplink())
        client.shake_hands()
        client.send(b"".join(masked(frame(payload)) for payload in (b"one", b"two", b"three")))
        self.assertEqual(told, [[b"one", b"two", b"three"]])

    def test_mistake_between(self) -> None:
        """A message that ends inside a frame breaks off, after what came before it in the same read."""
        data = masked(frame(b"one")) + masked(frame(b"two")) + masked(frame(b"cut")[:-1]) + masked(frame(b"late"))
        self.client.send(data)
        self.assertEqual(self.payloads(), [b"one", b"two"])
        self.assertEqual(self.uplink.told, ["broken: a message ends inside a frame"])

    def test_long_message(self) -> None:
        """A payload long enough for compiled code comes out as it was, whole or cut at any place."""
        payload = bytes(range(256)) * 4
        kit = StreamKit(max_payload_bytes=1024)
        data = masked(frame(payload))
        for offset in range(0, len(data), 97):
            client = Client(kit)
            client.shake_hands()
            client.send(data[:offset])
            client.send(data[offset:])
            self.assertEqual([each.payload for each in kit.uplinks[-1].frames], [payload])

    def test_streamed(self) -> None:
        """Frames of a long message come out while it is still being sent: it is not gathered."""
        data = frame(b"one") + frame(b"two")
        self.client.send(masked(data[:20], BINARY, is_last=False))
        self.assertEqual(self.payloads(), [b"one"])
        self.client.send(masked(data[20:], CONTINUATION))
        self.assertEqual((self.payloads(), self.uplink.told), ([b"one", b"two"], []))

    def test_control_frames_between(self) -> None:
        """A PING between the parts of a message is answered and disturbs nothing."""
        data = frame(b"one")
        self.client.send(masked(data[:5], BINARY, is_last=False) + masked(b"there?", PING))
        self.client.send(masked(b"", PONG) + masked(data[5:], CONTINUATION))
        self.assertEqual((self.payloads(), self.uplink.told), ([b"one"], []))
        self.assertEqual(self.client.messages(), [Message(PONG, b"there?")])

    def test_answered_pings_are_bounded(self) -> None:
        """A client that pings and reads nothing is told slow at the bound of its outbox."""
        kit = StreamKit(limit_bytes=1270)
        client = Client(kit)
        client.shake_hands()
        producer: Any = client.stream.producer
        producer.pauseProducing()
        client.send(masked(b"x" * 125, PING) * 10)
        self.assertEqual((kit.uplinks[0].told, kit.links[0].queued_bytes), ([], 1270))
        client.send(masked(b"", PING))
        self.assertEqual(kit.uplinks[0].told, ["overflowed: 1272"])

    def test_empty_message(self) -> None:
        """A message without a byte is no mistake."""
        self.client.send(masked(b"") + masked(frame(b"one")))
        self.assertEqual((self.payloads(), self.uplink.told), ([b"one"], []))

    def test_text(self) -> None:
        """A text message breaks the protocol, even if it looks like frames; nothing after it is taken."""
        self.client.send(masked(b"\x01\x00\x00\x71" + bytes(8), TEXT) + masked(frame(b"later")))
        self.assertEqual(self.uplink.told, ["broken: a text message: frames come in binary messages"])
        self.assertEqual(self.payloads(), [])

    def test_cut_off_frame(self) -> None:
        """A frame must not reach from one message into the next."""
        data = frame(b"one")
        self.client.send(masked(frame(b"whole") + data[:5]) + masked(data[5:]))
        self.assertEqual(self.uplink.told, ["broken: a message ends inside a frame"])
        self.assertEqual(self.payloads(), [b"whole"])

    def test_too_large_frame(self) -> None:
        """A relay frame over the limit is refused at its header, after the frames before it."""
        self.client.send(masked(frame(b"good") + frame(b"x" * 65)[:12], is_last=False))
        self.assertEqual(self.payloads(), [b"good"])
        self.assertEqual(self.uplink.told, ["broken: payload of 65 bytes is over max_payload_bytes 64"])

    def test_message_cap(self) -> None:
        """A message over the bound is refused when it is announced, before a byte of it came."""
        header = masked(bytes(MIN_MESSAGE_LIMIT_BYTES + 1))[:14]
        self.client.send(header)
        self.assertEqual(len(self.uplink.told), 1)
        self.assertIn(f"{MIN_MESSAGE_LIMIT_BYTES + 1} bytes", self.uplink.told[0])

    def test_message_cap_of_parts(self) -> None:
        """The bound is for all parts of a message together; a message of exactly that size passes."""
        whole = frame(b"x" * 52) * (MIN_MESSAGE_LIMIT_BYTES // 64)
        self.client.send(masked(whole))
        self.assertEqual((len(self.uplink.frames), self.uplink.told), (len(whole) // 64, []))
        self.client.send(masked(whole[:-64], is_last=False) + masked(frame(b"x" * 52), CONTINUATION, is_last=False))
        self.assertEqual(self.uplink.told, [])
        self.client.send(masked(frame(b""), CONTINUATION))
        self.assertEqual(len(self.uplink.told), 1)

    def test_our_bug(self) -> None:
        """An unexpected error is logged and costs this connection alone."""
        self.kit.fails_at = b"bug"
        client, uplink = self.connect()
        client.send(masked(frame(b"fine") + frame(b"bug")) + masked(frame(b"later")))
        self.assertEqual([each.payload for each in uplink.frames], [b"fine"])
        self.assertEqual(uplink.told, ["failed"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.client.send(masked(frame(b"others go on")))
        self.assertEqual(self.payloads(), [b"others go on"])

    def test_unmasked(self) -> None:
        """A client that does not mask breaks the WebSocket protocol and is closed with 1002."""
        self.client.send(bytes((0x82, 15)) + frame(b"one"))
        (message,) = self.client.messages()
        self.assertEqual((message.opcode, message.payload[:2]), (CLOSE, pack("!H", 1002)))

    def test_bad_close(self) -> None:
        """A close frame with a code that must not be sent is answered 1002, one with a broken reason 1007."""
        for payload, code in ((pack("!H", 1005), 1002), (b"\x03", 1002), (pack("!H", 1000) + b"\xc3", 1007)):
            client, uplink = self.connect()
            client.send(masked(payload, CLOSE))
            (message,) = client.messages()
            self.assertEqual((message.opcode, message.payload[:2]), (CLOSE, pack("!H", code)))
            self.assertEqual(len(uplink.told), 1)

    def test_bug_at_the_end(self) -> None:
        """An unexpected error in what is done together at the end of a read costs this connection alone as well."""

        class Uplink(RecordingUplink):
            def read_ended(self) -> None:
                raise ZeroDivisionError("a bug")

        uplink = Uplink()
        client = Client(self.kit, accept=lambda link: uplink)
        client.shake_hands()
        client.send(masked(frame(b"one")))
        self.assertEqual(uplink.told, ["failed"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_lost(self) -> None:
        """A connection that is gone is told once."""
        self.client.protocol.connectionLost()
        self.assertEqual(len(self.uplink.told), 1)
        self.assertTrue(self.uplink.told[0].startswith("lost"))


class SendingTests(SynchronousTestCase):
    """Frames of the node become messages."""

    def setUp(self) -> None:
        """A client after its handshake."""
        self.kit = StreamKit()
        self.client = Client(self.kit)
        self.client.shake_hands()
        self.link = self.kit.links[0]

    def test_contract(self) -> None:
        """It is a downlink like every other."""

        def make() -> DownlinkUnderTest:
            client = Client(self.kit)
            client.shake_hands()
            return DownlinkUnderTest(self.kit.links[-1], lambda: frames_in(client.messages()))

        check_downlink(make)

    def test_pushes_merged(self) -> None:
        """Pushes of a turn share messages of at most 65,548 bytes, and each message holds whole frames."""
        frames = [encode_push(1, 113, bytes(988)) for _ in range(100)]
        self.link.send_batch(Batch(frames))
        messages = self.client.messages()
        self.assertEqual([len(message.payload) for message in messages], [65_000, 35_000])
        self.assertEqual(len(frames_in(messages)), 100)
        self.assertEqual(self.kit.transport_counters("websocket").messages_sent, 100)

    def test_full_message(self) -> None:
        """A message is filled to the last byte that is allowed, and not beyond."""
        first, second = encode_push(1, 113, bytes(30_000)), encode_push(1, 113, bytes(35_524))
        self.link.send_batch(Batch([first, second]))
        self.assertEqual([len(message.payload) for message in self.client.messages()], [65_548])
        self.client.stream.clear()
        self.link.send_batch(Batch([first, second, encode_push(1, 113, b"")]))
        self.assertEqual([len(message.payload) for message in self.client.messages()], [65_548, 12])

    def test_answer(self) -> None:
        """An answer is a message of its own."""
        self.link.send_frame(frame(b"one"))
        self.link.send_frame(frame(b"two"))
        self.assertEqual(self.client.messages(), [Message(BINARY, frame(b"one")), Message(BINARY, frame(b"two"))])

    def test_close(self) -> None:
        """A client that is sent away reads GOODBYE, then the closing handshake with the same code and text."""
        self.link.close(CloseReason.KICKED, "go")
        *frames, close = self.client.messages()
        (goodbye,) = frames_in(frames)
        self.assertEqual(goodbye.cmd, CoreCommand.GOODBYE)
        self.assertEqual(decode_goodbye(goodbye.payload), (CloseReason.KICKED.code, "go"))
        self.assertEqual(close, Message(CLOSE, pack("!H", CloseReason.KICKED.code) + b"go"))
        self.assertEqual(self.client.stream.ends, [])

    def test_close_answered(self) -> None:
        """The stream is dropped at once when the client has answered, which it does when it has read everything."""
        self.link.close(CloseReason.KICKED, "go")
        self.client.send(masked(pack("!H", CloseReason.KICKED.code), CLOSE))
        self.assertEqual(self.client.stream.ends, ["abort"])
        self.client.protocol.connectionLost()
        self.kit.clock.advance(10)
        self.assertEqual(self.client.stream.ends, ["abort"])
        self.assertEqual(len(self.kit.uplinks[0].told), 1)

    def test_close_not_answered(self) -> None:
        """A client that does not answer is aborted after 5 seconds."""
        self.link.close(CloseReason.KICKED, "go")
        self.kit.clock.advance(4.9)
        self.assertEqual(self.client.stream.ends, [])
        self.kit.clock.advance(0.2)
        self.assertEqual(self.client.stream.ends, ["abort"])

    def test_goodbye_of_the_client(self) -> None:
        """A client that left by GOODBYE is closed with 1000."""
        self.link.close(None, "")
        (close,) = self.client.messages()
        self.assertEqual((close.opcode, close.payload[:2]), (CLOSE, pack("!H", 1000)))

    def test_long_text(self) -> None:
        """A text that is too long for a closing handshake is cut there; GOODBYE has all of it."""
        text = "ü" * 100
        self.link.close(CloseReason.KICKED, text)
        *frames, close = self.client.messages()
        self.assertEqual(decode_goodbye(frames_in(frames)[0].payload)[1], text)
        self.assertLessEqual(len(close.payload), 125)
        self.assertTrue(text.startswith(close.payload[2:].decode("utf-8")))

    def test_client_closes(self) -> None:
        """A client that closes by WebSocket is answered and closed."""
        self.client.send(masked(pack("!H", 1000), CLOSE))
        (close,) = self.client.messages()
        self.assertEqual((close.opcode, close.payload[:2]), (CLOSE, pack("!H", 1000)))
        self.assertEqual(self.client.stream.ends, ["lose"])

    def test_close_crosses(self) -> None:
        """A node that sends a client away while it closes by itself only ends the stream."""
        self.client.send(masked(pack("!H", 1000), CLOSE))
        self.client.stream.clear()
        self.link.close(CloseReason.KICKED, "go")
        self.assertEqual([message for message in self.client.messages() if message.opcode == CLOSE], [])
        self.assertIn("lose", self.client.stream.ends)


class ClosingTests(SynchronousTestCase):
    """What comes when the closing handshake has begun."""

    def setUp(self) -> None:
        """A client after its handshake."""
        self.kit = StreamKit()
        self.client = Client(self.kit)
        self.client.shake_hands()
        self.link, self.uplink = self.kit.links[0], self.kit.uplinks[0]

    def test_broken_websocket(self) -> None:
        """A client that breaks the WebSocket protocol has no say any more: neither that frame counts nor the next."""
        self.client.send(bytes((0x82, 15)) + frame(b"one") + masked(frame(b"two")))
        self.client.send(masked(frame(b"three")))
        self.assertEqual(self.uplink.frames, [])
        self.assertEqual(len(self.uplink.told), 1)
        self.assertTrue(self.uplink.told[0].startswith("broken: "))

    def test_answers_before_close(self) -> None:
        """What was answered in the read that ends with a close, or with a mistake, goes out before the close frame."""
        for last in (masked(pack("!H", 1000), CLOSE), b"\x83\x80"):
            client = Client(self.kit)
            client.shake_hands()
            client.send(masked(b"there?", PING) + last)
            self.assertEqual([message.opcode for message in client.messages()], [PONG, CLOSE])

    def test_done_together_before_close(self) -> None:
        """What was kept for the end of a read is done, and answered, before the close of that read is answered."""
        kit = self.kit

        class Uplink(RecordingUplink):
            def read_ended(self) -> None:
                if self.frames:
                    kit.links[-1].send_frame(self.frames.pop().payload)

        def accept(link: IDownlink) -> IUplink:
            kit.links.append(link)
            return Uplink()

        client = Client(kit, accept=accept)
        client.shake_hands()
        client.send(masked(frame(frame(b"answer"))) + masked(b"", CLOSE))
        answer, close = client.messages()
        self.assertEqual((answer, close.opcode), (Message(BINARY, frame(b"answer")), CLOSE))

    def test_late_frames(self) -> None:
        """What a client sends until it has read our close is not taken."""
        self.link.close(CloseReason.KICKED, "go")
        self.client.send(masked(frame(b"late")))
        self.assertEqual(self.uplink.frames, [])

    def test_refused_message_is_passed_over(self) -> None:
        """The answer to our close is found behind the rest of a message that was too long."""
        begin = masked(bytes(MIN_MESSAGE_LIMIT_BYTES + 1))
        self.client.send(begin[:14])
        self.assertEqual(len(self.uplink.told), 1)
        self.link.close(CloseReason.FRAME_TOO_LARGE, "too large")
        self.client.send(begin[14:])
        self.assertEqual((self.client.stream.ends, self.uplink.frames), ([], []))
        self.client.send(masked(pack("!H", CloseReason.FRAME_TOO_LARGE.code), CLOSE))
        self.assertEqual(self.client.stream.ends, ["abort"])

    def test_mistake_while_closing(self) -> None:
        """A client that breaks the WebSocket protocol instead of answering our close is dropped, and not told twice."""
        self.link.close(CloseReason.KICKED, "go")
        self.client.stream.clear()
        self.client.send(b"\x83\x80")
        self.assertEqual((self.client.messages(), self.client.stream.ends), ([], ["lose"]))

    def test_nothing_behind_close(self) -> None:
        """Nothing is sent behind a close frame, whoever began to close."""
        for data in (bytes((0x82, 15)) + frame(b"one"), masked(pack("!H", 1000), CLOSE)):
            client = Client(self.kit)
            client.shake_hands()
            client.send(data)
            self.kit.links[-1].send_frame(frame(b"late"))
            self.kit.links[-1].close(CloseReason.KICKED, "go")
            self.assertEqual([message.opcode for message in client.messages()], [CLOSE])

    def test_whole_node(self) -> None:
        """A whole node closes such a client behind the close frame and counts why."""
        node = make_node()
        parts = self.kit.parts._replace(turn=node.turn, alarms=node.alarms, counters=node.counters)
        client = Client(self.kit, accept=node.reception.accept, parts=parts)
        client.shake_hands()
        client.send(bytes((0x82, 15)) + frame(b"one"))
        node.settle()
        self.assertEqual([message.opcode for message in client.messages()], [CLOSE])
        self.assertEqual(client.stream.ends, ["lose"])
        self.assertEqual(node.counters.closes["websocket", "protocol_error"], 1)
