"""WebSocket connections of the client library: the one place of its side that knows Autobahn.

What is written in one turn of the reactor goes out as one binary message: a message costs tens of microseconds here
whatever it holds. Autobahn's own timers are all off. They run on the global reactor, which need not be the one that
this connection lives on, and the owner has deadlines of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["WebSocketLink", "WebSocketRefused", "open_websocket"]

#: Largest message taken from a node; it merges frames up to 64 KiB, a single one may be longer.
MAX_MESSAGE_BYTES = (1 << 20) + 12

#: What is gathered in a turn goes out at once when there is this much, so that the transport can ask to pause.
_GATHER_BYTES = 65536

_NORMAL_CLOSURE = 1000


class WebSocketReceiver(Protocol):
    """Who owns a connection; the same calls as for every link of a client."""

    def data_received(self, data: bytes) -> None:
        """One binary message."""

    def link_lost(self, code: int | None, text: str) -> None:
        """The connection is gone; `code` is the close code when the node sent one."""

    def writing_paused(self) -> None:
        """What is written from now on piles up."""

    def writing_resumed(self) -> None:
        """What was written is out."""


class WebSocketRefused(Exception):
    """The opening handshake did not work; the text says what the other end answered."""


@implementer(IPushProducer)
class WebSocketLink(WebSocketClientProtocol):
    """Frames in binary messages.

    :param opened: fires with this link after the opening handshake.
    """

    def __init__(self, reactor: Any, receiver: WebSocketReceiver, opened: Deferred[WebSocketLink]) -> None:
        super().__init__()
        self._reactor = reactor
        self._receiver: WebSocketReceiver | None = receiver
        self._stream: Any = None
        self._opened: Deferred[WebSocketLink] | None = opened
        self._closing: Deferred[None] | None = None
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0

    def write(self, frames: Sequence[bytes]) -> None:
        """Send whole frames, at the end of this turn."""
        if self._receiver is None:
            return
        if not self._gathered:
            self._reactor.callLater(0, self._flush)
        self._gathered.extend(frames)
        self._gathered_bytes += sum(map(len, frames))
        if self._gathered_bytes >= _GATHER_BYTES:
            self._flush()

    def close(self) -> Deferred[None]:
        """Send what was written, then close. Fires when it is closed; cancelling it closes at once."""
        self._flush()
        if self._receiver is None:
            return succeed(None)
        self._receiver = None
        self._closing = Deferred(lambda _: self.abort())
        # A transport that has a producer waits for it to end.
        self._stream.unregisterProducer()
        self.sendClose(_NORMAL_CLOSURE)
        return self._closing

    def abort(self) -> None:
        """Close now."""
        self._receiver = None
        if self._stream is not None:
            self._stream.abortConnection()

    def connectionMade(self) -> None:
        self._stream = self.transport
        super().connectionMade()

    def onOpen(self) -> None:
        self._stream.setTcpNoDelay(True)
        self._stream.registerProducer(self, True)
        opened, self._opened = self._opened, None
        if opened is not None and not opened.called:
            opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._receiver is not None and isBinary:
            self._receiver.data_received(payload)
        elif not isBinary:
            self._stream.abortConnection()
            self._closed(None, "the node does not follow the protocol: a text message")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        # A code that never came over the wire is made up by Autobahn: it is the local view of a broken connection.
        self._closed(self.remoteCloseCode, self.remoteCloseReason or reason or "connection closed")

    def pauseProducing(self) -> None:
        if self._receiver is not None:
            self._receiver.writing_paused()

    def resumeProducing(self) -> None:
        if self._receiver is not None:
            self._receiver.writing_resumed()

    def stopProducing(self) -> None:
        """The transport is gone; onClose follows."""

    def _flush(self) -> None:
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        if gathered and self._receiver is not None:
            message = gathered[0] if len(gathered) == 1 else b"".join(gathered)
            self.sendMessage(message, isBinary=True)  # type: ignore[no-untyped-call]

    def _closed(self, code: int | None, text: str) -> None:
        receiver, self._receiver = self._receiver, None
        opened, self._opened = self._opened, None
        if opened is not None and not opened.called:
            opened.errback(WebSocketRefused(text))
        elif receiver is not None:
            receiver.link_lost(code, text)
        if self._closing is not None and not self._closing.called:
            self._closing.callback(None)


def open_websocket(
    reactor: Any, endpoint: IStreamClientEndpoint, url: str, receiver: WebSocketReceiver, user_agent: str
) -> Deferred[WebSocketLink]:
    """Connect to `endpoint` and shake hands.

    :param url: ``ws://host:port/path``; only said to the node, the endpoint decides where to connect.
    :returns: fires with the link, or fails with what the endpoint says or `WebSocketRefused`.
    """
    factory = WebSocketClientFactory(url, useragent=user_agent, reactor=reactor)
    factory.noisy = False
    factory.setProtocolOptions(
        maxMessagePayloadSize=MAX_MESSAGE_BYTES,
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
        serverConnectionDropTimeout=0,
        autoPingInterval=0,
    )
    connections: list[WebSocketLink] = []

    def cancelled(_: Deferred[WebSocketLink]) -> None:
        connecting.cancel()
        for connection in connections:
            connection.abort()

    opened: Deferred[WebSocketLink] = Deferred(cancelled)

    def build() -> WebSocketLink:
        connections.append(WebSocketLink(reactor, receiver, opened))
        return connections[-1]

    def failed(failure: Failure) -> None:
        if not opened.called:
            opened.errback(failure)

    factory.protocol = build  # type: ignore[assignment]
    connecting = endpoint.connect(factory)
    connecting.addErrback(failed)
    return opened
