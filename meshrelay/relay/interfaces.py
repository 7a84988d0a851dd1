"""What the transports of a relay server, and its neighbours, are to it."""

# Methods of a zope interface have no self.
# ruff: noqa: N805

from __future__ import annotations

from zope.interface import Attribute, Interface

__all__ = ["IRelayElsewhere", "IRelayLink"]


class IRelayLink(Interface):
    """The connection of one client: a WebSocket, or a QUIC connection whose messages are datagrams."""

    transport_name: str = Attribute('"ws" or "quic"; a metric label.')
    max_message_bytes: int = Attribute("The longest message that gets through now; 8,820 on a WebSocket.")
    remote_address: str = Attribute("Where the client is, for the log.")

    def offer(message: bytes) -> bool:
        """Send a TRANSPORT at the latest at the end of the turn, unless too much waits already.

        Never raises, never waits.

        :returns: False: it was dropped. True promises nothing but the attempt.
        """

    def send(message: bytes) -> None:
        """Send what the server itself says, behind what waits; it is not dropped, and never longer than the maximum.

        Never raises, never waits. Over its own bound a link ends itself: a client that does not even read what the
        server says would have to be forgotten in a few seconds anyway.
        """

    def close() -> None:
        """Send what waits for a few seconds at most, then drop the connection. May be called twice."""

    def abort() -> None:
        """Drop the connection at once, with what waits. May be called twice, also after `close`."""


class IRelayElsewhere(Interface):
    """The other nodes of this relay. A server without any has none of these."""

    def forward(destination: bytes, message: bytes) -> bool:
        """Pass on a TRANSPORT, ready for its receiver, that is for no peer of this node.

        Called for each such message; never raises, never waits.

        :returns: False: as far as is known nobody has that ID.
        """

    def peer_registered(peer_id: bytes) -> None:
        """A peer came to this node; whatever other node had the ID is to evict it."""

    def peer_unregistered(peer_id: bytes) -> None:
        """A peer left this node. Not called when a newer connection to this node took its place."""

    def peers_watched(peer_ids: list[bytes]) -> None:
        """Somebody here wants to know about these from now on: `RelayServer.set_elsewhere` is to be told."""

    def peers_unwatched(peer_ids: list[bytes]) -> None:
        """Nobody here wants to know about these any longer."""
