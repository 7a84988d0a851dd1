"""What waits for one peer of the overlay: bounded, and what one turn brings leaves in one write.

It is the same for both ends of a WebSocket; whoever makes a queue says how a message becomes a frame.
"""

from __future__ import annotations

from meshrelay.counters import TransportCounters
from meshrelay.fanout.turn import Turn
from meshrelay.transport.direct_write import DirectWriter

__all__ = ["CHUNK_BYTES", "MAX_CONTROL_FRAMES", "MAX_WAITING_BYTES", "OverlayQueue"]

#: What may wait for one link; a frame that does not fit is dropped.
MAX_WAITING_BYTES = 1024 * 1024

#: Handed to the transport at once. It asks for a pause in between, so that no more than this lies there.
CHUNK_BYTES = 128 * 1024

#: Pings and pongs that may wait beside it.
MAX_CONTROL_FRAMES = 16


class OverlayQueue:
    """The frames that wait for one peer. Tells nobody when there is room again: what does not fit is gone.

    :param counters: of all links.
    :param max_waiting_bytes: see `MAX_WAITING_BYTES`.
    """

    __slots__ = (
        "_control",
        "_counters",
        "_is_scheduled",
        "_max_waiting_bytes",
        "_turn",
        "_waiting",
        "_waiting_bytes",
        "_writer",
        "handed_bytes",
        "is_paused",
    )

    def __init__(
        self, writer: DirectWriter, turn: Turn, counters: TransportCounters, max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        #: None: it is over.
        self._writer: DirectWriter | None = writer
        self._turn = turn
        self._counters = counters
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        #: Pings and pongs, at most `MAX_CONTROL_FRAMES`.
        self._control: list[bytes] = []
        self._is_scheduled = False
        #: The connection takes nothing for now.
        self.is_paused = False
        #: Handed to the transport so far.
        self.handed_bytes = 0

    @property
    def waiting_bytes(self) -> int:
        """What the operating system does not have yet, as far as it can be known."""
        return self._waiting_bytes + self.buffered_bytes

    @property
    def buffered_bytes(self) -> int:
        """The part of it that the transport has."""
        return 0 if self._writer is None else self._writer.buffered_bytes

    def has_room(self, size: int) -> bool:
        """Return whether a frame of so many bytes fits."""
        return self._writer is not None and self._waiting_bytes + size <= self._max_waiting_bytes

    def send(self, frame: bytes) -> None:
        """Take a frame, for which there must be room."""
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        if not self._is_scheduled:
            self._schedule()

    def send_control(self, frame: bytes) -> None:
        """Take a ping or a pong, which leaves before what waits.

        A few answers are all that a peer can make wait which asks and does not read; with more the oldest one is
        forgotten, as RFC 6455, section 5.5.3, has it.
        """
        if self._writer is not None:
            if len(self._control) >= MAX_CONTROL_FRAMES:
                del self._control[0]
            self._control.append(frame)
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled and not self.is_paused:
            self._is_scheduled = True
            self._turn.write(self)

    def flush(self) -> None:
        """See `meshrelay.fanout.turn.Flushable`: write what waits, until the connection takes no more."""
        self._is_scheduled = False
        if self._control and not self.is_paused:
            self._write(self._take_control())
        while self._waiting and not self.is_paused and self._writer is not None:
            self._write(self._take())

    def _take_control(self) -> bytes:
        data = b"".join(self._control)
        self._control.clear()
        return data

    def _take(self) -> bytes:
        waiting = self._waiting
        if self._waiting_bytes <= CHUNK_BYTES:
            self._waiting, self._waiting_bytes = [], 0
            return b"".join(waiting)
        size = count = 0
        while size < CHUNK_BYTES and count < len(waiting):
            size += len(waiting[count])
            count += 1
        self._waiting, self._waiting_bytes = waiting[count:], self._waiting_bytes - size
        return b"".join(waiting[:count])

    def _write(self, data: bytes) -> None:
        if self._writer is not None:
            self.handed_bytes += len(data)
            self._counters.bytes_sent += len(data)
            self._writer.write(data)

    def writing_paused(self) -> None:
        """See `meshrelay.transport.direct_write.PausableOutbox`."""
        self.is_paused = True

    def writing_resumed(self) -> None:
        """See `meshrelay.transport.direct_write.PausableOutbox`."""
        self.is_paused = False
        self.flush()

    def finish(self, last_frame: bytes) -> None:
        """Hand over all that waits and a frame behind it, even if the connection takes no more for now."""
        data = b"".join((self._take_control(), *self._waiting, last_frame))
        if data:
            self._write(data)
        self.stop()

    def stop(self) -> None:
        """Forget what waits and take nothing more."""
        self._writer = None
        self._waiting = []
        self._waiting_bytes = 0
        self._control.clear()
