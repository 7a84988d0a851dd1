"""The WebSocket server of the overlay with an echo in place of a peer, for the conformance suite.

Opening, receiving, closing and sending are those of the overlay; but for the suite's sake binary messages are sent back
as binary ones, and may be as long as in its largest case. Prints its port and runs until it is ended.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import TCP4ServerEndpoint

from meshrelay.background import Alarms
from meshrelay.fanout.turn import Turn
from meshrelay.overlay.interfaces import IOverlayLink
from meshrelay.transport.overlay_link import OverlaySocketCounters, OverlaySocketParts, OverlayWebSocket
from meshrelay.transport.overlay_websocket import OverlayServerFactory, OverlayServerRules
from meshrelay.transport.websocket_mask import fastest_unmask

reactor: Any = _reactor

#: The largest case of the suite.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class Echo(OverlayWebSocket):
    """Sends each message back as it came."""

    __slots__ = ("_kind",)

    def _message_received(self, kind: int, message: bytes) -> None:
        self._kind = kind
        super()._message_received(kind, message)

    def _encoded(self, payload: bytes, opcode: int) -> bytes:
        return super()._encoded(payload, opcode if opcode > 2 else self._kind)


class EchoReceiver:
    """See `ILinkReceiver`."""

    def __init__(self, link: IOverlayLink) -> None:
        self._link = link

    def frame_received(self, frame: bytes) -> None:
        """See `ILinkReceiver`."""
        self._link.send(frame)

    def link_lost(self, why: str) -> None:
        """See `ILinkReceiver`."""


def main() -> None:
    """Listen on a free port of loopback."""
    parts = OverlaySocketParts(
        Turn(reactor),
        Alarms(reactor),
        OverlaySocketCounters(),
        os.urandom,
        fastest_unmask(),
        2 * MAX_MESSAGE_BYTES,
        MAX_MESSAGE_BYTES,
    )
    factory = OverlayServerFactory(EchoReceiver, parts, OverlayServerRules(), reactor)
    factory.link_class = Echo
    listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    listening.addCallback(lambda port: print(port.getHost().port, flush=True))
    reactor.run()


if __name__ == "__main__":
    main()
