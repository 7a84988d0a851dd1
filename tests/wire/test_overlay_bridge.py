"""What users and peers of the overlay write to each other, as data of the overlay and between nodes."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedFrame
from meshrelay.wire.direct_node import Direct
from meshrelay.wire.overlay_bridge import (
    MAX_BRIDGED_BYTES,
    BridgeOutcome,
    BridgeParcel,
    Incoming,
    bridged_size,
    data_for_peer,
    decode_bridge_result,
    decode_bridge_send,
    decode_overlay_here,
    encode_bridge_result,
    encode_bridge_send,
    encode_overlay_here,
    error_for_peer,
    is_peer_user,
    peer_of_user,
    read_incoming,
    user_of_peer,
)

PEER = bytes(range(20))
USER = "peer:" + PEER.hex()


def direct(message: bytes, sender: str = "ann") -> Direct:
    """A message to a peer as the node has it."""
    return Direct(sender, "", USER, 1, 120, True, message)


class UserTests(SynchronousTestCase):
    """User IDs that are peers."""

    def test_round_trip(self) -> None:
        """A peer has one user ID, by which it is found again, in capitals too."""
        self.assertEqual(user_of_peer(PEER), USER)
        self.assertEqual((peer_of_user(USER), peer_of_user("peer:" + PEER.hex().upper())), (PEER, PEER))

    def test_others(self) -> None:
        """What is no peer ID names nobody, and yet no user may have it when it begins like one."""
        for user_id in ("peer:", USER + "0", USER[:-1], "peer:" + "g" * 40, USER + "\n", "peer:" + "\u0661" * 40):
            self.assertEqual((user_id, peer_of_user(user_id), is_peer_user(user_id)), (user_id, None, True))
        for user_id in ("ann", "Peer:" + PEER.hex(), "peer", PEER.hex(), " " + USER):
            self.assertEqual((user_id, peer_of_user(user_id), is_peer_user(user_id)), (user_id, None, False))


class DataTests(SynchronousTestCase):
    """JSON that peers see."""

    def test_text(self) -> None:
        """A message that is UTF-8 is a string."""
        self.assertEqual(data_for_peer(direct("hé".encode())), {"from": "ann", "data": "hé"})

    def test_bytes(self) -> None:
        """Any other is what JavaScript makes of a Buffer."""
        self.assertEqual(
            data_for_peer(direct(b"\xff\x00")), {"from": "ann", "data": {"type": "Buffer", "data": [255, 0]}}
        )

    def test_numbers_of_applications(self) -> None:
        """What an application sends under its own numbers has them."""
        sent = Direct("", "", USER, 2, 9, False, b"x")
        self.assertEqual(data_for_peer(sent), {"from": "", "data": "x", "ver": 2, "cmd": 9})

    def test_incoming(self) -> None:
        """A string is its UTF-8, a Buffer its bytes, and anything else its JSON."""
        for value, message in (
            ("hé", "hé".encode()),
            ("", b""),
            ({"type": "Buffer", "data": [255, 0]}, b"\xff\x00"),
            ({"type": "Buffer", "data": "x"}, b'{"type":"Buffer","data":"x"}'),
            ({"a": [1, None, True, 1.5]}, b'{"a":[1,null,true,1.5]}'),
            (None, b"null"),
            (7, b"7"),
        ):
            self.assertEqual(read_incoming({"to": "bob", "data": value}), Incoming("bob", message))

    def test_not_the_form(self) -> None:
        """Whatever else peers send to each other is none of ours."""
        others: tuple[Any, ...] = (
            None,
            "text",
            [],
            {},
            {"to": "bob"},
            {"data": "x"},
            {"to": 5, "data": "x"},
            {"to": "", "data": "x"},
            {"to": "b" * 129, "data": "x"},
            {"to": "\ud800", "data": "x"},
            {"from": "bob", "data": "x"},
            {"to": "bob", "error": "x", "data": "x"},
            {"buffer": {"type": "Buffer", "data": [1]}, "address": "x", "port": 1},
            error_for_peer("user not found", "bob"),
        )
        for data in others:
            self.assertIsNone(read_incoming(data), data)

    def test_unusable(self) -> None:
        """What has the form and cannot be a message says why."""
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        for value, text in (
            ("\ud800", "not valid Unicode"),
            ({"type": "Buffer", "data": [256]}, "a Buffer with"),
            ({"type": "Buffer", "data": [-1]}, "a Buffer with"),
            ({"type": "Buffer", "data": ["1"]}, "a Buffer with"),
            ({"type": "Buffer", "data": [None]}, "a Buffer with"),
            (deep, "cannot be written"),
        ):
            error = self.assertRaises(ValueError, read_incoming, {"to": "bob", "data": value})
            self.assertIn(text, str(error))
        # Taken apart here, as Python's own way of doing so goes as deep as the list.
        while deep:
            deep = deep.pop()

    @given(st.one_of(st.binary(max_size=200), st.text(max_size=60).map(str.encode)), st.text(max_size=30))
    def test_there_and_back(self, message: bytes, sender: str) -> None:
        """What a peer sends back as it came reaches the user as it was sent."""
        data = msgspec.json.decode(msgspec.json.encode(data_for_peer(direct(message, sender))))
        self.assertEqual(data["from"], sender)
        self.assertEqual(read_incoming({"to": "bob", "data": data["data"]}), Incoming("bob", message))

    def test_size(self) -> None:
        """Sizes are right where they matter: just within the limit, and just over it."""
        for byte, each in ((b"a", 1), (b"\n", 2), (b"\x01", 6), (b"\xff", 4), (b"\x80", 4)):
            around = len(msgspec.json.encode(data_for_peer(direct(byte)))) - each
            count = (MAX_BRIDGED_BYTES - around) // each
            for number in (count - 1, count, count + 1, 10 * count):
                data = data_for_peer(direct(byte * number))
                real = len(msgspec.json.encode(data))
                self.assertEqual(bridged_size(data) <= MAX_BRIDGED_BYTES, real <= MAX_BRIDGED_BYTES, (byte, number))

    def test_size_of_senders(self) -> None:
        """The longest ID of a sender does not lead to a message over the limit."""
        for sender in ("\x01" * 128, '"' * 128):
            for number in range(29_790, 29_900):
                data = data_for_peer(direct(b"\x01" * number, sender))
                if bridged_size(data) <= MAX_BRIDGED_BYTES:
                    self.assertLessEqual(len(msgspec.json.encode(data)), MAX_BRIDGED_BYTES)


class NodeTests(SynchronousTestCase):
    """What nodes tell each other."""

    def test_send(self) -> None:
        """A message arrives as it was sent, all but the sender's sid."""
        for sent in (
            direct(b"x" * 1000),
            direct(b"", "é" * 64),
            Direct("", "", USER, 255, 65535, False, b"\x00"),
        ):
            parcel = BridgeParcel((1 << 64) - 1, PEER, sent)
            self.assertEqual(decode_bridge_send(encode_bridge_send(parcel)), parcel)

    def test_bytes(self) -> None:
        """The bytes are those of the documentation."""
        encoded = encode_bridge_send(BridgeParcel(258, PEER, direct(b"hi")))
        self.assertEqual(encoded, bytes(6) + b"\x01\x02" + PEER + b"\x01\x01\x00\x78\x03annhi")
        self.assertEqual(encode_bridge_result(1, BridgeOutcome.TOO_LARGE), bytes(7) + b"\x01\x03")
        self.assertEqual(encode_overlay_here(PEER), PEER)

    def test_here(self) -> None:
        """A peer ID comes out as it went in."""
        self.assertEqual(decode_overlay_here(encode_overlay_here(PEER)), PEER)
        for payload in (b"", PEER[1:], PEER + b"x"):
            self.assertRaises(MalformedFrame, decode_overlay_here, payload)

    def test_result(self) -> None:
        """Each outcome comes out as it went in; one that a later version knows is a failure."""
        for outcome in BridgeOutcome:
            self.assertEqual(decode_bridge_result(encode_bridge_result(7, outcome)), (7, outcome))
        self.assertEqual(decode_bridge_result(bytes(8) + b"\xc8"), (0, BridgeOutcome.FAILED))
        for payload in (b"", bytes(8), bytes(10)):
            self.assertRaises(MalformedFrame, decode_bridge_result, payload)

    def test_cut(self) -> None:
        """What is cut off before the message begins is refused."""
        encoded = encode_bridge_send(BridgeParcel(1, PEER, direct(b"")))
        for size in range(len(encoded)):
            self.assertRaises(MalformedFrame, decode_bridge_send, encoded[:size])
        self.assertRaises(MalformedFrame, decode_bridge_send, encoded[:-3] + b"\xff\xff\xff")

    @given(st.binary(max_size=80))
    def test_garbage(self, payload: bytes) -> None:
        """Any bytes are a message, or malformed."""
        for decode in (decode_bridge_send, decode_bridge_result, decode_overlay_here):
            try:
                decode(payload)
            except MalformedFrame:
                pass
