"""Relay peers on WebSockets, typed in by hand."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.counters import TransportCounters
from meshrelay.fanout.turn import Turn
from meshrelay.relay.auth import HmacTokens, hmac_key, make_token
from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.server import RelayClocks, RelayPeer, RelayServer, RelayServerLimits
from meshrelay.relay.server_machine import ServerOptions
from meshrelay.transport.relay_queue import MAX_OWN_BYTES, MAX_WAITING_BYTES, RelayOutlet
from meshrelay.transport.relay_websocket import RelayWebSocketFactory
from meshrelay.transport.stream_link import CLOSE_SECONDS
from meshrelay.transport.websocket_accept import HANDSHAKE_SECONDS, MAX_HANDSHAKE_BYTES
from meshrelay.wire.relay import (
    CLOSE_MESSAGE,
    MAX_MESSAGE_BYTES,
    MessageType,
    encode_auth,
    encode_auth_response,
    encode_peer_ids,
    encode_transport,
    peer_id_of,
)
from tests.relay.relay_kit import URL
from tests.transport.stream_kit import TcpStream
from tests.transport.test_websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, masked, unmasked

REQUEST = (
    b"GET /relay HTTP/1.1\r\nHost: relay.example:33080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

KEY = hmac_key(b"a secret")
ALICE, BOB = peer_id_of("alice"), peer_id_of("bob")
TOKEN = make_token(KEY, 1893456000).wire()


class SwappingStream(TcpStream):
    """A TCP connection whose protocol can be replaced, as Twisted's own."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None

    def give(self, data: bytes) -> None:
        """Let bytes come."""
        self.protocol.dataReceived(data)


class Peer:
    """One client without a socket."""

    def __init__(self, factory: RelayWebSocketFactory, clock: Clock) -> None:
        self.stream = SwappingStream()
        self.clock = clock
        self.stream.protocol = factory.buildProtocol(None)
        self.stream.protocol.makeConnection(self.stream)

    def shake_hands(self, request: bytes = REQUEST, more: bytes = b"") -> bytes:
        """Send the opening handshake and return the head of the answer."""
        self.stream.give(request + more)
        head: bytes
        head, _, rest = self.stream.value().partition(b"\r\n\r\n")
        self.stream.clear()
        self.stream.write(rest)
        return head

    def say(self, message: bytes) -> None:
        """Send one message."""
        self.stream.give(masked(message))

    def heard(self) -> list[bytes]:
        """Return the messages that came since the last time; each must be one binary frame."""
        self.clock.advance(0)
        messages = unmasked(self.stream.value())
        self.stream.clear()
        assert all(opcode == BINARY for opcode, _ in messages), messages
        return [payload for _, payload in messages]

    def lose(self) -> None:
        """End the connection from this side."""
        self.stream.protocol.connectionLost(Failure(ConnectionDone()))


class RelayWebSocketTests(SynchronousTestCase):
    """A server on a clock."""

    def setUp(self) -> None:
        """Make the server; its tokens are signed."""
        self.clock = Clock()
        self.counters = RelayCounters()
        self.stream_counters = TransportCounters()
        turn = Turn(self.clock)
        self.server: RelayServer = RelayServer(
            ServerOptions(URL),
            HmacTokens(KEY),
            RelayClocks(self.clock.seconds, self.clock.seconds),
            lambda: turn.join(self.server),
            self.counters,
            RelayServerLimits(max_connections=10),
        )
        self.accepted: list[RelayPeer] = []
        self.factory = RelayWebSocketFactory(
            self.server.accept, RelayOutlet(turn), Alarms(self.clock), self.stream_counters, self.clock
        )

    def connect(self) -> Peer:
        """Return a client that has shaken hands."""
        peer = Peer(self.factory, self.clock)
        self.assertTrue(peer.shake_hands().startswith(b"HTTP/1.1 101"))
        return peer

    def sign_in(self, peer_id: bytes) -> Peer:
        """Return a client that has signed in."""
        peer = self.connect()
        peer.say(encode_auth(peer_id, TOKEN))
        self.assertEqual(peer.heard(), [encode_auth_response(URL)])
        return peer


