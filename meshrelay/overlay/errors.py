"""What goes wrong at a peer of the overlay, as its users see it."""

from __future__ import annotations

from meshrelay.errors import MeshRelayError

__all__ = ["NotDelivered", "NotLinked", "OverlayError", "PeerDestroyed", "TooMuchWaiting", "UnusableData"]


class OverlayError(MeshRelayError):
    """An operation of a peer failed."""


class NotDelivered(OverlayError):
    """The other peer did not acknowledge the message, or no way to it was found in time. It may have come all the
    same."""


class NotLinked(OverlayError):
    """No direct link to the other peer came about."""


class PeerDestroyed(OverlayError):
    """The peer was destroyed before."""

    def __init__(self) -> None:
        super().__init__("the peer was destroyed")


class TooMuchWaiting(OverlayError):
    """More was sent than the overlay takes; nothing of this message was sent. The text names the limit."""


class UnusableData(OverlayError):
    """What was to be sent is no JSON, or too large; the caller's fault. The text names the limit."""
