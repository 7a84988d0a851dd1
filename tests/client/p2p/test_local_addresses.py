"""Tests of `meshrelay.client.p2p.local_addresses`."""

from __future__ import annotations

from ipaddress import ip_address

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.p2p.local_addresses import local_addresses, local_hosts
from meshrelay.wire.addresses import UdpAddress

HOSTS = ["127.0.0.1", "::1", "192.168.1.7", "169.254.3.4", "203.0.113.7", "fe80::1", "fd00::7", "2001:db8::7"]


class LocalAddressesTests(SynchronousTestCase):
    """What peers are told."""

    def test_hosts(self) -> None:
        """This machine has addresses, and each of them is one."""
        hosts = local_hosts()
        self.assertIn("127.0.0.1", hosts)
        for host in hosts:
            ip_address(host)

    def test_usable(self) -> None:
        """Addresses of the socket's IP version that mean something to others are told."""
        self.assertEqual(
            local_addresses(HOSTS, 7000, False), [UdpAddress("192.168.1.7", 7000), UdpAddress("203.0.113.7", 7000)]
        )
        self.assertEqual(
            local_addresses(HOSTS, 7000, True), [UdpAddress("fd00::7", 7000), UdpAddress("2001:db8::7", 7000)]
        )

    def test_choice(self) -> None:
        """Private addresses can be left out, and loopback taken in."""
        self.assertEqual(local_addresses(HOSTS, 7, False, allow_private=False), [UdpAddress("203.0.113.7", 7)])
        self.assertEqual(local_addresses(HOSTS[:1], 7, False, allow_loopback=True), [UdpAddress("127.0.0.1", 7)])

    def test_bound(self) -> None:
        """No more are told than a node takes."""
        hosts = [f"192.168.2.{number}" for number in range(1, 30)]
        self.assertEqual(len(local_addresses(hosts, 7, False)), 15)
