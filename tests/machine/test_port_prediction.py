from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.port_prediction import (
    SEARCH_PACKETS_PER_SECOND,
    SEARCH_PORTS,
    SEARCH_SOCKETS,
    PortSearch,
    next_ports,
    random_ports,
)
from meshrelay.wire.addresses import UdpAddress

PLACES = [(UdpAddress("203.0.113.5", port), 0) for port in range(1, 2001)]


class NextPortTests(SynchronousTestCase):
    def test_steps(self) -> None:
        """The next ports in steps come first, then those between them, since others use the NAT as well."""
        self.assertEqual(next_ports(7000, 2, 8), [7002, 7004, 7006, 7008, 7001, 7003, 7005, 7007])
        self.assertEqual(next_ports(7000, -1, 3), [6999, 6998, 6997])

    def test_no_step(self) -> None:
        """When the step is not known it is one."""
        self.assertEqual(next_ports(7000, 0, 4), [7001, 7002, 7003, 7004])

    def test_wrap(self) -> None:
        """After the last port a NAT begins again with the first that clients get."""
        self.assertEqual(next_ports(65534, 1, 3), [65535, 1024, 1025])
        self.assertEqual(next_ports(1024, -1, 2), [65535, 65534])
        for last in (1024, 30000, 65535):
            ports = next_ports(last, 64, 32)
            self.assertEqual((len(set(ports)), min(ports) >= 1024, max(ports) <= 65535), (32, True, True))

    def test_random(self) -> None:
        """Ports by chance are different ones, and the same for the same seed."""
        ports = random_ports(Random(1), SEARCH_PORTS)
        self.assertEqual((len(set(ports)), min(ports) >= 1024), (SEARCH_PORTS, True))
        self.assertEqual(ports, random_ports(Random(1), SEARCH_PORTS))


class PortSearchTests(SynchronousTestCase):
    def test_rate(self) -> None:
        """No second sees more packets than the rate and one burst, and all come in order."""
        search = PortSearch(0.0)
        search.begin(PLACES[:1200], 0.0)
        now, taken, first_second = 0.0, [], 0
        while (at := search.deadline) is not None:
            now = max(now, at)
            taken += search.take(now)
            if now < 1.0:
                first_second = len(taken)
        self.assertEqual(taken, PLACES[:1200])
        self.assertLessEqual(first_second, SEARCH_PACKETS_PER_SECOND + 50)
        self.assertLess(abs(now - 2.3), 0.2)

    def test_bound(self) -> None:
        """One attempt is no more than 1,280 packets, and a second one does not come on top."""
        search = PortSearch(0.0)
        search.begin(PLACES, 0.0)
        search.begin(PLACES, 0.0)
        self.assertEqual(len(search), SEARCH_SOCKETS + SEARCH_PORTS)

    def test_stop(self) -> None:
        """When a path is found nothing more is sent."""
        search = PortSearch(0.0)
        search.begin(PLACES, 0.0)
        search.stop()
        self.assertEqual((search.take(1.0), search.deadline), ([], None))