class HandshakeTests(RelayWebSocketTests):
    """The way in."""

    def test_refused(self) -> None:
        """What is no WebSocket, or not for the relay, is answered as by NetBird's server."""
        for request, status in (
            (REQUEST.replace(b"/relay", b"/relay/"), b"404"),
            (b"GET /relay HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
            (REQUEST.replace(b"GET", b"POST"), b"405"),
            (REQUEST.replace(b"Version: 13", b"Version: 12"), b"400"),
        ):
            head = Peer(self.factory, self.clock).shake_hands(request)
            self.assertEqual(head.split()[1], status, request)

    def test_late(self) -> None:
        """Whoever connects and says nothing is dropped, and holds nothing."""
        peer = Peer(self.factory, self.clock)
        self.clock.advance(HANDSHAKE_SECONDS + 0.1)
        self.assertEqual(peer.stream.ends, ["abort"])
        self.assertEqual(self.counters.connections, 0)

    def test_endless(self) -> None:
        """An opening handshake without an end is not kept: its sender is dropped after 16 KiB."""
        peer = Peer(self.factory, self.clock)
        peer.stream.give(REQUEST[:-2])
        for sent in range(0, 2 * MAX_HANDSHAKE_BYTES, 1000):
            if peer.stream.ends:
                break
            self.assertLessEqual(sent, MAX_HANDSHAKE_BYTES)
            peer.stream.give(b"X-%04d: " % sent + bytes(990) + b"\r\n")
        self.assertEqual(peer.stream.ends, ["abort"])

    def test_auth_with_handshake(self) -> None:
        """An AUTH that comes in one read with the opening handshake is not lost."""
        peer = Peer(self.factory, self.clock)
        peer.shake_hands(more=masked(encode_auth(ALICE, TOKEN)))
        self.assertEqual(peer.heard(), [encode_auth_response(URL)])
        self.assertTrue(peer.stream.is_without_delay)

    def test_fixed_protocol(self) -> None:
        """A transport that cannot take another protocol is served all the same."""
        stream = TcpStream()
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(stream)
        protocol.dataReceived(REQUEST)
        stream.clear()
        protocol.dataReceived(masked(encode_auth(ALICE, TOKEN)))
        self.assertEqual(unmasked(stream.value())[0].payload, encode_auth_response(URL))
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.server.peer_count, self.counters.connections), (0, 0))

    def test_wrong_token(self) -> None:
        """A wrong token ends the connection without a word."""
        peer = self.connect()
        peer.say(encode_auth(ALICE, TOKEN[:-1] + b"1"))
        self.assertEqual((peer.heard(), peer.stream.ends), ([], ["abort"]))

    def test_full(self) -> None:
        """A server that is full drops whoever comes next."""
        for _ in range(10):
            self.connect()
        peer = self.connect()
        self.assertEqual((peer.stream.ends, self.counters.connections_refused), (["abort"], 1))


