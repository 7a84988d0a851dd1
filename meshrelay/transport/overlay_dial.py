"""Dials other peers of the overlay: a URL -> a checked address -> a WebSocket.

Who answers an offer says where it is to be dialled, and may say anything. So a name is looked up first, every address
that it has must be allowed, and what is connected to is one of just these addresses: a second look-up could say
something else. All of it, waiting for others included, has one deadline.

Source: npm peer-relay 0.0.2; RFC 6455.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.overlay.interfaces import IDialler, ILinkReceiver, IOverlayLink, LinkOpened
from meshrelay.transport.hand_over import hand_over
from meshrelay.transport.overlay_link import (
    MAX_FRAME_BYTES,
    OWN_HEADER,
    LinkTraits,
    OverlaySocketParts,
    OverlayWebSocket,
    is_own_header,
)
from meshrelay.transport.websocket_open import ClientHandshake, OpeningWebSocket, open_client_websocket

__all__ = [
    "DIAL_SECONDS",
    "MAX_ADDRESSES",
    "MAX_DIALS",
    "MAX_WAITING_DIALS",
    "DialOptions",
    "NotDialled",
    "OverlayDialler",
    "Place",
]

#: Look-up, connection, TLS and handshake, and waiting for other dials before, must be done by then.
DIAL_SECONDS = 10.0

#: Dials of checked URLs at once. More wait.
MAX_DIALS = 32

#: Dials of checked URLs that wait; one more fails.
MAX_WAITING_DIALS = 256

#: Of a name that has more addresses, no more are tried.
MAX_ADDRESSES = 4

_MAX_URL_BYTES = 2048

#: Between two dots of a name; the look-up would raise.
_MAX_LABEL_BYTES = 63


class DialOptions(NamedTuple):
    """How to dial."""

    user_agent: str = "meshrelay"
    #: Authorities for ``wss``, as `twisted.internet.ssl.optionsForClientTLS` takes them; None = those of the system.
    trust_root: Any = None
    seconds: float = DIAL_SECONDS


def _is_host(host: str) -> bool:
    """Whether this can be looked up.

    An IPv6 address with a zone is none, as it names an interface of this machine, nor is the host that Autobahn takes
    for a Unix socket.
    """
    return (
        "%" not in host
        and host != "unix"
        and all(0 < len(label) <= _MAX_LABEL_BYTES for label in host.removesuffix(".").split("."))
    )


class Place(NamedTuple):
    """What a URL says about where to connect."""

    is_tls: bool
    #: Without brackets.
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Place:
        """Read a URL.

        :raises ValueError: it is no ``ws://`` or ``wss://`` URL that can be dialled; the text is for people.
        """
        if len(url) > _MAX_URL_BYTES or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError(f"a URL is at most {_MAX_URL_BYTES} printable characters of ASCII")
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss"):
            raise ValueError("a URL to dial begins with ws:// or wss://")
        if not _is_host(parts.hostname or "") or "@" in parts.netloc or parts.fragment:
            raise ValueError("a URL to dial has a host, but no user and no fragment")
        is_tls = parts.scheme == "wss"
        port = (443 if is_tls else 80) if parts.port is None else parts.port
        if not port:
            raise ValueError("port 0 cannot be dialled")
        return cls(is_tls, parts.hostname or "", port)


class _Opening(OpeningWebSocket):
    """The opening handshake with another peer."""

    def __init__(self, opened: Deferred[Any], parts: OverlaySocketParts, taken: LinkOpened) -> None:
        super().__init__(opened)
        self._parts = parts
        self._taken = taken
        self._is_own = False
        self._link: OverlayWebSocket | None = None

    def answer_received(self, headers: Mapping[str, str]) -> None:
        """See `OpeningWebSocket`."""
        self._is_own = is_own_header(headers)

    def websocket_opened(self) -> None:
        """See `OpeningWebSocket`: Autobahn has done its work."""
        link = self._link = OverlayWebSocket(self._stream, self._parts, LinkTraits(True, self._is_own))
        rest, self.data = self.data, b""
        hand_over(self._stream, self, link)
        link.open(self._taken)
        if rest:
            link.dataReceived(rest)

    def dataReceived(self, data: bytes) -> None:
        """See `Protocol`; after the handshake for transports that do not take another protocol."""
        if self._link is None:
            super().dataReceived(data)
        else:
            self._link.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """See `Protocol`."""
        if self._link is None:
            super().connectionLost(reason)
        else:
            self._link.connectionLost(reason)


@implementer(IResolutionReceiver)
class _Addresses:
    """The addresses of a name.

    :param found: fires with them.
    """

    def __init__(self, found: Deferred[list[str]]) -> None:
        self._found = found
        self._hosts: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """See `IResolutionReceiver`. Twisted's own cannot be cancelled."""

    def addressResolved(self, address: Any) -> None:
        """See `IResolutionReceiver`."""
        if isinstance(address, (IPv4Address, IPv6Address)):
            self._hosts.append(address.host)

    def resolutionComplete(self) -> None:
        """See `IResolutionReceiver`."""
        self._found.callback(self._hosts)


