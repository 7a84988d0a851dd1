"""One connection of a relay server."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.auth import AnyToken, HmacTokens, TokenCheck, health_probe
from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.errors import RelayEnd
from meshrelay.relay.server_machine import (
    Accepted,
    Closed,
    Event,
    Forward,
    Send,
    ServerMachine,
    ServerOptions,
    State,
    Subscribe,
    Unsubscribe,
)
from meshrelay.wire.relay import (
    CLOSE_MESSAGE,
    HEALTH_CHECK_MESSAGE,
    MAX_AUTH_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PAYLOAD_BYTES,
    MessageType,
    encode_auth,
    encode_auth_response,
    encode_peer_ids,
    encode_transport,
    peer_id_of,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("netbird_relay")
ALICE, BOB = peer_id_of("alice"), peer_id_of("bob")
URL = "rel://127.0.0.1:50001"
AUTH = bytes.fromhex(VECTORS["auth"][0]["hex"])
raw = bytes.fromhex


class MachineTestCase(SynchronousTestCase):
    """A connection that began at time 100."""

    tokens: TokenCheck = HmacTokens(bytes.fromhex(VECTORS["key"]))
    unix_now = 0.0

    def setUp(self) -> None:
        """A client that has said nothing."""
        self.counters = RelayCounters()
        self.machine = ServerMachine(ServerOptions(URL), self.check, self.counters, 100.0)

    def check(self, token: bytes) -> None:
        """Look at a token with the time of day of this test."""
        self.tokens.check(token, self.unix_now)

    def receive(self, message: bytes, now: float = 101.0) -> Event | None:
        """Give the machine a message."""
        return self.machine.receive(message, now)

    def sign_in(self) -> None:
        """Let alice in, at time 101."""
        self.assertIsInstance(self.receive(AUTH), Accepted)

    def assert_closed(self, event: Event | None, end: RelayEnd) -> None:
        """The connection ended so, without a word, and nothing happens any more."""
        assert isinstance(event, Closed)
        self.assertEqual((event.end, event.last_words), (end, b""))
        self.assertIs(self.machine.state, State.CLOSED)
        self.assertEqual(dict(self.counters.closes), {end.value: 1})
        for message in (AUTH, HEALTH_CHECK_MESSAGE, encode_transport(BOB, b""), b""):
            self.assertIsNone(self.receive(message))
        self.assertIsNone(self.machine.next_deadline())
        self.assertIsNone(self.machine.deadline_passed(1e9))
        self.assertIsNone(self.machine.close(RelayEnd.LOST))


class HandshakeTests(MachineTestCase):
    """From the connection to the answer."""

    def test_accepted(self) -> None:
        """A client with a good token is told the URL of the server; all bytes are NetBird's."""
        self.assertIs(self.machine.state, State.HANDSHAKE)
        event = self.receive(AUTH)
        self.assertEqual(event, Accepted(ALICE, bytes.fromhex(VECTORS["auth_response"][0]["hex"])))
        self.assertIs(self.machine.state, State.OPEN)
        self.assertEqual((self.machine.peer_id, self.machine.opened_at), (ALICE, 100.0))

    def test_limit(self) -> None:
        """Before AUTH 212 bytes are read, behind it 8,820."""
        self.assertEqual(self.machine.max_message_bytes, MAX_AUTH_BYTES)
        self.sign_in()
        self.assertEqual(self.machine.max_message_bytes, MAX_MESSAGE_BYTES)

    def test_bad_token(self) -> None:
        """A token that is not good, or none, ends it without a word; why is counted, and who it was is known."""
        for token, reason in ((b"", "no_token"), (b"\x02" + b"1" * 40, "algorithm"), (AUTH[42:-1] + b"1", "signature")):
            self.setUp()
            self.assert_closed(self.receive(encode_auth(BOB, token)), RelayEnd.BAD_TOKEN)
            self.assertEqual(dict(self.counters.tokens_refused), {reason: 1})
            self.assertEqual(self.machine.peer_id, BOB)

    def test_expired(self) -> None:
        """An old token ends it; the time of day counts, not that of the machine."""
        self.unix_now = VECTORS["expires_at"] + 1.0
        self.assert_closed(self.receive(AUTH), RelayEnd.BAD_TOKEN)
        self.assertEqual(dict(self.counters.tokens_refused), {"expired": 1})

    def test_expires_later(self) -> None:
        """Nobody who is in is put out when the token expires."""
        self.sign_in()
        self.unix_now = VECTORS["expires_at"] + 1.0
        self.assertIsInstance(self.receive(encode_transport(BOB, b"")), Forward)

    def test_probe(self) -> None:
        """A relay that looks after itself gets no answer, and is known."""
        self.assert_closed(self.receive(health_probe()), RelayEnd.BAD_TOKEN)

    def test_bad_first_message(self) -> None:
        """Whatever is no AUTH ends it: no header, another version, another type, a wrong length or magic number."""
        for message in (
            b"",
            b"\x01",
            b"\x02" + AUTH[1:],
            b"\x01\x01" + AUTH[2:],
            b"\x01\x0c",
            encode_transport(BOB, b""),
            HEALTH_CHECK_MESSAGE,
            CLOSE_MESSAGE,
            encode_auth_response(URL),
            AUTH[:41],
            AUTH[:2] + b"\x00" + AUTH[3:],
            AUTH + bytes(MAX_AUTH_BYTES),
        ):
            self.setUp()
            self.assert_closed(self.receive(message), RelayEnd.BAD_MESSAGE)

    def test_deadline(self) -> None:
        """A client has 10 s to say who it is."""
        self.assertEqual(self.machine.next_deadline(), 110.0)
        self.assertIsNone(self.machine.deadline_passed(109.9))
        self.assert_closed(self.machine.deadline_passed(110.0), RelayEnd.HANDSHAKE_TIMEOUT)

    def test_shutdown(self) -> None:
        """A client that is not in yet is told nothing when the server stops."""
        self.assert_closed(self.machine.close(RelayEnd.SHUTDOWN), RelayEnd.SHUTDOWN)


