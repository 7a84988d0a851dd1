from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.testing.nat import MAPPING_SECONDS, Arrival, Nat, NatKind, NatNetwork
from meshrelay.wire.addresses import UdpAddress

HOST = UdpAddress("192.168.1.11", 5000)
ONE, OTHER_PORT, OTHER = UdpAddress("198.51.100.1", 1), UdpAddress("198.51.100.1", 2), UdpAddress("198.51.100.2", 1)


def ports(kind: NatKind, count: int = 3) -> list[int]:
    """Return the public ports of one socket towards so many destinations."""
    nat = Nat(kind, "203.0.113.5", seed=1)
    sent = [nat.translate_out(HOST, UdpAddress("198.51.100.1", 1 + number), 0.0) for number in range(count)]
    return [address.port for address in sent if address is not None]


def lets_in(kind: NatKind) -> list[bool]:
    """Return who may come in to a socket that has sent to ONE: that one, its other port, another host."""
    nat = Nat(kind, "203.0.113.5", seed=1)
    public = nat.translate_out(HOST, ONE, 0.0)
    return [
        public is not None and nat.translate_in(public.port, source, 1.0) == HOST for source in (ONE, OTHER_PORT, OTHER)
    ]


class NatTests(SynchronousTestCase):
    def test_mapping(self) -> None:
        """Cones use one port for a socket, symmetric NATs one for each destination, in steps or by chance."""
        for kind in (NatKind.FULL_CONE, NatKind.ADDRESS_RESTRICTED, NatKind.PORT_RESTRICTED):
            self.assertEqual(ports(kind), [5000, 5000, 5000])
        first, second, third = ports(NatKind.SYMMETRIC_STEADY)
        self.assertEqual((second - first, third - second), (1, 1))
        drawn = ports(NatKind.SYMMETRIC_RANDOM, 9)
        self.assertEqual(len(set(drawn)), 9)
        self.assertGreater(max(drawn) - min(drawn), 10000)
        self.assertEqual(ports(NatKind.BLOCKED), [])

    def test_filter(self) -> None:
        """Each kind lets in whom its name says."""
        self.assertEqual(lets_in(NatKind.FULL_CONE), [True, True, True])
        self.assertEqual(lets_in(NatKind.ADDRESS_RESTRICTED), [True, True, False])
        for kind in (NatKind.PORT_RESTRICTED, NatKind.SYMMETRIC_STEADY, NatKind.SYMMETRIC_RANDOM):
            self.assertEqual(lets_in(kind), [True, False, False])
        self.assertEqual(lets_in(NatKind.BLOCKED), [False, False, False])

    def test_forgets(self) -> None:
        """A port that nothing leaves by is closed after half a minute, and by a restart."""
        nat = Nat(NatKind.FULL_CONE, "203.0.113.5")
        nat.translate_out(HOST, ONE, 0.0)
        self.assertEqual(nat.translate_in(5000, OTHER, MAPPING_SECONDS - 1), HOST)
        self.assertIsNone(nat.translate_in(5000, OTHER, MAPPING_SECONDS))
        nat.translate_out(HOST, ONE, 40.0)
        nat.forget()
        self.assertIsNone(nat.translate_in(5000, ONE, 41.0))

    def test_two_sockets(self) -> None:
        """Two hosts with the same port inside get different ones outside."""
        nat = Nat(NatKind.PORT_RESTRICTED, "203.0.113.5")
        sent = [nat.translate_out(UdpAddress(host, 5000), ONE, 0.0) for host in ("192.168.1.11", "192.168.1.12")]
        self.assertEqual([address and address.port for address in sent], [5000, 5001])


class NatNetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Ann and bob behind one NAT, cyd behind two, and a node."""
        self.network = NatNetwork()
        self.network.add_host("node", "198.51.100.250")
        home = Nat(NatKind.FULL_CONE, "203.0.113.5")
        self.network.add_host("ann", "192.168.1.11", [home])
        self.network.add_host("bob", "192.168.1.12", [home])
        outer = Nat(NatKind.FULL_CONE, "203.0.113.6")
        self.network.add_host("cyd", "192.168.1.11", [Nat(NatKind.PORT_RESTRICTED, "100.64.0.2"), outer])
        self.node = UdpAddress("198.51.100.250", 7100)

    def test_double(self) -> None:
        """Behind two NATs a host is seen at the outer one, and answers find the way back through both."""
        seen = self.network.send("cyd", 5000, self.node, 0.0)
        self.assertEqual(seen, Arrival("node", 7100, UdpAddress("203.0.113.6", 5000)))
        back = self.network.send("node", 7100, UdpAddress("203.0.113.6", 5000), 0.0)
        self.assertEqual(back, Arrival("cyd", 5000, self.node))
        self.assertIsNone(self.network.send("node", 7101, UdpAddress("203.0.113.6", 5000), 0.0))

    def test_neighbours(self) -> None:
        """Two hosts of one network reach each other by local addresses; by the public one if the NAT turns around."""
        near = self.network.send("ann", 5000, UdpAddress("192.168.1.12", 6000), 0.0)
        self.assertEqual(near, Arrival("bob", 6000, UdpAddress("192.168.1.11", 5000)))
        self.network.send("bob", 6000, self.node, 0.0)
        public = UdpAddress("203.0.113.5", 6000)
        self.assertIsNone(self.network.send("ann", 5000, public, 0.0))
        turning = Nat(NatKind.FULL_CONE, "203.0.113.7", passes_hairpins=True)
        for name, host in (("dan", "192.168.1.11"), ("eve", "192.168.1.12")):
            self.network.add_host(name, host, [turning])
            self.network.send(name, 6000, self.node, 0.0)
        turned = self.network.send("dan", 6000, UdpAddress("203.0.113.7", 6001), 0.0)
        self.assertEqual(turned, Arrival("eve", 6000, UdpAddress("203.0.113.7", 6000)))

    def test_nobody(self) -> None:
        """What goes to an address of another network, or to nobody, is dropped."""
        for to in ("192.168.1.12", "203.0.113.99"):
            self.assertIsNone(self.network.send("node", 1, UdpAddress(to, 6000), 0.0))
