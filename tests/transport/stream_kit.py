"""What tests of stream transports share: a transport in memory, an uplink that writes down, and parts on a clock."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from meshrelay.background import Alarms
from meshrelay.counters import NodeCounters, TransportCounters
from meshrelay.fanout.outbox import DISCONNECT, OutboxLimits
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IDownlink, IUplink
from meshrelay.transport.stream_link import StreamParts
from meshrelay.wire.frame import Frame, FrameRun

__all__ = ["MemoryStream", "RecordingUplink", "StreamKit", "TcpStream"]


class MemoryStream(StringTransport):
    """A stream that is not TCP, as a Unix socket. Remembers in which order it was ended."""

    def __init__(self) -> None:
        super().__init__(peerAddress=UNIXAddress(b"/run/client"), lenient=True)
        self.ends: list[str] = []

    def loseConnection(self) -> None:
        """See `ITransport`."""
        self.ends.append("lose")
        super().loseConnection()

    def abortConnection(self) -> None:
        """See `ITCPTransport`."""
        self.ends.append("abort")

    def loseWriteConnection(self) -> None:
        """See `IHalfCloseableDescriptor`."""
        self.ends.append("lose write")

    def unregisterProducer(self) -> None:
        """As a real one: nothing happens when there is none."""
        if self.producer is not None:
            super().unregisterProducer()


@implementer(ITCPTransport)
class TcpStream(MemoryStream):
    """A TCP connection in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.peerAddr = IPv4Address("TCP", "192.0.2.1", 7)
        self.is_without_delay = False

    def getTcpNoDelay(self) -> bool:
        """See `ITCPTransport`."""
        return self.is_without_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See `ITCPTransport`."""
        self.is_without_delay = enabled

    def getTcpKeepAlive(self) -> bool:
        """See `ITCPTransport`."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See `ITCPTransport`."""


@implementer(IUplink)
class RecordingUplink:
    """Writes down what a transport says.

    :param fails_at: payload of a frame at which `frame_received` raises, as our own bug would.
    """

    def __init__(self, fails_at: bytes | None = None) -> None:
        self.frames: list[Frame] = []
        self.told: list[str] = []
        self.heard_count = 0
        self._fails_at = fails_at

    def heard(self) -> None:
        """See `IUplink`."""
        self.heard_count += 1

    def run_received(self, run: FrameRun) -> None:
        """See `IUplink`; this one raises when it is told to."""
        for frame in run.frames():
            if frame.payload == self._fails_at:
                raise ZeroDivisionError("a bug")
            self.frames.append(frame)

    def read_ended(self) -> None:
        """See `IUplink`."""

    def protocol_broken(self, error: Exception) -> None:
        """See `IUplink`."""
        self.told.append(f"broken: {error}")

    def outbox_overflowed(self, queued_bytes: int) -> None:
        """See `IUplink`."""
        self.told.append(f"overflowed: {queued_bytes}")

    def pushes_dropped(self, count: int) -> None:
        """See `IUplink`."""
        self.told.append(f"dropped: {count}")

    def failed(self) -> None:
        """See `IUplink`."""
        self.told.append("failed")

    def connection_lost(self, detail: str) -> None:
        """See `IUplink`."""
        self.told.append(f"lost: {detail}")


class StreamKit:
    """Parts of stream links on a clock of their own, and an `accept` that gives each link a `RecordingUplink`.

    :ivar links: in the order in which they were accepted; `uplinks` likewise.
    """

    def __init__(self, limit_bytes: int = 1 << 20, policy: str = DISCONNECT, max_payload_bytes: int = 65536) -> None:
        self.clock = Clock()
        self.counters = NodeCounters()
        self.parts = StreamParts(
            Turn(self.clock),
            Alarms(self.clock),
            OutboxLimits(limit_bytes, policy),
            self.counters,
            max_payload_bytes,
        )
        self.links: list[IDownlink] = []
        self.uplinks: list[RecordingUplink] = []
        self.fails_at: bytes | None = None

    def accept(self, link: IDownlink) -> IUplink:
        """See `meshrelay.session.connection.Reception.accept`."""
        self.links.append(link)
        self.uplinks.append(RecordingUplink(self.fails_at))
        return self.uplinks[-1]

    def refuse(self, link: IDownlink) -> None:
        """As a reception that is full."""
        link.abort()

    def transport_counters(self, name: str) -> TransportCounters:
        """The counters of one transport."""
        return self.counters.transports[name]

    def end_turn(self) -> None:
        """Let what was put off happen."""
        self.clock.advance(0)
