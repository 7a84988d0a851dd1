"""UDP packets: header, seal, replay window."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, PacketRejected
from meshrelay.wire.datagram import (
    MAX_DATAGRAM_BYTES,
    REJECT_REASONS,
    TO_CLIENT,
    TO_NODE,
    PacketCodec,
    PacketKind,
    packet_sid,
    session_key,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("datagram")
ENCRYPTION_KEY, IV, MAC_KEY = (bytes.fromhex(VECTORS[f"encryption_{name}"]) for name in ("key", "iv", "mac_key"))
KEY = bytes.fromhex(VECTORS["udp_key"])
SID = bytes.fromhex("00112233445566778899aabbccddeeff")


def packet(number: int, kind: int = 1, content: bytes = b"", sid: bytes = SID, direction: int = 0) -> bytes:
    """Seal a packet without our own codec."""
    header = bytes((kind, 1)) + sid + number.to_bytes(8, "big")
    nonce = direction.to_bytes(4, "big") + number.to_bytes(8, "big")
    return header + AESGCM(KEY).encrypt(nonce, content, header)


class CodecTestCase(SynchronousTestCase):
    """A node's end that opens what `packet` seals."""

    def setUp(self) -> None:
        """A session nobody has heard of yet."""
        self.node = PacketCodec(SID, KEY, TO_CLIENT)

    def rejected(self, datagram: bytes) -> str:
        """Return why the node drops a datagram."""
        reason: str = self.assertRaises(PacketRejected, self.node.open, datagram).reason
        self.assertIn(reason, REJECT_REASONS)
        return reason


class VectorTests(SynchronousTestCase):
    """Packets computed from the specification without our own code."""

    def test_keys(self) -> None:
        """The packet key is HKDF-SHA256 over the three secrets, without a salt, for its purpose."""
        self.assertEqual(session_key(ENCRYPTION_KEY, IV, MAC_KEY).hex(), VECTORS["udp_key"])
        self.assertEqual(session_key(ENCRYPTION_KEY, IV, MAC_KEY, b"meshrelay p2p 1").hex(), VECTORS["p2p_key"])

    def test_opened(self) -> None:
        """Each packet is opened by the end it is for, and by no other."""
        for vector in VECTORS["packets"]:
            sealed = bytes.fromhex(vector["packet"])
            receiver = PacketCodec(SID, KEY, TO_CLIENT if vector["direction"] == TO_NODE else TO_NODE)
            opened = receiver.open(sealed)
            self.assertEqual((opened.kind, opened.content.hex()), (vector["kind"], vector["content"]), vector["name"])
            sender = PacketCodec(SID, KEY, vector["direction"])
            self.assertRaises(PacketRejected, sender.open, sealed)

    def test_sealed(self) -> None:
        """The packets of this end are byte for byte those of the specification."""
        for vector in VECTORS["packets"]:
            if vector["number"] <= 2:
                sender = PacketCodec(SID, KEY, vector["direction"])
                for _ in range(1, vector["number"]):
                    sender.seal(PacketKind.DATA, b"")
                sealed = sender.seal(PacketKind(vector["kind"]), bytes.fromhex(vector["content"]))
                self.assertEqual(sealed.hex(), vector["packet"], vector["name"])

    def test_kinds(self) -> None:
        """The kinds have their published numbers."""
        self.assertEqual(
            [kind.name for kind in sorted(PacketKind)], ["DATA", "SYN", "DAT", "ACK", "RST", "EACK", "FIN", "PROBE"]
        )
        self.assertEqual([kind.value for kind in sorted(PacketKind)], list(range(1, 9)))


