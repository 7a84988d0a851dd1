"""Packets between peers, against vectors that were computed without our own code."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, PacketRejected
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.addresses import UdpAddress, parse_address
from meshrelay.wire.datagram import PacketCodec, PacketKind, packet_number
from meshrelay.wire.peer_packet import (
    MAX_PROBE_BYTES,
    NUMBERS_OF_A_PAIR,
    Mapping,
    PeerCodec,
    Probe,
    decode_probe,
    encode_probe,
    is_first,
    pair_numbers,
    peer_key,
    peer_sid,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("peer_packets")
SECRET = bytes.fromhex(VECTORS["secret"])
MEMBERS = ("ann", "bob")


def probe_of(vector: dict[str, Any]) -> Probe:
    """Return the PROBE of a vector."""
    return Probe(
        vector["question"],
        vector["answer"],
        bool(vector["flags"]),
        Mapping(vector["mapping"]),
        vector["step"],
        parse_address(vector["seen"]) if vector["seen"] else None,
        tuple(map(parse_address, vector["public"])),
    )


class PacketTests(SynchronousTestCase):
    def test_names_and_key(self) -> None:
        """The sid is the start of the SHA-256 of the user ID; the key is made of the sync bytes for this purpose."""
        self.assertEqual({name: peer_sid(name).hex() for name in VECTORS["sids"]}, VECTORS["sids"])
        self.assertEqual(peer_key(SECRET).hex(), VECTORS["key"])

    def test_packets(self) -> None:
        """Each packet is sealed as computed, and its peer opens it."""
        for vector in VECTORS["packets"]:
            kind, content = PacketKind(vector["kind"]), bytes.fromhex(vector["content"])
            sender = PeerCodec(vector["from"], vector["to"], SECRET, vector["members"])
            for _ in range(vector["before"]):
                sender.seal(PacketKind.DATA, b"")
            if vector["ours"]:
                self.assertEqual(sender.seal(kind, content).hex(), vector["packet"], vector["name"])
            receiver = PeerCodec(vector["to"], vector["from"], SECRET, vector["members"])
            opened = receiver.open(bytes.fromhex(vector["packet"]))
            self.assertEqual((opened.kind, opened.content), (kind, content), vector["name"])

    def test_numbers(self) -> None:
        """No two pairs of a link group use a number twice, however many members there are."""
        members = [f"user {number}" for number in range(255)]
        ranges = [pair_numbers(one, other, members) for one in members[::17] for other in members if one != other]
        firsts = sorted(numbers.start for numbers in ranges)
        self.assertEqual({len(numbers) for numbers in ranges}, {NUMBERS_OF_A_PAIR})
        self.assertTrue(all(after - before >= NUMBERS_OF_A_PAIR for before, after in pairwise(firsts)))
        self.assertTrue(all(first > NUMBERS_OF_A_PAIR for first in firsts))
        self.assertLess(max(numbers.stop for numbers in ranges), 1 << 56)

    def test_end_of_numbers(self) -> None:
        """A side that has used up its numbers seals no more; the next one would be that of another pair."""
        numbers = range(7, 9)
        codec = PacketCodec(b"a" * 16, b"k" * 32, 0, numbers=numbers)
        self.assertEqual([packet_number(codec.seal(PacketKind.DATA, b"")) for _ in numbers], list(numbers))
        self.assertRaises(LocalProtocolError, codec.seal, PacketKind.DATA, b"")

    def test_sent_on(self) -> None:
        """A packet for one member is of no use to another, and does not shut out what comes after it."""
        to_cyd = PeerCodec("ann", "cyd", SECRET, ["ann", "bob", "cyd"])
        to_bob = PeerCodec("ann", "bob", SECRET, ["ann", "bob", "cyd"])
        bob = PeerCodec("bob", "ann", SECRET, ["ann", "bob", "cyd"])
        error = self.assertRaises(PacketRejected, bob.open, to_cyd.seal(PacketKind.DATA, b"for cyd"))
        self.assertEqual(error.reason, "pair")
        self.assertEqual(bob.open(to_bob.seal(PacketKind.DATA, b"for bob")).content, b"for bob")

    def test_short(self) -> None:
        """What is too short to have a number is rejected like any other garbage."""
        bob = PeerCodec("bob", "ann", SECRET, MEMBERS)
        self.assertEqual(self.assertRaises(PacketRejected, bob.open, b"\1\1").reason, "short")

    def test_order_of_names(self) -> None:
        """Who is first is decided by the bytes of the names, as every language can sort them."""
        self.assertTrue(is_first("ann", "bob"))
        self.assertFalse(is_first("bob", "ann"))
        self.assertTrue(is_first("z", "\u00e9"))
        self.assertTrue(is_first("\uffff", "\U00010000"))

    def test_not_for_us(self) -> None:
        """A packet that comes back, is of another pair or was forged does not open."""
        ann, bob = PeerCodec("ann", "bob", SECRET, MEMBERS), PeerCodec("bob", "ann", SECRET, MEMBERS)
        packet = ann.seal(PacketKind.PROBE, b"x")
        for codec, datagram in (
            (ann, packet),
            (PeerCodec("bob", "cyd", SECRET, [*MEMBERS, "cyd"]), packet),
            (PeerCodec("bob", "ann", SECRET[::-1], MEMBERS), packet),
            (bob, packet[:-1] + bytes((packet[-1] ^ 1,))),
        ):
            self.assertRaises(PacketRejected, codec.open, datagram)
        self.assertEqual(bob.open(packet).content, b"x")


class ProbeTests(SynchronousTestCase):
    def test_vectors(self) -> None:
        """Each PROBE is written and read as the table draws it; what is cut off is refused."""
        vectors = {bytes.fromhex(each["hex"]): probe_of(each) for each in VECTORS["probes"]}
        check_codec(encode_probe, decode_probe, vectors, PacketRejected)

    def test_padding(self) -> None:
        """A PROBE can fill a datagram, and what fills it means nothing."""
        for vector in VECTORS["probes"]:
            content = encode_probe(probe_of(vector), MAX_PROBE_BYTES)
            self.assertEqual(len(content), 1358)
            self.assertEqual(decode_probe(content[:-1] + b"x"), probe_of(vector))
        self.assertEqual(len(encode_probe(Probe(), 9999)), 1358)

    def test_bounds(self) -> None:
        """Four public addresses are the most, and a PROBE is no longer than a datagram."""
        five = Probe(public=(UdpAddress("203.0.113.5", 1),) * 5)
        self.assertRaises(PacketRejected, decode_probe, encode_probe(five))
        self.assertEqual(len(decode_probe(encode_probe(five._replace(public=five.public[:4]))).public), 4)
        self.assertRaises(PacketRejected, decode_probe, encode_probe(Probe(), 1358) + b"\0")

    def test_unknown_bits(self) -> None:
        """Flags that are not known are passed over, so that there may be more; another mapping is not."""
        content = bytearray(encode_probe(Probe(5)))
        content[0] |= 0xFE
        self.assertEqual(decode_probe(bytes(content)), Probe(5))
        content[1] = 4
        self.assertEqual(self.assertRaises(PacketRejected, decode_probe, bytes(content)).reason, "bad_probe")

    @settings(derandomize=True, max_examples=150, deadline=None)
    @given(st.binary(max_size=60))
    def test_garbage(self, garbage: bytes) -> None:
        """Garbage, also behind a right head, is a PROBE or is rejected."""
        for content in (garbage, encode_probe(Probe(7))[:12] + garbage):
            try:
                probe = decode_probe(content)
            except PacketRejected:
                continue
            self.assertEqual(decode_probe(encode_probe(probe)), probe)
