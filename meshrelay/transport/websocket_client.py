"""WebSocket connections of the client library.

What is written in one turn of the reactor goes out as one binary message: a message costs tens of microseconds here
whatever it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint

from meshrelay.transport.websocket_open import (
    ClientHandshake,
    FlowReceiver,
    MessageWebSocket,
    WebSocketRefused,
    open_client_websocket,
)

__all__ = ["WebSocketLink", "WebSocketRefused", "open_websocket"]

#: Largest message taken from a node; it merges frames up to 64 KiB, a single one may be longer.
MAX_MESSAGE_BYTES = (1 << 20) + 12

#: What is gathered in a turn goes out at once when there is this much, so that the transport can ask to pause.
_GATHER_BYTES = 65536

_NORMAL_CLOSURE = 1000


class WebSocketReceiver(FlowReceiver, Protocol):
    """Who owns a connection; the same calls as for every link of a client."""

    def data_received(self, data: bytes) -> None:
        """One binary message."""

    def link_lost(self, code: int | None, text: str) -> None:
        """The connection is gone; `code` is the close code when the node sent one."""


class WebSocketLink(MessageWebSocket[WebSocketReceiver]):
    """Frames in binary messages.

    :param opened: fires with this link after the opening handshake.
    """

    def __init__(self, reactor: Any, receiver: WebSocketReceiver, opened: Deferred[WebSocketLink]) -> None:
        super().__init__(opened)
        self._reactor = reactor
        self._receiver = receiver
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
        closing = self.begin_closing(Deferred(lambda _: self.abort()))
        self.sendClose(_NORMAL_CLOSURE)
        return closing

    def message_received(self, receiver: WebSocketReceiver, message: bytes) -> None:
        """See `MessageWebSocket`."""
        receiver.data_received(message)

    def websocket_lost(self, receiver: WebSocketReceiver, code: int | None, text: str) -> None:
        """See `MessageWebSocket`."""
        receiver.link_lost(code, text)

    def _flush(self) -> None:
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        if gathered and self._receiver is not None:
            message = gathered[0] if len(gathered) == 1 else b"".join(gathered)
            self.sendMessage(message, isBinary=True)  # type: ignore[no-untyped-call]


def open_websocket(
    reactor: Any, endpoint: IStreamClientEndpoint, url: str, receiver: WebSocketReceiver, user_agent: str
) -> Deferred[WebSocketLink]:
    """Connect to `endpoint` and shake hands.

    :param url: ``ws://host:port/path``; only said to the node, the endpoint decides where to connect.
    :returns: fires with the link, or fails with what the endpoint says or `WebSocketRefused`.
    """
    handshake = ClientHandshake(url, user_agent, MAX_MESSAGE_BYTES)
    return open_client_websocket(reactor, endpoint, handshake, lambda opened: WebSocketLink(reactor, receiver, opened))
