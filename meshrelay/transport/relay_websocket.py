"""Relay peers on WebSockets: ``GET /relay``, then one binary frame is one message of the relay.

::

    socket --> RelayHandshake (Autobahn) --> RelayStream --messages--> RelayPeer
    socket <-- DirectWriter <-- RelayQueue <-- RelayWebSocketLink <-- RelayServer

There is no closing handshake of our own: NetBird's ends drop the connection after CLOSE, or without it. A close frame
of a client is answered.

Source: NetBird's relay, commit ee253fedd; RFC 6455.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.background import Alarm, Alarms
from meshrelay.counters import TransportCounters
from meshrelay.relay.addresses import RELAY_PATH
from meshrelay.relay.errors import RelayEnd
from meshrelay.relay.interfaces import IRelayLink
from meshrelay.relay.server import RelayPeer
from meshrelay.transport.direct_write import DirectWriter
from meshrelay.transport.relay_alarm import watch_deadlines
from meshrelay.transport.relay_queue import MAX_WAITING_BYTES, RelayOutlet, RelayQueue
from meshrelay.transport.stream_link import CLOSE_SECONDS, peer_of
from meshrelay.transport.websocket_accept import (
    AcceptingFactory,
    AcceptingWebSocket,
    ConnectionRequest,
    refuse_websocket,
)
from meshrelay.transport.websocket_mask import fastest_unmask
from meshrelay.wire.relay import MAX_MESSAGE_BYTES
from meshrelay.wire.relay_websocket import RelayWebSocketDecoder
from meshrelay.wire.websocket import Opcode, encode_pong
from meshrelay.wire.websocket_decoder import OVERSIZED, BrokenWebSocket

__all__ = ["RelayStreamParts", "RelayWebSocketFactory", "RelayWebSocketLink"]

_BINARY = Opcode.BINARY.value
_FIN_CLOSE = 0x80 | Opcode.CLOSE.value


class RelayStreamParts(NamedTuple):
    """What all WebSockets of a relay server share."""

    accept: Callable[[IRelayLink], RelayPeer]
    outlet: RelayOutlet
    alarms: Alarms
    counters: TransportCounters
    unmask_long: Callable[[bytes, bytes], bytes]
    max_waiting_bytes: int = MAX_WAITING_BYTES


@implementer(IRelayLink)
class RelayWebSocketLink:
    """See `IRelayLink`.

    :param transport: a Twisted transport, connected.
    """

    __slots__ = ("_abort_alarm", "_alarms", "_queue", "_transport", "_writer", "offer", "remote_address")

    transport_name = "ws"
    max_message_bytes = MAX_MESSAGE_BYTES

    def __init__(self, transport: Any, parts: RelayStreamParts) -> None:
        self.remote_address = peer_of(transport)
        self._transport = transport
        self._alarms = parts.alarms
        self._abort_alarm: Alarm | None = None
        if ITCPTransport.providedBy(transport):
            # Messages of a read are joined by us: Nagle would only delay the last part.
            transport.setTcpNoDelay(True)
        self._writer = DirectWriter(transport, parts.counters)
        self._queue = RelayQueue(self._writer, parts.outlet, parts.counters, parts.max_waiting_bytes)
        self._writer.start(self._queue)
        #: See `IRelayLink`; the queue's own, as this is called for each message.
        self.offer = self._queue.offer

    def send(self, message: bytes) -> None:
        """See `IRelayLink`."""
        if not self._queue.send(message):
            self.abort()

    def pong(self, payload: bytes) -> None:
        """Answer a ping."""
        self._queue.send_pong(encode_pong(payload))

    def close(self) -> None:
        """See `IRelayLink`."""
        self._end(b"")

    def answer_close(self, payload: bytes) -> None:
        """Send what waits and the answer to a close frame, and close."""
        self._end(bytes((_FIN_CLOSE, len(payload))) + payload)

    def _end(self, last_frame: bytes) -> None:
        if self._abort_alarm is None:
            self._abort_alarm = self._alarms.call_later(CLOSE_SECONDS, self.abort)
            self._queue.finish(last_frame)
            self._writer.finish()

    def abort(self) -> None:
        """See `IRelayLink`."""
        self._queue.stop()
        self._writer.release()
        self._transport.abortConnection()

    def connection_lost(self) -> None:
        """The transport is gone."""
        self._queue.stop()
        if self._abort_alarm is not None:
            self._abort_alarm.cancel()


class RelayStream:
    """What comes from one peer after the opening handshake. The transport's protocol from then on."""

    __slots__ = ("_decoder", "_link", "_outlet", "_parts", "_peer", "_received")

    _log = Logger()

    def __init__(self, transport: Any, parts: RelayStreamParts) -> None:
        self._outlet = parts.outlet
        self._received = parts.counters
        self._decoder = RelayWebSocketDecoder(parts.unmask_long)
        self._link = RelayWebSocketLink(transport, parts)
        #: What has come of the message whose frame a read has cut; bounded by `MAX_MESSAGE_BYTES`.
        self._parts: list[bytes] = []
        self._peer = parts.accept(self._link)
        watch_deadlines(self._peer, parts.alarms)

    def dataReceived(self, data: bytes) -> None:
        """See `Protocol`."""
        outlet = self._outlet
        outlet.read_begins()
        try:
            self._bytes_received(data)
        finally:
            # Whatever went wrong here, the others' messages must not wait for it.
            outlet.read_ended()

    def _bytes_received(self, data: bytes) -> None:
        self._received.bytes_received += len(data)
        received = self._peer.message_received
        try:
            for kind, payload, is_end in self._decoder.pieces(data):
                if kind != _BINARY:
                    self._control_received(kind, payload)
                elif is_end and not self._parts:
                    received(payload)
                else:
                    self._part_received(payload, is_end)
        except BrokenWebSocket as error:
            self._peer.close(RelayEnd.BAD_MESSAGE, error.problem)
        except Exception:  # an unexpected error costs this connection, not the listener
            self._log.failure("handling what relay peer {address} sent failed", address=self._link.remote_address)
            self._peer.close(RelayEnd.BAD_MESSAGE, "the server failed")

    def _part_received(self, payload: bytes, is_end: bool) -> None:
        if self._peer.is_closed:
            return
        self._parts.append(payload)
        if is_end:
            message = b"".join(self._parts)
            self._parts.clear()
            self._peer.message_received(message)

    def _control_received(self, kind: int, payload: bytes) -> None:
        if kind == Opcode.PING:
            self._link.pong(payload)
        elif kind == Opcode.CLOSE:
            self._link.answer_close(payload)
            # At once: it would read nothing more of what comes until the transport is gone.
            self._peer.close(RelayEnd.PEER_CLOSED, "close frame of the client")
        elif kind == OVERSIZED:
            size = self._decoder.message_bytes
            self._parts.clear()
            self._peer.close(RelayEnd.BAD_MESSAGE, f"message of {size} bytes, {MAX_MESSAGE_BYTES} fit")

    def connectionLost(self, reason: Failure) -> None:
        """See `Protocol`."""
        self._link.connection_lost()
        self._peer.connection_lost(reason.getErrorMessage())


