"""Many sockets read in one call, and what is relied on of Twisted's insides.

The reactor is a real one that only the test turns; the sockets are pairs without a port.
"""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.internet import error, tcp, unix
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.transport.read_poll import ReadPoll


class Recorder(Protocol):
    """Writes down what comes.

    :ivar act: called with each read.
    """

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.ended: list[type[BaseException]] = []
        self.act: Any = None

    def dataReceived(self, data: bytes) -> None:
        """See `Protocol`."""
        self.data.append(data)
        if self.act is not None:
            self.act()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """See `Protocol`."""
        assert reason is not None
        assert reason.type is not None
        self.ended.append(reason.type)


class ReadPollTests(SynchronousTestCase):
    """Two clients of one port that is read by a poll."""

    def setUp(self) -> None:
        """Connect both."""
        self.reactor = EPollReactor()
        self.idle = len(self.reactor.getReaders())
        self.addCleanup(self.close_reactor)
        self.poll = ReadPoll(self.reactor)
        port: Any = tcp.Port(0, Factory(), reactor=self.reactor)
        self.assertTrue(self.poll.take_port(port))
        self.port = port
        self.far_ends: list[socket.socket] = []
        self.ends = [self.connect() for _ in range(2)]

    def close_reactor(self) -> None:
        """Leave no descriptor open."""
        gone = Failure(error.ConnectionLost())
        for number, end in enumerate(self.ends):
            if not end.ended:
                self.stream(number).connectionLost(gone)
        for reader in [*self.reactor.removeAll(), *self.reactor._internalReaders]:
            reader.connectionLost(gone)
        self.reactor._poller.close()

    def connect(self) -> Recorder:
        """Accept one more client, as the port does it."""
        near, far = socket.socketpair()
        near.setblocking(False)
        self.addCleanup(far.close)
        self.far_ends.append(far)
        protocol = Recorder()
        protocol.makeConnection(self.port.transport(near, protocol, ("192.0.2.1", 7), self.port, 1, self.reactor))
        return protocol

    def turn(self) -> None:
        """One turn of the reactor, with the calls that were asked for."""
        self.reactor.doIteration(0)
        self.reactor.runUntilCurrent()

    def stream(self, number: int) -> Any:
        """The transport of a client."""
        return self.ends[number].transport

    def test_interface(self) -> None:
        """The reactor finds all that it needs."""
        verifyObject(IReadDescriptor, self.poll)
        self.assertEqual(self.poll.logPrefix(), "ReadPoll")

    def test_one_call(self) -> None:
        """The reactor has one descriptor for both clients, and a turn brings what both have sent."""
        self.assertEqual(len(self.reactor.getReaders()), self.idle + 1)
        for far in self.far_ends:
            far.send(b"hello")
        self.turn()
        self.assertEqual([end.data for end in self.ends], [[b"hello"], [b"hello"]])

    def test_paused(self) -> None:
        """A client that is paused is not read from, and what it sent meanwhile comes later."""
        self.stream(0).pauseProducing()
        for far in self.far_ends:
            far.send(b"x")
        self.turn()
        self.assertEqual([end.data for end in self.ends], [[], [b"x"]])
        self.stream(0).resumeProducing()
        self.stream(0).resumeProducing()
        self.turn()
        self.assertEqual(self.ends[0].data, [b"x"])

    def test_client_leaves(self) -> None:
        """The end of a client's stream is told as the reactor would tell it; the other client goes on."""
        self.far_ends[0].send(b"last")
        self.far_ends[0].close()
        for _ in range(3):
            self.turn()
        self.assertEqual((self.ends[0].data, self.ends[0].ended), ([b"last"], [error.ConnectionDone]))
        self.far_ends[1].send(b"x")
        self.turn()
        self.assertEqual(self.ends[1].data, [b"x"])
        self.assertEqual(len(self.poll), 1)

    def test_half_closed(self) -> None:
        """A client that ends only its direction is told as ended as well, as on any port."""
        self.far_ends[0].shutdown(socket.SHUT_WR)
        for _ in range(3):
            self.turn()
        self.assertEqual(self.ends[0].ended, [error.ConnectionDone])

    def test_unclean_end(self) -> None:
        """A connection that breaks is told as lost."""
        # A client that closes without having read what it was sent.
        self.stream(0).writeSomeData(b"unread")
        self.far_ends[0].close()
        for _ in range(3):
            self.turn()
        self.assertEqual(self.ends[0].ended, [error.ConnectionLost])

    def test_hang_up(self) -> None:
        """A socket of which the system says anything but that it has data is the reactor's again."""
        stream = self.stream(0)
        self.poll._read_all([(stream.fileno(), select.EPOLLERR)])
        self.assertEqual((len(self.poll), stream in self.reactor.getReaders()), (1, True))
        self.far_ends[0].send(b"x")
        self.turn()
        self.assertEqual(self.ends[0].data, [b"x"])
        stream.pauseProducing()
        self.assertNotIn(stream, self.reactor.getReaders())

    def test_lose_connection(self) -> None:
        """What was written is still sent before the end, and nothing is read after it."""
        self.stream(0).write(b"bye")
        self.stream(0).loseConnection()
        self.far_ends[0].send(b"too late")
        for _ in range(3):
            self.turn()
        self.assertEqual((self.ends[0].data, self.ends[0].ended), ([], [error.ConnectionDone]))
        self.assertEqual(self.far_ends[0].recv(100), b"bye")

    def test_ended_by_another(self) -> None:
        """A client that is thrown out by what another one sent in the same turn is not read from any more."""
        for end, other in ((0, 1), (1, 0)):
            self.ends[end].act = self.stream(other).abortConnection
        for far in self.far_ends:
            far.send(b"x")
        self.turn()
        self.assertEqual(sorted(len(end.data) for end in self.ends), [0, 1])
        self.assertEqual(sorted(len(end.ended) for end in self.ends), [0, 1])

    def test_error_of_ours(self) -> None:
        """A bug costs the connection that meets it, and is logged."""
        self.ends[0].act = lambda: 1 // 0
        for far in self.far_ends:
            far.send(b"x")
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.ends[0].ended, [ZeroDivisionError])
        self.assertEqual(self.ends[1].data, [b"x"])

    def test_nobody_there(self) -> None:
        """Without clients the reactor has nothing of ours; the next client is read again."""
        for number in range(2):
            self.stream(number).abortConnection()
        self.turn()
        self.assertEqual((len(self.poll), len(self.reactor.getReaders()), self.poll.fileno()), (0, self.idle, -1))
        self.poll.doRead()
        self.ends.append(self.connect())
        self.far_ends[2].send(b"x")
        self.turn()
        self.assertEqual(self.ends[2].data, [b"x"])

    def test_reactor_stops(self) -> None:
        """When the reactor ends all that it has, it ends the clients too."""
        self.poll.connectionLost(Failure(error.ConnectionLost()))
        self.assertEqual([end.ended for end in self.ends], [[error.ConnectionLost]] * 2)

    def test_other_ports(self) -> None:
        """A port that is not plain TCP is left alone."""
        port: Any = unix.Port(b"/nowhere", Factory(), reactor=self.reactor)
        before = port.transport
        self.assertFalse(self.poll.take_port(port))
        self.assertIs(port.transport, before)
