"""The other end of a link to a peer under test, in memory."""

from __future__ import annotations

from typing import Any

import msgspec
from zope.interface import implementer

from meshrelay.overlay.interfaces import ILinkReceiver, IOverlayLink
from meshrelay.wire.overlay import DataType, encode_frame, encode_hello, encode_value, new_envelope

__all__ = ["NeighbourLink"]


@implementer(IOverlayLink)
class NeighbourLink:
    """A link by which somebody came who speaks as npm's package does.

    :ivar sent: frames that the peer under test has sent.
    """

    transport_name = "ws"
    remote_address = "127.0.0.1:50000"
    is_outgoing = False
    is_own = False
    has_origin = False
    max_frame_bytes = 262_144
    waiting_bytes = 0

    def __init__(self, peer_id: bytes) -> None:
        self.peer_id = peer_id
        self.sent: list[bytes] = []
        self.is_closed = False
        self._nonces = 0
        self._receiver: ILinkReceiver | None = None

    def start(self, receiver: ILinkReceiver) -> None:
        """See `IOverlayLink`; the neighbour says who it is."""
        self._receiver = receiver
        self.say(encode_hello(self.peer_id))

    def send(self, frame: bytes) -> bool:
        """See `IOverlayLink`."""
        self.sent.append(frame)
        return True

    def close(self) -> None:
        """See `IOverlayLink`."""
        self.abort()

    def abort(self) -> None:
        """See `IOverlayLink`."""
        if not self.is_closed:
            self.is_closed = True
            if self._receiver is not None:
                self._receiver.link_lost("closed")

    def say(self, frame: bytes) -> None:
        """Send a frame to the peer under test."""
        assert self._receiver is not None
        self._receiver.frame_received(frame)

    def write(self, to: bytes, data: Any) -> None:
        """Send a message to the peer under test."""
        self._nonces += 1
        envelope = new_envelope(to, self.peer_id, str(10**12 + self._nonces), DataType.USER, encode_value(data))
        self.say(encode_frame(envelope, self.peer_id))

    def read(self) -> list[Any]:
        """Data of the messages that came since the last call."""
        frames = [msgspec.json.decode(frame) for frame in self.sent]
        self.sent.clear()
        return [frame["data"]["data"] for frame in frames if frame.get("data", {}) and _type_of(frame) == "user"]


def _type_of(frame: Any) -> object:
    data = frame["data"]
    return data.get("type") if isinstance(data, dict) else None
