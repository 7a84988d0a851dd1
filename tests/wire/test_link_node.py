"""P2P links between nodes, as bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedFrame
from meshrelay.model import LinkPair
from meshrelay.wire import link_node
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.link_commands import LinkState
from meshrelay.wire.link_node import (
    LinkAsk,
    LinkFact,
    LinkPackets,
    LinkPlan,
    LinkRelayed,
    LinkReported,
    PlanMember,
    decode_answer,
    decode_facts,
    decode_packets,
    decode_page,
    decode_pairs,
    decode_plan,
    decode_relay,
    decode_reported,
    decode_start,
    encode_error_answer,
    encode_facts,
    encode_packets,
    encode_page,
    encode_pairs,
    encode_plan,
    encode_relay,
    encode_reported,
    encode_start,
)

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "link-node.json"
GID = "k" * 52

PLAN = LinkPlan(GID, 7, 3, 1, 1, 131, b"keys", (PlanMember("ann", "s1", "n1"), PlanMember("b\u00f6b", "s2", "n2")))
FACTS = [
    LinkFact("ann", "s1", "n1", "udp", 0.0125, (UdpAddress("198.51.100.1", 4000), UdpAddress("2001:db8::1", 9))),
    LinkFact("bob", "s2", "n2", "tcp", None, ()),
]
PACKETS = LinkPackets(GID, "ann", "bob", "s2", b"pushes")
RELAYED = LinkRelayed(GID, "ann", "s1", True, 1, 132, b"hi")
REPORTED = LinkReported(GID, "ann", "s1", (("bob", LinkState.RELAYED), ("cat", LinkState.LOST)))
ASK = LinkAsk(GID, "ann", "s1", 8, 1, 131)
PAIRS = [LinkPair("ann", "bob", "relayed", "no_udp"), LinkPair("bob", "ann", "unknown")]

#: Name -> value as it is encoded, and both ways.
CASES: dict[str, tuple[Any, Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    "plan": (PLAN, encode_plan, decode_plan),
    "plan_empty": (PLAN._replace(sync_bytes=b"", members=()), encode_plan, decode_plan),
    "packets": (PACKETS, encode_packets, decode_packets),
    "relay": (RELAYED, encode_relay, decode_relay),
    "report": (REPORTED, encode_reported, decode_reported),
    "start": (ASK, encode_start, decode_start),
    "page": ((GID, 5), lambda value: encode_page(*value), decode_page),
    "facts": ((0, FACTS), lambda value: encode_facts(value[1], value[0]), decode_facts),
    "pairs": ((2, PAIRS), lambda value: encode_pairs(value[1], value[0]), decode_pairs),
    "answer": ((24, b"text"), lambda value: encode_error_answer(value[0], value[1].decode()), decode_answer),
}


class LinkNodeTests(SynchronousTestCase):
    """Both ways."""

    def test_vectors(self) -> None:
        """The bytes are what they were: a cluster may be of two versions."""
        vectors = json.loads(VECTORS.read_text("utf-8"))
        self.assertEqual({name: encode(value).hex() for name, (value, encode, _) in CASES.items()}, vectors)

    def test_both_ways(self) -> None:
        """What is written is read again as it was."""
        for name, (value, encode, decode) in CASES.items():
            self.assertEqual(decode(encode(value)), value, name)

    def test_cut_off(self) -> None:
        """Whatever is cut off is a fault of the node, unless what is left is a whole one."""
        for name, (value, encode, decode) in CASES.items():
            data = encode(value)
            for size in range(len(data)):
                try:
                    self.assertNotEqual(decode(data[:size]), value, (name, size))
                except MalformedFrame:
                    continue

    def test_nonsense(self) -> None:
        """Values that nothing may have are refused."""
        facts = encode_facts(FACTS, 0)
        for decode, data in (
            (decode_reported, encode_reported(REPORTED)[:-1] + b"\7"),
            (decode_plan, encode_plan(PLAN)[:-1] + b"\xff"),
            (decode_facts, facts.replace(b"198.51.100.1:4000", b"198.51.100.x:4000")),
            (decode_facts, facts.replace(b"198.51.100.1:4000", b"\xff98.51.100.1:4000")),
            (decode_packets, b"\xff" * 60),
        ):
            with self.assertRaises(MalformedFrame):
                decode(data)

    def test_pages(self) -> None:
        """Facts come in pages, of which each says where the next one begins."""
        self.patch(link_node, "MAX_PAGE_BYTES", 100)
        many = [LinkFact(f"user{number}", "s", "n", "udp", None, ()) for number in range(20)]
        found: list[LinkFact] = []
        offset, pages = 0, 0
        while True:
            data = encode_facts(many, offset)
            self.assertLess(len(data), 150)
            offset, facts = decode_facts(data)
            found += facts
            pages += 1
            if not offset:
                break
        self.assertEqual((found, pages), (many, 3))

    def test_odd_facts(self) -> None:
        """A latency beyond an hour is the longest there is; a transport of a later version has no name."""
        fact = FACTS[0]._replace(latency_seconds=1e9, transport="pigeon")
        [read] = decode_facts(encode_facts([fact], 0))[1]
        self.assertEqual((read.transport, read.latency_seconds), ("", 4294.967294))
        data = bytearray(encode_facts([FACTS[1]], 0))
        data[-6] = 99
        self.assertEqual(decode_facts(bytes(data))[1][0].transport, "")
