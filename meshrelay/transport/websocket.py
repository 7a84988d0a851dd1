"""Frames in binary WebSocket messages (client protocol, section 1; RFC 6455).

Autobahn does the opening and the closing handshake. In between nothing passes it: what comes is taken apart by
`meshrelay.wire.websocket_decoder`, outgoing messages are encoded once for all receivers by `meshrelay.wire.websocket`
and leave through the outbox, as do answers to pings. Received messages are never gathered: their bytes go to the frame
decoder as they come, so what a client can make us hold is one frame, as on TCP.

Three things of Autobahn's insides are used: ``data``, what came behind the opening handshake in the same read,
``onCloseFrame``, which answers a close frame, and ``sendCloseFrame``, which takes codes that ``sendClose`` does not.
Its own timers are off: deadlines are alarms of the node's clock.
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
from meshrelay.transport.websocket_mask import fastest_unmask
from meshrelay.wire.frame import HEADER_BYTES, FrameDecoder
from meshrelay.wire.prepared import Batch
from meshrelay.wire.websocket import Opcode, encode_message, encode_pong
from meshrelay.wire.websocket_decoder import (
    OVERSIZED,
    BrokenWebSocket,
    WebSocketDecoder,
    close_code_and_reason,
)

__all__ = [
    "MAX_HANDSHAKE_BYTES",
    "MIN_MESSAGE_LIMIT_BYTES",
    "NodeWebSocketFactory",
    "NodeWebSocketProtocol",
    "WebSocketLink",
    "WebSocketRules",
    "is_origin_allowed",
]

#: A message may be at least this long, however small max_payload_bytes is.
MIN_MESSAGE_LIMIT_BYTES = 1024 * 1024

#: A longer head of an opening handshake is no browser's.
MAX_HANDSHAKE_BYTES = 16 * 1024

#: Close code of a client that leaves by GOODBYE (RFC 6455, section 7.4.1).
NORMAL_CLOSURE = 1000

_BINARY = Opcode.BINARY.value


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
        self.outbox.push(batch.websocket, batch.count)

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
    """One WebSocket; made by `NodeWebSocketFactory`.

    :param unmask_long: see `WebSocketDecoder`.
    """

    _log = Logger()

    def __init__(
        self,
        accept: Callable[[IDownlink], IUplink | None],
        parts: StreamParts,
        rules: WebSocketRules,
        unmask_long: Callable[[bytes, bytes], bytes],
    ) -> None:
        super().__init__()
        self._accept = accept
        self._parts = parts
        self._rules = rules
        self._unmask_long = unmask_long
        self._counters = parts.counters.transports["websocket"]
        self._link: WebSocketLink | None = None
        self._messages: WebSocketDecoder | None = None
        #: None: what comes is passed over, but for the answer to our close.
        self._frames: FrameDecoder | None = None
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
        self._open()
        rest, self.data = self.data, b""
        if rest:
            self._bytes_received(rest)

    def _open(self) -> None:
        max_payload_bytes = self._parts.max_payload_bytes
        limit = max(MIN_MESSAGE_LIMIT_BYTES, max_payload_bytes + HEADER_BYTES)
        self._messages = WebSocketDecoder(limit, self._unmask_long)
        self._frames = FrameDecoder(max_payload_bytes)
        self._link = WebSocketLink(self, self._parts)
        self._link.uplink = self._accept(self._link)

    def _stop_waiting(self) -> None:
        if self._handshake_alarm is not None:
            self._handshake_alarm.cancel()
            self._handshake_alarm = None

    def dataReceived(self, data: bytes) -> None:
        """See `Protocol`."""
        self._counters.bytes_received += len(data)
        if self._link is None:
            self._handshake_received(data)
        else:
            self._bytes_received(data)

    def _handshake_received(self, data: bytes) -> None:
        super().dataReceived(data)
        # Autobahn keeps a head that has no end until the time is over, whatever its size.
        if self._link is None and len(self.data) > MAX_HANDSHAKE_BYTES:
            self._parts.counters.refused["handshake_bytes"] += 1
            self._stop_waiting()
            self.data = b""
            stream: Any = self.transport
            stream.abortConnection()

    def _bytes_received(self, data: bytes) -> None:
        link, messages = self._link, self._messages
        if link is None or messages is None or link.uplink is None:
            return
        uplink = link.uplink
        uplink.heard()
        try:
            for kind, payloads, is_end in messages.runs(data):
                if kind <= _BINARY:
                    self.messages_received(uplink, kind, payloads, is_end)
                else:
                    self._control_received(link, kind, payloads[0])
            uplink.read_ended()
        except BrokenWebSocket as error:
            self._websocket_broken(link, error)
        except Exception:  # an unexpected error costs this connection, not the listener
            self._failed(uplink)
        if self.state != self.STATE_OPEN:
            link.websocket_closing()

    def messages_received(self, uplink: IUplink, kind: int, payloads: list[bytes], is_end: bool) -> None:
        """Take whole messages, or one piece of one; see `WebSocketDecoder.runs`."""
        frames = self._frames
        # What was refused is still read, to find the answer to our close.
        if frames is None or self.state != self.STATE_OPEN:
            return
        if kind != _BINARY:
            self._break_off(MalformedFrame("a text message: frames come in binary messages"))
            return
        try:
            for run in frames.message_runs(payloads) if is_end else frames.runs(payloads[0]):
                uplink.run_received(run)
        except RemoteProtocolError as error:
            self._break_off(error)
        except Exception:  # as above; what follows in this read is still taken apart
            self._failed(uplink)

    def _failed(self, uplink: IUplink) -> None:
        self._log.failure("handling what {peer} sent failed", peer=self.peer)
        self._frames = None
        uplink.failed()

    def _control_received(self, link: WebSocketLink, kind: int, payload: bytes) -> None:
        if kind == Opcode.PING:
            # Not past the outbox: a client that asks and does not read would make us hold all the answers.
            link.outbox.send(encode_pong(payload), 0)
        elif kind == Opcode.CLOSE:
            # What was asked before is answered before.
            if link.uplink is not None:
                link.uplink.read_ended()
            link.outbox.flush()
            self.onCloseFrame(*close_code_and_reason(payload))  # type: ignore[arg-type]
        elif kind == OVERSIZED and self._messages is not None:
            self._break_off(FrameTooLarge(self._messages.message_bytes, self._messages.max_message_bytes))

    def _websocket_broken(self, link: WebSocketLink, error: BrokenWebSocket) -> None:
        """The client broke RFC 6455: tell it by a close frame, which is the last that it gets."""
        if self.state == self.STATE_OPEN:
            link.outbox.flush()
            self.sendCloseFrame(error.code, error.problem.encode("utf-8"))
        else:
            self._drop()
        link.websocket_closing()
        self._break_off(error)

    def _break_off(self, error: RemoteProtocolError) -> None:
        if self._frames is not None:
            self._frames = None
            if self._link is not None and self._link.uplink is not None:
                self._link.uplink.protocol_broken(error)

    def _drop(self) -> None:
        stream: Any = self.transport
        stream.loseConnection()

    def send_close(self, code: int, text: str) -> None:
        """Begin the closing handshake; Autobahn closes the stream when the client has answered."""
        if self.state == self.STATE_OPEN:
            self.sendClose(code, text)
        else:
            self._drop()

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
        self._unmask_long = fastest_unmask()
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
        protocol = NodeWebSocketProtocol(self._accept, self._parts, self._rules, self._unmask_long)
        protocol.factory = self
        return protocol


def _refuse_compression(offers: object) -> None:
    """Accept no compression extension."""
