"""Relay peers by QUIC, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.counters import TransportCounters
from meshrelay.fanout.turn import Turn
from meshrelay.relay.auth import HmacTokens, hmac_key, make_token
from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.server import RelayClocks, RelayServer
from meshrelay.relay.server_machine import ServerOptions
from meshrelay.transport import relay_quic
from meshrelay.transport.relay_quic import (
    LONGEST_PACKET_BYTES,
    MAX_WAITING_DATAGRAMS,
    RelayQuicConnection,
    RelayQuicListener,
    quic_configuration,
)
from meshrelay.wire.relay import (
    CLOSE_MESSAGE,
    HEALTH_CHECK_MESSAGE,
    PEER_ID_BYTES,
    SAFE_DATAGRAM_BYTES,
    MessageType,
    decode_peer_ids,
    encode_auth,
    encode_auth_response,
    encode_peer_ids,
    encode_transport,
    peer_id_of,
)
from tests.relay.relay_kit import URL
from tests.transport.quic_kit import MemoryUdp, QuicPeer, write_certificate

KEY = hmac_key(b"a secret")
TOKEN = make_token(KEY, 1893456000).wire()
ALICE, BOB = peer_id_of("alice"), peer_id_of("bob")


class RelayQuicTests(SynchronousTestCase):
    """A listener on a clock."""

    def setUp(self) -> None:
        """Make a server; its tokens are signed."""
        self.clock = Clock()
        # aioquic takes time 0 for none.
        self.clock.advance(1000)
        self.counters = RelayCounters()
        self.bytes = TransportCounters()
        turn = Turn(self.clock)
        self.server: RelayServer = RelayServer(
            ServerOptions(URL),
            HmacTokens(KEY),
            RelayClocks(self.clock.seconds, self.clock.seconds),
            lambda: turn.join(self.server),
            self.counters,
        )
        self.directory = Path(self.mktemp())
        self.files = write_certificate(self.directory)
        configuration = quic_configuration(*self.files)
        alarms = Alarms(self.clock)
        self.listener = RelayQuicListener(self.server.accept, configuration, turn, alarms, self.bytes, self.clock)
        self.network = MemoryUdp()
        self.listener.transport = self.network  # type: ignore[assignment]
        self.ports = iter(range(5000, 6000))

    def connect(self, **options: Any) -> QuicPeer:
        """Return a client that has shaken hands."""
        return QuicPeer(self.listener, self.network, self.clock, next(self.ports), **options)

    def sign_in(self, peer_id: bytes) -> QuicPeer:
        """Return a client that has signed in."""
        peer = self.connect()
        peer.say(encode_auth(peer_id, TOKEN))
        self.assertEqual(peer.heard(), [encode_auth_response(URL)])
        return peer

    def connection_of(self, peer_id: bytes) -> RelayQuicConnection:
        """Return the server's end."""
        (found,) = [peer for peer in self.server._table.peers() if peer.machine.peer_id == peer_id]
        assert isinstance(found.link, RelayQuicConnection)
        return found.link