class RejectTests(CodecTestCase):
    """What does not open is dropped, for one of a few reasons, and changes nothing."""

    def test_every_truncation(self) -> None:
        """No prefix of a packet opens."""
        sealed = packet(1, content=b"hello")
        for size in range(len(sealed)):
            self.assertIn(self.rejected(sealed[:size]), ("short", "seal"))
        self.assertEqual(self.node.open(sealed).content, b"hello")

    def test_every_flipped_bit(self) -> None:
        """No packet opens that was changed in any bit, header or content."""
        sealed = packet(5, content=b"hi")
        for index in range(len(sealed) * 8):
            changed = bytearray(sealed)
            changed[index // 8] ^= 1 << index % 8
            self.rejected(bytes(changed))
        self.assertEqual(self.node.open(sealed).content, b"hi")

    def test_reasons(self) -> None:
        """Each reason is told apart, for whoever looks at the metrics."""
        sealed = packet(1)
        other_sid = packet(1, sid=b"s" * 16)
        cases = {
            "short": sealed[:41],
            "long": sealed + b"x" * MAX_DATAGRAM_BYTES,
            "version": sealed[:1] + b"\x02" + sealed[2:],
            "kind": packet(1, kind=9),
            "sid": other_sid,
            "seal": sealed[:-1] + bytes((sealed[-1] ^ 1,)),
            "old": packet(0),
        }
        for reason, datagram in cases.items():
            self.assertEqual(self.rejected(datagram), reason)

    def test_own_packet(self) -> None:
        """A packet that is sent back to its sender does not open: the direction is part of the nonce."""
        self.assertEqual(self.rejected(self.node.seal(PacketKind.DATA, b"x")), "seal")

    def test_other_key(self) -> None:
        """Another session's key opens nothing."""
        self.assertRaises(PacketRejected, PacketCodec(SID, b"k" * 32, TO_CLIENT).open, packet(1))

    @settings(derandomize=True, max_examples=80, deadline=None)
    @given(st.binary(max_size=120))
    def test_garbage(self, garbage: bytes) -> None:
        """Garbage is rejected, whatever it looks like, also behind a right header."""
        node = PacketCodec(SID, KEY, TO_CLIENT)
        for datagram in (garbage, packet(1)[:26] + garbage, b"\x01\x01" + SID + garbage):
            self.assertRaises(PacketRejected, node.open, datagram)

    def test_sid(self) -> None:
        """A datagram names its session in bytes 2 to 17."""
        self.assertEqual(packet_sid(packet(1)), SID)
        self.assertEqual(self.assertRaises(PacketRejected, packet_sid, b"").reason, "short")


class ReplayWindowTests(CodecTestCase):
    """Each packet is opened once, late ones within a window of 1,024."""

    def test_twice(self) -> None:
        """A packet that was opened does not open again."""
        self.node.open(packet(1))
        self.assertEqual(self.rejected(packet(1)), "replayed")
        self.node.open(packet(2))
        self.assertEqual(self.rejected(packet(1)), "replayed")

    def test_exact_window(self) -> None:
        """1,024 behind the highest is still taken, 1,025 is not."""
        self.node.open(packet(2000))
        self.assertFalse(self.node.open(packet(2000 - 1024)).is_newest)
        self.assertEqual(self.rejected(packet(2000 - 1025)), "old")
        self.assertEqual(self.rejected(packet(2000 - 1024)), "replayed")

    def test_window_moves(self) -> None:
        """What was seen is remembered as the window moves on, to its very edge."""
        self.node.open(packet(1))
        self.assertTrue(self.node.open(packet(1025)).is_newest)
        self.assertEqual(self.rejected(packet(1)), "replayed")
        self.node.open(packet(2))
        self.node.open(packet(1026))
        self.assertEqual(self.rejected(packet(1)), "old")
        self.assertEqual(self.rejected(packet(2)), "replayed")

    def test_far_jump(self) -> None:
        """A jump over the whole window forgets nothing that is in the new one."""
        self.node.open(packet(1))
        self.node.open(packet(1 << 40))
        self.assertEqual(self.rejected(packet(1)), "old")
        self.assertEqual(self.rejected(packet(1 << 40)), "replayed")
        self.assertEqual(self.node.open(packet((1 << 40) - 1)).content, b"")

    def test_newest(self) -> None:
        """Only the highest number so far may move a session to another address."""
        newest = [self.node.open(packet(number)).is_newest for number in (3, 1, 4, 2, 1000)]
        self.assertEqual(newest, [True, False, True, False, True])

    def test_forgery_moves_nothing(self) -> None:
        """A forged packet with a high number neither moves the window nor uses the number up."""
        forged = bytearray(packet(900_000))
        forged[-1] ^= 1
        self.assertEqual(self.rejected(bytes(forged)), "seal")
        self.node.open(packet(1))
        self.node.open(packet(900_000))

    @settings(derandomize=True, max_examples=30, deadline=None)
    @given(st.lists(st.integers(1, 2200), max_size=25))
    def test_any_order(self, numbers: list[int]) -> None:
        """In whatever order packets come: each once, and exactly those within the window."""
        node = PacketCodec(SID, KEY, TO_CLIENT)
        opened: set[int] = set()
        highest = 0
        for number in numbers:
            allowed = number not in opened and highest - number <= 1024
            try:
                node.open(packet(number))
            except PacketRejected:
                self.assertFalse(allowed, f"{number} of {numbers}")
            else:
                self.assertTrue(allowed, f"{number} of {numbers}")
                opened.add(number)
                highest = max(highest, number)


class SealTests(SynchronousTestCase):
    """Packets of this end."""

    def test_numbers(self) -> None:
        """Numbers start at 1 and are never used twice."""
        codec = PacketCodec(SID, KEY, TO_NODE)
        packets = [codec.seal(PacketKind.DATA, b"") for _ in range(3)]
        self.assertEqual([int.from_bytes(sealed[18:26], "big") for sealed in packets], [1, 2, 3])

    def test_bound(self) -> None:
        """No datagram is over 1,400 bytes."""
        codec = PacketCodec(SID, KEY, TO_NODE)
        self.assertEqual(len(codec.seal(PacketKind.DATA, b"x" * 1358)), 1400)
        self.assertRaises(LocalProtocolError, codec.seal, PacketKind.DATA, b"x" * 1359)

    def test_peer_sid(self) -> None:
        """In a P2P link each end names itself, and opens only what its peer sealed."""
        ann = PacketCodec(b"a" * 16, KEY, TO_NODE, peer_sid=b"b" * 16)
        bob = PacketCodec(b"b" * 16, KEY, TO_CLIENT, peer_sid=b"a" * 16)
        self.assertEqual(bob.open(ann.seal(PacketKind.PROBE, b"?")).content, b"?")
        self.assertEqual(ann.open(bob.seal(PacketKind.PROBE, b"!")).content, b"!")
        stranger = PacketCodec(b"c" * 16, KEY, TO_CLIENT, peer_sid=b"a" * 16)
        error = self.assertRaises(PacketRejected, ann.open, stranger.seal(PacketKind.PROBE, b"x"))
        self.assertEqual(error.reason, "sid")
