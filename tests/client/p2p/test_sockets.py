"""Tests of `meshrelay.client.p2p.sockets`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.links import PeerEars, PeerSocket
from meshrelay.client.p2p.sockets import PeerSockets
from meshrelay.machine.peer_path import Path
from meshrelay.machine.port_prediction import SEARCH_SOCKETS
from meshrelay.wire.addresses import UdpAddress
from tests.client.p2p.memory_internet import MemoryHost, MemoryInternet

PEER = UdpAddress("203.0.113.5", 7000)
PEER6 = UdpAddress("2001:db8::5", 7000)


class _First:
    """The connection to the node."""

    def __init__(self, host: str = "198.51.100.250", can_share: bool = True) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.ears: PeerEars | None = None
        self.is_closed = False
        self._host = host
        self._can_share = can_share

    def share(self, ears: PeerEars) -> bool:
        self.ears = ears
        return self._can_share

    def send_to(self, datagram: bytes, place: tuple[str, int]) -> None:
        self.sent.append((datagram, place))

    def write(self, datagram: bytes, place: tuple[str, int]) -> None:
        self.sent.append((datagram, place))

    def node_place(self) -> tuple[str, int]:
        return self._host, 7100

    def local_port(self) -> int:
        return 40000

    def stopListening(self) -> None:
        self.is_closed = True


class PeerSocketsTests(SynchronousTestCase):
    """Socket 0 and the others."""

    def setUp(self) -> None:
        net = MemoryInternet()
        net.nats.add_host("ann", "198.51.100.1")
        self.clock: Clock = net.clock
        self.host = MemoryHost(net, "ann")
        self.heard: list[tuple[bytes, Path]] = []
        self.sockets = PeerSockets(self.host, lambda datagram, path: self.heard.append((datagram, path)))
        self.first = _First()

    def test_twin(self) -> None:
        """The twin of this test is a `PeerSocket` by its methods, as the real one is."""
        self.assertIsInstance(self.first, PeerSocket)

    def test_none(self) -> None:
        """Without a connection by UDP nothing is sent directly."""
        self.sockets.send(b"x", Path(PEER))
        self.assertEqual((self.sockets.has_first, self.sockets.dropped["no_socket"]), (False, 1))
        self.assertEqual((self.sockets.node_place, self.sockets.local_port), (None, 0))

    def test_first(self) -> None:
        """Socket 0 is the connection's; what comes by it is told with its path."""
        self.assertTrue(self.sockets.attach(self.first))
        self.assertFalse(self.sockets.attach(self.first))
        self.sockets.send(b"x", Path(PEER))
        assert self.first.ears is not None
        self.first.ears.datagram_received(b"y", (PEER.host, PEER.port))
        self.assertEqual((self.first.sent, self.heard), ([(b"x", tuple(PEER))], [(b"y", Path(PEER))]))

    def test_shared_later(self) -> None:
        """A connection that could not be shared is asked once more."""
        first = _First(can_share=False)
        self.assertTrue(self.sockets.attach(first))
        self.assertTrue(self.sockets.attach(first))

    def test_other_version(self) -> None:
        """Addresses of the other IP version cannot be sent to."""
        self.sockets.attach(self.first)
        self.sockets.send(b"x", Path(PEER6))
        self.sockets.attach(_First("2001:db8::1"))
        self.sockets.send(b"x", Path(PEER))
        self.assertEqual((self.sockets.dropped["no_socket"], self.sockets.is_v6), (2, True))

    def test_search(self) -> None:
        """Other sockets are opened when they are sent by, and closed when they are not needed."""
        self.sockets.attach(self.first)
        for number in (1, 2, 2, 3):
            self.sockets.send(b"x", Path(PEER, number))
        self.assertEqual((len(self.host.ports), self.sockets.open_count), (3, 3))
        port = self.host.ports[min(self.host.ports)]
        port.protocol.datagramReceived(b"y", tuple(PEER))
        self.assertEqual(self.heard, [(b"y", Path(PEER, 1))])
        self.sockets.keep({0, 2})
        self.assertEqual(len(self.host.ports), 1)

    def test_bounds(self) -> None:
        """There is no socket beyond those of a search, and none when the machine has no more."""
        self.sockets.attach(self.first)
        self.sockets.send(b"x", Path(PEER, SEARCH_SOCKETS + 1))
        self.host.is_full = True
        self.sockets.send(b"x", Path(PEER, 1))
        self.assertEqual((self.host.ports, self.sockets.dropped["no_socket"]), ({}, 2))

    def test_useless(self) -> None:
        """Datagrams from addresses that are none, and those too long to be ours, are dropped."""
        self.sockets.attach(self.first)
        self.sockets.heard(b"y", ("fe80::1%eth0", 7), 0)
        self.sockets.heard(bytes(1401), (PEER.host, PEER.port), 0)
        self.assertEqual((self.heard, dict(self.sockets.dropped)), ([], {"address": 1, "long": 1}))

    def test_left(self) -> None:
        """After a break the old socket is used until there is a new connection."""
        self.sockets.attach(self.first)
        self.sockets.socket_left(self.first)
        self.sockets.send(b"x", Path(PEER))
        self.assertEqual((len(self.first.sent), self.sockets.has_first), (1, True))
        self.sockets.attach(_First())
        self.assertTrue(self.first.is_closed)

    def test_close(self) -> None:
        """At the end all are closed, also one that is left afterwards."""
        self.sockets.attach(self.first)
        self.sockets.send(b"x", Path(PEER, 1))
        self.sockets.close()
        self.sockets.socket_left(self.first)
        self.assertEqual((self.host.ports, self.first.is_closed, self.sockets.has_first), ({}, True, False))
