"""The opening handshake of client WebSockets, whatever goes over them afterwards: an endpoint -> an open connection.

=====================  ==========================================================================
OpeningWebSocket       the handshake alone; who inherits it says what becomes of the connection
MessageWebSocket       goes on with Autobahn: messages, pauses, and the end
open_client_websocket  connects, and takes everything back when it is cancelled
=====================  ==========================================================================

Autobahn's own timers are all off. They run on the global reactor, which need not be the one that this connection lives
on, and whoever opens a connection has deadlines of its own. No compression is offered.

Source: RFC 6455, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.types import ConnectionResponse
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = [
    "MAX_ANSWER_BYTES",
    "ClientHandshake",
    "FlowReceiver",
    "MessageWebSocket",
    "OpeningWebSocket",
    "WebSocketRefused",
    "open_client_websocket",
]

#: A server whose answer is longer, and not over, is none of WebSockets.
MAX_ANSWER_BYTES = 16 * 1024

T = TypeVar("T")


class FlowReceiver(Protocol):
    """Who is told when to wait."""

    def writing_paused(self) -> None:
        """What is written from now on piles up."""

    def writing_resumed(self) -> None:
        """What was written is out."""


R = TypeVar("R", bound=FlowReceiver)


class WebSocketRefused(Exception):
    """The opening handshake did not work; the text says what the other end answered."""


class ClientHandshake(NamedTuple):
    """What a server is asked for."""

    #: ``ws://host:port/path``; only said to the server, the endpoint decides where to connect.
    url: str
    user_agent: str
    #: Longer messages end the connection, as long as Autobahn has it.
    max_message_bytes: int
    headers: Mapping[str, str] | None = None


class OpeningWebSocket(WebSocketClientProtocol):
    """One connection until its handshake is done.

    :param opened: fires with what `websocket_opened` returns, or fails with `WebSocketRefused`.
    """

    def __init__(self, opened: Deferred[Any]) -> None:
        super().__init__()
        self._stream: Any = None
        self._opened: Deferred[Any] | None = opened

    def websocket_opened(self) -> Any:
        """The handshake is done; return what the opener gets."""
        return self

    def answer_received(self, headers: Mapping[str, str]) -> None:
        """The other end takes the connection; `websocket_opened` follows.

        :param headers: of its answer, with names in lower case.
        """

    def abort(self) -> None:
        """Close now."""
        if self._stream is not None:
            self._stream.abortConnection()

    def connectionMade(self) -> None:
        self._stream = self.transport
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        try:
            super().dataReceived(data)
        except UnicodeDecodeError:  # Autobahn reads the answer for its log, and does not expect this
            self._give_up("the answer to the opening handshake is no text")
        self._check_answer()

    def _check_answer(self) -> None:
        # Autobahn keeps, and searches again and again, whatever comes until the head is over.
        if self._opened is not None and len(self.data) > MAX_ANSWER_BYTES:
            self._give_up("the answer to the opening handshake does not end")

    def _give_up(self, text: str) -> None:
        self.data = b""
        self.refused(text)
        self.abort()

    def onConnect(self, response: ConnectionResponse) -> None:
        self.answer_received(response.headers)

    def onOpen(self) -> None:
        self._open()

    def _open(self) -> None:
        result = self.websocket_opened()
        opened, self._opened = self._opened, None
        if opened is not None and not opened.called:
            opened.callback(result)

    def refused(self, text: str) -> bool:
        """The connection is gone.

        :returns: False: it was open before.
        """
        opened, self._opened = self._opened, None
        if opened is None or opened.called:
            return False
        opened.errback(WebSocketRefused(text))
        return True

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.refused(reason or "connection closed")


@implementer(IPushProducer)
class MessageWebSocket(OpeningWebSocket, Generic[R]):
    """One connection whose messages are Autobahn's business. `R` is what its owner is told."""

    def __init__(self, opened: Deferred[Any]) -> None:
        super().__init__(opened)
        #: None: the owner is told nothing, or nothing any more.
        self._receiver: R | None = None
        self._closing: Deferred[None] | None = None
        #: The connection is gone, or `begin_closing` was called.
        self.is_gone = False

    def message_received(self, receiver: R, message: bytes) -> None:
        """One binary message came."""
        raise NotImplementedError

    def websocket_lost(self, receiver: R, code: int | None, text: str) -> None:
        """The connection, which was open, is gone.

        :param code: of a close frame of the other end.
        """
        raise NotImplementedError

    def begin_closing(self, closing: Deferred[None]) -> Deferred[None]:
        """Tell the owner nothing more; `closing`, which is returned, fires when the connection is gone."""
        self.is_gone = True
        self._receiver = None
        self._closing = closing
        # A transport that has a producer waits for it to end.
        self._stream.unregisterProducer()
        return closing

    def websocket_opened(self) -> Any:
        """See `OpeningWebSocket`."""
        self._stream.setTcpNoDelay(True)
        self._stream.registerProducer(self, True)
        return self

    def abort(self) -> None:
        """Close now."""
        self._receiver = None
        super().abort()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if not isBinary:
            self._stream.abortConnection()
            self._closed(None, "the other end does not follow the protocol: a text message")
        elif self._receiver is not None:
            self.message_received(self._receiver, payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        # A code that never came over the wire is made up by Autobahn: it is the local view of a broken connection.
        self._closed(self.remoteCloseCode, self.remoteCloseReason or reason or "connection closed")

    def _closed(self, code: int | None, text: str) -> None:
        self.is_gone = True
        receiver, self._receiver = self._receiver, None
        if not self.refused(text) and receiver is not None:
            self.websocket_lost(receiver, code, text)
        if self._closing is not None and not self._closing.called:
            self._closing.callback(None)

    def pauseProducing(self) -> None:
        if self._receiver is not None:
            self._receiver.writing_paused()

    def resumeProducing(self) -> None:
        if self._receiver is not None:
            self._receiver.writing_resumed()

    def stopProducing(self) -> None:
        """The transport is gone; onClose follows."""


def open_client_websocket(
    reactor: Any,
    endpoint: IStreamClientEndpoint,
    handshake: ClientHandshake,
    make: Callable[[Deferred[T]], OpeningWebSocket],
) -> Deferred[T]:
    """Connect to `endpoint` and shake hands.

    :param make: called with the Deferred that is returned, which is for the protocol to fire.
    :returns: see `OpeningWebSocket`; fails also with what the endpoint says. Cancelling it leaves nothing behind.
    :raises ValueError: the URL is none of a WebSocket.
    """
    factory = _factory_of(reactor, handshake)
    connections: list[OpeningWebSocket] = []

    def cancelled(_: Deferred[T]) -> None:
        connecting.cancel()
        for connection in connections:
            connection.abort()

    opened: Deferred[T] = Deferred(cancelled)

    def build() -> OpeningWebSocket:
        connections.append(make(opened))
        return connections[-1]

    def failed(failure: Failure) -> None:
        if not opened.called:
            opened.errback(failure)

    def ended(result: T) -> T:
        # The transport keeps the factory, and with it what is named here, as long as it lives.
        connections.clear()
        return result

    factory.protocol = build  # type: ignore[assignment]
    connecting = endpoint.connect(factory)
    # The transport keeps this as well, and would keep the protocol if it were left as the result.
    connecting.addCallbacks(lambda _: None, failed)
    return opened.addBoth(ended)


def _factory_of(reactor: Any, handshake: ClientHandshake) -> WebSocketClientFactory:
    url = urlsplit(handshake.url)
    factory = WebSocketClientFactory(
        handshake.url, useragent=handshake.user_agent, headers=dict(handshake.headers or {}), reactor=reactor
    )
    # Autobahn leaves out the brackets of an IPv6 address, and what stands behind a semicolon.
    if ":" in factory.host:
        factory.host = f"[{factory.host}]"
    factory.resource = (url.path or "/") + (f"?{url.query}" if url.query else "")
    factory.noisy = False
    factory.setProtocolOptions(
        maxMessagePayloadSize=handshake.max_message_bytes,
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
        serverConnectionDropTimeout=0,
        autoPingInterval=0,
    )
    return factory
