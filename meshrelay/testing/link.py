"""`IDownlink` and `IConnection` in memory: frames in, the same frames out, for tests of what stands behind them.

`MemoryLink` keeps all that a client would have read, as decoded frames. It can be stalled, as a client that does not
read, and broken, as a cable. `meshrelay.testing.contracts.check_downlink` holds it and the real links to the same
promises.
"""

from __future__ import annotations

from collections import deque

from zope.interface import implementer

from meshrelay.interfaces import IConnection, IDownlink, IUplink
from meshrelay.model import CloseReason
from meshrelay.wire.commands import CORE_VER, CoreCommand, encode_goodbye
from meshrelay.wire.frame import Frame, encode_push, run_of_one, whole_frames
from meshrelay.wire.prepared import Batch

__all__ = ["MemoryConnection", "MemoryLink"]

#: Far more than a test sends.
_NO_LIMIT = (1 << 32) - 1


@implementer(IDownlink)
class MemoryLink:
    """One connection without a socket.

    :param transport_name: "tcp", "websocket" or "udp". A udp link cannot be paused, as the real one cannot.
    :ivar udp_address: see `IDownlink`; set it for a udp link.
    :param limit_bytes: what may wait while the link is stalled; over it the uplink is told, as by policy disconnect.
    :ivar owed: what `undelivered` returns, for a link that acknowledges: all reliable pushes it was given, and the
        frames of those that its client has not acknowledged.
    :ivar received: all frames that the client has read, oldest first.
    :ivar close_reason: with which the node closed; None = not closed, or the client said GOODBYE.
    """

    def __init__(self, transport_name: str = "tcp", peer: str = "192.0.2.1:7", limit_bytes: int = 1 << 20) -> None:
        self.transport_name = transport_name
        self.peer = peer
        self.udp_address: tuple[str, int] | None = None
        self.uplink: IUplink | None = None
        self.owed: tuple[int, list[bytes]] | None = None
        self.received: list[Frame] = []
        self.is_reading_paused = False
        self.is_closed = False
        self.is_aborted = False
        self.close_reason: CloseReason | None = None
        self.close_text = ""
        self._limit_bytes = limit_bytes
        self._is_stalled = False
        self._waiting: list[bytes] = []
        self._unread: deque[Frame] = deque()

    @property
    def queued_bytes(self) -> int:
        """See `IDownlink`; 0 unless the link is stalled."""
        return sum(len(data) for data in self._waiting)

    def send_batch(self, batch: Batch) -> None:
        """See `IDownlink`."""
        self._write(batch.stream)

    def send_frame(self, frame: bytes, count: int = 1) -> None:
        """See `IDownlink`."""
        self._write(frame)

    def _write(self, data: bytes) -> None:
        if self.is_closed:
            return
        if not self._is_stalled:
            self.received += whole_frames(data, _NO_LIMIT)
            return
        self._waiting.append(data)
        if self.queued_bytes > self._limit_bytes and self.uplink is not None:
            self.uplink.outbox_overflowed(self.queued_bytes)

    def send_probe(self, frame: bytes) -> None:
        """See `IDownlink`."""
        self._write(frame)

    def undelivered(self) -> tuple[int, list[bytes]] | None:
        """See `IDownlink`: what the test says by `owed`."""
        return self.owed

    def stall(self) -> None:
        """The client reads nothing from now on."""
        self._is_stalled = True

    def unstall(self) -> None:
        """The client reads again, and first all that waited for it."""
        self._is_stalled = False
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.received += whole_frames(data, _NO_LIMIT)

    def frame_sent(self, frame: Frame) -> None:
        """The client sent `frame`. It waits while reading is paused; `read` takes it up."""
        self._unread.append(frame)
        self.read()

    def read(self) -> None:
        """Hand the uplink what the client sent, unless reading is paused."""
        while self._unread and not self.is_reading_paused and self.uplink is not None:
            self.uplink.heard()
            self.uplink.run_received(run_of_one(self._unread.popleft()))
        if self.uplink is not None:
            self.uplink.read_ended()

    def pause_reading(self) -> None:
        """See `IDownlink`."""
        self.is_reading_paused = self.transport_name != "udp"

    def resume_reading(self) -> None:
        """See `IDownlink`."""
        self.is_reading_paused = False

    def close(self, reason: CloseReason | None, text: str) -> None:
        """See `IDownlink`."""
        if self.is_closed:
            return
        if reason is CloseReason.SLOW_CONSUMER:
            self._waiting = []
        if reason is not None:
            # Stalled or not: a closed link is one whose client has read what it was owed.
            self.unstall()
            self._write(encode_push(CORE_VER, CoreCommand.GOODBYE, encode_goodbye(reason.code, text)))
        self.is_closed = True
        self.close_reason = reason
        self.close_text = text

    def abort(self) -> None:
        """See `IDownlink`."""
        self.is_closed = True
        self.is_aborted = True
        self._waiting = []

    def lose(self, detail: str = "lost") -> None:
        """The connection is gone: whoever is behind it is told, once."""
        self.is_closed = True
        uplink, self.uplink = self.uplink, None
        if uplink is not None:
            uplink.connection_lost(detail)


@implementer(IConnection)
class MemoryConnection:
    """A connection that does nothing but close its link, for tests of sessions alone.

    :ivar closes: every reason it was closed with.
    """

    def __init__(self, link: MemoryLink) -> None:
        self.link = link
        self.closes: list[CloseReason | None] = []

    def close(self, reason: CloseReason | None, text: str) -> None:
        """See `IConnection`."""
        self.closes.append(reason)
        self.link.close(reason, text)

    def measure_latency(self) -> None:
        """See `IConnection`."""
