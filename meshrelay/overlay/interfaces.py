"""What sockets are to a peer of the overlay, in the order in which a link comes into being."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

__all__ = ["IDialler", "ILinkReceiver", "IOverlayLink", "IWrtcMaker", "LinkOpened", "WrtcAttempt"]


class ILinkReceiver(Protocol):
    """What is told of a link; a peer gives one for each."""

    def frame_received(self, frame: bytes) -> None:
        """One whole message came, text or binary, UTF-8; at most ``max_frame_bytes``."""

    def link_lost(self, why: str) -> None:
        """The link is gone. Called once, nothing follows."""


class IOverlayLink(Interface):
    """A connection to another peer that carries whole frames, in order."""

    transport_name: str = Attribute("``ws`` or ``wrtc``.")
    remote_address: str = Attribute('``host:port`` of the other end as far as it is known, or "".')
    is_outgoing: bool = Attribute("This end dialled, or made the WebRTC offer.")
    is_own: bool = Attribute("The other end said in its HTTP header that it is meshrelay. Anybody may say so.")
    has_origin: bool = Attribute("The other end is a page in a browser: its request had an Origin.")
    max_frame_bytes: int = Attribute("Longer frames cannot be sent here.")
    waiting_bytes: int = Attribute("What was sent and is not with the operating system yet.")

    def start(receiver: ILinkReceiver) -> None:
        """Begin to hand over what comes. Called once, at once; what came before is kept until then."""

    def send(frame: bytes) -> bool:
        """Send one frame as text.

        :returns: False: too much is waiting, the frame was dropped.
        """

    def close() -> None:
        """Send what waits, and close as the transport does (WebSocket: code 1000). ``link_lost`` follows."""

    def abort() -> None:
        """Close now, without a word. ``link_lost`` follows."""


#: Called with an open link; what it returns is the receiver for `IOverlayLink.start`, or None: the link is aborted.
LinkOpened = Callable[[IOverlayLink], ILinkReceiver | None]


class IDialler(Interface):
    """Opens WebSockets to other peers."""

    def dial(url: str, opened: LinkOpened, failed: Callable[[str], None], *, is_checked: bool) -> Callable[[], None]:
        """Connect and shake hands, within a deadline of its own.

        :param url: ``ws://`` or ``wss://``.
        :param opened: called once with the link, or `failed` once with a text for people; never both, never at once.
        :param is_checked: every address that the host's name has must be allowed by the dial policy.
        :returns: gives up; neither is called any more.
        """


class WrtcAttempt(Protocol):
    """One WebRTC connection on its way to being a link."""

    def signal(self, data: bytes) -> None:
        """The other end's signal, raw JSON of the simple-peer form. What makes no sense is ignored and counted."""

    def cancel(self) -> None:
        """Give up; nothing is called any more."""


class IWrtcMaker(Interface):
    """Opens WebRTC data channels to other peers. There is none without the extra ``webrtc``."""

    def attempt(
        is_initiator: bool, send_signal: Callable[[bytes], None], opened: LinkOpened, failed: Callable[[str], None]
    ) -> WrtcAttempt:
        """Begin; an initiator sends an offer in a moment.

        :param send_signal: called with raw JSON for the other end.
        :param opened: called once with the link, or `failed` once with a text for people.
        """

    def stop() -> Deferred[None]:
        """Abort all links and cancel all attempts; fires when nothing of them is left."""
