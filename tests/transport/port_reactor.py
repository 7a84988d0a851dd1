"""A reactor on a clock whose ports are open in memory only."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

__all__ = ["FakePort", "PortReactor"]


class FakePort:
    """A port that is open.

    :param closed: what closing returns; None = it is closed at once.
    """

    def __init__(self, address: object, closed: Deferred[None] | None = None) -> None:
        self._address = address
        self._closed = closed
        self.is_closed = False

    def getHost(self) -> object:
        """See `IListeningPort`."""
        return self._address

    def stopListening(self) -> Deferred[None] | None:
        """See `IListeningPort`."""
        self.is_closed = True
        return self._closed


class PortReactor(MemoryReactorClock):
    """Opens ports from 40,000 up, as the kernel would for port 0.

    :ivar ports: all that were opened, oldest first.
    :ivar opened: (kind, port or path, interface, backlog or packet size) that was asked for.
    :ivar factories: what serves each of them.
    :ivar taken: a port that somebody else has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[FakePort] = []
        self.opened: list[tuple[str, object, str, int]] = []
        self.factories: list[Any] = []
        self.taken = 0
        self.closed: Deferred[None] | None = None

    def _open(self, kind: str, port: int, interface: str, size: int) -> FakePort:
        self.opened.append((kind, port, interface, size))
        if port and port == self.taken:
            raise error.CannotListenError(interface, port, OSError(98, "Address already in use"))
        # A port that is shared comes as an object.
        number = getattr(port, "_port", port) or 40000 + len(self.ports)
        kind = "TCP" if kind == "tcp" else "UDP"
        host = interface or "0.0.0.0"
        address = IPv6Address(kind, host, number) if ":" in host else IPv4Address(kind, host, number)  # type: ignore[arg-type]
        self.ports.append(FakePort(address, self.closed))
        return self.ports[-1]

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> Any:
        """See `IReactorTCP`."""
        self.factories.append(factory)
        return self._open("tcp", port, interface, backlog)

    def listenUDP(self, port: int, protocol: object, interface: str = "", maxPacketSize: int = 8192) -> Any:
        """See `IReactorUDP`."""
        self.factories.append(protocol)
        return self._open("udp", port, interface, maxPacketSize)

    def listenUNIX(
        self, address: str, factory: object, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> Any:
        """See `IReactorUNIX`."""
        self.factories.append(factory)
        self.opened.append(("unix", address, "", backlog))
        self.ports.append(FakePort(UNIXAddress(address.encode()), self.closed))
        return self.ports[-1]
