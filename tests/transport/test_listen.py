"""Ports opened in order, and their addresses."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import ConfigError
from meshrelay.transport import listen
from meshrelay.transport.listen import BACKLOG, ListeningPlaces
from tests.transport.port_reactor import PortReactor


class ListeningPlacesTests(SynchronousTestCase):
    """What an operator writes, and what is open then."""

    def setUp(self) -> None:
        """Nothing is open."""
        self.reactor = PortReactor()
        self.places = ListeningPlaces(self.reactor)

    def test_tcp(self) -> None:
        """A TCP port is opened where it was asked for, with room for a storm of reconnects."""
        self.places.listen_stream("tcp", "tcp:7200:interface=127.0.0.1", Factory())
        self.assertEqual(self.reactor.opened, [("tcp", 7200, "127.0.0.1", BACKLOG)])
        self.assertEqual(self.places.addresses(), {"tcp": "127.0.0.1:7200"})

    def test_backlog(self) -> None:
        """Who writes a backlog gets that one."""
        self.places.listen_stream("tcp", "tcp:7200:interface=127.0.0.1:backlog=7", Factory())
        self.assertEqual(self.reactor.opened, [("tcp", 7200, "127.0.0.1", 7)])

    def test_free_ports(self) -> None:
        """With port 0 the address is the one that was really opened, in the order of opening."""
        self.places.listen_stream("websocket", "tcp:0:interface=127.0.0.1", Factory())
        self.places.listen_datagram("udp", "udp:0:interface=127.0.0.1", DatagramProtocol())
        addresses = self.places.addresses()
        self.assertEqual(list(addresses.items()), [("websocket", "127.0.0.1:40000"), ("udp", "127.0.0.1:40001")])
        self.assertEqual(self.places.host("udp").port, 40001)

    def test_shared(self) -> None:
        """A port that other processes have open as well has their number, and others have their own."""
        places = ListeningPlaces(self.reactor, {"tcp": 7777})
        places.listen_stream("tcp", "tcp:0:interface=127.0.0.1", Factory())
        places.listen_stream("http", "tcp:7000:interface=127.0.0.1", Factory())
        (_, shared, _, backlog), (_, own, _, _) = self.reactor.opened
        self.assertEqual((shared._port, shared._reusePort, backlog), (7777, True, BACKLOG))  # type: ignore[attr-defined]
        self.assertEqual(own, 7000)

    def test_ipv6(self) -> None:
        """The host of an IPv6 address stands in brackets, so that the port can be told from it."""
        self.places.listen_stream("tcp", r"tcp6:7200:interface=\:\:1", Factory())
        self.places.listen_datagram("udp", r"udp:7100:interface=\:\:1", DatagramProtocol())
        self.assertEqual(self.places.addresses(), {"tcp": "[::1]:7200", "udp": "[::1]:7100"})

    def test_unix(self) -> None:
        """A Unix socket is shown by its path."""
        self.places.listen_stream("tcp", "unix:/run/meshrelay", Factory())
        self.assertEqual(self.places.addresses(), {"tcp": "/run/meshrelay"})
        self.assertEqual(self.reactor.opened[0][3], BACKLOG)

    def test_datagram_size(self) -> None:
        """A datagram that is longer than any of ours is read whole enough to be seen as too long."""
        self.places.listen_datagram("udp", "udp:7100", DatagramProtocol())
        (_, port, interface, size) = self.reactor.opened[0]
        self.assertEqual((port, interface), (7100, ""))
        self.assertGreater(size, 1400)

    def test_off(self) -> None:
        """An empty place opens nothing."""
        self.places.listen_stream("tcp", "", Factory())
        self.places.listen_datagram("udp", "", DatagramProtocol())
        self.assertEqual((self.reactor.opened, self.places.addresses()), ([], {}))
        self.assertIsNone(self.places.host("tcp"))

    def problem(self, error: ConfigError) -> tuple[str, str]:
        """Return key and text of the only problem."""
        (problem,) = error.problems
        return problem.path, problem.problem

    def test_taken(self) -> None:
        """A port that somebody else has is told by the key that names it and the reason."""
        self.reactor.taken = 7200
        place = "tcp:7200:interface=127.0.0.1"
        refused = self.assertRaises(ConfigError, self.places.listen_stream, "tcp", place, Factory())
        path, text = self.problem(refused)
        self.assertEqual(path, "listen.tcp")
        self.assertIn("7200", text)
        self.assertIn("already in use", text)

    def test_udp_taken(self) -> None:
        """So is a taken UDP port."""
        self.reactor.taken = 7100
        refused = self.assertRaises(ConfigError, self.places.listen_datagram, "udp", "udp:7100", DatagramProtocol())
        path, text = self.problem(refused)
        self.assertEqual(path, "listen.udp")
        self.assertIn("already in use", text)

    def test_not_at_once(self) -> None:
        """An endpoint that opens only later cannot be served: the node would say ready without it."""
        self.patch(listen, "serverFromString", lambda *_: LateEndpoint())
        refused = self.assertRaises(ConfigError, self.places.listen_stream, "http", "late:", Factory())
        self.assertEqual(self.problem(refused), ("listen.http", "late: does not listen at once"))

    def test_close_some(self) -> None:
        """Named ports are closed, the others stay; a name that is not open is passed over."""
        for name in ("tcp", "websocket", "http"):
            self.places.listen_stream(name, "tcp:0", Factory())
        self.successResultOf(self.places.close("tcp", "websocket", "udp"))
        self.assertEqual([port.is_closed for port in self.reactor.ports], [True, True, False])
        self.assertEqual(list(self.places.addresses()), ["http"])
        self.successResultOf(self.places.close())
        self.assertTrue(self.reactor.ports[2].is_closed)
        self.assertEqual(self.places.addresses(), {})

    def test_close_waits(self) -> None:
        """Closing is done when the last port is, even if one fails."""
        self.reactor.closed = Deferred()
        self.places.listen_stream("tcp", "tcp:0", Factory())
        done = self.places.close()
        self.assertNoResult(done)
        self.reactor.closed.errback(OSError("no"))
        self.successResultOf(done)


class LateEndpoint:
    """An endpoint that never opens."""

    def listen(self, factory: object) -> Deferred[Any]:
        """See `IStreamServerEndpoint`."""
        return Deferred()
