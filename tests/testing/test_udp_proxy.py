"""Tests of `meshrelay.testing.udp_proxy`; with real sockets in `tests.integration.test_reliable_udp`."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import FakeDatagramTransport
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.testing import udp_proxy
from meshrelay.testing.impairment import Impairment, LossyPath
from meshrelay.testing.udp_proxy import UdpProxy

ANN, BOB, TARGET = ("10.0.0.1", 1000), ("10.0.0.2", 2000), ("10.0.0.9", 9000)


class MemoryPort:
    """A datagram port that was asked for, and what was sent from it."""

    def __init__(self, protocol: Any, port: int, interface: str) -> None:
        self.protocol = protocol
        self.port = port
        self.interface = interface
        self.is_open = True
        self.transport = FakeDatagramTransport()
        protocol.makeConnection(self.transport)

    @property
    def sent(self) -> list[tuple[bytes, Any]]:
        """Datagrams and where they went."""
        return list(self.transport.written)

    def getHost(self) -> IPv4Address:
        """See `IListeningPort`."""
        return IPv4Address("UDP", "127.0.0.1", self.port)

    def stopListening(self) -> None:
        """See `IListeningPort`."""
        self.is_open = False


class MemoryReactor(Clock):
    """A clock that opens datagram ports in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[MemoryPort] = []

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 0) -> MemoryPort:
        """See `IReactorUDP`."""
        self.ports.append(MemoryPort(protocol, port or 40000 + len(self.ports), interface))
        return self.ports[-1]


class UdpProxyTests(SynchronousTestCase):
    """Datagrams through a proxy."""

    def make(self, there: Impairment | None = None, back: Impairment | None = None) -> UdpProxy:
        """A proxy that listens."""
        self.reactor = MemoryReactor()
        self.reactor.advance(1000.0)
        paths = (LossyPath(there or Impairment(), 1), LossyPath(back or Impairment(), 2))
        self.proxy = UdpProxy(self.reactor, TARGET, *paths)
        self.assertEqual(self.proxy.listen(7300), ("127.0.0.1", 7300))
        self.front = self.reactor.ports[0]
        return self.proxy

    def send(self, datagram: bytes, client: tuple[str, int] = ANN, seconds: float = 0.0) -> None:
        """Let a client send, and time pass."""
        self.front.protocol.datagramReceived(datagram, client)
        self.reactor.advance(seconds)

    def test_there_and_back(self) -> None:
        """Each client has a port of its own towards the target, and answers find their way."""
        self.make()
        self.send(b"a")
        self.send(b"b", BOB)
        ann, bob = self.reactor.ports[1:]
        self.assertEqual((ann.sent, bob.sent), ([(b"a", TARGET)], [(b"b", TARGET)]))
        bob.protocol.datagramReceived(b"answer", TARGET)
        self.reactor.advance(0.0)
        self.assertEqual(self.front.sent, [(b"answer", BOB)])

    def test_interfaces(self) -> None:
        """Towards a target on this machine only this machine's ports are opened."""
        for host, interface in (("127.0.0.1", "127.0.0.1"), ("10.0.0.9", ""), ("::1", "::1"), ("fd00::9", "::")):
            reactor = MemoryReactor()
            proxy = UdpProxy(reactor, (host, 9000), LossyPath(Impairment(), 1), LossyPath(Impairment(), 2))
            proxy.listen()
            proxy.from_client(b"a", ANN)
            self.assertEqual(reactor.ports[1].interface, interface, host)

    def test_strangers(self) -> None:
        """Nobody but the target reaches a client."""
        self.make()
        self.send(b"a")
        self.reactor.ports[1].protocol.datagramReceived(b"?", ("10.0.0.8", 9000))
        self.reactor.advance(0.0)
        self.assertEqual(self.front.sent, [])

    def test_delay_is_per_direction(self) -> None:
        """A datagram takes as long as its direction says."""
        self.make(Impairment(delay_seconds=0.5), Impairment(delay_seconds=0.2))
        self.send(b"a", seconds=0.499)
        port = self.reactor.ports[1]
        self.assertEqual(port.sent, [])
        self.reactor.advance(0.002)
        self.assertEqual(port.sent, [(b"a", TARGET)])
        port.protocol.datagramReceived(b"answer", TARGET)
        self.reactor.advance(0.201)
        self.assertEqual(self.front.sent, [(b"answer", ANN)])

    def test_loss_and_doubles(self) -> None:
        """Datagrams are lost and doubled as often as asked for."""
        self.make(Impairment(loss=0.25, duplication=0.5))
        for _ in range(1000):
            self.send(b"a")
        counted = self.proxy.there.counters
        self.assertLess(abs(counted["lost"] - 250), 50)
        self.assertEqual(len(self.reactor.ports[1].sent), 1000 - counted["lost"] + counted["duplicated"])

    def test_black_out_counts_from_the_start(self) -> None:
        """Black-outs that are set beforehand count from when the proxy was made."""
        self.make(Impairment(black_outs=((1.0, 2.0),)))
        for _ in range(4):
            self.send(b"a", seconds=0.75)
        self.assertEqual(len(self.reactor.ports[1].sent), 3)

    def test_black_hole(self) -> None:
        """A black hole swallows both directions; what was on its way before still arrives."""
        self.make(Impairment(delay_seconds=1.0))
        self.send(b"before")
        port = self.reactor.ports[1]
        self.proxy.set_black_hole(True)
        self.send(b"in it", seconds=1.0)
        port.protocol.datagramReceived(b"answer", TARGET)
        self.proxy.set_black_hole(False)
        self.send(b"after", seconds=1.0)
        self.assertEqual([datagram for datagram, _ in port.sent], [b"before", b"after"])
        self.assertEqual(self.front.sent, [])

    def test_rebind(self) -> None:
        """After a rebinding the target sees the client at a new port, and the old one is closed."""
        self.make()
        self.send(b"a")
        self.proxy.rebind()
        self.send(b"b")
        old, new = self.reactor.ports[1:]
        self.assertEqual((old.is_open, old.sent, new.sent), (False, [(b"a", TARGET)], [(b"b", TARGET)]))
        self.assertEqual(self.proxy.counters["rebound"], 1)

    def test_many_clients(self) -> None:
        """Beyond the bound the client that was silent for longest is forgotten."""
        self.patch(udp_proxy, "MAX_CLIENTS", 2)
        self.make()
        for client in (ANN, BOB, ANN, ("10.0.0.3", 3000)):
            self.send(b"a", client)
        self.assertEqual([port.is_open for port in self.reactor.ports[1:]], [True, False, True])
        self.assertEqual((self.proxy.client_count, self.proxy.counters["clients_forgotten"]), (2, 1))

    def test_held_bytes(self) -> None:
        """What is on its way is bounded; more is dropped and counted."""
        self.patch(udp_proxy, "MAX_HELD_BYTES", 10)
        self.make(Impairment(delay_seconds=1.0))
        for _ in range(3):
            self.send(b"xxxx")
        self.assertEqual(self.proxy.counters["held_over"], 1)
        self.reactor.advance(1.0)
        self.send(b"xxxx", seconds=1.0)
        self.assertEqual(len(self.reactor.ports[1].sent), 3)

    def test_close(self) -> None:
        """A closed proxy has no open port, and what was on its way is gone."""
        self.make(Impairment(delay_seconds=1.0))
        self.send(b"a")
        self.successResultOf(self.proxy.close())
        self.reactor.advance(2.0)
        self.assertEqual([port.is_open for port in self.reactor.ports], [False, False])
        self.assertEqual(self.reactor.ports[1].sent, [])
