"""What the nodes of one relay tell each other."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedFrame
from meshrelay.wire.relay import MAX_MESSAGE_BYTES, encode_transport, peer_id_of
from meshrelay.wire.relay_node import (
    MAX_ENTRIES,
    PeerHere,
    decode_forward,
    decode_gone,
    decode_here,
    encode_forward,
    encode_gone,
    encode_here,
)

ALICE, BOB = peer_id_of("alice"), peer_id_of("bob")


class RelayNodeTests(SynchronousTestCase):
    """Bytes to values and back."""

    def test_here(self) -> None:
        """Peers and their stamps come out as they went in, and none is fine as well."""
        peers = [PeerHere(ALICE, 1), PeerHere(BOB, (1 << 64) - 1)]
        self.assertEqual(list(decode_here(encode_here(peers))), peers)
        self.assertEqual(encode_here([PeerHere(ALICE, 258)]), ALICE + bytes(6) + b"\x01\x02")
        self.assertEqual(list(decode_here(b"")), [])

    def test_gone(self) -> None:
        """Peer IDs come out as they went in."""
        self.assertEqual(decode_gone(encode_gone([ALICE, BOB])), [ALICE, BOB])
        self.assertEqual(decode_gone(b""), [])

    def test_forward(self) -> None:
        """A message comes out with its receiver, the shortest and the longest."""
        for payload in (b"", bytes(MAX_MESSAGE_BYTES - 38)):
            message = encode_transport(ALICE, payload)
            self.assertEqual(decode_forward(encode_forward(BOB, message)), (BOB, message))

    def test_malformed(self) -> None:
        """What holds no whole entries, too many or no message is refused."""
        for payload in (b"x", bytes(43), bytes(45), bytes(44 * (MAX_ENTRIES + 1))):
            self.assertRaises(MalformedFrame, decode_here, payload)
        for payload in (b"x", bytes(37), bytes(36 * (MAX_ENTRIES + 1))):
            self.assertRaises(MalformedFrame, decode_gone, payload)
        for payload in (b"", bytes(36 + 37), bytes(36 + MAX_MESSAGE_BYTES + 1)):
            self.assertRaises(MalformedFrame, decode_forward, payload)
