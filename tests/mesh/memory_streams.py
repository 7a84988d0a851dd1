"""Byte streams between two brokers without sockets, and two nodes that are linked by Perspective Broker over them."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.fanout.turn import Turn
from meshrelay.mesh.greeting import NodeIdentity
from meshrelay.mesh.links import Chance, LinkOptions, Links
from meshrelay.mesh.pb import dialer, server_factory
from meshrelay.testing.link_contract import LinksUnderTest
from meshrelay.testing.memory_mesh import KNOWN_KINDS, RecordingObserver

__all__ = ["MemoryEndpoint", "MemoryStream", "Wires", "make_links"]

#: What a socket hands over in one read.
_READ_BYTES = 65536


class MemoryStream:
    """One end of a stream: the transport of a protocol."""

    def __init__(self, address: IAddress) -> None:
        self.address = address
        self.protocol: Any = None
        self.other: MemoryStream
        self.written = bytearray()
        self.producer: Any = None
        self.is_closing = False
        self.is_over = False
        self.disconnecting = False

    def write(self, data: bytes) -> None:
        """See `ITransport`."""
        if not self.is_closing:
            self.written += data

    def getPeer(self) -> IAddress:
        """See `ITransport`."""
        return self.address

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See `ITransport`."""
        self.producer = producer

    def unregisterProducer(self) -> None:
        """See `ITransport`."""
        self.producer = None

    def loseConnection(self) -> None:
        """See `ITransport`."""
        self.is_closing = True

    def abortConnection(self) -> None:
        """See `ITransport`."""
        self.written.clear()
        self.lose(ConnectionAborted())
        self.other.lose(ConnectionLost())

    def lose(self, error: Exception) -> None:
        """This end is told that the stream ended."""
        if not self.is_over:
            self.is_over = self.is_closing = True
            self.protocol.connectionLost(Failure(error))

    def pump(self) -> bool:
        """Carry one read to the other end."""
        if self.is_over or self.other.is_over:
            return False
        if self.written:
            data = bytes(self.written[:_READ_BYTES])
            del self.written[:_READ_BYTES]
            self.other.protocol.dataReceived(data)
            return True
        if self.is_closing:
            self.lose(ConnectionDone())
            self.other.lose(ConnectionDone())
        return False


class Wires:
    """All streams of a test, and its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.streams: list[MemoryStream] = []

    def connect(self, server: Any, client: Any, address: IAddress | None = None) -> tuple[MemoryStream, MemoryStream]:
        """Connect two protocols; returns the ends of server and client."""
        address = address or UNIXAddress(b"/tmp/nodes")
        ends = MemoryStream(address), MemoryStream(address)
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end, protocol in zip(ends, (server, client), strict=True):
            end.protocol = protocol
            self.streams.append(end)
        for end in ends:
            end.protocol.makeConnection(end)
        return ends

    def pump(self) -> None:
        """Carry all that is written until nobody writes any more."""
        while sum(stream.pump() for stream in list(self.streams)):
            pass

    def run(self, seconds: float) -> None:
        """Let time pass; one read of each end each 10 milliseconds."""
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)
            for stream in list(self.streams):
                stream.pump()

    def cut(self) -> None:
        """Break all streams; both ends see it."""
        for stream in list(self.streams):
            stream.written.clear()
            stream.lose(ConnectionLost())
        self.streams.clear()


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects a client factory to a server factory."""

    def __init__(self, wires: Wires, server: IProtocolFactory, address: IAddress | None = None) -> None:
        self._wires = wires
        self._server = server
        self._address = address

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See `IStreamClientEndpoint`."""
        server, client = self._server.buildProtocol(UNIXAddress(b"")), protocolFactory.buildProtocol(UNIXAddress(b""))
        self._wires.connect(server, client, self._address)
        return succeed(client)


def make_links(wires: Wires | None = None, right: NodeIdentity | None = None) -> LinksUnderTest:
    """Two nodes that speak Perspective Broker over memory."""
    wires = wires or Wires()
    random = Random(7)
    turn = Turn(wires.clock)
    chance = Chance(random.randbytes, random.uniform)
    identities = NodeIdentity("left", b"l" * 16), right or NodeIdentity("right", b"r" * 16)
    observers = RecordingObserver(), RecordingObserver()
    nodes = [
        Links(identity, b"secret", KNOWN_KINDS, observer, turn, wires.clock, chance, LinkOptions())
        for identity, observer in zip(identities, observers, strict=True)
    ]
    factory = server_factory(nodes[1].accepted, wires.clock, None)
    dial = dialer(MemoryEndpoint(wires, factory), wires.clock, None)
    return LinksUnderTest(nodes[0], nodes[1], observers[0], observers[1], dial, wires.cut, wires.run)
