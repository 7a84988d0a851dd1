"""Messages of the NetBird-compatible relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, MalformedFrame
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.relay import (
    CLOSE_MESSAGE,
    HEALTH_CHECK_MESSAGE,
    MAX_AUTH_BYTES,
    MAX_AUTH_RESPONSE_BYTES,
    MAX_IDS_PER_MESSAGE,
    MAX_MESSAGE_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_TOKEN_BYTES,
    PEER_ID_BYTES,
    SAFE_DATAGRAM_BYTES,
    TRANSPORT_HEADER_BYTES,
    Auth,
    MessageType,
    Transport,
    decode_auth,
    decode_auth_response,
    decode_peer_ids,
    decode_transport,
    encode_auth,
    encode_auth_response,
    encode_peer_ids,
    encode_transport,
    peer_id_of,
    peer_id_text,
    read_type,
    transport_header,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("netbird_relay")
ALICE = peer_id_of("alice")
raw = bytes.fromhex

LISTS = (
    MessageType.SUBSCRIBE_PEER_STATE,
    MessageType.UNSUBSCRIBE_PEER_STATE,
    MessageType.PEERS_ONLINE,
    MessageType.PEERS_WENT_OFFLINE,
)


def many_ids(count: int) -> list[bytes]:
    """Return different peer IDs."""
    return [number.to_bytes(PEER_ID_BYTES, "big") for number in range(count)]


class VectorTests(SynchronousTestCase):
    """Bytes computed from the layout without our own code, each read and written, whole and cut anywhere."""

    def test_peer_ids(self) -> None:
        """The ID of a peer is made of its name, as text or bytes, and is shown as NetBird shows it."""
        for vector in VECTORS["ids"]:
            self.assertEqual(peer_id_of(vector["name"]).hex(), vector["hex"])
            self.assertEqual(peer_id_of(vector["name"].encode()).hex(), vector["hex"])
            self.assertEqual(peer_id_text(raw(vector["hex"])), vector["text"])

    def test_auth(self) -> None:
        """AUTH carries who the client is, and its token."""
        values = {raw(v["hex"]): Auth(raw(v["peer_id"]), raw(v["token"])) for v in VECTORS["auth"]}
        for message, value in values.items():
            self.assertEqual(decode_auth(message), value)
            self.assertIs(read_type(message), MessageType.AUTH)
        check_codec(lambda value: encode_auth(*value), decode_auth, values, MalformedFrame)

    def test_auth_response(self) -> None:
        """AUTH_RESPONSE carries the URL that the server goes by."""
        values = {raw(vector["hex"]): vector["url"] for vector in VECTORS["auth_response"]}
        check_codec(encode_auth_response, decode_auth_response, values, MalformedFrame)

    def test_transport(self) -> None:
        """TRANSPORT carries a payload to a peer, and from a peer."""
        values = {raw(v["hex"]): Transport(raw(v["peer_id"]), raw(v["payload"])) for v in VECTORS["transport"]}
        check_codec(lambda value: encode_transport(*value), decode_transport, values, MalformedFrame)

    def test_lists(self) -> None:
        """The four lists hold peer IDs in order, also the same one twice."""
        for vector in VECTORS["lists"]:
            ids = [raw(peer_id) for peer_id in vector["ids"]]
            message_type = MessageType(vector["type"])
            self.assertEqual(encode_peer_ids(message_type, ids), [raw(vector["hex"])], vector["name"])
            self.assertIs(read_type(raw(vector["hex"])), message_type)
            check_codec(None, decode_peer_ids, {raw(vector["hex"]): ids}, MalformedFrame)

    def test_fixed(self) -> None:
        """CLOSE and HEALTH_CHECK are two bytes, with anything behind them."""
        self.assertEqual((CLOSE_MESSAGE.hex(), HEALTH_CHECK_MESSAGE.hex()), (VECTORS["close"], VECTORS["health_check"]))
        self.assertIs(read_type(CLOSE_MESSAGE + b"anything"), MessageType.CLOSE)
        self.assertIs(read_type(HEALTH_CHECK_MESSAGE), MessageType.HEALTH_CHECK)

    def test_sizes(self) -> None:
        """The sizes are those that NetBird's buffers have."""
        self.assertEqual((MAX_AUTH_BYTES, MAX_AUTH_RESPONSE_BYTES, MAX_MESSAGE_BYTES), (212, 8192, 8820))
        self.assertEqual((MAX_TOKEN_BYTES, MAX_PAYLOAD_BYTES, TRANSPORT_HEADER_BYTES), (170, 8782, 38))
        self.assertEqual((MAX_IDS_PER_MESSAGE, SAFE_DATAGRAM_BYTES), (244, 1195))


class TypeTests(SynchronousTestCase):
    """The header of a message."""

    def test_refused(self) -> None:
        """No header, another version, the handshake of old, and numbers that nobody uses are refused."""
        for message in ("", "01", "0003", "0203", "0100", "0101", "0102", "010c", "01ff"):
            self.assertRaises(MalformedFrame, read_type, raw(message))

    def test_all(self) -> None:
        """Types 3 to 11 are known."""
        self.assertEqual([read_type(bytes((1, number))) for number in range(3, 12)], sorted(MessageType))


