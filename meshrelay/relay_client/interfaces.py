"""Connections of a relay client to a server, all with one face: one whole message of the relay at a time.

A link is made by `websocket` or `quic`, through `dial`; `connection` owns it from `start` on.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred

__all__ = ["RelayLink", "RelayLinkReceiver"]


class RelayLinkReceiver(Protocol):
    """What a link calls; its owner."""

    def message_received(self, message: bytes) -> None:
        """One message of the server."""

    def link_lost(self, text: str) -> None:
        """The link is gone; the last call, and not made after `close` and `abort` of the owner."""

    def writing_paused(self) -> None:
        """What is sent from now on piles up, or is dropped if it may be."""

    def writing_resumed(self) -> None:
        """What was sent is out."""


class RelayLink(Protocol):
    """One connection. Its methods never raise, and do nothing once it is gone."""

    #: "ws" or "quic".
    transport_name: str

    @property
    def max_message_bytes(self) -> int:
        """The longest message that gets through now."""

    @property
    def host(self) -> Any:
        """The `IAddress` of this end."""

    @property
    def peer_ip(self) -> str:
        """Of the server, without brackets; an IPv4 address inside an IPv6 one is unwrapped."""

    def start(self, receiver: RelayLinkReceiver) -> None:
        """Give the link its owner, in the turn in which the link came about; the server has said nothing yet."""

    def send(self, message: bytes) -> None:
        """Send one message, at most `max_message_bytes` long, at the latest at the end of the turn."""

    def close(self) -> Deferred[None]:
        """Send what waits for a few seconds at most, then drop the connection. Fires when it is gone, never fails."""

    def abort(self) -> None:
        """Drop the connection at once."""
