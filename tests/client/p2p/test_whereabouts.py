"""Tests of `meshrelay.client.p2p.whereabouts`; `test_links` has what follows from it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client import NotConnected
from meshrelay.client.p2p.options import P2POptions
from meshrelay.client.p2p.sockets import PeerSockets
from meshrelay.client.p2p.whereabouts import Whereabouts
from meshrelay.errors import RateLimited
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.link_commands import decode_addresses, encode_public_address
from tests.client.p2p.memory_internet import MemoryHost, MemoryInternet
from tests.client.p2p.test_sockets import _First

PUBLIC = UdpAddress("203.0.113.1", 40000)


class WhereaboutsTests(SynchronousTestCase):
    """What a node is asked, and how often."""

    def setUp(self) -> None:
        net = MemoryInternet()
        net.nats.add_host("ann", "192.168.1.1")
        self.net = net
        self.socket: _First | None = _First()
        self.asked: list[tuple[bytes, Deferred[bytes]]] = []
        self.moves = 0
        host = MemoryHost(net, "ann")
        self.sockets = PeerSockets(host, lambda datagram, path: None)
        self.where = Whereabouts(
            host,
            P2POptions(hosts=lambda: ["192.168.1.1"]),
            self.sockets,
            socket=lambda: self.socket,
            ask=self.ask,
            needed=lambda: frozenset((0,)),
            moved=self.moved,
        )

    def ask(self, payload: bytes) -> Deferred[bytes]:
        """The question to the node; the test answers."""
        self.asked.append((payload, Deferred()))
        return self.asked[-1][1]

    def moved(self) -> None:
        """Socket 0 is another one."""
        self.moves += 1

    def answer(self, public: UdpAddress | None) -> None:
        """Let the node answer the last question."""
        self.asked[-1][1].callback(encode_public_address(public))

    def test_known(self) -> None:
        """The node is told the local addresses and says the public one; all that is seen."""
        told = self.where.announce()
        self.assertEqual(decode_addresses(self.asked[0][0]), [UdpAddress("192.168.1.1", 40000)])
        self.answer(PUBLIC)
        self.assertEqual(self.successResultOf(told), PUBLIC)
        view = self.where.view()
        self.assertEqual((view.public, view.has_socket, self.moves), (PUBLIC, True, 1))
        self.assertEqual(self.where.observer.public, (PUBLIC,))

    def test_not_yet(self) -> None:
        """A node that does not know the address yet, as just after a move, is asked again."""
        told = self.where.announce()
        self.answer(None)
        self.net.run(0.01)
        self.answer(None)
        self.net.run(0.1)
        self.answer(PUBLIC)
        self.assertEqual((self.successResultOf(told), len(self.asked)), (PUBLIC, 3))

    def test_refused_for_now(self) -> None:
        """What the node does not take just now is told again a little later, by the same socket, and then no more."""
        self.where.announce()
        self.answer(PUBLIC)
        self.where.announce_again()
        self.asked[-1][1].errback(RateLimited(1.0))
        self.net.run(2.5)
        self.assertEqual((len(self.asked), self.moves), (3, 1))
        self.answer(PUBLIC)
        self.net.run(10.0)
        self.assertEqual(len(self.asked), 3)

    def test_never(self) -> None:
        """A node that never knows it is asked a few times only; without UDP it is asked once."""
        for expected in (6, 1):
            self.asked.clear()
            told = self.where.announce()
            for _ in range(expected):
                self.answer(None)
                self.net.run(1.0)
            self.assertEqual((self.successResultOf(told), len(self.asked)), (None, expected))
            self.socket = None

    def test_again(self) -> None:
        """Only who has announced itself does so again, and a failure of that is nobody's."""
        self.where.announce_again()
        self.assertEqual(self.asked, [])
        self.where.announce()
        self.answer(PUBLIC)
        self.where.announce_again()
        self.asked[-1][1].errback(NotConnected())
        self.assertEqual((len(self.asked), self.moves), (2, 1))

    def test_stop(self) -> None:
        """At the end no timer is left, and nothing is known."""
        self.where.announce()
        self.answer(PUBLIC)
        self.where.stop()
        self.assertEqual(self.net.clock.getDelayedCalls(), [])
        self.assertEqual((self.where.view().has_socket, self.where.public), (False, None))