class MessageTests(RelayWebSocketTests):
    """From one peer to another."""

    def setUp(self) -> None:
        """Alice and Bob are there."""
        super().setUp()
        self.alice, self.bob = self.sign_in(ALICE), self.sign_in(BOB)

    def test_message(self) -> None:
        """A message arrives within the call that brought it, with its sender in it."""
        self.alice.say(encode_transport(BOB, b"hello"))
        self.assertEqual(unmasked(self.bob.stream.value()), [(BINARY, encode_transport(ALICE, b"hello"))])

    def test_many(self) -> None:
        """What is read at once is written at once, in order, wherever the read was cut."""
        messages = [encode_transport(BOB, b"%d " % number * number) for number in range(1, 60)]
        data = b"".join(map(masked, messages))
        expected = [encode_transport(ALICE, message[38:]) for message in messages]
        for cut in (0, 1, 7, 50, len(data) // 2, len(data) - 1):
            self.alice.stream.give(data[:cut])
            self.alice.stream.give(data[cut:])
            self.assertEqual(self.bob.heard(), expected)

    def test_longest(self) -> None:
        """The longest message passes; one byte more ends the sender's connection."""
        payload = bytes(MAX_MESSAGE_BYTES - 38)
        self.alice.say(encode_transport(BOB, payload))
        self.assertEqual(self.bob.heard(), [encode_transport(ALICE, payload)])
        self.alice.say(encode_transport(BOB, payload) + b"x")
        self.assertEqual((self.alice.stream.ends, self.bob.heard()), (["abort"], []))
        self.assertEqual(self.counters.closes["bad_message"], 1)

    def test_wrong_frames(self) -> None:
        """Text, parts of messages, empty messages and unmasked frames end the connection."""
        whole = encode_transport(BOB, b"x")
        unmasked_frame = bytes((0x82, len(whole))) + whole
        parts = masked(whole, is_last=False) + masked(b"", CONTINUATION)
        for wrong in (masked(whole, TEXT), parts, masked(b""), unmasked_frame):
            peer = self.sign_in(ALICE)
            peer.stream.give(wrong)
            self.assertEqual((peer.stream.ends, self.bob.heard()), (["abort"], []), wrong)

    def test_slow(self) -> None:
        """A peer that does not read loses messages, which are counted, and stalls nobody."""
        self.bob.stream.producer.pauseProducing()  # type: ignore[union-attr]
        carol = self.sign_in(peer_id_of("carol"))
        for _ in range(2 * MAX_WAITING_BYTES // 1000):
            self.alice.say(encode_transport(BOB, bytes(1000)))
        self.alice.say(encode_transport(peer_id_of("carol"), b"fast"))
        self.assertEqual(carol.heard(), [encode_transport(ALICE, b"fast")])
        dropped = self.counters.dropped["slow"]
        self.assertGreater(dropped, MAX_WAITING_BYTES // 1100)
        self.bob.stream.producer.resumeProducing()  # type: ignore[union-attr]
        self.assertEqual(len(self.bob.heard()) + dropped, 2 * MAX_WAITING_BYTES // 1000)

    def test_slow_watcher(self) -> None:
        """A peer that asks who is there again and again and reads no answer is dropped, and stalls nobody."""
        ids = [bytes(35) + bytes((number,)) for number in range(244)]
        (question,) = encode_peer_ids(MessageType.SUBSCRIBE_PEER_STATE, ids)
        self.bob.say(question)
        for peer_id in ids:
            self.server.set_elsewhere(peer_id, True)
        self.bob.heard()
        self.bob.stream.producer.pauseProducing()  # type: ignore[union-attr]
        for _ in range(MAX_OWN_BYTES // len(question)):
            self.bob.say(question)
        self.assertEqual(self.bob.stream.ends, [])
        self.bob.say(question)
        self.assertEqual(self.bob.stream.ends, ["abort"])
        self.alice.say(encode_transport(ALICE, b"fast"))
        self.assertEqual(self.alice.heard(), [encode_transport(ALICE, b"fast")])

    def test_pings_of_strangers(self) -> None:
        """Pings of somebody who does not read, and has not even signed in, cost one answer."""
        stranger = self.connect()
        stranger.stream.producer.pauseProducing()  # type: ignore[union-attr]
        stranger.stream.give(masked(b"", PING) * 10_000 + masked(b"last", PING))
        stranger.stream.producer.resumeProducing()  # type: ignore[union-attr]
        self.assertEqual(unmasked(stranger.stream.value()), [(PONG, b"last")])

    def test_failing(self) -> None:
        """An error of ours costs the connection on which it happened, and no other."""
        self.patch(self.server, "forward", lambda *_: 1 // 0)
        self.alice.say(encode_transport(BOB, b"x"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.alice.stream.ends, self.bob.stream.ends), (["abort"], []))

    def test_failing_end(self) -> None:
        """An error of ours at the end of a connection does not hold up what others send next."""
        self.patch(self.server, "forget", lambda *_: 1 // 0)
        self.assertRaises(ZeroDivisionError, self.alice.stream.give, masked(b"x", TEXT))
        self.server.deliver(BOB, encode_transport(ALICE, b"of another node"))
        self.assertEqual(self.bob.heard(), [encode_transport(ALICE, b"of another node")])

    def test_ping(self) -> None:
        """A ping of WebSocket is answered."""
        self.alice.stream.give(masked(b"are you there", PING))
        self.clock.advance(0)
        self.assertEqual(unmasked(self.alice.stream.value()), [(PONG, b"are you there")])

    def test_counters(self) -> None:
        """Bytes are counted both ways, with what holds the messages."""
        before = self.stream_counters.bytes_received, self.stream_counters.bytes_sent
        self.alice.say(encode_transport(BOB, b"x" * 10))
        after = self.stream_counters.bytes_received, self.stream_counters.bytes_sent
        self.assertEqual((after[0] - before[0], after[1] - before[1]), (48 + 6, 48 + 2))


class EndTests(RelayWebSocketTests):
    """The end of a connection."""

    def test_lost(self) -> None:
        """A peer whose connection is gone is not there any more."""
        self.sign_in(ALICE).lose()
        self.assertEqual((self.server.peer_count, self.counters.connections), (0, 0))

    def test_replaced(self) -> None:
        """A newer connection with the same ID ends the older one."""
        older = self.sign_in(ALICE)
        self.sign_in(ALICE)
        self.assertEqual((older.stream.ends, self.server.peer_count), (["abort"], 1))

    def test_peer_closes(self) -> None:
        """A peer that says CLOSE is let go without a reset."""
        peer = self.sign_in(ALICE)
        peer.say(CLOSE_MESSAGE)
        self.assertEqual((peer.stream.ends, self.server.peer_count), (["lose"], 0))

    def test_close_frame(self) -> None:
        """A close frame is answered with the same, and ends the connection."""
        peer = self.sign_in(ALICE)
        peer.stream.give(masked(b"\x03\xe8bye", CLOSE))
        self.assertEqual(unmasked(peer.stream.value()), [(CLOSE, b"\x03\xe8bye")])
        self.assertEqual(peer.stream.ends, ["lose"])

    def test_close_frame_and_no_more(self) -> None:
        """Whoever sends a close frame is gone at once, even if it never reads the answer."""
        watcher, peer = self.sign_in(BOB), self.sign_in(ALICE)
        watcher.say(encode_peer_ids(MessageType.SUBSCRIBE_PEER_STATE, [ALICE])[0])
        watcher.heard()
        peer.stream.producer.pauseProducing()  # type: ignore[union-attr]
        peer.stream.give(masked(b"", CLOSE))
        self.assertEqual(watcher.heard(), encode_peer_ids(MessageType.PEERS_WENT_OFFLINE, [ALICE]))
        self.assertEqual((self.server.peer_count, self.counters.closes["peer_closed"]), (1, 1))
        watcher.say(encode_transport(ALICE, b"to nobody"))
        self.assertEqual(self.counters.dropped["absent"], 1)

    def test_shut_down(self) -> None:
        """A server that stops says CLOSE to its peers; one that does not take it is dropped after a while."""
        peer = self.sign_in(ALICE)
        self.server.shut_down()
        self.assertEqual((peer.heard(), peer.stream.ends), ([CLOSE_MESSAGE], ["lose"]))
        self.clock.advance(CLOSE_SECONDS + 0.1)
        self.assertEqual(peer.stream.ends, ["lose", "abort"])

    def test_after_the_end(self) -> None:
        """What comes behind the end is passed over."""
        alice, bob = self.sign_in(ALICE), self.sign_in(BOB)
        alice.stream.give(masked(CLOSE_MESSAGE) + masked(encode_transport(BOB, b"late")))
        alice.say(encode_transport(BOB, b"later"))
        self.assertEqual(bob.heard(), [])
