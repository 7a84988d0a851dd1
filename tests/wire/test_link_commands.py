from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedPayload
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.link_commands import (
    MAX_LOCAL_ADDRESSES,
    Forwarded,
    LinkReport,
    LinkStart,
    LinkState,
    decode_addresses,
    decode_forward,
    decode_link_start,
    decode_public_address,
    decode_relayed,
    decode_report,
    encode_addresses,
    encode_forward,
    encode_link_start,
    encode_public_address,
    encode_relayed,
    encode_report,
)

GID = "a" * 52
GID_HEX = "61" * 52
LOCAL = UdpAddress("192.168.1.7", 5000)
V6 = UdpAddress("2001:db8::1", 1)

#: Written by hand from the table of the commands.
CASES: dict[str, tuple[Callable[..., bytes], Callable[[bytes], Any], dict[str, Any]]] = {
    "LINK_ADDRESSES": (
        encode_addresses,
        decode_addresses,
        {"": [], "10" + b"192.168.1.7:5000".hex() + "0f" + b"[2001:db8::1]:1".hex(): [LOCAL, V6]},
    ),
    "its answer": (
        encode_public_address,
        decode_public_address,
        {"0f" + b"[2001:db8::1]:1".hex(): V6},
    ),
    "LINK_START": (
        encode_link_start,
        decode_link_start,
        {GID_HEX + "00": LinkStart(GID, 0), GID_HEX + "ff": LinkStart(GID, 255)},
    ),
    "the answer to LINK_RELAY": (encode_relayed, decode_relayed, {"00": False, "01": True}),
    "LINK_STATE": (
        encode_report,
        decode_report,
        {
            GID_HEX: LinkReport(GID, ()),
            GID_HEX + "03626f6200" + "02c3a901": LinkReport(GID, (("bob", LinkState.LOST), ("é", LinkState.DIRECT))),
            GID_HEX + "017802": LinkReport(GID, (("x", LinkState.RELAYED),)),
        },
    ),
    "LINK_FORWARD": (
        encode_forward,
        decode_forward,
        {GID_HEX + "03626f62" + "0801": Forwarded(GID, "bob", b"\x08\x01")},
    ),
}


class LinkCommandTests(SynchronousTestCase):
    def problem(self, decode: Callable[..., object], payload: bytes) -> str:
        """Return what the reader says."""
        problem: str = self.assertRaises(MalformedPayload, decode, payload).text
        return problem

    def test_contract(self) -> None:
        """Each payload is as the specification draws it, both ways; cut or changed it gives a value or the error."""
        for encode, decode, vectors in CASES.values():
            check_codec(encode, decode, {bytes.fromhex(key): value for key, value in vectors.items()}, MalformedPayload)

    def test_no_addresses(self) -> None:
        """A client that names what is no address, or none of its own, is told which."""
        for text, problem in (
            ("nonsense", "address: 'nonsense' is not ip:port"),
            ("127.0.0.1:9", "address: 127.0.0.1:9 is a loopback address, which is refused"),
            ("169.254.169.254:80", "address: 169.254.169.254:80 is a cloud metadata address, which is refused"),
            ("224.0.0.1:9", "address: 224.0.0.1:9 is a multicast address, which is refused"),
            ("[fe80::1]:9", "address: [fe80::1]:9 is a link-local address, which is refused"),
            ("", "address: empty"),
            ("x" * 70, "address: not ip:port"),
        ):
            payload = bytes((len(text),)) + text.encode()
            self.assertEqual(self.problem(decode_addresses, payload), problem)
        self.assertEqual(self.problem(decode_addresses, b"\x05\xff.1:2"), "address: not ip:port")
        self.assertEqual(self.problem(decode_addresses, b"\x05ab"), "address: 5 bytes needed, 2 left")

    def test_public_address_not_known(self) -> None:
        """A client that speaks to the node over TCP is told that its UDP address is not known."""
        self.assertEqual(encode_public_address(None), b"\0")
        self.assertIsNone(decode_public_address(b"\0"))

    def test_loopback_for_tests(self) -> None:
        """Tests on one machine may use its loopback addresses."""
        here = [UdpAddress("127.0.0.1", 9)]
        self.assertEqual(decode_addresses(encode_addresses(here), allow_loopback=True), here)

    def test_bounds(self) -> None:
        """15 local addresses, 255 states and packets of 1,400 bytes are the most."""
        full = encode_addresses([LOCAL] * MAX_LOCAL_ADDRESSES)
        self.assertEqual(len(decode_addresses(full)), 15)
        self.assertEqual(self.problem(decode_addresses, full + encode_addresses([LOCAL])), "address: more than 15")
        states = tuple((f"user {number}", LinkState.DIRECT) for number in range(256))
        self.assertEqual(len(decode_report(encode_report(LinkReport(GID, states[:255]))).states), 255)
        self.assertEqual(self.problem(decode_report, encode_report(LinkReport(GID, states))), "peer: more than 255")
        self.assertEqual(len(decode_forward(encode_forward(Forwarded(GID, "bob", bytes(1400)))).packet), 1400)
        for size in (0, 1401):
            problem = self.problem(decode_forward, encode_forward(Forwarded(GID, "bob", bytes(size))))
            self.assertEqual(problem, f"packet: {size} bytes, allowed are 1 to 1400")

    def test_values(self) -> None:
        """Values that mean nothing are refused."""
        self.assertEqual(self.problem(decode_relayed, b"\x02"), "sent: 2 is neither 0 nor 1")
        payload = bytes.fromhex(GID_HEX + "017803")
        self.assertEqual(self.problem(decode_report, payload), "state: 3 is none of 0, 1 and 2")
        self.assertRaises(ValueError, encode_link_start, LinkStart(GID, 256))
        self.assertRaises(ValueError, encode_link_start, LinkStart("short", 2))
