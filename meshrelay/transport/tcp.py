"""Frames back to back on a TCP, TLS or Unix stream (client protocol, section 1)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress, ITCPTransport, ITLSTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.errors import RemoteProtocolError
from meshrelay.interfaces import IDownlink, IUplink
from meshrelay.model import CloseReason
from meshrelay.transport.stream_link import StreamLink, StreamParts
from meshrelay.wire.frame import FrameDecoder
from meshrelay.wire.prepared import Batch

__all__ = ["TcpFactory", "TcpLink", "TcpProtocol"]


class TcpLink(StreamLink):
    """`IDownlink` of one stream."""

    transport_name = "tcp"

    __slots__ = ()

    def send_batch(self, batch: Batch) -> None:
        """See `IDownlink`."""
        self.outbox.push(batch.stream, batch.count)

    def send_frame(self, frame: bytes, count: int = 1) -> None:
        """See `IDownlink`."""
        self.outbox.send(frame, count)

    def _everything_written(self, reason: CloseReason | None, text: str) -> None:
        transport = self._transport
        if reason is None or not ITCPTransport.providedBy(transport) or ITLSTransport.providedBy(transport):
            self._writer.finish()
            return
        # Closing with bytes unread would make the kernel send a reset, and the client might never see GOODBYE. So only
        # our direction ends here; the client's is read and thrown away until it closes, or until the abort alarm.
        self._writer.release()
        transport.loseWriteConnection()


class TcpProtocol(Protocol):
    """One stream; made by `TcpFactory`."""

    _log = Logger()

    def __init__(self, accept: Callable[[IDownlink], IUplink | None], parts: StreamParts) -> None:
        self._accept = accept
        self._parts = parts
        self._link: TcpLink | None = None
        #: None: what comes has no meaning, before a connection and behind a broken frame.
        self._uplink: IUplink | None = None
        self._counters = parts.counters.transports["tcp"]
        self._decoder = FrameDecoder(parts.max_payload_bytes)

    def connectionMade(self) -> None:
        """See `Protocol`."""
        self._link = TcpLink(self.transport, self._parts)
        self._link.uplink = self._uplink = self._accept(self._link)

    def bytes_received(self, data: bytes) -> None:
        """Take what one read gave."""
        uplink = self._uplink
        if uplink is None:
            return
        self._counters.bytes_received += len(data)
        uplink.heard()
        try:
            for run in self._decoder.runs(data):
                uplink.run_received(run)
            uplink.read_ended()
        except RemoteProtocolError as error:
            uplink.protocol_broken(error)
            self._stop_decoding()
        except Exception:  # an unexpected error costs this connection, not the listener
            self._log.failure("handling what {peer} sent failed", peer=self._link.peer if self._link else "")
            uplink.failed()
            self._stop_decoding()

    #: See `Protocol`: no call between the two, for each read is one.
    dataReceived = bytes_received

    def _stop_decoding(self) -> None:
        self._decoder = FrameDecoder(0)
        self._uplink = None

    def connectionLost(self, reason: Failure | None = None) -> None:
        """See `Protocol`."""
        if self._link is not None:
            self._uplink = None
            self._link.connection_lost(reason.getErrorMessage() if reason is not None else "")


class TcpFactory(Factory):
    """Makes one `TcpProtocol` for each connection.

    :param accept: see `meshrelay.session.connection.Reception.accept`.
    """

    noisy = False

    def __init__(self, accept: Callable[[IDownlink], IUplink | None], parts: StreamParts) -> None:
        self._accept = accept
        self._parts = parts

    def buildProtocol(self, addr: IAddress | None) -> TcpProtocol:
        """See `Factory`."""
        return TcpProtocol(self._accept, self._parts)