class RelayHandshake(AcceptingWebSocket):
    """The opening handshake of one WebSocket."""

    def __init__(self, parts: RelayStreamParts) -> None:
        super().__init__(parts.alarms)
        self._parts = parts

    def check_request(self, request: ConnectionRequest) -> None:
        """See `AcceptingWebSocket`: refuse what is not for the relay."""
        if request.path != RELAY_PATH:
            refuse_websocket(404, f"the relay is at {RELAY_PATH}")

    def make_stream(self, transport: Any) -> RelayStream:
        """See `AcceptingWebSocket`."""
        return RelayStream(transport, self._parts)


class RelayWebSocketFactory(AcceptingFactory):
    """Makes one `RelayHandshake` for each connection.

    :param reactor: see `AcceptingFactory`.
    """

    def __init__(
        self,
        accept: Callable[[IRelayLink], RelayPeer],
        outlet: RelayOutlet,
        alarms: Alarms,
        counters: TransportCounters,
        reactor: Any,
    ) -> None:
        # Any page may connect: who may use the relay is in the token.
        super().__init__(reactor)
        self._parts = RelayStreamParts(accept, outlet, alarms, counters, fastest_unmask())

    def buildProtocol(self, addr: Any) -> RelayHandshake:
        """See `Factory`."""
        protocol = RelayHandshake(self._parts)
        protocol.factory = self
        return protocol