class NotDialled(Exception):
    """The policy or a bound is against it; the text says so."""


class _Asker:
    """Who asked for a link; it is told once how that ended, or never after it gave up."""

    __slots__ = ("_opened", "is_over")

    def __init__(self, opened: LinkOpened) -> None:
        self._opened = opened
        #: It was told, or gave up.
        self.is_over = False

    def open(self, link: IOverlayLink) -> ILinkReceiver | None:
        """See `LinkOpened`."""
        return self._opened(link) if self.end() else None

    def end(self) -> bool:
        """Tell it nothing more. False: there was nothing more to be told."""
        was_over, self.is_over = self.is_over, True
        return not was_over


@implementer(IDialler)
class OverlayDialler:
    """See `IDialler`.

    At most `MAX_DIALS` checked URLs are dialled at a time; the others wait, at most `MAX_WAITING_DIALS`. URLs that are
    not checked come from whoever runs the peer: they are few, and wait for nobody.

    :param allows: whether an IP address may be dialled.
    """

    def __init__(
        self, reactor: Any, parts: OverlaySocketParts, allows: Callable[[str], bool], options: DialOptions | None = None
    ) -> None:
        self._reactor = reactor
        self._parts = parts
        self._allows = allows
        self._options = options or DialOptions()
        self._places = DeferredSemaphore(MAX_DIALS)

    def dial(
        self, url: str, opened: LinkOpened, failed: Callable[[str], None], *, is_checked: bool
    ) -> Callable[[], None]:
        """See `IDialler`."""
        asker = _Asker(opened)
        dialling = Deferred.fromCoroutine(self._dial(url, asker, is_checked))
        late = self._reactor.callLater(self._options.seconds, lambda: fail("not connected in time"))

        def fail(text: str) -> None:
            if asker.end():
                dialling.cancel()
                failed(text)

        def cancel() -> None:
            if asker.end():
                dialling.cancel()

        def ended(_: object) -> None:
            late.cancel() if late.active() else None

        dialling.addErrback(lambda failure: fail(failure.getErrorMessage()))
        dialling.addBoth(ended)
        return cancel

    async def _dial(self, url: str, asker: _Asker, is_checked: bool) -> None:
        # Nobody is to be told anything before `dial` has returned.
        await deferLater(self._reactor, 0)
        place = Place.of(url)
        if not is_checked:
            await self._connect(url, place, await self._addresses(place), asker)
            return
        if len(self._places.waiting) >= MAX_WAITING_DIALS:
            raise NotDialled("too many other peers are dialled")
        await self._places.acquire()
        try:
            hosts = await self._addresses(place)
            for host in hosts:
                if not self._allows(host):
                    raise NotDialled(f"{host} is not to be dialled")
            await self._connect(url, place, hosts, asker)
        finally:
            self._places.release()

    def _addresses(self, place: Place) -> Deferred[list[str]]:
        """Look the host up; fires with all its addresses."""
        found: Deferred[list[str]] = Deferred()
        if isIPAddress(place.host) or isIPv6Address(place.host):
            found.callback([place.host])
        else:
            # Whatever looks like an address to the look-up alone, as 127.1 does, is checked as what it is.
            kinds = [IPv4Address, IPv6Address]
            self._reactor.nameResolver.resolveHostName(_Addresses(found), place.host, place.port, kinds)
        return found

    async def _connect(self, url: str, place: Place, hosts: list[str], asker: _Asker) -> None:
        """Try one address after the other, each for its share of the time."""
        if not hosts:
            raise NotDialled(f"{place.host} has no address")
        *others, last = (self._endpoint(place, host) for host in hosts[:MAX_ADDRESSES])
        share = self._options.seconds / (len(others) + 1)
        for endpoint in others:
            try:
                await self._open(url, endpoint, asker).addTimeout(share, self._reactor)
            except Exception:  # whatever it was, the next one may be better; what came of the last one is told
                if asker.is_over:
                    raise
            else:
                return
        await self._open(url, last, asker)

    def _endpoint(self, place: Place, host: str) -> IStreamClientEndpoint:
        kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        endpoint: IStreamClientEndpoint = kind(self._reactor, host, place.port, self._options.seconds)
        if place.is_tls:
            contexts = optionsForClientTLS(place.host, trustRoot=self._options.trust_root)
            endpoint = wrapClientTLS(contexts, endpoint)
        return endpoint

    def _open(self, url: str, endpoint: IStreamClientEndpoint, asker: _Asker) -> Deferred[None]:
        handshake = ClientHandshake(url, self._options.user_agent, MAX_FRAME_BYTES, dict([OWN_HEADER]))
        return open_client_websocket(
            self._reactor, endpoint, handshake, lambda opened: _Opening(opened, self._parts, asker.open)
        )