class HandshakeTests(RelayQuicTests):
    """The way in."""

    def test_sign_in(self) -> None:
        """A peer with a good token is let in, and counted as one by QUIC."""
        self.sign_in(ALICE)
        self.assertEqual(dict(self.counters.peers), {"quic": 1})
        self.assertGreater(self.bytes.bytes_received, 1200)
        self.assertGreater(self.bytes.bytes_sent, 500)

    def test_wrong_token(self) -> None:
        """A wrong token ends the connection, cleanly and without a word."""
        peer = self.connect()
        peer.say(encode_auth(ALICE, TOKEN[:-1] + b"1"))
        self.assertEqual(peer.heard(), [])
        end = peer.wait_for_end()
        self.assertEqual((end.error_code, end.reason_phrase), (0, "normal closure"))
        self.clock.pump([0.1] * 50)
        self.assertEqual((self.listener.connection_count, self.counters.connections), (0, 0))

    def test_new_certificate(self) -> None:
        """Who comes after a renewal is shown the new certificate; who was there goes on as before."""
        old = Path(self.files[0]).read_bytes()
        alice = self.sign_in(ALICE)
        self.listener.use(quic_configuration(*write_certificate(self.directory)))
        bob = self.sign_in(BOB)
        self.assertEqual((alice.shown, bob.shown), (old, Path(self.files[0]).read_bytes()))
        self.assertNotEqual(alice.shown, bob.shown)
        alice.say(encode_transport(BOB, b"still here"))
        self.assertEqual(bob.heard(), [encode_transport(ALICE, b"still here")])

    def test_key_of_another_certificate(self) -> None:
        """A key that is not the certificate's is found before anybody comes."""
        _, other_key = write_certificate(self.directory / "other")
        error = self.assertRaises(ValueError, quic_configuration, self.files[0], other_key)
        self.assertIn("is not the one of the certificate", str(error))

    def test_other_alpn(self) -> None:
        """Whoever speaks something else, or does not say what, is no peer."""
        for alpn in (["h3"], None):
            peer = self.connect(alpn=alpn)
            peer.wait_for_end()
        self.assertEqual(self.counters.connections, 0)

    def test_no_datagrams(self) -> None:
        """A client that takes no datagrams could not be told anything: its connection ends."""
        self.connect(max_datagram_frame_size=None).wait_for_end()
        self.assertEqual(self.counters.connections, 0)

    def test_silent(self) -> None:
        """Whoever shakes hands and says nothing is dropped after ten seconds."""
        peer = self.connect()
        peer.wait_for_end(12.0)
        self.assertEqual(self.counters.closes["handshake_timeout"], 1)

    def test_too_many(self) -> None:
        """Handshakes that nobody ends are bounded; those beyond are counted and not answered."""
        self.patch(relay_quic, "MAX_HANDSHAKES", 2)
        for _ in range(2):
            self.connect()
        stuck = [self.listener._begin(bytes((number,)) * 8, ("192.0.2.1", 1)) for number in range(3)]
        self.assertEqual([each is None for each in stuck], [False, False, True])
        self.assertEqual(self.listener.refused_handshakes, 1)

    def test_version(self) -> None:
        """A client of another version is told which there are, unless the question is shorter than the answer."""
        for size, answers in ((1200, 1), (100, 0)):
            packet = b"\xc0" + b"\x0a\x0a\x0a\x0a" + b"\x08" + b"d" * 8 + b"\x08" + b"s" * 8
            self.listener.datagramReceived(packet.ljust(size, b"\x00"), ("192.0.2.1", 77))
            self.assertEqual(len(self.network.take(("192.0.2.1", 77))), answers)
        self.assertEqual(self.listener.connection_count, 0)

    def test_garbage(self) -> None:
        """What is no QUIC is passed over."""
        for data in (b"", b"\x00", b"\x40" + bytes(30), b"\xff" * 1300, bytes(1300)):
            self.listener.datagramReceived(data, ("192.0.2.1", 77))
        self.assertEqual((self.network.sent, self.listener.connection_count), ({}, 0))