class OpenTests(MachineTestCase):
    """A client that is in."""

    def setUp(self) -> None:
        """Alice is in."""
        super().setUp()
        self.sign_in()

    def test_transport(self) -> None:
        """A payload goes to its receiver with the sender's ID; the vectors are those of the specification."""
        sent, delivered, _ = (raw(vector["hex"]) for vector in VECTORS["transport"])
        self.assertEqual(self.receive(sent, 200.0), Forward(BOB, delivered))
        self.assertEqual(self.machine.last_transport_at, 200.0)
        self.assertEqual((self.counters.messages_received, self.counters.received_bytes), (1, 43))

    def test_transport_sizes(self) -> None:
        """Payloads of no bytes and of 8,782 are passed on."""
        for size in (0, MAX_PAYLOAD_BYTES):
            payload = bytes(size)
            expected = Forward(BOB, encode_transport(ALICE, payload))
            self.assertEqual(self.receive(encode_transport(BOB, payload)), expected)

    def test_too_large(self) -> None:
        """A message of 8,821 bytes ends it, whatever it is."""
        for message_type in (3, 4, 5, 6, 8, 9):
            super().setUp()
            self.sign_in()
            message = bytes((1, message_type)) + bytes(MAX_MESSAGE_BYTES - 1)
            self.assert_closed(self.receive(message), RelayEnd.BAD_MESSAGE)

    def test_ignored(self) -> None:
        """A TRANSPORT without a whole ID, a torn list and a second AUTH are passed over and counted."""
        for message in (encode_transport(BOB, b"")[:-1], b"\x01\x03", b"\x01\x08x", b"\x01\x09" + bytes(37), AUTH):
            self.assertIsNone(self.receive(message))
        self.assertEqual(
            dict(self.counters.ignored),
            {"transport": 2, "subscribe_peer_state": 1, "unsubscribe_peer_state": 1, "auth": 1},
        )
        self.assertIs(self.machine.state, State.OPEN)
        self.assertEqual(self.counters.messages_received, 0)

    def test_fatal(self) -> None:
        """No header, another version, an unknown type and types of a server end it."""
        for message in ("", "01", "0003", "0203", "0101", "0102", "010c", "0107", "010a", "010b"):
            super().setUp()
            self.sign_in()
            self.assert_closed(self.receive(raw(message)), RelayEnd.BAD_MESSAGE)

    def test_close(self) -> None:
        """A client that says CLOSE is let go, also with something behind it."""
        self.assert_closed(self.receive(CLOSE_MESSAGE + b"!"), RelayEnd.PEER_CLOSED)

    def test_lists(self) -> None:
        """Subscriptions come as they are: order, doubles and emptiness kept."""
        ids = [BOB, ALICE, BOB]
        for message_type, event in (
            (MessageType.SUBSCRIBE_PEER_STATE, Subscribe(ids)),
            (MessageType.UNSUBSCRIBE_PEER_STATE, Unsubscribe(ids)),
        ):
            (message,) = encode_peer_ids(message_type, ids)
            self.assertEqual(self.receive(message), event)
            self.assertIs(type(self.receive(message)), type(event))
        self.assertEqual(self.receive(b"\x01\x08"), Subscribe([]))

    def test_shutdown(self) -> None:
        """A server that stops says CLOSE; whoever is replaced hears nothing."""
        self.assertEqual(self.machine.close(RelayEnd.SHUTDOWN), Closed(RelayEnd.SHUTDOWN, "", CLOSE_MESSAGE))
        super().setUp()
        self.sign_in()
        self.assert_closed(self.machine.close(RelayEnd.REPLACED), RelayEnd.REPLACED)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=120) | st.binary(max_size=90).map(lambda rest: b"\x01\x03" + rest), max_size=6))
    def test_garbage(self, messages: list[bytes]) -> None:
        """Whatever a client sends is acted on, passed over, or ends its connection; nothing else happens."""
        counters = RelayCounters()
        machine = ServerMachine(ServerOptions(URL), lambda token: None, counters, 0.0)
        for message in (AUTH, *messages):
            event = machine.receive(message, 1.0)
            self.assertIs(isinstance(event, Closed), machine.state is State.CLOSED and event is not None)
            if isinstance(event, Forward):
                self.assertEqual(event.message, b"\x01\x03" + ALICE + message[38:])


