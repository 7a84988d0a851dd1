from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import PacketRejected
from meshrelay.machine import packets
from meshrelay.wire.datagram import PacketKind

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "reliability.json").read_text("utf-8")
)["vectors"]


def encode(vector: dict[str, Any]) -> bytes:
    """Build the content from the fields of a vector."""
    kind = vector["kind"]
    if kind == "SYN":
        return packets.encode_syn(vector["first"], vector["window"], vector["acknowledged"])
    if kind == "DAT":
        header = packets.encode_dat_header(vector["sequence"], vector["piece"], vector["pieces"])
        return header + bytes.fromhex(vector["payload"])
    if kind in ("ACK", "EACK"):
        return packets.encode_acknowledgement(vector["expected"], vector["window"], vector["ranges"])[1]
    if kind == "RST":
        return packets.encode_rst(vector["code"], vector["text"])
    return packets.encode_fin(vector["last"])


def decode(kind: PacketKind, content: bytes) -> object:
    """Read the content as its kind."""
    if kind is PacketKind.SYN:
        return packets.decode_syn(content)
    if kind is PacketKind.DAT:
        return packets.decode_dat(content)
    if kind in (PacketKind.ACK, PacketKind.EACK):
        return packets.decode_acknowledgement(kind, content)
    if kind is PacketKind.RST:
        return packets.decode_rst(content)
    return packets.decode_fin(content)


def expected(vector: dict[str, Any]) -> object:
    """Return what a vector decodes to."""
    kind = vector["kind"]
    if kind == "SYN":
        return packets.Synchronisation(vector["first"], vector["window"], vector["acknowledged"])
    if kind == "DAT":
        payload = bytes.fromhex(vector["payload"])
        return packets.Fragment(vector["sequence"], vector["piece"], vector["pieces"], payload)
    if kind in ("ACK", "EACK"):
        ranges = [tuple(pair) for pair in vector["ranges"]]
        return packets.Acknowledgement(vector["expected"], vector["window"], ranges if kind == "EACK" else ())
    if kind == "RST":
        return vector["code"], vector["text"]
    return vector["last"]


class PacketTests(SynchronousTestCase):
    def test_vectors_encode(self) -> None:
        """What is sent has the bytes that other implementations expect."""
        for vector in VECTORS:
            self.assertEqual(encode(vector).hex(), vector["hex"], vector["name"])

    def test_vectors_decode(self) -> None:
        """What other implementations send is understood."""
        for vector in VECTORS:
            content = bytes.fromhex(vector["hex"])
            self.assertEqual(decode(PacketKind[vector["kind"]], content), expected(vector), vector["name"])

    def test_truncated(self) -> None:
        """A content that was cut off is refused, unless it is a shorter valid one."""
        for vector in VECTORS:
            whole = bytes.fromhex(vector["hex"])
            kind = PacketKind[vector["kind"]]
            least = {PacketKind.DAT: 9, PacketKind.RST: 2}.get(kind, len(whole))
            for size in range(min(least, len(whole))):
                if kind is PacketKind.SYN and size == 6:
                    continue
                error = self.assertRaises(PacketRejected, decode, kind, whole[:size])
                self.assertEqual(error.reason, "bad_length", f"{vector['name']} cut at {size}")

    def test_trailing_bytes(self) -> None:
        """Bytes behind a content of fixed shape are refused, so nobody comes to rely on them."""
        for vector in VECTORS:
            if vector["kind"] not in ("DAT", "RST"):
                content = bytes.fromhex(vector["hex"]) + b"x"
                self.assertRaises(PacketRejected, decode, PacketKind[vector["kind"]], content)

    def test_longest_dat(self) -> None:
        """A fragment of 1,350 bytes fits a datagram of 1,400, one more byte does not."""
        header = packets.encode_dat_header(1, 0, 1)
        self.assertEqual(len(packets.decode_dat(header + bytes(1350)).payload), 1350)
        self.assertEqual(len(header) + 1350 + 26 + 16, 1400)
        self.assertRaises(PacketRejected, packets.decode_dat, header + bytes(1351))

    def test_fragment_index_out_of_count(self) -> None:
        """A fragment cannot be number 3 of 3 counted from 0, nor one of none."""
        for piece, pieces in ((3, 3), (4, 3), (0, 0)):
            content = packets.encode_dat_header(1, piece, pieces) + b"x"
            error = self.assertRaises(PacketRejected, packets.decode_dat, content)
            self.assertEqual(error.reason, "bad_fragment")

    def test_rst_text_is_made_readable(self) -> None:
        """The session ends even when the text of the RST is not UTF-8."""
        self.assertEqual(packets.decode_rst(b"\x0f\xa1\xff"), (4001, "\ufffd"))

    def test_unwrap(self) -> None:
        """A number on the wire means the nearest one, on either side of the wrap."""
        wrap = 1 << 32
        cases = [
            (5, 3, 5),
            (2, wrap - 3, wrap + 2),
            (wrap - 1, wrap + 2, wrap - 1),
            (0, wrap * 7, wrap * 7),
            (wrap - 1, 0, -1),
        ]
        for sequence, near, meant in cases:
            self.assertEqual(packets.unwrap(sequence, near), meant, (sequence, near))

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(
        kind=st.sampled_from([kind for kind in PacketKind if kind.name not in ("DATA", "PROBE")]), content=st.binary()
    )
    def test_garbage(self, kind: PacketKind, content: bytes) -> None:
        """Whatever an authenticated peer puts into a packet, it is read or refused for a known reason."""
        try:
            decode(kind, content)
        except PacketRejected as error:
            self.assertIn(error.reason, packets.REJECT_REASONS)