class MessageTests(RelayQuicTests):
    """From one peer to another."""

    def setUp(self) -> None:
        """Alice and Bob are there."""
        super().setUp()
        self.alice, self.bob = self.sign_in(ALICE), self.sign_in(BOB)

    def test_message(self) -> None:
        """A message arrives with its sender in it."""
        self.alice.say(encode_transport(BOB, b"hello"))
        self.assertEqual(self.bob.heard(), [encode_transport(ALICE, b"hello")])

    def test_many(self) -> None:
        """Many at once arrive, in order where nothing is lost."""
        messages = [encode_transport(BOB, b"%d" % number) for number in range(50)]
        self.alice.say(*messages)
        self.bob.exchange(40)
        self.assertEqual(self.bob.heard(), [encode_transport(ALICE, b"%d" % number) for number in range(50)])

    def test_budget(self) -> None:
        """What fits no packet to the receiver is dropped and counted, and what just fits arrives."""
        budget = self.connection_of(BOB).max_message_bytes
        self.assertGreaterEqual(budget, SAFE_DATAGRAM_BYTES)
        self.server.forward(BOB, encode_transport(ALICE, bytes(budget - 38)))
        self.server.forward(BOB, encode_transport(ALICE, bytes(budget - 37)))
        self.assertEqual([len(message) for message in self.bob.heard()], [budget])
        self.assertEqual(self.counters.dropped["too_large"], 1)

    def test_budget_grows(self) -> None:
        """Longer packets of the peer show that the path carries them: then longer messages go to it."""
        connection = self.connection_of(BOB)
        before = connection.max_message_bytes
        self.bob.quic._max_datagram_size = 1400
        self.bob.say(encode_transport(peer_id_of("nobody"), bytes(1300)))
        self.assertGreater(before, 1150)
        self.assertGreaterEqual(connection.max_message_bytes, 1338)
        self.server.forward(BOB, encode_transport(ALICE, bytes(connection.max_message_bytes - 38)))
        self.assertEqual(len(self.bob.heard()), 1)
        connection.datagram_received(bytes(2000), self.bob.address)
        self.assertEqual(connection._quic._max_datagram_size, LONGEST_PACKET_BYTES)

    def test_slow(self) -> None:
        """A peer that acknowledges nothing loses messages, which are counted, and stalls nobody."""
        for _ in range(MAX_WAITING_DATAGRAMS + 100):
            self.server.forward(BOB, encode_transport(ALICE, bytes(1000)))
        self.assertEqual(self.counters.dropped["slow"], 100)
        self.server.forward(ALICE, encode_transport(BOB, b"fast"))
        self.assertEqual(len(self.alice.heard()), 1)

    def test_own_bound(self) -> None:
        """A peer that does not even take what the server says is dropped."""
        self.patch(relay_quic, "MAX_OWN_DATAGRAMS", 20)
        link = self.connection_of(BOB)
        for _ in range(22):
            link.send(HEALTH_CHECK_MESSAGE)
        self.bob.wait_for_end()

    def test_lists(self) -> None:
        """Peer states are cut to what a datagram holds."""
        for number in range(70):
            # As if they were on another node.
            self.alice.say(encode_peer_ids(MessageType.SUBSCRIBE_PEER_STATE, [peer_id_of(str(number))])[0])
            self.server.set_elsewhere(peer_id_of(str(number)), True)
        self.clock.advance(0)
        messages = self.alice.heard()
        self.assertEqual(sum(len(decode_peer_ids(message)) for message in messages), 70)
        self.assertLessEqual(max(map(len, messages)), 2 + 33 * PEER_ID_BYTES)

    def test_full_socket(self) -> None:
        """What the kernel does not take is lost, as on the way, and no error."""
        self.network.is_full = True
        self.alice.say(encode_transport(BOB, b"lost"))
        self.network.is_full = False
        self.alice.exchange()
        self.alice.say(encode_transport(BOB, b"arrives"))
        self.clock.pump([0.05] * 20)
        self.assertIn(encode_transport(ALICE, b"arrives"), self.bob.heard())

    def test_failing(self) -> None:
        """An error of ours costs the connection on which it happened, and no other."""
        self.patch(self.server, "forward", lambda *_: 1 // 0)
        self.alice.say(encode_transport(BOB, b"x"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.alice.wait_for_end()
        self.bob.exchange()
        self.assertIsNone(self.bob.end)

    def test_new_connection_id(self) -> None:
        """A client that goes on under an ID which it has just been told is known by it at once."""
        self.alice.quic.change_connection_id()
        self.alice.say(encode_transport(BOB, b"x"))
        self.assertEqual(self.bob.heard(), [encode_transport(ALICE, b"x")])
        # Told by the packets of the handshake, before the client has said anything behind it.
        peer = QuicPeer(self.listener, self.network, self.clock, next(self.ports), rounds=0)
        known = set(self.listener._ids)
        for _ in range(8):
            peer.exchange(1)
            (connection,) = set(self.listener._ids) - known
            told = {each.cid for each in connection._quic._host_cids if each.was_sent}
            self.assertLessEqual(told, self.listener._ids[connection])
        self.assertGreater(len(told), 1)


class EndTests(RelayQuicTests):
    """The end of a connection."""

    def test_replaced(self) -> None:
        """A newer connection with the same ID ends the older one."""
        older = self.sign_in(ALICE)
        self.sign_in(ALICE)
        older.wait_for_end()
        self.assertEqual(self.server.peer_count, 1)

    def test_peer_ends(self) -> None:
        """A peer that closes is not there any more, and nothing is kept of it."""
        peer = self.sign_in(ALICE)
        peer.quic.close()
        peer.exchange()
        self.clock.pump([0.1] * 50)
        self.assertEqual((self.server.peer_count, self.listener.connection_count), (0, 0))
        self.assertEqual(self.listener._connections, {})

    def test_vanished(self) -> None:
        """A peer that is heard of no more is gone within a minute."""
        self.sign_in(ALICE)
        self.clock.pump([0.1] * 550)
        self.assertEqual((self.server.peer_count, self.listener.connection_count), (0, 0))

    def test_shut_down(self) -> None:
        """A server that stops says CLOSE, and ends the connection cleanly."""
        peer = self.sign_in(ALICE)
        self.server.shut_down()
        self.assertEqual(peer.heard(), [CLOSE_MESSAGE])
        self.assertEqual(peer.wait_for_end().error_code, 0)


class ConfigurationTests(SynchronousTestCase):
    """The certificate."""

    def test_files(self) -> None:
        """Files that are missing, or hold something else, are told."""
        directory = Path(self.mktemp())
        certificate, key = write_certificate(directory)
        self.assertEqual(quic_configuration(certificate, key).alpn_protocols, ["nb-quic"])
        self.assertRaises(OSError, quic_configuration, str(directory / "none"), key)
        self.assertRaises(ValueError, quic_configuration, certificate, certificate)