class BoundTests(SynchronousTestCase):
    """One byte over a limit is refused, on both sides."""

    def test_auth(self) -> None:
        """AUTH has 42 to 212 bytes and its magic number."""
        good = encode_auth(ALICE, bytes(MAX_TOKEN_BYTES))
        self.assertEqual(len(good), MAX_AUTH_BYTES)
        for message in (good + b"x", good[:41], good[:2] + b"\x22" + good[3:], good[:5] + b"\x43" + good[6:]):
            self.assertRaises(MalformedFrame, decode_auth, message)
        self.assertRaises(MalformedFrame, decode_auth, CLOSE_MESSAGE + good[2:])
        self.assertRaises(LocalProtocolError, encode_auth, ALICE, bytes(MAX_TOKEN_BYTES + 1))

    def test_auth_response(self) -> None:
        """A URL has 1 to 8,190 bytes and is text."""
        longest = "x" * (MAX_AUTH_RESPONSE_BYTES - 2)
        self.assertEqual(decode_auth_response(encode_auth_response(longest)), longest)
        for url in ("", longest + "x"):
            self.assertRaises(LocalProtocolError, encode_auth_response, url)
        for message in (raw("0107"), raw("0107ff"), encode_auth_response(longest) + b"x", raw("010678")):
            self.assertRaises(MalformedFrame, decode_auth_response, message)

    def test_transport(self) -> None:
        """A payload has up to 8,782 bytes."""
        longest = encode_transport(ALICE, bytes(MAX_PAYLOAD_BYTES))
        self.assertEqual(len(longest), MAX_MESSAGE_BYTES)
        self.assertEqual(len(decode_transport(longest).payload), MAX_PAYLOAD_BYTES)
        for message in (longest + b"x", longest[:37], b"\x01\x04" + longest[2:]):
            self.assertRaises(MalformedFrame, decode_transport, message)
        self.assertRaises(LocalProtocolError, encode_transport, ALICE, bytes(MAX_PAYLOAD_BYTES + 1))

    def test_peer_id(self) -> None:
        """A peer ID has 36 bytes."""
        for wrong in (ALICE[:-1], ALICE + b"x", b""):
            self.assertRaises(LocalProtocolError, encode_auth, wrong, b"")
            self.assertRaises(LocalProtocolError, encode_transport, wrong, b"")
            self.assertRaises(LocalProtocolError, transport_header, wrong)
            self.assertRaises(LocalProtocolError, encode_peer_ids, MessageType.PEERS_ONLINE, [ALICE, wrong])

    def test_lists(self) -> None:
        """A list holds whole IDs; an empty one is read, and never written."""
        for size in (0, 1, 3, 37, 39, 2 + 245 * 36):
            self.assertRaises(MalformedFrame, decode_peer_ids, bytes(size))
        self.assertEqual(decode_peer_ids(raw("010a")), [])
        self.assertRaises(LocalProtocolError, encode_peer_ids, MessageType.PEERS_ONLINE, [])
        self.assertRaises(LocalProtocolError, encode_peer_ids, MessageType.PEERS_ONLINE, [ALICE], 37)


class ChunkTests(SynchronousTestCase):
    """A long list goes in as many messages as it takes."""

    def chunks(self, count: int, max_bytes: int) -> list[int]:
        """Return how many IDs are in each message."""
        ids = many_ids(count)
        messages = encode_peer_ids(MessageType.SUBSCRIBE_PEER_STATE, ids, max_bytes)
        self.assertEqual([peer_id for message in messages for peer_id in decode_peer_ids(message)], ids)
        self.assertTrue(all(len(message) <= max_bytes for message in messages))
        return [len(decode_peer_ids(message)) for message in messages]

    def test_websocket(self) -> None:
        """244 IDs fit one message, whatever a transport could take."""
        self.assertEqual(self.chunks(244, MAX_MESSAGE_BYTES), [244])
        self.assertEqual(self.chunks(489, MAX_MESSAGE_BYTES), [244, 244, 1])
        self.assertEqual(self.chunks(245, 1 << 20), [244, 1])

    def test_datagram(self) -> None:
        """33 IDs fit a datagram."""
        self.assertEqual(self.chunks(100, SAFE_DATAGRAM_BYTES), [33, 33, 33, 1])
        self.assertEqual(self.chunks(2, 38), [1, 1])


class GarbageTests(SynchronousTestCase):
    """Whatever comes is a value or `MalformedFrame`."""

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=300), st.sampled_from(["", "01", "0103", "0107", "01062112a442", "010a"]))
    def test_any(self, rest: bytes, start: str) -> None:
        """No message of whatever bytes causes another error, and what is read is written the same way."""
        message = raw(start) + rest
        codecs: list[tuple[Callable[[bytes], Any], Callable[[Any], bytes]]] = [
            (decode_auth, lambda value: encode_auth(*value)),
            (decode_auth_response, encode_auth_response),
            (decode_transport, lambda value: encode_transport(*value)),
        ]
        for decode, encode in codecs:
            try:
                value = decode(message)
            except MalformedFrame:
                continue
            self.assertEqual(encode(value), message)
        for read in (read_type, decode_peer_ids):
            try:
                read(message)
            except MalformedFrame:
                continue

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.binary(min_size=36, max_size=36), min_size=1, max_size=300), st.integers(38, 9000))
    def test_lists(self, ids: list[bytes], max_bytes: int) -> None:
        """Every list comes back whole, however it is cut."""
        for message_type in LISTS:
            messages = encode_peer_ids(message_type, ids, max_bytes)
            self.assertEqual([peer_id for message in messages for peer_id in decode_peer_ids(message)], ids)
