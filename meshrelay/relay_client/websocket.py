"""WebSocket connections of relay clients: one message is one unfragmented binary frame.

The owner has deadlines of its own. A NetBird server expects no close frame: a connection ends with that of TCP.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint

from meshrelay.relay_client.interfaces import RelayLinkReceiver
from meshrelay.transport.websocket_open import (
    ClientHandshake,
    MessageWebSocket,
    WebSocketRefused,
    open_client_websocket,
)
from meshrelay.wire.relay import MAX_MESSAGE_BYTES

__all__ = ["RelayWebSocket", "WebSocketRefused", "open_relay_websocket", "plain_ip"]

#: How long `close` waits until what was sent is out.
_CLOSE_SECONDS = 3.0

_MAPPED_IPV4 = "::ffff:"


def plain_ip(address: Any) -> str:
    """Return the IP of an `IAddress`; an IPv4 address inside an IPv6 one is unwrapped, what is no IP is ""."""
    host: str = getattr(address, "host", "")
    inner = host.removeprefix(_MAPPED_IPV4)
    return inner if "." in inner else host


class RelayWebSocket(MessageWebSocket[RelayLinkReceiver]):
    """See `meshrelay.relay_client.interfaces.RelayLink`.

    :param opened: fires with this link after the opening handshake.
    """

    transport_name = "ws"
    max_message_bytes = MAX_MESSAGE_BYTES

    def __init__(self, reactor: Any, opened: Deferred[RelayWebSocket]) -> None:
        super().__init__(opened)
        self._reactor = reactor

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
        if self.is_gone:
            return succeed(None)
        closing = self.begin_closing(Deferred())
        timer = self._reactor.callLater(_CLOSE_SECONDS, self._stream.abortConnection)
        closing.addBoth(lambda _: timer.cancel() if timer.active() else None)
        self._stream.loseConnection()
        return closing

    def message_received(self, receiver: RelayLinkReceiver, message: bytes) -> None:
        """See `MessageWebSocket`."""
        receiver.message_received(message)

    def websocket_lost(self, receiver: RelayLinkReceiver, code: int | None, text: str) -> None:
        """See `MessageWebSocket`."""
        receiver.link_lost(text)


def open_relay_websocket(
    reactor: Any, endpoint: IStreamClientEndpoint, url: str, user_agent: str
) -> Deferred[RelayWebSocket]:
    """Connect to `endpoint` and shake hands.

    :param url: ``ws://host:port/relay``; only said to the server, the endpoint decides where to connect.
    :returns: fires with the link, or fails with what the endpoint says or `WebSocketRefused`. Cancelling it leaves
        nothing behind.
    """
    handshake = ClientHandshake(url, user_agent, MAX_MESSAGE_BYTES)
    return open_client_websocket(reactor, endpoint, handshake, lambda opened: RelayWebSocket(reactor, opened))
