"""Tests of `meshrelay.client.udp_path`."""

from __future__ import annotations

from errno import EADDRNOTAVAIL, EAGAIN, ENETUNREACH
from socket import SO_RCVBUF, SO_SNDBUF

from twisted.internet.error import MessageLengthError
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.udp_path import UdpPath
from tests.client.memory_udp import MemoryUdpReactor


class _Recorder:
    """Remembers what a path tells."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def datagram_received(self, datagram: bytes) -> None:
        self.told.append(datagram)

    def refused(self) -> None:
        self.told.append("refused")


class UdpPathTests(SynchronousTestCase):
    """One socket after the other."""

    def setUp(self) -> None:
        self.reactor = MemoryUdpReactor()
        self.recorder = _Recorder()
        self.path = UdpPath(self.reactor, "127.0.0.1", 7100, self.recorder)
        self.path.move()

    def test_connected(self) -> None:
        """The socket talks to the node alone, and asks for large buffers in both directions."""
        self.assertEqual((self.reactor.port.peer, self.reactor.port.interface), (("127.0.0.1", 7100), ""))
        self.assertEqual({option for _, option, _ in self.reactor.port.options}, {SO_RCVBUF, SO_SNDBUF})

    def test_ip_version(self) -> None:
        """A node with an IPv6 address is called from such a socket."""
        UdpPath(self.reactor, "::1", 7100, self.recorder).move()
        self.assertEqual(self.reactor.port.interface, "::")

    def test_to_and_fro(self) -> None:
        """What is sent goes out at once, what comes in is told."""
        self.path.send(b"out")
        self.reactor.port.protocol.datagramReceived(b"in", ("127.0.0.1", 7100))
        self.reactor.port.protocol.connectionRefused()
        self.assertEqual((self.reactor.port.packets, self.recorder.told), ([b"out"], [b"in", "refused"]))

    def test_move(self) -> None:
        """After a move the new socket sends, and the old one is closed and heard no more."""
        old = self.reactor.port
        self.path.move()
        self.path.send(b"out")
        old.protocol.datagramReceived(b"late", None)
        old.protocol.connectionRefused()
        self.assertEqual((old.is_open, old.packets, self.reactor.port.packets), (False, [], [b"out"]))
        self.assertEqual((self.recorder.told, self.path.is_broken), ([], False))

    def test_nowhere_to_move(self) -> None:
        """When no new socket is to be had the old one stays, and nothing is left open beside it."""
        self.reactor.connect_failure = OSError(ENETUNREACH, "no way")
        self.assertRaises(OSError, self.path.move)
        first, second = self.reactor.ports
        self.assertEqual((first.is_open, second.is_open, self.path.is_broken), (True, False, False))
        self.path.send(b"out")
        self.assertEqual(first.packets, [b"out"])

    def test_no_room(self) -> None:
        """A packet that the socket does not take is lost and counted, and the socket is sound."""
        for failure in (BlockingIOError(EAGAIN, "full"), MessageLengthError("long")):
            self.reactor.port.failure = failure
            self.path.send(b"out")
        self.assertEqual((dict(self.path.dropped), self.path.is_broken), ({"unsent": 2}, False))

    def test_broken(self) -> None:
        """A socket whose address is gone is known to be broken until the path moves."""
        self.reactor.port.failure = OSError(EADDRNOTAVAIL, "gone")
        self.path.send(b"out")
        self.assertEqual((dict(self.path.dropped), self.path.is_broken), ({"unreachable": 1}, True))
        self.path.move()
        self.assertFalse(self.path.is_broken)

    def test_closed_by_the_reactor(self) -> None:
        """So is a socket that the reactor closed after an error of its own."""
        self.reactor.port.protocol.stopProtocol()
        self.assertTrue(self.path.is_broken)
        self.path.send(b"out")
        self.assertEqual(self.path.dropped["unreachable"], 1)
        self.successResultOf(self.path.close())

    def test_close(self) -> None:
        """close is told nothing more; closing twice does no harm."""
        self.successResultOf(self.path.close())
        self.reactor.port.protocol.datagramReceived(b"late", None)
        self.successResultOf(self.path.close())
        self.assertEqual((self.reactor.port.is_open, self.recorder.told), (False, []))


class _Ears:
    """Remembers what peers hear."""

    def __init__(self) -> None:
        self.told: list[tuple[bytes, tuple[str, int]]] = []
        self.ports: list[object] = []

    def datagram_received(self, datagram: bytes, place: tuple[str, int]) -> None:
        self.told.append((datagram, place))

    def socket_left(self, port: object) -> None:
        self.ports.append(port)


class SharedTests(SynchronousTestCase):
    """A socket that peers are spoken to by as well."""

    def setUp(self) -> None:
        self.reactor = MemoryUdpReactor()
        self.recorder, self.ears = _Recorder(), _Ears()
        self.path = UdpPath(self.reactor, "127.0.0.1", 7100, self.recorder)
        self.path.move()
        self.path.share(self.ears)

    def test_before_the_move(self) -> None:
        """The socket from before is the node's alone: nothing goes to peers by it."""
        self.path.send_to(b"x", ("203.0.113.5", 7000))
        self.assertEqual((self.reactor.port.packets, self.path.dropped["unshared"]), ([], 1))

    def test_told_apart(self) -> None:
        """What comes from the node is told to the link, everything else to the peers, and both are sent to."""
        self.path.move()
        port = self.reactor.port
        port.protocol.datagramReceived(b"node", ("127.0.0.1", 7100))
        port.protocol.datagramReceived(b"peer", ("203.0.113.5", 7000))
        port.protocol.datagramReceived(b"other port", ("127.0.0.1", 7101))
        self.path.send(b"to node")
        self.path.send_to(b"to peer", ("203.0.113.5", 7000))
        self.assertEqual(self.recorder.told, [b"node"])
        expected = [(b"peer", ("203.0.113.5", 7000)), (b"other port", ("127.0.0.1", 7101))]
        self.assertEqual(self.ears.told, expected)
        self.assertEqual(port.places, [("127.0.0.1", 7100), ("203.0.113.5", 7000)])
        self.assertEqual((self.path.place, self.path.local_port), (("127.0.0.1", 7100), port.number))

    def test_peer_out_of_reach(self) -> None:
        """A peer that cannot be sent to says nothing about the socket."""
        self.path.move()
        self.reactor.port.failure = OSError(ENETUNREACH, "no way")
        self.path.send_to(b"x", ("203.0.113.5", 7000))
        self.assertEqual((self.path.is_broken, self.path.dropped["unsent_to_peer"]), (False, 1))

    def test_close(self) -> None:
        """After the end the socket is the peers' own, and still heard by them alone."""
        self.path.move()
        port = self.reactor.port
        self.successResultOf(self.path.close())
        port.protocol.datagramReceived(b"peer", ("203.0.113.5", 7000))
        port.protocol.datagramReceived(b"node", ("127.0.0.1", 7100))
        self.assertEqual((port.is_open, self.ears.ports, self.recorder.told), (True, [port], []))
        self.assertEqual([datagram for datagram, _ in self.ears.told], [b"peer", b"node"])
        self.assertEqual(self.path.local_port, 0)

    def test_next_move(self) -> None:
        """A socket that was changed for a new one is closed, also when it was shared."""
        self.path.move()
        old = self.reactor.port
        self.path.move()
        self.assertEqual((old.is_open, self.ears.ports), (False, []))