class HealthTests(MachineTestCase):
    """A client that may be gone."""

    tokens = AnyToken()

    def setUp(self) -> None:
        """Alice is in since 101."""
        super().setUp()
        self.sign_in()

    def events_until(self, end: float, is_answered: bool) -> list[tuple[float, str]]:
        """Let time go by; return what happened when."""
        happened = []
        while (at := self.machine.next_deadline()) is not None and at <= end:
            event = self.machine.deadline_passed(at)
            if event == Send(HEALTH_CHECK_MESSAGE):
                happened.append((at, "sent"))
                if is_answered:
                    self.assertIsNone(self.receive(HEALTH_CHECK_MESSAGE, at))
            elif isinstance(event, Closed):
                happened.append((at, event.end.value))
        return happened

    def test_silent(self) -> None:
        """A client is asked every 25 s; one that never answers is let go after 45 s."""
        self.assertEqual(self.events_until(1e6, False), [(126.0, "sent"), (146.0, "health_timeout")])

    def test_alive(self) -> None:
        """A client that answers stays, and is never answered itself."""
        happened = self.events_until(1101.0, True)
        self.assertEqual(happened, [(101.0 + 25 * number, "sent") for number in range(1, 41)])

    def test_traffic_is_no_life(self) -> None:
        """Other messages do not count as an answer, as at NetBird."""
        for number in range(100):
            self.receive(encode_transport(BOB, b""), 101.0 + number)
        self.assertEqual(self.events_until(1e6, False)[-1], (146.0, "health_timeout"))

    def test_late(self) -> None:
        """A clock that was not looked at for minutes lets both be done, once each."""
        self.receive(HEALTH_CHECK_MESSAGE)
        self.assertEqual(self.machine.deadline_passed(500.0), Send(HEALTH_CHECK_MESSAGE))
        self.assertIsNone(self.machine.deadline_passed(500.0))
        self.assertEqual(self.machine.next_deadline(), 525.0)
