"""Frames in binary WebSocket messages (client protocol, section 1; RFC 6455 by Autobahn).

Autobahn does the opening handshake, control frames, close and receiving; outgoing messages are encoded once for all
receivers by `meshrelay.wire.websocket` and leave through the outbox. Received messages are never gathered: their bytes
go to the frame decoder as they come, so what a client can make us hold is one frame, as on TCP.

Autobahn's own timers are off: deadlines are alarms of the node's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.logger import Logger

from meshrelay.background import Alarm
from meshrelay.errors import FrameTooLarge, MalformedFrame, RemoteProtocolError
from meshrelay.interfaces import IDownlink, IUplink
from meshrelay.model import CloseReason
from meshrelay.transport.stream_link import StreamLink, StreamParts
from meshrelay.wire.frame import HEADER_BYTES, FrameDecoder
from meshrelay.wire.prepared import Batch
from meshrelay.wire.websocket import encode_message

__all__ = [
    "MIN_MESSAGE_LIMIT_BYTES",
    "NodeWebSocketFactory",
    "NodeWebSocketProtocol",
    "WebSocketLink",
    "WebSocketRules",
    "is_origin_allowed",
]

#: A message may be at least this long, however small max_payload_bytes is.
MIN_MESSAGE_LIMIT_BYTES = 1024 * 1024

#: Close code of a client that leaves by GOODBYE (RFC 6455, section 7.4.1).
NORMAL_CLOSURE = 1000


class WebSocketRules(NamedTuple):
    """Who may open a WebSocket, and how fast."""

    #: Empty = pages of the same host only, "*" = any.
    allowed_origins: tuple[str, ...]
    #: The opening handshake must be done by then.
    handshake_seconds: float
    #: The only path served.
    path: str = "/"


def is_origin_allowed(origin: str | None, host: str, allowed_origins: tuple[str, ...]) -> bool:
    """Whether a page of `origin` may connect.

    :param origin: the Origin header; None = not a browser, which may.
    :param host: the Host header.
    """
    if not origin or "*" in allowed_origins or origin in allowed_origins:
        return True
    if allowed_origins:
        return False
    try:
        # The port is left out: the console is on another one than the WebSocket.
        return urlsplit(origin).hostname == urlsplit(f"//{host}").hostname
    except ValueError:
        return False


class WebSocketLink(StreamLink):
    """`IDownlink` of one WebSocket.

    :param protocol: ends the connection.
    """

    transport_name = "websocket"

    __slots__ = ("_protocol",)

    def __init__(self, protocol: NodeWebSocketProtocol, parts: StreamParts) -> None:
        self._protocol = protocol
        super().__init__(protocol.transport, parts)

    def send_batch(self, batch: Batch) -> None:
        """See `IDownlink`."""
        for message, count in batch.websocket:
            self.outbox.push(message, count)

    def send_frame(self, frame: bytes, count: int = 1) -> None:
        """See `IDownlink`."""
        self.outbox.send(encode_message(frame), count)

    def websocket_closing(self) -> None:
        """Write no more: nothing may follow a close frame (RFC 6455, section 5.5.1)."""
        self.outbox.stop()
        self._writer.release()

    def _everything_written(self, reason: CloseReason | None, text: str) -> None:
        self._writer.release()
        self._protocol.send_close(NORMAL_CLOSURE if reason is None else reason.code, text)


class NodeWebSocketProtocol(WebSocketServerProtocol):
    """One WebSocket; made by `NodeWebSocketFactory`."""

    _log = Logger()

    def __init__(
        self, accept: Callable[[IDownlink], IUplink | None], parts: StreamParts, rules: WebSocketRules
    ) -> None:
        super().__init__()
        self._accept = accept
        self._parts = parts
        self._rules = rules
        self._link: WebSocketLink | None = None
        self._decoder: FrameDecoder | None = None
        self._message_bytes = 0
        self._handshake_alarm: Alarm | None = None

    def connectionMade(self) -> None:
        """See `Protocol`."""
        super().connectionMade()
        self._handshake_alarm = self._parts.alarms.call_later(self._rules.handshake_seconds, self._handshake_late)

    def _handshake_late(self) -> None:
        self._parts.counters.refused["handshake_timeout"] += 1
        stream: Any = self.transport
        stream.abortConnection()

    def onConnect(self, request: ConnectionRequest) -> None:
        """See Autobahn: the opening handshake is parsed."""
        self.check_request(request)

    def check_request(self, request: ConnectionRequest) -> None:
        """Let the handshake go on, or refuse it.

        :raises ConnectionDeny: the HTTP status that the client gets.
        """
        if request.path != self._rules.path:
            raise ConnectionDeny(404, f"WebSockets are at {self._rules.path}")
        if not is_origin_allowed(request.origin, request.host, self._rules.allowed_origins):
            self._parts.counters.refused["origin"] += 1
            raise ConnectionDeny(403, "this origin is not in allowed_origins")

    def onOpen(self) -> None:
        """See Autobahn: the handshake is done."""
        self._stop_waiting()
        self._decoder = FrameDecoder(self._parts.max_payload_bytes)
        self._link = WebSocketLink(self, self._parts)
        self._link.uplink = self._accept(self._link)

    def _stop_waiting(self) -> None:
        if self._handshake_alarm is not None:
            self._handshake_alarm.cancel()
            self._handshake_alarm = None

    def dataReceived(self, data: bytes) -> None:
        """See `Protocol`."""
        self._bytes_came(len(data))
        super().dataReceived(data)
        if self.state != self.STATE_OPEN and self._link is not None:
            self._closing(self._link)

    def _bytes_came(self, count: int) -> None:
        self._parts.counters.transports["websocket"].bytes_received += count
        if self._link is not None and self._link.uplink is not None:
            self._link.uplink.heard()

    def _closing(self, link: WebSocketLink) -> None:
        """The closing handshake has begun: by the client, by us, or by Autobahn when the client broke RFC 6455."""
        link.websocket_closing()
        if self.failedByMe:
            self._break_off(MalformedFrame("a WebSocket frame that no client may send"))

    def onMessageBegin(self, isBinary: bool) -> None:
        """See Autobahn: a message begins."""
        self._message_bytes = 0
        if not isBinary:
            self._break_off(MalformedFrame("a text message: frames come in binary messages"))

    def onMessageFrameBegin(self, length: int) -> None:
        """See Autobahn: a frame of a message begins; none of it was read."""
        self._message_bytes += length
        limit = max(MIN_MESSAGE_LIMIT_BYTES, self._parts.max_payload_bytes + HEADER_BYTES)
        if self._message_bytes > limit:
            self._break_off(FrameTooLarge(self._message_bytes, limit))

    def onMessageFrameData(self, payload: bytes) -> None:
        """See Autobahn: some bytes of a frame, unmasked."""
        # Autobahn goes on reading what it has refused, to find the answer to its close.
        is_open = self.state == self.STATE_OPEN
        if is_open and self._decoder is not None and self._link is not None and self._link.uplink is not None:
            self._bytes_received(self._link.uplink, self._decoder, payload)

    def onMessageFrameEnd(self) -> None:
        """See Autobahn: nothing was gathered, so there is nothing to hand on."""

    def onMessageEnd(self) -> None:
        """See Autobahn: a message ends; a relay frame must not reach into the next one."""
        if self._decoder is not None and self._decoder.buffered_bytes:
            self._break_off(MalformedFrame("a message ends inside a frame"))

    def _bytes_received(self, uplink: IUplink, decoder: FrameDecoder, data: bytes) -> None:
        try:
            for frame in decoder.frames(data):
                uplink.frame_received(frame)
            uplink.read_ended()
        except RemoteProtocolError as error:
            self._break_off(error)
        except Exception:  # an unexpected error costs this connection, not the listener
            self._log.failure("handling what {peer} sent failed", peer=self.peer)
            self._decoder = None
            uplink.failed()

    def _break_off(self, error: RemoteProtocolError) -> None:
        if self._decoder is not None:
            self._decoder = None
            if self._link is not None and self._link.uplink is not None:
                self._link.uplink.protocol_broken(error)

    def send_close(self, code: int, text: str) -> None:
        """Begin the closing handshake; Autobahn closes the stream when the client has answered."""
        if self.state == self.STATE_OPEN:
            self.sendClose(code, text)
        else:
            stream: Any = self.transport
            stream.loseConnection()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """See Autobahn: the stream is gone."""
        self._stop_waiting()
        if self._link is not None:
            self._link.connection_lost(reason or "")


class NodeWebSocketFactory(WebSocketServerFactory):
    """Makes one `NodeWebSocketProtocol` for each connection.

    :param accept: see `meshrelay.session.connection.Reception.accept`.
    :param reactor: Autobahn keeps it; nothing here uses it.
    """

    noisy = False

    def __init__(
        self, accept: Callable[[IDownlink], IUplink | None], parts: StreamParts, rules: WebSocketRules, reactor: Any
    ) -> None:
        super().__init__(server="meshrelay", reactor=reactor)  # type: ignore[no-untyped-call]
        self._accept = accept
        self._parts = parts
        self._rules = rules
        self.setProtocolOptions(  # type: ignore[no-untyped-call]
            # We only ever accept what was masked, and never deflate: its windows cost more than all the rest.
            requireMaskedClientFrames=True,
            perMessageCompressionAccept=_refuse_compression,
            failByDrop=False,
            webStatus=False,
            # Whether a page without an origin may connect is for check_request to say.
            allowNullOrigin=True,
            versions=[13],
            autoPingInterval=0,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            tcpNoDelay=False,
        )

    def set_rules(self, rules: WebSocketRules) -> None:
        """Use these from now on; for a configuration that was reloaded."""
        self._rules = rules

    def buildProtocol(self, addr: Any) -> NodeWebSocketProtocol:
        """See `Factory`."""
        protocol = NodeWebSocketProtocol(self._accept, self._parts, self._rules)
        protocol.factory = self
        return protocol


def _refuse_compression(offers: object) -> None:
    """Accept no compression extension."""
