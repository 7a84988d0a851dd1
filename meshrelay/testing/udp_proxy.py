"""A bad network in front of a real UDP port: datagrams of clients go on late, twice or not at all; and back.

Each client gets a port of its own towards the target, as behind a NAT; `UdpProxy.rebind` gives all of them another, as
a NAT does that forgot them, so the target sees them come from new addresses. All clients share one line per direction.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from ipaddress import ip_address
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import MessageLengthError
from twisted.internet.protocol import DatagramProtocol

from meshrelay.testing.impairment import LossyPath

__all__ = ["MAX_CLIENTS", "MAX_HELD_BYTES", "UdpProxy"]

#: Clients at the same time; beyond, the one that was silent for longest is forgotten.
MAX_CLIENTS = 1024

#: Datagrams on their way, both directions together; more are dropped.
MAX_HELD_BYTES = 64 * 1024 * 1024

_MAX_DATAGRAM_BYTES = 65536
_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024

_Address = tuple[str, int]


class _Port(DatagramProtocol):
    """A socket of the proxy. What cannot be sent is dropped and counted."""

    noisy = False

    def __init__(self, proxy: UdpProxy) -> None:
        self._proxy = proxy
        #: The listening port, as long as it is open.
        self.port: Any = None

    def open(self, reactor: Any, port: int, interface: str) -> None:
        """Begin to receive."""
        self.port = reactor.listenUDP(port, self, interface=interface, maxPacketSize=_MAX_DATAGRAM_BYTES)
        socket = getattr(self.port, "socket", None)
        if socket is not None:
            for option in (SO_RCVBUF, SO_SNDBUF):
                socket.setsockopt(SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)

    def send(self, datagram: bytes, address: _Address) -> None:
        """Send now."""
        if self.transport is None or self.port is None:
            self._proxy.counters["stray"] += 1
            return
        try:
            self.transport.write(datagram, address)
        except (OSError, MessageLengthError):
            self._proxy.counters["unsent"] += 1

    def close(self) -> Deferred[Any]:
        """Receive and send no more."""
        port, self.port = self.port, None
        return maybeDeferred(port.stopListening)


class _Front(_Port):
    """Where clients send to."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See `DatagramProtocol`."""
        self._proxy.from_client(datagram, addr)


class _Client(_Port):
    """One client's port towards the target."""

    def __init__(self, proxy: UdpProxy, address: _Address) -> None:
        super().__init__(proxy)
        self.address = address

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See `DatagramProtocol`: only the target is let in, as by a NAT."""
        if addr[:2] == self._proxy.target:
            self._proxy.to_client(self.address, datagram)


class UdpProxy:
    """Passes datagrams on between any number of clients and one target, as badly as its two paths say.

    Time on the paths starts at 0 when the proxy is made.

    :param target: IP address and port.
    :param there: from the clients to the target; `back` the other way.
    """

    def __init__(self, reactor: Any, target: _Address, there: LossyPath, back: LossyPath) -> None:
        self._reactor = reactor
        self.target = target
        self.there = there
        self.back = back
        #: What happened beside the paths: clients, clients_forgotten, held_over, stray, unsent, rebound.
        self.counters: Counter[str] = Counter()
        self._started_at = reactor.seconds()
        self._front = _Front(self)
        self._clients: OrderedDict[_Address, _Client] = OrderedDict()
        self._closing: list[Deferred[Any]] = []
        self._held_bytes = 0
        self._upstream_interface = _interface_towards(target[0])

    def listen(self, port: int = 0, interface: str = "127.0.0.1") -> _Address:
        """Open the port for clients.

        :param port: 0 = any free one.
        :returns: where it is.
        :raises CannotListenError: it is taken.
        """
        self._front.open(self._reactor, port, interface)
        host = self._front.port.getHost()
        return host.host, host.port

    @property
    def client_count(self) -> int:
        """Clients that are known, at most `MAX_CLIENTS`."""
        return len(self._clients)

    def set_black_hole(self, is_on: bool) -> None:
        """Let nothing through in either direction, or let it through again."""
        self.there.is_black_hole = self.back.is_black_hole = is_on

    def rebind(self) -> None:
        """Give every client a new port towards the target; what comes to the old ones is lost."""
        for address, client in list(self._clients.items()):
            self._closing.append(client.close())
            self._clients[address] = self._open_client(address)
            self.counters["rebound"] += 1

    def close(self) -> Deferred[Any]:
        """Close all ports; fires when they are closed. What is on its way is lost."""
        closing = [client.close() for client in self._clients.values()]
        self._clients.clear()
        if self._front.port is not None:
            closing.append(self._front.close())
        waiting, self._closing = [*self._closing, *closing], []
        return DeferredList(waiting, consumeErrors=True)

    def from_client(self, datagram: bytes, address: _Address) -> None:
        """Take a datagram of a client."""
        if self._front.port is None:
            return
        if address not in self._clients:
            self._make_room()
            self._clients[address] = self._open_client(address)
            self.counters["clients"] += 1
        self._clients.move_to_end(address)
        self._carry(self.there, datagram, lambda: self._deliver_there(datagram, address))

    def to_client(self, address: _Address, datagram: bytes) -> None:
        """Take a datagram of the target."""
        self._carry(self.back, datagram, lambda: self._front.send(datagram, address))

    def _deliver_there(self, datagram: bytes, address: _Address) -> None:
        client = self._clients.get(address)
        if client is None:
            self.counters["stray"] += 1
        else:
            client.send(datagram, self.target)

    def _open_client(self, address: _Address) -> _Client:
        client = _Client(self, address)
        client.open(self._reactor, 0, self._upstream_interface)
        return client

    def _make_room(self) -> None:
        self._closing = [closing for closing in self._closing if not closing.called]
        if len(self._clients) >= MAX_CLIENTS:
            _, oldest = self._clients.popitem(last=False)
            self._closing.append(oldest.close())
            self.counters["clients_forgotten"] += 1

    def _carry(self, path: LossyPath, datagram: bytes, deliver: Any) -> None:
        now = self._reactor.seconds() - self._started_at
        for arrival in path.arrivals(len(datagram), now):
            if self._held_bytes + len(datagram) > MAX_HELD_BYTES:
                self.counters["held_over"] += 1
                continue
            self._held_bytes += len(datagram)
            self._reactor.callLater(max(0.0, arrival - now), self._arrived, len(datagram), deliver)

    def _arrived(self, size_bytes: int, deliver: Any) -> None:
        self._held_bytes -= size_bytes
        if self._front.port is not None:
            deliver()


def _interface_towards(host: str) -> str:
    """Return the address that ports towards the target are bound to; loopback ones are this machine's alone."""
    address = ip_address(host)
    if address.version == 6:
        return "::1" if address.is_loopback else "::"
    return "127.0.0.1" if address.is_loopback else ""
