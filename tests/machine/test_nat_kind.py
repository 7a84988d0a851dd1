from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.nat_kind import MAX_OBSERVATIONS, MappingObserver
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.peer_packet import Mapping


def place(number: int) -> UdpAddress:
    """Return one of many places on the internet."""
    return UdpAddress("198.51.100.1", number + 1)


def observed(*ports: int) -> MappingObserver:
    """Return what is known after so many places have seen us at these ports."""
    observer = MappingObserver()
    for number, port in enumerate(ports):
        observer.add(place(number), UdpAddress("203.0.113.5", port))
    return observer


class MappingObserverTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Two places that see us tell what NAT there is, one does not."""
        for ports, mapping, step in (
            ((), Mapping.UNKNOWN, 0),
            ((7000,), Mapping.UNKNOWN, 0),
            ((7000, 7000), Mapping.SAME, 0),
            ((7000, 7001), Mapping.STEADY, 1),
            ((7000, 7006, 7008, 7010), Mapping.STEADY, 2),
            ((7010, 7009), Mapping.STEADY, -1),
            ((7000, 7065), Mapping.RANDOM, 0),
            ((7000, 7001, 31000), Mapping.RANDOM, 0),
        ):
            observer = observed(*ports)
            self.assertEqual((observer.mapping, observer.step), (mapping, step), str(ports))
            self.assertTrue(observer.text)

    def test_latest_first(self) -> None:
        """Peers are told the latest public address first, at most four."""
        self.assertEqual([address.port for address in observed(1, 2, 2, 3, 4, 5).public], [5, 4, 3, 2])

    def test_seen_anew(self) -> None:
        """A place that sees us elsewhere now has forgotten the old port."""
        observer = observed(7000, 7000)
        observer.add(place(0), UdpAddress("203.0.113.5", 9000))
        self.assertEqual([address.port for address in observer.public], [9000, 7000])
        observer.add(place(1), UdpAddress("203.0.113.5", 9000))
        self.assertEqual((observer.mapping, len(observer.public)), (Mapping.SAME, 1))

    def test_neighbours(self) -> None:
        """What somebody in the own network sees says nothing about the NAT."""
        observer = observed(7000)
        observer.add(UdpAddress("192.168.1.9", 5), UdpAddress("192.168.1.7", 5000))
        observer.add(place(9), UdpAddress("127.0.0.1", 5000))
        self.assertEqual(observer.mapping, Mapping.UNKNOWN)

    def test_versions(self) -> None:
        """The ports of IPv4 and of IPv6 are not compared with each other."""
        observer = observed(7000, 7000)
        observer.add(UdpAddress("2001:db8::9", 1), UdpAddress("2001:db8::5", 40000))
        self.assertEqual(observer.mapping, Mapping.UNKNOWN)
        observer.add(place(3), UdpAddress("203.0.113.5", 7000))
        self.assertEqual(observer.mapping, Mapping.SAME)

    def test_bound(self) -> None:
        """Peers without number cost the memory of 16."""
        observer = observed(*range(1000, 1000 + 50 * 70, 70))
        self.assertEqual(len(observer._seen), MAX_OBSERVATIONS)
        observer.clear()
        self.assertEqual((observer.mapping, observer.public), (Mapping.UNKNOWN, ()))
