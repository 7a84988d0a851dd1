"""Connections of a client, all with one face, and the opening of the right one for an address.

A link carries whole frames out and pieces of data in. It knows nothing of what they mean: that is `ClientMachine`. From
inside `write` the receiver may be told that writing is paused, and nothing else; after `close` and `abort` it is told
nothing more.

==========  ==============================================
link        made by
==========  ==============================================
TCP, TLS    `TcpLink`, here
WebSocket   `meshrelay.transport.websocket_client`
UDP         `meshrelay.client.udp_link`
==========  ==============================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.client.address import NodeAddress, Transport
from meshrelay.client.identity import LinkTraits
from meshrelay.client.options import ClientOptions

__all__ = [
    "Credentials",
    "Link",
    "LinkReceiver",
    "MovableLink",
    "PeerEars",
    "PeerSocket",
    "TcpLink",
    "open_link",
    "stream_endpoint",
]


class LinkReceiver(Protocol):
    """What a link calls; its owner."""

    def data_received(self, data: bytes, is_reliable: bool = True) -> None:
        """Bytes came in: any cut of a stream, or whole frames of one message or datagram.

        :param is_reliable: False: what else came like this may be missing, or come in another order.
        """

    def heard(self) -> None:
        """The node is alive, even though it has said nothing. Called by links that acknowledge by themselves."""

    def link_lost(self, code: int | None, text: str) -> None:
        """The link is gone and cannot be used; `code` when the node gave one. At most once, and last."""

    def writing_paused(self) -> None:
        """What is written from now on piles up."""

    def writing_resumed(self) -> None:
        """What was written is out."""


class Link(Protocol):
    """One connection."""

    def write(self, frames: Sequence[bytes]) -> None:
        """Send whole frames. Never raises; does nothing when the link is gone."""

    def close(self) -> Deferred[None]:
        """Send what was written, then close. Fires when it is closed; cancelling it closes at once."""

    def abort(self) -> None:
        """Close now."""


@runtime_checkable
class MovableLink(Protocol):
    """A link that need not stay on its local address."""

    def rebind(self) -> bool:
        """Go on from a new local address; False: it cannot at this moment, and all is as before."""


class PeerEars(Protocol):
    """Who hears what comes from others than the node."""

    def datagram_received(self, datagram: bytes, place: tuple[str, int]) -> None:
        """Anything, from any host and port."""

    def socket_left(self, port: Any) -> None:
        """The connection to the node is over. Its socket, a UDP port of Twisted, is the hearer's now, who closes it."""


@runtime_checkable
class PeerSocket(Protocol):
    """A link whose UDP socket speaks to peers as well."""

    def share(self, ears: PeerEars) -> bool:
        """Let `ears` hear peers from now on; it takes a new socket. False: there is none to be had, see `rebind`."""

    def send_to(self, datagram: bytes, place: tuple[str, int]) -> None:
        """Send to a peer by that socket; what cannot be sent is dropped."""

    def node_place(self) -> tuple[str, int]:
        """Host and port of the node."""

    def local_port(self) -> int:
        """Of the socket at this moment; 0: there is none."""


class Credentials:
    """What opening a link may need to know: UDP signs in before there is a link.

    :param resume_sid: the session to go on with; empty for a new one.
    :param received: reliable pushes received in that session, mod 2^32.
    """

    __slots__ = ("received", "resume_sid", "token", "user")

    def __init__(self, user: str | None, token: str | None, resume_sid: str = "", received: int = 0) -> None:
        self.user = user
        self.token = token
        self.resume_sid = resume_sid
        self.received = received


@implementer(IPushProducer)
class TcpLink(TwistedProtocol):
    """Frames over a byte stream, TCP or TLS."""

    def __init__(self, receiver: LinkReceiver) -> None:
        self._receiver: LinkReceiver | None = receiver
        self._transport: Any = None
        self._closing: Deferred[None] | None = None

    def write(self, frames: Sequence[bytes]) -> None:
        if self._receiver is not None:
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def close(self) -> Deferred[None]:
        if self._transport is None or self._receiver is None:
            return succeed(None)
        self._receiver = None
        self._closing = Deferred(lambda _: self.abort())
        # A transport that has a producer waits for it to end.
        self._transport.unregisterProducer()
        self._transport.loseConnection()
        return self._closing

    def abort(self) -> None:
        self._receiver = None
        if self._transport is not None:
            self._transport.abortConnection()

    def connectionMade(self) -> None:
        self._transport = self.transport
        self._transport.setTcpNoDelay(True)
        self._transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver.data_received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        receiver, self._receiver, self._transport = self._receiver, None, None
        if receiver is not None:
            receiver.link_lost(None, reason.getErrorMessage())
        if self._closing is not None and not self._closing.called:
            self._closing.callback(None)

    def pauseProducing(self) -> None:
        if self._receiver is not None:
            self._receiver.writing_paused()

    def resumeProducing(self) -> None:
        if self._receiver is not None:
            self._receiver.writing_resumed()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""


def stream_endpoint(reactor: Any, address: NodeAddress, options: ClientOptions) -> IStreamClientEndpoint:
    """Return where to connect to, TLS included."""
    timeout = options.connect_timeout_seconds
    # HostnameEndpoint asks a thread even for addresses that need no look-up.
    if isIPAddress(address.host):
        endpoint: IStreamClientEndpoint = TCP4ClientEndpoint(reactor, address.host, address.port, timeout)
    elif isIPv6Address(address.host):
        endpoint = TCP6ClientEndpoint(reactor, address.host, address.port, timeout)
    else:
        endpoint = HostnameEndpoint(reactor, address.host, address.port, timeout)
    if address.is_tls:
        endpoint = wrapClientTLS(optionsForClientTLS(address.host, trustRoot=options.trust_root), endpoint)
    return endpoint


def open_link(
    reactor: Any, address: NodeAddress, receiver: LinkReceiver, credentials: Credentials, options: ClientOptions
) -> Deferred[tuple[Link, LinkTraits]]:
    """Connect.

    :returns: fires with the link when it can be written to; fails with whatever kept it from being so. The receiver is
        told nothing about a link that did not come to be. Cancelling it leaves nothing behind.
    """
    # The imports are here because a program that speaks TCP needs neither Autobahn nor the HTTP client.
    if address.transport is Transport.UDP:
        from meshrelay.client.udp import open_udp_link

        return open_udp_link(reactor, address, receiver, credentials, options)
    traits = LinkTraits(sign_in_seconds=options.connect_timeout_seconds)
    endpoint = stream_endpoint(reactor, address, options)
    link: Deferred[Any]
    if address.transport is Transport.WEBSOCKET:
        from meshrelay.transport.websocket_client import open_websocket

        url = f"{'wss' if address.is_tls else 'ws'}://{address.authority}{address.path}"
        link = open_websocket(reactor, endpoint, url, receiver, options.client_name)
    else:
        link = connectProtocol(endpoint, TcpLink(receiver))
    return link.addCallback(lambda connection: (connection, traits))
