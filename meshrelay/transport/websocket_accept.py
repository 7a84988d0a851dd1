"""The opening handshake of WebSockets that then go on without Autobahn: a request comes in, a smaller protocol goes on.

::

    socket --> AcceptingWebSocket (Autobahn) --> what `make_stream` returns

Autobahn is put away when the handshake is done, which is what lets ten thousand idle connections fit. Its timers are
off: the deadline is an alarm of the node's clock.

Source: RFC 6455, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.python.failure import Failure

from meshrelay.background import Alarm, Alarms
from meshrelay.transport.hand_over import hand_over

__all__ = [
    "HANDSHAKE_SECONDS",
    "MAX_HANDSHAKE_BYTES",
    "AcceptingFactory",
    "AcceptingWebSocket",
    "ConnectionRequest",
    "WebSocketStream",
    "refuse_websocket",
]

#: The opening handshake must be done by then, as with NetBird's server.
HANDSHAKE_SECONDS = 5.0

#: An opening handshake that is longer, and not over, ends the connection; browsers send some hundred bytes.
MAX_HANDSHAKE_BYTES = 16 * 1024


class WebSocketStream(Protocol):
    """What takes over."""

    def dataReceived(self, data: bytes) -> None:
        """See `twisted.internet.interfaces.IProtocol`."""

    def connectionLost(self, reason: Failure) -> None:
        """See `twisted.internet.interfaces.IProtocol`."""


class AcceptingWebSocket(WebSocketServerProtocol):
    """The opening handshake of one WebSocket."""

    def __init__(self, alarms: Alarms) -> None:
        super().__init__()
        self._alarms = alarms
        self._alarm: Alarm | None = None
        self._stream: WebSocketStream | None = None

    def check_request(self, request: ConnectionRequest) -> None:
        """Let the handshake go on, or call `refuse_websocket`."""

    def make_stream(self, transport: Any) -> WebSocketStream:
        """The handshake is done: return what takes over. Nothing is given to it before this returns."""
        raise NotImplementedError

    def broken_off(self, why: str) -> None:
        """The handshake took too long ("handshake_timeout") or too much ("handshake_bytes")."""

    def handshake_ended(self) -> None:
        """There is a stream now, or the connection is gone. Called once."""

    def connectionMade(self) -> None:
        """See `Protocol`."""
        super().connectionMade()
        self._alarm = self._alarms.call_later(HANDSHAKE_SECONDS, lambda: self._break_off("handshake_timeout"))

    def _break_off(self, why: str) -> None:
        self.broken_off(why)
        self.data = b""
        self.drop()

    def drop(self) -> None:
        """Close the connection without a word."""
        stream: Any = self.transport
        stream.abortConnection()

    def onConnect(self, request: ConnectionRequest) -> None:
        """See Autobahn: refuse what is not to come in."""
        self.check_request(request)

    def onOpen(self) -> None:
        """See Autobahn: the handshake is done."""
        self._begin()

    def _begin(self) -> None:
        self._stop_waiting()
        transport: Any = self.transport
        stream = self._stream = self.make_stream(transport)
        rest, self.data = self.data, b""
        hand_over(transport, self, stream)
        if rest:
            stream.dataReceived(rest)

    def _stop_waiting(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self.handshake_ended()

    def dataReceived(self, data: bytes) -> None:
        """See `Protocol`; after the handshake for transports that do not take another protocol."""
        if self._stream is not None:
            self._stream.dataReceived(data)
        else:
            super().dataReceived(data)
            self._check_head()

    def _check_head(self) -> None:
        # Autobahn keeps, and searches again and again, whatever comes until the head is over.
        if self._stream is None and len(self.data) > MAX_HANDSHAKE_BYTES:
            self._break_off("handshake_bytes")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """See `Protocol`."""
        self._stop_waiting()
        super().connectionLost(reason)
        if self._stream is not None:
            self._stream.connectionLost(reason)


def refuse_websocket(status: int, text: str) -> NoReturn:
    """Let an opening handshake fail.

    :param status: of HTTP; the other end gets it, and the text.
    """
    raise ConnectionDeny(status, text)


class AcceptingFactory(WebSocketServerFactory):
    """Its protocols are `AcceptingWebSocket`: no compression, no timers, any origin.

    :param reactor: Autobahn keeps it; nothing here uses it.
    :param headers: of each answer, beside those of WebSocket.
    """

    noisy = False

    def __init__(self, reactor: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(server="meshrelay", headers=dict(headers or {}), reactor=reactor)  # type: ignore[no-untyped-call]
        self.setProtocolOptions(  # type: ignore[no-untyped-call]
            requireMaskedClientFrames=True,
            perMessageCompressionAccept=_refuse_compression,
            webStatus=False,
            # Whether a page may connect is for `check_request` to say.
            allowedOrigins=["*"],
            allowNullOrigin=True,
            versions=[13],
            autoPingInterval=0,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            tcpNoDelay=False,
        )


def _refuse_compression(offers: object) -> None:
    """Accept no compression extension."""
