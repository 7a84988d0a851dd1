"""A reactor whose TCP connections are in memory, so that whole peers can meet without a port."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IAddress
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from tests.transport.overlay_kit import SwappingStream

__all__ = ["MemoryPort", "SocketReactor", "StreamEnd"]

#: Time goes by in steps: what answers to a timer may set another one.
_STEP_SECONDS = 0.05


def _address(host: str, port: int) -> IPv4Address | IPv6Address:
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)


class StreamEnd(SwappingStream):
    """One end of a connection: what is written comes out at the other end in the next turn."""

    def __init__(self, reactor: SocketReactor, own: IAddress, remote: IAddress) -> None:
        super().__init__()
        self.peerAddr, self.hostAddr = remote, own
        self.other: StreamEnd | None = None
        self.is_over = False
        self._reactor = reactor

    def begin(self, protocol: Any) -> None:
        """Connect a protocol."""
        self.protocol = protocol
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        """See `ITransport`."""
        if not self.is_over and self.other is not None:
            self._reactor.callLater(0, self.other.take, data)

    def writeSequence(self, iovec: Any) -> None:
        """See `ITransport`."""
        self.write(b"".join(iovec))

    def take(self, data: bytes) -> None:
        """What the other end has written."""
        if not self.is_over:
            self.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        """See `ITransport`; what was written before comes before it."""
        self._reactor.callLater(0, self.end)

    def abortConnection(self) -> None:
        """See `ITCPTransport`."""
        self._reactor.callLater(0, self.end)

    def end(self) -> None:
        """Let both ends know that it is over."""
        for end in (self, self.other):
            if end is not None and not end.is_over:
                end.is_over = True
                end.protocol.connectionLost(Failure(ConnectionDone()))


class MemoryPort:
    """A port that is open; closing it takes one turn."""

    def __init__(self, reactor: SocketReactor, factory: Any, address: IPv4Address | IPv6Address) -> None:
        self.factory = factory
        self._reactor = reactor
        self._address = address

    def getHost(self) -> IAddress:
        """See `IListeningPort`."""
        return self._address

    def stopListening(self) -> Deferred[None]:
        """See `IListeningPort`."""
        closed: Deferred[None] = Deferred()
        self._reactor.callLater(0, self._close, closed)
        return closed

    def _close(self, closed: Deferred[None]) -> None:
        self._reactor.open_ports.pop(self._address.port, None)
        closed.callback(None)


class SocketReactor(MemoryReactorClock):
    """Ports and connections in memory, on a clock.

    :ivar open_ports: what listens, by its port.
    :ivar streams: the accepting ends of all connections, oldest first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open_ports: dict[int, MemoryPort] = {}
        self.streams: list[StreamEnd] = []
        self._next_port = 40_000

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See `IReactorTCP`."""
        if port in self.open_ports:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        self._next_port += 1
        number = port or self._next_port
        opened = self.open_ports[number] = MemoryPort(self, factory, _address(interface or "0.0.0.0", number))
        return opened

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        """See `IReactorTCP`."""
        self.callLater(0, self._connect, host, port, factory)
        return super().connectTCP(host, port, factory, timeout, bindAddress)

    def _connect(self, host: str, port: int, factory: Any) -> None:
        server = self.open_ports.get(port)
        if server is None:
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            return
        self._next_port += 1
        here, there = _address("127.0.0.1", self._next_port), _address(host, port)
        near, far = StreamEnd(self, here, there), StreamEnd(self, there, here)
        near.other, far.other = far, near
        self.streams.append(far)
        far.begin(server.factory.buildProtocol(here))
        near.begin(factory.buildProtocol(there))

    def settle(self) -> None:
        """Let happen what happens without any time."""
        for _ in range(100):
            self.advance(0)

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        for _ in range(round(seconds / _STEP_SECONDS)):
            self.advance(_STEP_SECONDS)
            self.advance(0)
