"""What TCP and WebSocket share as `IDownlink`: outbox, pausing, and closing in the right order."""

from __future__ import annotations

from typing import Any, NamedTuple

from twisted.internet.interfaces import ITCPTransport
from zope.interface import implementer

from meshrelay.background import Alarm, Alarms
from meshrelay.counters import NodeCounters
from meshrelay.fanout.outbox import Outbox, OutboxLimits
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IDownlink, IUplink
from meshrelay.model import CloseReason
from meshrelay.transport.direct_write import DirectWriter
from meshrelay.wire.commands import CORE_VER, CoreCommand, encode_goodbye
from meshrelay.wire.frame import encode_push
from meshrelay.wire.prepared import Batch

__all__ = ["CLOSE_SECONDS", "StreamLink", "StreamParts", "goodbye_frame", "peer_of", "shown_address"]

#: How long a client may take to read what it is still owed, and to close its end.
CLOSE_SECONDS = 5.0


class StreamParts(NamedTuple):
    """What every stream link of a node shares."""

    turn: Turn
    alarms: Alarms
    limits: OutboxLimits
    counters: NodeCounters
    max_payload_bytes: int


def goodbye_frame(reason: CloseReason, text: str) -> bytes:
    """Return the push that is sent just before a connection is closed."""
    return encode_push(CORE_VER, CoreCommand.GOODBYE, encode_goodbye(reason.code, text))


def peer_of(transport: Any) -> str:
    """The address of the other end for logs: host:port, or the kind of address where it has none."""
    address = transport.getPeer()
    host = getattr(address, "host", None)
    return shown_address(host, address.port) if host is not None else type(address).__name__


def shown_address(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs in front of a port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@implementer(IDownlink)
class StreamLink:
    """See `IDownlink`. A subclass says how frames are wrapped and what the end of a connection looks like.

    :param transport: the Twisted transport of the connection, connected.
    """

    transport_name = ""
    #: See `IDownlink`: whoever speaks over a stream has none.
    udp_address: tuple[str, int] | None = None

    __slots__ = ("_abort_alarm", "_alarms", "_transport", "_writer", "outbox", "uplink")

    def __init__(self, transport: Any, parts: StreamParts) -> None:
        self.uplink: IUplink | None = None
        self._transport = transport
        self._alarms = parts.alarms
        self._abort_alarm: Alarm | None = None
        counters = parts.counters.transports[self.transport_name]
        if ITCPTransport.providedBy(transport):
            # Batches are ours to make: Nagle would only delay the last part of each.
            transport.setTcpNoDelay(True)
        self._writer = DirectWriter(transport, counters)
        self.outbox = Outbox(
            self._writer, parts.turn, parts.limits, counters, parts.counters, self._overflowed, self._dropped
        )
        self._writer.start(self.outbox)

    @property
    def peer(self) -> str:
        """See `IDownlink`; asked when it is wanted, for ``haproxy:`` knows it only when the first bytes have come."""
        return peer_of(self._transport)

    @property
    def queued_bytes(self) -> int:
        """See `IDownlink`."""
        return self.outbox.waiting_bytes + self._writer.buffered_bytes

    def send_batch(self, batch: Batch) -> None:
        """See `IDownlink`."""
        raise NotImplementedError

    def send_frame(self, frame: bytes, count: int = 1) -> None:
        """See `IDownlink`."""
        raise NotImplementedError

    def send_probe(self, frame: bytes) -> None:
        """See `IDownlink`."""
        self.send_frame(frame)

    def undelivered(self) -> None:
        """See `IDownlink`: a stream does not tell what its other end has read."""

    def _everything_written(self, reason: CloseReason | None, text: str) -> None:
        """All that the client is owed is with the transport: end the connection."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """See `IDownlink`."""
        self._transport.pauseProducing()

    def resume_reading(self) -> None:
        """See `IDownlink`."""
        self._transport.resumeProducing()

    def _overflowed(self, queued_bytes: int) -> None:
        if self.uplink is not None:
            self.uplink.outbox_overflowed(queued_bytes)

    def _dropped(self, count: int) -> None:
        if self.uplink is not None:
            self.uplink.pushes_dropped(count)

    def close(self, reason: CloseReason | None, text: str) -> None:
        """See `IDownlink`."""
        if self._abort_alarm is not None:
            return
        self._abort_alarm = self._alarms.call_later(CLOSE_SECONDS, self.abort)
        if reason is CloseReason.SLOW_CONSUMER:
            # It has not read what it has; the little it may still read says why it is closed.
            self.outbox.discard()
        if reason is not None:
            self.send_frame(goodbye_frame(reason, text))
        self.outbox.finish(lambda: self._everything_written(reason, text))

    def abort(self) -> None:
        """See `IDownlink`."""
        self.outbox.stop()
        self._writer.release()
        self._transport.abortConnection()

    def connection_lost(self, detail: str) -> None:
        """The transport is gone; called by the protocol."""
        self.outbox.stop()
        if self._abort_alarm is not None:
            self._abort_alarm.cancel()
        if self.uplink is not None:
            self.uplink.connection_lost(detail)
            self.uplink = None
