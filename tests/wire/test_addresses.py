from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.wire.addresses import (
    MAX_ADDRESS_BYTES,
    AddressKind,
    UdpAddress,
    check_address,
    make_address,
    parse_address,
    usable_addresses,
)

KINDS = {
    AddressKind.PUBLIC: "203.0.113.5 198.51.100.9 8.8.8.8 2001:db8::1 2600::1 64:ff9b::808:808 2002:808:808::1",
    AddressKind.PRIVATE: "10.0.0.1 172.16.0.1 172.31.255.254 192.168.1.1 100.64.0.1 fd00::1 fec0::1 64:ff9b::a00:1",
    AddressKind.LOOPBACK: "127.0.0.1 127.255.255.254 ::1 64:ff9b::7f00:1 2002:7f00:1::",
    AddressKind.UNSPECIFIED: "0.0.0.0 0.1.2.3 ::",
    AddressKind.LINK_LOCAL: "169.254.1.1 fe80::1",
    AddressKind.MULTICAST: "224.0.0.1 239.255.255.255 ff02::1",
    AddressKind.BROADCAST: "255.255.255.255",
    AddressKind.METADATA: "169.254.169.254 169.254.170.2 100.100.100.200 168.63.129.16 fd00:ec2::254 "
    "2002:a9fe:a9fe:: 64:ff9b::a9fe:a9fe 192.0.0.192",
    AddressKind.RESERVED: "240.0.0.1 192.0.0.1 ::7 100::1",
}

NO_ADDRESSES = (
    "1.2.3.4",
    "1.2.3.4:",
    ":7100",
    "a:1",
    "example.org:7100",
    "1.2.3:4",
    "1.2.3.4:0",
    "1.2.3.4:65536",
    "1.2.3.4:+5",
    "1.2.3.4:05",
    "1.2.3.4:-1",
    "01.2.3.4:5",
    "1.2.3.4.5:6",
    "[1.2.3.4]:5",
    "::1:5",
    "[::1]",
    "[::1]5",
    "[::1]:0",
    "[fe80::1%eth0]:5",
    "[::1:5",
    "::1]:5",
    "1.2.3.4:\u0665",
    "1.2.3.4:5x",
    "x1.2.3.4:5",
    "1.2.3.4:123456",
)


class ParseTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """An address reads as it was written, IPv6 in brackets."""
        for text, address in (
            ("203.0.113.5:40000", UdpAddress("203.0.113.5", 40000)),
            ("[2001:db8::1]:1", UdpAddress("2001:db8::1", 1)),
        ):
            self.assertEqual(parse_address(text), address)
            self.assertEqual(str(address), text)

    def test_canonical(self) -> None:
        """The same place has one form, and IPv4 inside IPv6 is IPv4."""
        self.assertEqual(str(parse_address("[2001:DB8:0:0::1]:7")), "[2001:db8::1]:7")
        self.assertEqual(str(parse_address("[::ffff:203.0.113.5]:7")), "203.0.113.5:7")
        self.assertEqual(make_address("::ffff:203.0.113.5", 7), UdpAddress("203.0.113.5", 7))

    def test_no_address(self) -> None:
        """What is no address is refused with a text that says so, and names are not looked up."""
        for text in ("", "1.2.3.4 :5", "1" * 500 + ":1", *NO_ADDRESSES):
            error = self.assertRaises(ValueError, parse_address, text)
            self.assertTrue(str(error) and len(str(error)) < 120, text)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.ip_addresses(), st.integers(1, 65535))
    def test_any(self, host: object, port: int) -> None:
        """Every IP address and port goes there and back, within the longest text."""
        text = str(make_address(str(host).partition("%")[0], port))
        self.assertEqual(str(parse_address(text)), text)
        self.assertLessEqual(len(text), MAX_ADDRESS_BYTES)


class KindTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Each range is known for what it is, also when an IPv6 address carries it inside."""
        for kind, hosts in KINDS.items():
            for host in hosts.split():
                self.assertIs(make_address(host, 9).kind, kind, host)

    def test_refused(self) -> None:
        """Nobody is made to send to a place that only his own machine or cloud reaches."""
        allowed = (AddressKind.PUBLIC, AddressKind.PRIVATE)
        for kind, hosts in KINDS.items():
            for host in hosts.split():
                address = make_address(host, 9)
                if kind in allowed:
                    self.assertEqual(check_address(address), address)
                else:
                    error = self.assertRaises(ValueError, check_address, address)
                    self.assertIn(kind.value, str(error))

    def test_loopback_for_tests(self) -> None:
        """Loopback can be allowed, and nothing else is allowed with it."""
        self.assertTrue(check_address(make_address("127.0.0.1", 9), allow_loopback=True))
        self.assertRaises(ValueError, check_address, make_address("169.254.1.1", 9), allow_loopback=True)

    def test_filter(self) -> None:
        """What may be handed on is handed on once, in order; private addresses only when that is allowed."""
        hosts = ("192.168.1.1", "203.0.113.5", "127.0.0.1", "203.0.113.5", "169.254.169.254")
        addresses = [make_address(host, 9) for host in hosts]
        self.assertEqual(usable_addresses(addresses), addresses[:2])
        self.assertEqual(usable_addresses(addresses, allow_private=False), addresses[1:2])
        self.assertEqual(usable_addresses(addresses, allow_loopback=True), addresses[:3])
        self.assertEqual([address.is_private for address in addresses[:2]], [True, False])
