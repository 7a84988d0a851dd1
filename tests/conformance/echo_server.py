"""The node's WebSocket adapter with an echo in place of the session layer, for the conformance suite.

Opening, receiving, closing and sending are the node's own; only what a message means is replaced: it is gathered and
sent back, text as well, which must be UTF-8. Prints its port and runs until it is ended.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from zope.interface import implementer

from meshrelay.background import Alarms
from meshrelay.counters import NodeCounters
from meshrelay.errors import RemoteProtocolError
from meshrelay.fanout.outbox import DISCONNECT, OutboxLimits
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IDownlink, IUplink
from meshrelay.transport.stream_link import StreamParts
from meshrelay.transport.websocket import NodeWebSocketFactory, NodeWebSocketProtocol, WebSocketRules
from meshrelay.wire.websocket import Opcode, encode_message
from meshrelay.wire.websocket_decoder import INVALID_PAYLOAD, BrokenWebSocket

reactor: Any = _reactor

#: The largest case of the suite.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class EchoProtocol(NodeWebSocketProtocol):
    """Sends each message back."""

    _gathered: list[bytes] | None = None

    def messages_received(self, uplink: IUplink, kind: int, payloads: list[bytes], is_end: bool) -> None:
        """See `NodeWebSocketProtocol`."""
        for payload in payloads:
            self._piece_received(kind, payload, is_end)

    def _piece_received(self, kind: int, payload: bytes, is_end: bool) -> None:
        if self._gathered is None:
            self._gathered = []
            self._text = getincrementaldecoder("utf-8")()
        if kind == Opcode.TEXT:
            try:
                self._text.decode(payload, is_end)
            except UnicodeDecodeError:
                raise BrokenWebSocket("a text that is not UTF-8", INVALID_PAYLOAD) from None
        self._gathered.append(payload)
        if is_end and self._link is not None:
            message, self._gathered = b"".join(self._gathered), None
            self._link.outbox.push(encode_message(message, kind == Opcode.BINARY), 1)
            self._link.outbox.flush()


@implementer(IUplink)
class EchoUplink:
    """Closes a connection as a session would; has nothing else to do."""

    def __init__(self, link: IDownlink) -> None:
        self._link = link

    def heard(self) -> None:
        """See `IUplink`."""

    def run_received(self, run: object) -> None:
        """See `IUplink`."""

    def read_ended(self) -> None:
        """See `IUplink`."""

    def protocol_broken(self, error: RemoteProtocolError) -> None:
        """See `IUplink`."""
        self._link.close(error.close_reason, str(error))

    def outbox_overflowed(self, queued_bytes: int) -> None:
        """See `IUplink`."""
        self._link.abort()

    def pushes_dropped(self, count: int) -> None:
        """See `IUplink`."""

    def failed(self) -> None:
        """See `IUplink`."""
        self._link.abort()

    def connection_lost(self, detail: str) -> None:
        """See `IUplink`."""


class EchoFactory(NodeWebSocketFactory):
    """Makes `EchoProtocol`."""

    def buildProtocol(self, addr: Any) -> EchoProtocol:
        """See `Factory`."""
        protocol = EchoProtocol(self._accept, self._parts, self._rules, self._unmask_long)
        protocol.factory = self
        return protocol


def main() -> None:
    """Listen on a free port of loopback."""
    limits = OutboxLimits(2 * MAX_MESSAGE_BYTES, DISCONNECT)
    parts = StreamParts(Turn(reactor), Alarms(reactor), limits, NodeCounters(), MAX_MESSAGE_BYTES)
    factory = EchoFactory(EchoUplink, parts, WebSocketRules(("*",), 30.0), reactor)
    listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    listening.addCallback(lambda port: print(port.getHost().port, flush=True))
    reactor.run()


if __name__ == "__main__":
    main()
