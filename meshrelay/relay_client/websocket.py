"""WebSocket connections of relay clients: one message is one unfragmented binary frame. Here, and nowhere else in this
package, Autobahn is known.

Autobahn's own timers are off: they run on the global reactor, and the owner has deadlines of its own. A NetBird server
expects no close frame: a connection ends with that of TCP.
"""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.relay_client.interfaces import RelayLinkReceiver
from meshrelay.wire.relay import MAX_MESSAGE_BYTES

__all__ = ["RelayWebSocket", "WebSocketRefused", "open_relay_websocket", "plain_ip"]

#: How long `close` waits until what was sent is out.
_CLOSE_SECONDS = 3.0

_MAPPED_IPV4 = "::ffff:"


class WebSocketRefused(Exception):
    """The opening handshake did not work; the text says what the other end answered."""


def plain_ip(address: Any) -> str:
    """Return the IP of an `IAddress`; an IPv4 address inside an IPv6 one is unwrapped, what is no IP is ""."""
    host: str = getattr(address, "host", "")
    inner = host.removeprefix(_MAPPED_IPV4)
    return inner if "." in inner else host


@implementer(IPushProducer)
class RelayWebSocket(WebSocketClientProtocol):
    """See `meshrelay.relay_client.interfaces.RelayLink`.

    :param opened: fires with this link after the opening handshake.
    """

    transport_name = "ws"
    max_message_bytes = MAX_MESSAGE_BYTES

    def __init__(self, reactor: Any, opened: Deferred[RelayWebSocket]) -> None:
        super().__init__()
        self._reactor = reactor
        self._receiver: RelayLinkReceiver | None = None
        self._stream: Any = None
        self._opened: Deferred[RelayWebSocket] | None = opened
        self._closing: Deferred[None] | None = None
        self._is_gone = False

    @property
    def host(self) -> Any:
        """See `RelayLink`."""
        return self._stream.getHost()

    @property
    def peer_ip(self) -> str:
        """See `RelayLink`."""
        return plain_ip(self._stream.getPeer())

    def start(self, receiver: RelayLinkReceiver) -> None:
        """See `RelayLink`."""
        self._receiver = receiver

    def send(self, message: bytes) -> None:
        """See `RelayLink`."""
        if self._receiver is not None and self.state == self.STATE_OPEN:
            self.sendMessage(message, isBinary=True)  # type: ignore[no-untyped-call]

    def close(self) -> Deferred[None]:
        """See `RelayLink`."""
        if self._is_gone or self._closing is not None:
            return succeed(None)
        self._receiver = None
        closing: Deferred[None] = Deferred()
        self._closing = closing
        timer = self._reactor.callLater(_CLOSE_SECONDS, self._stream.abortConnection)
        closing.addBoth(lambda _: timer.cancel() if timer.active() else None)
        # A transport that has a producer waits for it to end.
        self._stream.unregisterProducer()
        self._stream.loseConnection()
        return closing

    def abort(self) -> None:
        """See `RelayLink`."""
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
            self._receiver.message_received(payload)
        elif not isBinary:
            self._stream.abortConnection()
            self._closed("the server does not follow the protocol: a text message")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._closed(self.remoteCloseReason or reason or "connection closed")

    def pauseProducing(self) -> None:
        if self._receiver is not None:
            self._receiver.writing_paused()

    def resumeProducing(self) -> None:
        if self._receiver is not None:
            self._receiver.writing_resumed()

    def stopProducing(self) -> None:
        """The transport is gone; onClose follows."""

    def _closed(self, text: str) -> None:
        receiver, self._receiver = self._receiver, None
        opened, self._opened = self._opened, None
        self._is_gone = True
        if self._closing is not None and not self._closing.called:
            self._closing.callback(None)
        if opened is not None and not opened.called:
            opened.errback(WebSocketRefused(text))
        elif receiver is not None:
            receiver.link_lost(text)


def open_relay_websocket(
    reactor: Any, endpoint: IStreamClientEndpoint, url: str, user_agent: str
) -> Deferred[RelayWebSocket]:
    """Connect to `endpoint` and shake hands.

    :param url: ``ws://host:port/relay``; only said to the server, the endpoint decides where to connect.
    :returns: fires with the link, or fails with what the endpoint says or `WebSocketRefused`. Cancelling it leaves
        nothing behind.
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
    connections: list[RelayWebSocket] = []

    def cancelled(_: Deferred[RelayWebSocket]) -> None:
        connecting.cancel()
        for connection in connections:
            connection.abort()

    opened: Deferred[RelayWebSocket] = Deferred(cancelled)

    def build() -> RelayWebSocket:
        connections.append(RelayWebSocket(reactor, opened))
        return connections[-1]

    def failed(failure: Failure) -> None:
        if not opened.called:
            opened.errback(failure)

    factory.protocol = build  # type: ignore[assignment]
    connecting = endpoint.connect(factory)
    connecting.addErrback(failed)
    return opened
