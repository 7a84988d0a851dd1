"""The way of a UDP client to one node: a local socket that can be changed for a new one at any time.

A connected socket hears that node alone, and the kernel chose its local address when it was connected. When the host
moves to another network that address is void: sending fails, or packets go nowhere. `UdpPath.move` opens a new socket;
what was on its way to the old one is lost, as any packet may be.
"""

from __future__ import annotations

from collections import Counter
from errno import EAGAIN, EMSGSIZE, ENOBUFS, EWOULDBLOCK
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, Protocol

from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import MessageLengthError
from twisted.internet.protocol import DatagramProtocol

__all__ = ["DatagramReceiver", "UdpPath"]

#: Asked of the kernel for each direction; it grants what it likes.
_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024

_MAX_READ_BYTES = 2048

#: The socket is sound and has no room: the packet is lost, as any router on the way may lose it.
_LOST_ERRNOS = frozenset((EAGAIN, EWOULDBLOCK, ENOBUFS, EMSGSIZE))


class DatagramReceiver(Protocol):
    """What a path calls; its owner."""

    def datagram_received(self, datagram: bytes) -> None:
        """Anything that came from the node's address."""

    def refused(self) -> None:
        """ICMP says that nobody listens there; anybody can send that."""


class _Socket(DatagramProtocol):
    """One local socket. Deaf once the path has another one."""

    noisy = False

    def __init__(self, path: UdpPath) -> None:
        self.path: UdpPath | None = path

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if self.path is not None:
            self.path.receiver.datagram_received(datagram)

    def connectionRefused(self) -> None:
        if self.path is not None:
            self.path.receiver.refused()

    def stopProtocol(self) -> None:
        if self.path is not None:
            self.path.socket_failed()


class UdpPath:
    """See the module.

    :param host: an IP address.
    :ivar is_broken: the last socket cannot send any more, `move` may help.
    :ivar dropped: packets that were not sent, by reason: ``unsent`` (no room) and ``unreachable``.
    """

    def __init__(self, reactor: Any, host: str, port: int, receiver: DatagramReceiver) -> None:
        self.receiver = receiver
        self.is_broken = False
        self.dropped: Counter[str] = Counter()
        self._reactor = reactor
        self._place = (host, port)
        self._socket: _Socket | None = None
        self._port: Any = None

    def move(self) -> None:
        """Open a new socket, and close the one before.

        :raises OSError: there is no way to the node at this moment; all is as before.
        :raises CannotListenError: as OSError.
        """
        host, number = self._place
        socket = _Socket(self)
        interface = "::" if isIPv6Address(host) else ""
        port = self._reactor.listenUDP(0, socket, interface=interface, maxPacketSize=_MAX_READ_BYTES)
        try:
            port.connect(host, number)
        except OSError:
            socket.path = None
            port.stopListening()
            raise
        for option in (SO_RCVBUF, SO_SNDBUF):
            port.socket.setsockopt(SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
        self.close()
        self._socket, self._port = socket, port
        self.is_broken = False

    def send(self, packet: bytes) -> None:
        """Send now. What cannot be sent is dropped and counted."""
        if self._port is None:
            self._fail()
            return
        try:
            self._port.write(packet)
        except MessageLengthError:
            self.dropped["unsent"] += 1
        except OSError as error:
            if error.errno in _LOST_ERRNOS:
                self.dropped["unsent"] += 1
            else:
                self._fail()

    def _fail(self) -> None:
        self.dropped["unreachable"] += 1
        self.is_broken = True

    def socket_failed(self) -> None:
        """Called by the socket: the reactor has closed it after an error."""
        self._socket = self._port = None
        self.is_broken = True

    def close(self) -> Deferred[None]:
        """Receive and send no more. Fires when the socket is closed; never fails."""
        socket, self._socket = self._socket, None
        port, self._port = self._port, None
        if socket is None or port is None:
            return succeed(None)
        socket.path = None
        return maybeDeferred(port.stopListening).addBoth(lambda _: None)
