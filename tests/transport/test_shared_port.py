"""One port number for several processes; with real sockets see tests/integration/test_workers.py."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.protocol import ServerFactory
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import ConfigError
from meshrelay.transport import shared_port
from meshrelay.transport.shared_port import SharedPort, hold_port


class RecordingReactor:
    """Keeps what is to be opened."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Any, int, str]] = []

    def listenTCP(self, port: Any, factory: Any, backlog: int, interface: str) -> str:
        """See `IReactorTCP`."""
        self.asked.append((port, factory, backlog, interface))
        return "port"


class SharedPortTests(SynchronousTestCase):
    """Where a worker listens."""

    def setUp(self) -> None:
        """The port of all is 7777."""
        self.reactor = RecordingReactor()
        self.shared = SharedPort(self.reactor, 7777)
        self.factory = ServerFactory()

    def test_tcp(self) -> None:
        """The number of the supervisor is opened to be shared, whatever the endpoint says; the rest is as it says."""
        self.assertEqual(self.shared.listenTCP(0, self.factory, 9, "::1"), "port")
        ((port, factory, backlog, interface),) = self.reactor.asked
        self.assertEqual((port._port, port._address, port._reusePort, port._reuseAddress), (7777, "::1", True, True))
        self.assertEqual((factory, backlog, interface), (self.factory, 9, "::1"))

    def test_ssl(self) -> None:
        """A port with TLS is shared as well."""
        self.shared.listenSSL(0, self.factory, CertificateOptions(), 9, "127.0.0.1")
        ((port, factory, _, _),) = self.reactor.asked
        self.assertEqual(port._port, 7777)
        self.assertIsInstance(factory, TLSMemoryBIOFactory)
        self.assertIs(factory.wrappedFactory, self.factory)


class FakeSocket:
    """Something that was bound."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_closed = False

    def getsockname(self) -> tuple[str, int]:
        """See `socket.socket`."""
        return "", self.number

    def close(self) -> None:
        """See `socket.socket`."""
        self.is_closed = True

    def __enter__(self) -> FakeSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HoldTests(SynchronousTestCase):
    """Where a supervisor does not listen."""

    def setUp(self) -> None:
        """Sockets are bound in memory only."""
        self.bound: list[tuple[int, Any, bool]] = []
        self.sockets: list[FakeSocket] = []
        self.taken = 0
        self.patch(shared_port, "_bound", self.bind)

    def bind(self, family: int, kind: int, address: Any, is_shared: bool) -> FakeSocket:
        """Bind in memory."""
        self.bound.append((family, address, is_shared))
        if address[1] and address[1] == self.taken:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.sockets.append(FakeSocket(address[1] or 40000))
        return self.sockets[-1]

    def test_free(self) -> None:
        """Port 0 takes any; it is kept until it is given back."""
        held = hold_port("tcp", "tcp:0:interface=127.0.0.1")
        self.assertEqual(held.number, 40000)
        self.assertEqual(self.bound, [(socket.AF_INET, ("127.0.0.1", 0), True)])
        self.assertFalse(self.sockets[0].is_closed)
        held.close()
        self.assertTrue(self.sockets[0].is_closed)

    def test_fixed(self) -> None:
        """A number is first tried without sharing: another supervisor would share it with us without a word."""
        self.assertEqual(hold_port("tcp", "tcp:7200:interface=127.0.0.1").number, 7200)
        address = ("127.0.0.1", 7200)
        self.assertEqual(self.bound, [(socket.AF_INET, address, False), (socket.AF_INET, address, True)])
        self.assertEqual([held.is_closed for held in self.sockets], [True, False])

    def test_interfaces(self) -> None:
        """The address is the one that a worker will listen on."""
        for place, family, host in (
            ("tcp:0", socket.AF_INET, "0.0.0.0"),
            (r"tcp:0:interface=\:\:1", socket.AF_INET6, "::1"),
            ("tcp6:0", socket.AF_INET6, "::"),
            ("haproxy:tcp:0:interface=127.0.0.1", socket.AF_INET, "127.0.0.1"),
            ("tls:/nowhere:0", socket.AF_INET6, "::"),
        ):
            hold_port("tcp", place)
            self.assertEqual((self.bound[-1][0], self.bound[-1][1][0]), (family, host), place)

    def test_taken(self) -> None:
        """A port that somebody else has is told by its key, with the reason."""
        self.taken = 7200
        refused = self.assertRaises(ConfigError, hold_port, "websocket", "tcp:7200:interface=127.0.0.1")
        (problem,) = refused.problems
        self.assertEqual(problem.path, "listen.websocket")
        self.assertIn("7200", problem.problem)
        self.assertIn("already in use", problem.problem)

    def test_no_such_address(self) -> None:
        """An interface that is none is told as well."""
        self.assertRaises(ConfigError, hold_port, "tcp", "tcp:0:interface=not an address")

    def test_not_shared(self) -> None:
        """What has no port cannot be shared."""
        for place in ("unix:/tmp/x", "systemd:domain=INET:index=0", "ssl:0:privateKey=/nowhere"):
            refused = self.assertRaises(ConfigError, hold_port, "tcp", place)
            self.assertEqual([problem.path for problem in refused.problems], ["listen.tcp"], place)
