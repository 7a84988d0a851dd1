"""Peers of the overlay that dial this one: any path, text or binary messages, no subprotocol, no compression.

::

    socket --> OverlayHandshake (Autobahn) --> OverlayWebSocket --> the peer

Source: npm peer-relay 0.0.2; RFC 6455.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from meshrelay.overlay.interfaces import LinkOpened
from meshrelay.transport.overlay_link import (
    OWN_HEADER,
    LinkTraits,
    OverlaySocketParts,
    OverlayWebSocket,
    is_own_header,
)
from meshrelay.transport.websocket import is_origin_allowed
from meshrelay.transport.websocket_accept import (
    AcceptingFactory,
    AcceptingWebSocket,
    ConnectionRequest,
    refuse_websocket,
)

__all__ = ["MAX_HANDSHAKES", "OverlayServerFactory", "OverlayServerRules"]

#: Connections that are in their opening handshake; one more is dropped without a word.
MAX_HANDSHAKES = 512


class OverlayServerRules(NamedTuple):
    """Who may come in."""

    #: Links that were accepted and are open.
    max_links: int = 1000
    #: The same of one IP address; 0 = as many as there may be at all.
    max_links_of_address: int = 0
    #: Of pages in browsers: "*" = any, empty = pages of the same host only. Who is no browser may always.
    allowed_origins: tuple[str, ...] = ("*",)


class OverlayHandshake(AcceptingWebSocket):
    """The opening handshake of one link."""

    def __init__(self, door: OverlayServerFactory, host: str) -> None:
        super().__init__(door.parts.alarms)
        self._door = door
        self._host = host
        self._traits = LinkTraits(is_outgoing=False, is_own=False)

    def connectionMade(self) -> None:
        """See `Protocol`."""
        super().connectionMade()
        self._door.handshake_began(self)

    def check_request(self, request: ConnectionRequest) -> None:
        """See `AcceptingWebSocket`."""
        self._door.check(request, self._host)
        self._traits = LinkTraits(False, is_own_header(request.headers), bool(request.origin))

    def make_stream(self, transport: Any) -> OverlayWebSocket:
        """See `AcceptingWebSocket`."""
        return self._door.link_made(transport, self._traits, self._host)

    def broken_off(self, why: str) -> None:
        """See `AcceptingWebSocket`."""
        self._door.parts.counters.refused[why] += 1

    def handshake_ended(self) -> None:
        """See `AcceptingWebSocket`."""
        self._door.handshake_ended(self)


class OverlayServerFactory(AcceptingFactory):
    """Lets peers in.

    :param opened: called with each link, when its handshake is done.
    :param reactor: see `AcceptingFactory`.
    """

    link_class: type[OverlayWebSocket] = OverlayWebSocket

    def __init__(self, opened: LinkOpened, parts: OverlaySocketParts, rules: OverlayServerRules, reactor: Any) -> None:
        super().__init__(reactor, dict([OWN_HEADER]))
        self._opened = opened
        self.parts = parts
        self.rules = rules
        self.link_count = 0
        self._handshakes: set[OverlayHandshake] = set()
        #: IP address -> open links; there is nothing in it while any number is allowed.
        self._links_of: Counter[str] = Counter()

    def buildProtocol(self, addr: Any) -> OverlayHandshake:
        """See `Factory`."""
        protocol = OverlayHandshake(self, getattr(addr, "host", ""))
        protocol.factory = self
        return protocol

    def handshake_began(self, handshake: OverlayHandshake) -> None:
        """A connection came; `OverlayHandshake.handshake_ended` follows."""
        self._handshakes.add(handshake)
        if self.handshake_count > MAX_HANDSHAKES:
            self.parts.counters.refused["busy"] += 1
            handshake.drop()

    def handshake_ended(self, handshake: OverlayHandshake) -> None:
        """A handshake is done, or its connection is gone."""
        self._handshakes.discard(handshake)

    @property
    def handshake_count(self) -> int:
        """Connections that are in their opening handshake."""
        return len(self._handshakes)

    def stop(self) -> None:
        """Drop all connections that are in their opening handshake; links are the peer's to close."""
        for handshake in tuple(self._handshakes):
            handshake.drop()

    def check(self, request: ConnectionRequest, host: str) -> None:
        """Refuse whom the rules keep out."""
        rules = self.rules
        if not is_origin_allowed(request.origin, request.host, rules.allowed_origins):
            self._refuse("origin", 403, "this origin is not allowed")
        if self.link_count >= rules.max_links:
            self._refuse("full", 503, "no more links are taken")
        if rules.max_links_of_address and self._links_of[host] >= rules.max_links_of_address:
            self._refuse("address", 503, "no more links of this address are taken")

    def _refuse(self, why: str, status: int, text: str) -> None:
        self.parts.counters.refused[why] += 1
        refuse_websocket(status, text)

    def link_made(self, transport: Any, traits: LinkTraits, host: str) -> OverlayWebSocket:
        """Make the link of a handshake that is done, and tell the peer."""
        counted = host if self.rules.max_links_of_address else ""
        self.link_count += 1
        if counted:
            self._links_of[counted] += 1
        link = self.link_class(transport, self.parts, traits, lambda: self._link_ended(counted))
        link.open(self._opened)
        return link

    def _link_ended(self, counted: str) -> None:
        self.link_count -= 1
        if counted:
            self._links_of[counted] -= 1
            if self._links_of[counted] <= 0:
                del self._links_of[counted]
