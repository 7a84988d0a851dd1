"""Where this client is: what the node and peers see of its socket, and telling the node (LINK_ADDRESSES).

The socket of a UDP client is opened anew when it begins to speak to peers, when the program says that the network is
another one, and after a break. Then the node is told again, and peers are looked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater

from meshrelay.client.errors import PASSING
from meshrelay.client.links import PeerSocket
from meshrelay.client.p2p.local_addresses import local_addresses
from meshrelay.client.p2p.options import P2POptions
from meshrelay.client.p2p.sockets import PeerSockets
from meshrelay.errors import CommandError, DeliveryError, MalformedPayload, RemoteProtocolError
from meshrelay.machine.nat_kind import MappingObserver
from meshrelay.wire.addresses import UdpAddress, make_address
from meshrelay.wire.link_commands import decode_public_address, encode_addresses
from meshrelay.wire.peer_packet import Mapping

__all__ = ["NetworkView", "Whereabouts"]

#: How often it is seen whether the socket is another one, and which sockets may be closed.
_CARE_SECONDS = 2.0


#: A node does not tell an address before the client has proved to be there, which takes a round trip after a move.
_ASK_AGAIN_SECONDS = (0.0, 0.05, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class NetworkView:
    """Where this client is, as far as it knows."""

    #: False: the client does not speak UDP to the node, and everybody is reached by the relay.
    has_socket: bool
    local: tuple[UdpAddress, ...]
    #: As the node sees it; None: not known.
    public: UdpAddress | None
    mapping: Mapping
    #: The mapping, for people.
    text: str


class Whereabouts:
    """See the module.

    :param socket: the connection, if it is one that peers can be spoken to by.
    :param ask: sends LINK_ADDRESSES and gives the answer.
    :param needed: which sockets the links need.
    :param moved: called when socket 0 is another one.
    """

    def __init__(
        self,
        reactor: Any,
        options: P2POptions,
        sockets: PeerSockets,
        *,
        socket: Callable[[], PeerSocket | None],
        ask: Callable[[bytes], Deferred[bytes]],
        needed: Callable[[], frozenset[int]],
        moved: Callable[[], None],
    ) -> None:
        self.observer = MappingObserver()
        #: As the node sees it.
        self.public: UdpAddress | None = None
        self.is_announced = False
        self._reactor = reactor
        self._options = options
        self._sockets = sockets
        self._socket = socket
        self._ask = ask
        self._needed = needed
        self._moved = moved
        self._local_port = 0
        #: The node could not be told just now. After a break it is told again anyway.
        self._is_owed = False
        self._care: IDelayedCall | None = None

    def announce(self) -> Deferred[UdpAddress | None]:
        """Tell the node; see `P2PLinks.addresses`."""
        is_new = self._sockets.attach(self._socket()) or self._sockets.local_port != self._local_port
        self._local_port = self._sockets.local_port
        if is_new:
            self.observer.clear()
            self.public = None
        self.is_announced = True
        self._is_owed = False
        asked = Deferred.fromCoroutine(self._ask_until_seen())
        if is_new:
            self._moved()
        if self._care is None:
            self._care = self._reactor.callLater(_CARE_SECONDS, self._take_care)
        return asked

    async def _ask_until_seen(self) -> UdpAddress | None:
        for delay in (*_ASK_AGAIN_SECONDS, None):
            try:
                answer = await self._ask(encode_addresses(self.local()))
            except PASSING:
                self._is_owed = True
                raise
            try:
                self.public = public = decode_public_address(answer)
            except MalformedPayload as error:
                raise RemoteProtocolError(f"the answer cannot be read: {error}") from None
            place = self._sockets.node_place
            if public is not None and place is not None:
                self.observer.add(make_address(*place), public)
            if public is not None or place is None or delay is None:
                break
            await deferLater(self._reactor, delay)
        return self.public

    def announce_again(self) -> None:
        """Tell the node once more, if it was told before; who fails is told again a little later."""
        if self.is_announced:
            self.announce().addErrback(lambda failure: failure.trap(CommandError, DeliveryError, RemoteProtocolError))

    def local(self) -> list[UdpAddress]:
        """Return where the socket is inside its own network."""
        port = self._sockets.local_port
        if not port:
            return []
        options = self._options
        return local_addresses(
            options.hosts(), port, self._sockets.is_v6, options.allow_private, options.allow_loopback
        )

    def view(self) -> NetworkView:
        """Return what is known."""
        observer = self.observer
        local = tuple(self.local())
        text = "no NAT: the node sees a local address" if self.public in local else observer.text
        return NetworkView(self._sockets.has_first, local, self.public, observer.mapping, text)

    def stop(self) -> None:
        """Close what is open."""
        if self._care is not None:
            self._care.cancel()
            self._care = None
        self.is_announced = self._is_owed = False
        self.public = None
        self.observer.clear()
        self._sockets.close()

    def _take_care(self) -> None:
        self._care = self._reactor.callLater(_CARE_SECONDS, self._take_care)
        self._sockets.keep(self._needed())
        is_other = self._sockets.local_port != self._local_port
        if self._sockets.node_place is not None and (is_other or self._is_owed):
            self.announce_again()
