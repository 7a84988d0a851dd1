"""The UDP sockets of a client by which peers are reached: the one that the node knows, and those of a search.

==========  ======================================================================================
`Path`      socket
==========  ======================================================================================
0           that of the client's UDP connection; after a break the one of before, until there is a new connection
1 and on    opened when a packet is to go by it, closed when no link needs it (`PeerSockets.keep`)
==========  ======================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.error import CannotListenError, InvalidAddressError, MessageLengthError
from twisted.internet.protocol import DatagramProtocol

from meshrelay.client.links import PeerSocket
from meshrelay.machine.peer_path import Path
from meshrelay.machine.port_prediction import SEARCH_SOCKETS
from meshrelay.wire.addresses import make_address
from meshrelay.wire.datagram import MAX_DATAGRAM_BYTES

__all__ = ["PeerSockets"]

_MAX_READ_BYTES = 2048


class _SearchSocket(DatagramProtocol):
    """One socket that the node does not know."""

    noisy = False

    def __init__(self, sockets: PeerSockets, number: int) -> None:
        self._sockets = sockets
        self._number = number

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._sockets.heard(datagram, addr[:2], self._number)


class PeerSockets:
    """See the module; `SEARCH_SOCKETS` beside the first one at most.

    :param hear: called with each datagram and the path that it came by.
    :ivar dropped: packets that were not sent or used, by reason.
    """

    def __init__(self, reactor: Any, hear: Callable[[bytes, Path], None]) -> None:
        self.dropped: Counter[str] = Counter()
        self._reactor = reactor
        self._hear = hear
        self._first: PeerSocket | None = None
        self._is_shared = self._is_closed = False
        self._is_v6 = False
        #: Socket 0 while the client is not connected.
        self._left: Any = None
        self._others: dict[int, Any] = {}

    def attach(self, first: PeerSocket | None) -> bool:
        """Use the socket of this connection; None: it is none by UDP.

        :returns: whether socket 0 is another one than before.
        """
        self._is_closed = False
        if first is self._first and (self._is_shared or first is None):
            return False
        self._drop_left()
        self._first = first
        self._is_shared = first is not None and first.share(self)
        self._is_v6 = first is not None and ":" in first.node_place()[0]
        return True

    def socket_left(self, port: Any) -> None:
        """See `PeerEars`: the connection broke, and peers are reached all the same."""
        self._drop_left()
        self._first = None
        self._is_shared = False
        self._left = port
        if self._is_closed:
            self._drop_left()

    @property
    def has_first(self) -> bool:
        """Whether there is a socket 0; without it everything goes by the relay."""
        return self._first is not None or self._left is not None

    @property
    def is_v6(self) -> bool:
        """Of which IP version the sockets are."""
        return self._is_v6

    @property
    def node_place(self) -> tuple[str, int] | None:
        """Host and port of the node that knows socket 0; None: it is not connected by UDP."""
        return self._first.node_place() if self._first is not None else None

    @property
    def local_port(self) -> int:
        """Of socket 0 at this moment; 0: there is none."""
        return self._first.local_port() if self._first is not None else 0

    @property
    def open_count(self) -> int:
        """Sockets of a search that are open."""
        return len(self._others)

    def send(self, datagram: bytes, path: Path) -> None:
        """Send. What cannot be sent is dropped and counted."""
        address, number = path
        if not self.has_first or (":" in address.host) is not self._is_v6:
            self.dropped["no_socket"] += 1
        elif number:
            self._write(self._others.get(number) or self._open(number), datagram, (address.host, address.port))
        elif self._first is not None:
            self._first.send_to(datagram, (address.host, address.port))
        else:
            self._write(self._left, datagram, (address.host, address.port))

    def _write(self, port: Any, datagram: bytes, place: tuple[str, int]) -> None:
        if port is None:
            return
        try:
            port.write(datagram, place)
        except (OSError, MessageLengthError, InvalidAddressError):
            self.dropped["unsent"] += 1

    def _open(self, number: int) -> Any:
        if number > SEARCH_SOCKETS:
            self.dropped["no_socket"] += 1
            return None
        interface = "::" if self.is_v6 else ""
        try:
            port = self._reactor.listenUDP(0, _SearchSocket(self, number), interface, _MAX_READ_BYTES)
        except CannotListenError:
            self.dropped["no_socket"] += 1
            return None
        self._others[number] = port
        return port

    def datagram_received(self, datagram: bytes, place: tuple[str, int]) -> None:
        """See `PeerEars`: something came by socket 0."""
        self.heard(datagram, place, 0)

    def heard(self, datagram: bytes, place: tuple[str, int], number: int) -> None:
        """Something came by a socket, from anybody."""
        try:
            address = make_address(*place)
        except ValueError:
            # A scope ID of IPv6: such addresses are not used.
            self.dropped["address"] += 1
            return
        if len(datagram) > MAX_DATAGRAM_BYTES:
            self.dropped["long"] += 1
            return
        self._hear(datagram, Path(address, number))

    def keep(self, numbers: Collection[int]) -> None:
        """Close the others."""
        for number in [number for number in self._others if number not in numbers]:
            self._others.pop(number).stopListening()

    def close(self) -> None:
        """Close all but the connection's own, and let go of that."""
        self.keep(())
        self._drop_left()
        self._first = None
        self._is_shared = False
        self._is_closed = True

    def _drop_left(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left.stopListening()
