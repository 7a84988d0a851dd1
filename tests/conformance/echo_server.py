"""The node's WebSocket adapter with an echo in place of the session layer, for the conformance suite.

Opening, receiving, closing and sending are the node's own; only what a message means is replaced: it is gathered and
sent back, text as well. Prints its port and runs until it is ended.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import TCP4ServerEndpoint

from meshrelay.background import Alarms
from meshrelay.counters import NodeCounters
from meshrelay.fanout.outbox import DISCONNECT, OutboxLimits
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IDownlink
from meshrelay.transport.stream_link import StreamParts
from meshrelay.transport.websocket import NodeWebSocketFactory, NodeWebSocketProtocol, WebSocketRules
from meshrelay.wire.websocket import encode_message

reactor: Any = _reactor

#: The largest case of the suite.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class EchoProtocol(NodeWebSocketProtocol):
    """Sends each message back."""

    def onMessageBegin(self, isBinary: bool) -> None:
        """See Autobahn."""
        self._is_binary = isBinary
        self._gathered: list[bytes] = []

    def onMessageFrameData(self, payload: bytes) -> None:
        """See Autobahn."""
        self._gathered.append(payload)

    def onMessageEnd(self) -> None:
        """See Autobahn."""
        if self._link is not None and not self.failedByMe:
            self._link.outbox.push(encode_message(b"".join(self._gathered), self._is_binary), 1)
            self._link.outbox.flush()


class EchoFactory(NodeWebSocketFactory):
    """Makes `EchoProtocol`."""

    def buildProtocol(self, addr: Any) -> EchoProtocol:
        """See `Factory`."""
        protocol = EchoProtocol(self._accept, self._parts, self._rules)
        protocol.factory = self
        return protocol


def main() -> None:
    """Listen on a free port of loopback."""
    limits = OutboxLimits(2 * MAX_MESSAGE_BYTES, DISCONNECT)
    parts = StreamParts(Turn(reactor), Alarms(reactor), limits, NodeCounters(), MAX_MESSAGE_BYTES)

    def accept(link: IDownlink) -> None:
        return None

    factory = EchoFactory(accept, parts, WebSocketRules(("*",), 30.0), reactor)
    listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    listening.addCallback(lambda port: print(port.getHost().port, flush=True))
    reactor.run()


if __name__ == "__main__":
    main()
