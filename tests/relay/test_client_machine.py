"""One connection of a relay client."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError
from meshrelay.relay.client_machine import (
    MAX_CONN_MESSAGES,
    ClientEvent,
    ClientMachine,
    ClientOptions,
    ClientState,
    Connected,
    ConnEnded,
    ConnOpened,
    Disconnected,
    MessageArrived,
    PeerConn,
)
from meshrelay.relay.errors import (
    ConnAlreadyExists,
    ConnClosed,
    OpenCancelled,
    OpenTimedOut,
    PayloadTooLarge,
    RelayClientNotConnected,
    RelayEnd,
)
from meshrelay.wire.relay import (
    CLOSE_MESSAGE,
    HEALTH_CHECK_MESSAGE,
    MAX_MESSAGE_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_TOKEN_BYTES,
    SAFE_DATAGRAM_BYTES,
    MessageType,
    encode_auth,
    encode_auth_response,
    encode_peer_ids,
    encode_transport,
    peer_id_of,
)
from tests.relay.relay_kit import MemoryRelayLink, RelayWorld

ALICE, BOB, CARL = (peer_id_of(name) for name in ("alice", "bob", "carl"))
URL = "rels://relay.example:443"
(SUBSCRIBE_BOB,) = encode_peer_ids(MessageType.SUBSCRIBE_PEER_STATE, [BOB])
(UNSUBSCRIBE_BOB,) = encode_peer_ids(MessageType.UNSUBSCRIBE_PEER_STATE, [BOB])
(BOB_ONLINE,) = encode_peer_ids(MessageType.PEERS_ONLINE, [CARL, BOB])
(BOB_OFFLINE,) = encode_peer_ids(MessageType.PEERS_WENT_OFFLINE, [CARL, BOB])


class ClientTestCase(SynchronousTestCase):
    """Alice, who began to connect at time 0."""

    options = ClientOptions()

    def setUp(self) -> None:
        """AUTH is sent."""
        self.machine = ClientMachine(ALICE, b"token", self.options, 0.0)
        self.assertEqual(self.machine.messages_to_send(), [encode_auth(ALICE, b"token")])

    def connect(self) -> None:
        """Be let in, at time 1."""
        self.assertEqual(self.machine.receive(encode_auth_response(URL), 1.0), (Connected(URL),))

    def open_bob(self) -> PeerConn:
        """Return an open connection to bob."""
        conn = self.machine.open_conn(BOB, 1.0)
        self.assertEqual(self.machine.receive(BOB_ONLINE, 1.0), (ConnOpened(conn),))
        self.assertEqual(self.machine.messages_to_send(), [SUBSCRIBE_BOB])
        return conn

    def assert_ended(self, events: tuple[ClientEvent, ...], error: type[Exception], conn: PeerConn) -> None:
        """A connection ended so, and nothing else happened."""
        ((ended, why),) = [(event.conn, event.error) for event in events if isinstance(event, ConnEnded)]
        self.assertIs(ended, conn)
        self.assertIs(type(why), error)
        self.assertTrue(conn.is_closed)

    def assert_disconnected(self, events: tuple[ClientEvent, ...], end: RelayEnd) -> None:
        """It is over so, and nothing happens any more."""
        last = events[-1]
        assert isinstance(last, Disconnected)
        self.assertEqual((last.end, self.machine.state), (end, ClientState.CLOSED))
        self.machine.messages_to_send()
        self.assertEqual(self.machine.receive(BOB_ONLINE, 1e9), ())
        self.assertEqual(self.machine.deadline_passed(1e9), ())
        self.assertEqual(self.machine.close(), ())
        self.assertEqual((self.machine.messages_to_send(), self.machine.next_deadline()), ([], None))
        self.assertRaises(RelayClientNotConnected, self.machine.open_conn, BOB, 1e9)
        self.assertRaises(RelayClientNotConnected, lambda: self.machine.instance_url)


class HandshakeTests(ClientTestCase):
    """From AUTH to the answer."""

    def test_connected(self) -> None:
        """The server says what it goes by."""
        self.assertRaises(RelayClientNotConnected, lambda: self.machine.instance_url)
        self.assertRaises(RelayClientNotConnected, self.machine.open_conn, BOB, 0.0)
        self.connect()
        self.assertEqual((self.machine.instance_url, self.machine.state), (URL, ClientState.OPEN))

    def test_timeout(self) -> None:
        """The server has 8 s to answer."""
        self.assertEqual(self.machine.next_deadline(), 8.0)
        self.assertEqual(self.machine.deadline_passed(7.9), ())
        self.assert_disconnected(self.machine.deadline_passed(8.0), RelayEnd.HANDSHAKE_TIMEOUT)

    def test_bad_answer(self) -> None:
        """Whatever is no answer ends it."""
        for message in (b"", b"\x01", b"\x02\x07x", b"\x01\x07", b"\x01\x0c", HEALTH_CHECK_MESSAGE, BOB_ONLINE):
            self.setUp()
            self.assert_disconnected(self.machine.receive(message, 1.0), RelayEnd.BAD_MESSAGE)
        self.setUp()
        self.assert_disconnected(self.machine.receive(CLOSE_MESSAGE, 1.0), RelayEnd.PEER_CLOSED)

    def test_message_before_answer(self) -> None:
        """A message of a peer that overtook the answer is kept for the connection to it."""
        self.assertEqual(self.machine.receive(encode_transport(BOB, b"early"), 1.0), ())
        self.connect()
        self.assertEqual(list(self.machine.open_conn(BOB, 1.0).messages), [b"early"])

    def test_refused(self) -> None:
        """A server that just hangs up, as one does that refuses the token."""
        self.assert_disconnected(self.machine.close(RelayEnd.LOST), RelayEnd.LOST)

    def test_token(self) -> None:
        """A token that fits no AUTH is not sent."""
        self.assertRaises(LocalProtocolError, ClientMachine, ALICE, bytes(MAX_TOKEN_BYTES + 1), self.options, 0.0)


class OpenTests(ClientTestCase):
    """How a connection to a peer comes about."""

    def setUp(self) -> None:
        """Alice is in."""
        super().setUp()
        self.connect()

    def test_opened(self) -> None:
        """A connection is open when the peer is online; others that are told of do not matter."""
        conn = self.machine.open_conn(BOB, 1.0)
        self.assertEqual((conn.is_open, self.machine.has_conns), (False, True))
        self.assertEqual(self.machine.messages_to_send(), [SUBSCRIBE_BOB])
        self.assertEqual(self.machine.receive(BOB_ONLINE, 2.0), (ConnOpened(conn),))
        self.assertEqual(self.machine.receive(BOB_ONLINE, 3.0), ())
        self.assertEqual(self.machine.deadline_passed(32.0), ())
        self.assertTrue(conn.is_open)

    def test_absent(self) -> None:
        """After 30 s, or sooner if that was asked for, the wait is over and the server told."""
        for asked, took in ((None, 30.0), (2.0, 2.0), (60.0, 30.0)):
            conn = self.machine.open_conn(BOB, 2.0, asked)
            self.machine.messages_to_send()
            self.assertEqual(self.machine.next_deadline(), 2.0 + took)
            self.assertEqual(self.machine.deadline_passed(1.9 + took), ())
            self.assert_ended(self.machine.deadline_passed(2.0 + took), OpenTimedOut, conn)
            self.assertEqual((self.machine.messages_to_send(), self.machine.has_conns), ([UNSUBSCRIBE_BOB], False))

    def test_twice(self) -> None:
        """There is one connection to a peer, also while it is being opened; to others there may be more."""
        conn = self.machine.open_conn(BOB, 1.0)
        self.assertRaises(ConnAlreadyExists, self.machine.open_conn, BOB, 1.0)
        self.machine.open_conn(CARL, 1.0)
        self.machine.receive(BOB_ONLINE, 1.0)
        self.assertRaises(ConnAlreadyExists, self.machine.open_conn, BOB, 1.0)
        self.machine.close_conn(conn)
        self.assertIsNot(self.machine.open_conn(BOB, 1.0), conn)

    def test_cancelled(self) -> None:
        """Closing it, the peer's leaving and the server's end the wait."""
        conn = self.machine.open_conn(BOB, 1.0)
        self.assert_ended(self.machine.close_conn(conn), OpenCancelled, conn)
        conn = self.machine.open_conn(BOB, 1.0)
        self.assert_ended(self.machine.receive(BOB_OFFLINE, 1.0), OpenCancelled, conn)
        conn = self.machine.open_conn(BOB, 1.0)
        events = self.machine.receive(CLOSE_MESSAGE, 1.0)
        self.assert_ended(events, OpenCancelled, conn)
        self.assert_disconnected(events, RelayEnd.PEER_CLOSED)

    def test_early(self) -> None:
        """The last message that came before is the first to be read; an old one is gone."""
        self.machine.receive(encode_transport(BOB, b"one"), 1.0)
        self.machine.receive(encode_transport(BOB, b"two"), 2.0)
        self.assertEqual(self.machine.next_deadline(), 7.0)
        conn = self.machine.open_conn(BOB, 6.9)
        self.assertEqual(self.machine.receive(encode_transport(BOB, b"three"), 7.0), (MessageArrived(conn),))
        self.assertEqual(list(conn.messages), [b"two", b"three"])
        self.machine.receive(encode_transport(CARL, b"x"), 7.0)
        self.machine.deadline_passed(12.0)
        self.assertEqual((len(self.machine.early), list(self.machine.open_conn(CARL, 12.0).messages)), (0, []))


class ConnTests(ClientTestCase):
    """An open connection to a peer."""

    def setUp(self) -> None:
        """Alice has a connection to bob."""
        super().setUp()
        self.connect()
        self.conn = self.open_bob()

    def test_write(self) -> None:
        """A payload goes out as one message."""
        self.assertEqual(self.machine.transport_message(self.conn, b"hello"), encode_transport(BOB, b"hello"))

    def test_payload_sizes(self) -> None:
        """What would break a NetBird peer, or fits no datagram, is refused here."""
        longest = bytes(MAX_PAYLOAD_BYTES)
        self.assertEqual(len(self.machine.transport_message(self.conn, longest)), MAX_MESSAGE_BYTES)
        error = self.assertRaises(PayloadTooLarge, self.machine.transport_message, self.conn, longest + b"x")
        self.assertEqual((error.size_bytes, error.limit_bytes), (8783, 8782))
        datagram = SAFE_DATAGRAM_BYTES
        self.assertEqual(len(self.machine.transport_message(self.conn, bytes(1157), datagram)), datagram)
        self.assertRaises(PayloadTooLarge, self.machine.transport_message, self.conn, bytes(1158), datagram)

    def test_not_open(self) -> None:
        """Nothing is written before a connection is open, or when it is closed."""
        carl = self.machine.open_conn(CARL, 1.0)
        self.assertRaises(ConnClosed, self.machine.transport_message, carl, b"x")
        self.machine.close_conn(self.conn)
        self.assertRaises(ConnClosed, self.machine.transport_message, self.conn, b"x")

    def test_full_queue(self) -> None:
        """100 messages wait to be read; the newest are dropped when nobody reads, and closing is not held up."""
        for number in range(MAX_CONN_MESSAGES + 5):
            self.machine.receive(encode_transport(BOB, b"%d" % number), 1.0)
        self.assertEqual((len(self.conn.messages), self.conn.dropped), (100, 5))
        self.assertEqual((self.conn.messages[0], self.conn.messages[-1]), (b"0", b"99"))
        self.assert_ended(self.machine.close_conn(self.conn), ConnClosed, self.conn)
        self.assertEqual(len(self.conn.messages), 0)

    def test_close_twice(self) -> None:
        """A connection is closed once, and a newer one to the same peer stays."""
        self.machine.close_conn(self.conn)
        self.assertEqual(self.machine.messages_to_send(), [UNSUBSCRIBE_BOB])
        newer = self.open_bob()
        self.assertRaises(ConnClosed, self.machine.close_conn, self.conn)
        self.assertTrue(newer.is_open)

    def test_peer_went(self) -> None:
        """When the peer goes the connection is over; it can be opened again."""
        self.assert_ended(self.machine.receive(BOB_OFFLINE, 2.0), ConnClosed, self.conn)
        self.assertEqual(self.machine.messages_to_send(), [UNSUBSCRIBE_BOB])
        self.assertEqual(self.machine.receive(BOB_OFFLINE, 2.0), ())
        self.open_bob()

    def test_left(self) -> None:
        """A client that leaves says so; all its connections are over."""
        events = self.machine.close()
        self.assertEqual(self.machine.messages_to_send(), [CLOSE_MESSAGE])
        self.assert_ended(events, ConnClosed, self.conn)
        self.assert_disconnected(events, RelayEnd.LEFT)
        self.assertRaises(ConnClosed, self.machine.transport_message, self.conn, b"x")
        self.assertRaises(ConnClosed, self.machine.close_conn, self.conn)

    def test_lost(self) -> None:
        """When the transport is gone nothing is sent."""
        events = self.machine.close(RelayEnd.LOST)
        self.assertEqual(self.machine.messages_to_send(), [])
        self.assert_ended(events, ConnClosed, self.conn)


class ServerFaultTests(ClientTestCase):
    """What a server gets wrong is passed over once the client is in."""

    def test_ignored(self) -> None:
        """No header, another version, unknown types and those of a client, torn lists, and a second answer."""
        self.connect()
        for message in (
            b"",
            b"\x01",
            b"\x02\x03" + BOB,
            b"\x01\x0c",
            b"\x01\x01",
            SUBSCRIBE_BOB,
            encode_auth(BOB, b""),
            encode_auth_response(URL),
            BOB_ONLINE + b"x",
            encode_transport(BOB, b"")[:-1],
            encode_transport(BOB, bytes(MAX_PAYLOAD_BYTES)) + b"x",
        ):
            before = self.machine.ignored
            self.assertEqual(self.machine.receive(message, 1.0), (), message[:9])
            self.assertEqual(self.machine.ignored, before + 1)
        self.assertEqual((self.machine.state, self.machine.instance_url), (ClientState.OPEN, URL))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=120) | st.sampled_from([BOB_ONLINE, BOB_OFFLINE]), max_size=8))
    def test_garbage(self, messages: list[bytes]) -> None:
        """Whatever a server sends causes events or nothing, and no error."""
        machine = ClientMachine(ALICE, b"", ClientOptions(), 0.0)
        machine.receive(encode_auth_response(URL), 0.0)
        machine.open_conn(BOB, 0.0)
        for message in messages:
            machine.receive(message, 1.0)
        self.assertEqual(machine.state is ClientState.CLOSED, any(m[:2] == CLOSE_MESSAGE for m in messages))


class HealthTests(ClientTestCase):
    """A server that may be gone."""

    def test_echo(self) -> None:
        """A server that asks is answered at once, and stays; one that falls silent is left within 70 s."""
        self.connect()
        for asked_at, look_at in ((26.0, 36.0), (51.0, 71.0), (76.0, 106.0)):
            self.assertEqual(self.machine.receive(HEALTH_CHECK_MESSAGE, asked_at), ())
            self.assertEqual(self.machine.messages_to_send(), [HEALTH_CHECK_MESSAGE])
            self.assertEqual((self.machine.next_deadline(), self.machine.deadline_passed(look_at)), (look_at, ()))
        self.assertEqual(self.machine.next_deadline(), 141.0)
        self.assert_disconnected(self.machine.deadline_passed(141.0), RelayEnd.HEALTH_TIMEOUT)

    def test_silent(self) -> None:
        """A server that never asks is left after 35 s; the messages of peers do not count."""
        self.connect()
        for now in range(1, 36):
            self.machine.receive(encode_transport(BOB, b""), float(now))
            self.machine.early.clear()
        self.assertEqual(self.machine.next_deadline(), 36.0)
        self.assert_disconnected(self.machine.deadline_passed(36.0), RelayEnd.HEALTH_TIMEOUT)


class RepeatTests(ClientTestCase):
    """A transport that loses messages."""

    options = ClientOptions(repeat_seconds=1.0)

    def test_auth(self) -> None:
        """AUTH is sent every second until the answer comes, or the time is over."""
        for now in (1.0, 2.0, 3.0):
            self.assertEqual(self.machine.next_deadline(), now)
            self.assertEqual(self.machine.deadline_passed(now), ())
            self.assertEqual(self.machine.messages_to_send(), [encode_auth(ALICE, b"token")])
        self.assert_disconnected(self.machine.deadline_passed(8.0), RelayEnd.HANDSHAKE_TIMEOUT)

    def test_subscription(self) -> None:
        """A subscription is sent every second while the peer is waited for."""
        self.connect()
        conn = self.machine.open_conn(BOB, 2.0, 2.5)
        self.assertEqual(self.machine.messages_to_send(), [SUBSCRIBE_BOB])
        for now in (3.0, 4.0):
            self.assertEqual((self.machine.next_deadline(), self.machine.deadline_passed(now)), (now, ()))
            self.assertEqual(self.machine.messages_to_send(), [SUBSCRIBE_BOB])
        self.assertEqual(self.machine.next_deadline(), 4.5)
        self.assert_ended(self.machine.deadline_passed(4.5), OpenTimedOut, conn)
        opened = self.machine.open_conn(BOB, 5.0)
        self.machine.receive(BOB_ONLINE, 5.1)
        self.machine.messages_to_send()
        self.machine.deadline_passed(6.0)
        self.assertEqual((self.machine.messages_to_send(), opened.is_open), ([], True))


class PairTests(SynchronousTestCase):
    """Clients and a server of ours, in memory."""

    def setUp(self) -> None:
        """A server."""
        self.world = RelayWorld()
        self.ends: list[tuple[ClientMachine, MemoryRelayLink, list[ClientEvent]]] = []

    def client(self, name: str) -> tuple[ClientMachine, list[ClientEvent]]:
        """Return a client that is connected, and the list of its events from now on."""
        machine, link = ClientMachine(peer_id_of(name), b"", ClientOptions(), self.world.now), MemoryRelayLink()
        peer = self.world.server.accept(link)
        events: list[ClientEvent] = []
        self.peers = [*getattr(self, "peers", []), peer]
        self.ends.append((machine, link, events))
        self.exchange()
        return machine, events

    def exchange(self) -> None:
        """Carry messages until nobody has any."""
        is_busy = True
        while is_busy:
            is_busy = False
            for (machine, link, events), peer in zip(self.ends, self.peers, strict=True):
                for message in machine.messages_to_send():
                    is_busy = True
                    peer.message_received(message)
                for message in link.take():
                    is_busy = True
                    events.extend(machine.receive(message, self.world.now))
            self.world.end_turn()

    def test_echo(self) -> None:
        """Alice and bob find each other, whoever comes first, and talk; carl hears nothing."""
        alice, alice_events = self.client("alice")
        to_bob = alice.open_conn(BOB, 0.0)
        self.exchange()
        self.assertFalse(to_bob.is_open)
        bob, _ = self.client("bob")
        carl, _ = self.client("carl")
        to_alice = bob.open_conn(ALICE, 0.0)
        self.exchange()
        self.assertTrue(to_bob.is_open and to_alice.is_open)
        self.assertEqual(alice_events, [Connected("rel://127.0.0.1:50001"), ConnOpened(to_bob)])
        self.peers[0].message_received(alice.transport_message(to_bob, b"hello"))
        self.exchange()
        self.assertEqual(to_alice.messages.popleft(), b"hello")
        self.peers[1].message_received(bob.transport_message(to_alice, b"and you"))
        self.exchange()
        self.assertEqual((to_bob.messages.popleft(), alice_events[-1]), (b"and you", MessageArrived(to_bob)))
        self.assertEqual(len(carl.early), 0)

    def test_reconnect(self) -> None:
        """When alice leaves, bob's connection ends; he opens another one to the alice who comes then."""
        alice, _ = self.client("alice")
        bob, _ = self.client("bob")
        to_alice = bob.open_conn(ALICE, 0.0)
        self.exchange()
        alice.close()
        self.exchange()
        self.assertRaises(ConnClosed, bob.transport_message, to_alice, b"x")
        self.client("alice")
        again = bob.open_conn(ALICE, 0.0)
        self.exchange()
        self.assertTrue(again.is_open)

    def test_server_stops(self) -> None:
        """Everybody is told when the server stops."""
        alice, events = self.client("alice")
        self.world.server.shut_down()
        self.exchange()
        self.assertEqual([type(event) for event in events], [Connected, Disconnected])
        self.assertRaises(RelayClientNotConnected, alice.open_conn, BOB, 0.0)
