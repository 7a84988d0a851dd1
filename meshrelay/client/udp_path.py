"""The way of a UDP client to one node: a local socket that can be changed for a new one at any time.

A connected socket hears that node alone, and the kernel chose its local address when it was connected. When the host
moves to another network that address is void: sending fails, or packets go nowhere. `UdpPath.move` opens a new socket;
what was on its way to the old one is lost, as any packet may be.

Peers of P2P links are spoken to by the very socket that the node sees, for only that one's public address is known to
them. Such a socket is not connected (`UdpPath.share`): it hears everybody, and is not told when nobody listens.
"""

from __future__ import annotations

from collections import Counter
from errno import EAGAIN, EMSGSIZE, ENOBUFS, EWOULDBLOCK
from ipaddress import ip_address
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, Protocol

from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import InvalidAddressError, MessageLengthError
from twisted.internet.protocol import DatagramProtocol

from meshrelay.client.links import PeerEars

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
    """One local socket. Deaf once the path has another one, unless peers still use it."""

    noisy = False

    def __init__(self, path: UdpPath) -> None:
        self.path: UdpPath | None = path
        self.heir: PeerEars | None = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if self.path is not None:
            self.path.datagram_received(datagram, addr)
        elif self.heir is not None:
            self.heir.datagram_received(datagram, addr[:2])

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
    :ivar dropped: packets that were not sent, by reason: ``unsent`` (no room), ``unreachable``, ``unsent_to_peer`` and
        ``unshared``.
    """

    def __init__(self, reactor: Any, host: str, port: int, receiver: DatagramReceiver) -> None:
        self.receiver = receiver
        self.is_broken = False
        self.dropped: Counter[str] = Counter()
        self._reactor = reactor
        # As the kernel writes it, for datagrams are compared with it.
        self._place = (str(ip_address(host)), port)
        self._peers: PeerEars | None = None
        self._is_connected = False
        self._socket: _Socket | None = None
        self._port: Any = None

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of the node."""
        return self._place

    @property
    def local_port(self) -> int:
        """Of the socket; 0: there is none."""
        return self._port.getHost().port if self._port is not None else 0

    def share(self, peers: PeerEars) -> None:
        """Let `peers` hear what does not come from the node, from the next socket on."""
        self._peers = peers

    def datagram_received(self, datagram: bytes, place: tuple[Any, ...]) -> None:
        """Called by the socket."""
        if self._peers is None or place[:2] == self._place:
            self.receiver.datagram_received(datagram)
        else:
            self._peers.datagram_received(datagram, place[:2])

    def move(self) -> None:
        """Open a new socket, and close the one before.

        :raises OSError: there is no way to the node at this moment; all is as before.
        :raises CannotListenError: as OSError.
        """
        host, number = self._place
        socket = _Socket(self)
        interface = "::" if isIPv6Address(host) else ""
        port = self._reactor.listenUDP(0, socket, interface=interface, maxPacketSize=_MAX_READ_BYTES)
        is_connected = self._peers is None
        try:
            if is_connected:
                port.connect(host, number)
        except OSError:
            socket.path = None
            port.stopListening()
            raise
        for option in (SO_RCVBUF, SO_SNDBUF):
            port.socket.setsockopt(SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
        self._close()
        self._socket, self._port, self._is_connected = socket, port, is_connected
        self.is_broken = False

    def send(self, packet: bytes) -> None:
        """Send now. What cannot be sent is dropped and counted."""
        if self._port is None:
            self._fail()
            return
        try:
            self._port.write(packet, None if self._is_connected else self._place)
        except MessageLengthError:
            self.dropped["unsent"] += 1
        except OSError as error:
            if error.errno in _LOST_ERRNOS:
                self.dropped["unsent"] += 1
            else:
                self._fail()

    def send_to(self, packet: bytes, place: tuple[str, int]) -> None:
        """Send to a peer. What cannot be sent is dropped and counted; that says nothing about the socket.

        Nothing can be before the first `move` after `share`.
        """
        if self._port is None or self._is_connected:
            self.dropped["unshared"] += 1
            return
        try:
            self._port.write(packet, place)
        except (OSError, MessageLengthError, InvalidAddressError):
            self.dropped["unsent_to_peer"] += 1

    def _fail(self) -> None:
        self.dropped["unreachable"] += 1
        self.is_broken = True

    def socket_failed(self) -> None:
        """Called by the socket: the reactor has closed it after an error."""
        self._socket = self._port = None
        self.is_broken = True

    def close(self) -> Deferred[None]:
        """Receive and send no more. Fires when the socket is closed, or left to the peers; never fails."""
        peers, socket, port = self._peers, self._socket, self._port
        if peers is None or socket is None or self._is_connected:
            return self._close()
        socket.path, socket.heir = None, peers
        self._socket = self._port = None
        peers.socket_left(port)
        return succeed(None)

    def _close(self) -> Deferred[None]:
        socket, self._socket = self._socket, None
        port, self._port = self._port, None
        if socket is None or port is None:
            return succeed(None)
        socket.path = None
        return maybeDeferred(port.stopListening).addBoth(lambda _: None)
