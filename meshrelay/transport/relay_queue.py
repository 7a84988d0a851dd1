"""What waits for one relay peer on a stream: bounded, and joined into one write.

A peer that sends much is read much at once, and what one read brought for one receiver leaves in one write, at the end
of that read: `RelayOutlet` knows who has something. What comes from elsewhere, from another node or from a timer,
leaves at the end of the turn.
"""

from __future__ import annotations

from twisted.logger import Logger

from meshrelay.counters import TransportCounters
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IStreamWriter
from meshrelay.wire.websocket import encode_binary_header

__all__ = ["MAX_OWN_BYTES", "MAX_WAITING_BYTES", "RelayOutlet", "RelayQueue"]

#: What may wait for one peer before TRANSPORT messages are dropped: 30 ms of a hundred megabits.
MAX_WAITING_BYTES = 256 * 1024

#: What the server itself says may wait as far as this: the states of 100,000 peers fit.
MAX_OWN_BYTES = 4 * 1024 * 1024


class RelayOutlet:
    """Who has something to be written.

    :param turn: at its end is written what no read brought.
    """

    _log = Logger()

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._queues: list[RelayQueue] = []
        self._is_reading = False
        self._is_scheduled = False

    def add(self, queue: RelayQueue) -> None:
        """Call `RelayQueue.flush` soon, once."""
        self._queues.append(queue)
        if not self._is_reading and not self._is_scheduled:
            self._is_scheduled = True
            self._turn.write(self)

    def read_begins(self) -> None:
        """What comes from now on leaves when the read is over."""
        self._is_reading = True

    def read_ended(self) -> None:
        """Write what the read has brought."""
        self._is_reading = False
        if self._queues:
            self._flush()

    def flush(self) -> None:
        """See `meshrelay.fanout.turn.Flushable`."""
        self._is_scheduled = False
        self._flush()

    def _flush(self) -> None:
        queues, self._queues = self._queues, []
        for queue in queues:
            try:
                queue.flush()
            except Exception:  # one receiver's error must never reach another
                self._log.failure("writing to a relay peer failed")


class RelayQueue:
    """The messages that wait for one peer, each as one unfragmented binary frame.

    :param counters: of all peers on streams.
    :param max_waiting_bytes: see `MAX_WAITING_BYTES`; as much as it, and one message more, may wait.
    """

    __slots__ = (
        "_counters",
        "_header",
        "_header_of",
        "_is_paused",
        "_is_scheduled",
        "_max_waiting_bytes",
        "_outlet",
        "_pong",
        "_waiting",
        "_waiting_bytes",
        "_writer",
    )

    def __init__(
        self,
        writer: IStreamWriter,
        outlet: RelayOutlet,
        counters: TransportCounters,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        #: None: it is over.
        self._writer: IStreamWriter | None = writer
        self._counters = counters
        self._outlet = outlet
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        #: The answer to the last ping; b"" = none is due.
        self._pong = b""
        self._is_paused = False
        self._is_scheduled = False
        #: The frame header of the last length: messages in a row mostly have the same.
        self._header_of = -1
        self._header = b""

    @property
    def waiting_bytes(self) -> int:
        """What has not been handed to the writer; without the headers of frames."""
        return self._waiting_bytes

    def offer(self, message: bytes) -> bool:
        """Take a message unless too much waits; False: it was not taken. After the end it is taken and forgotten."""
        if self._waiting_bytes > self._max_waiting_bytes:
            return False
        self._add(message)
        return True

    def send(self, message: bytes) -> bool:
        """Take a message that must not be missed; False: more than `MAX_OWN_BYTES` wait, the peer has to go."""
        self._add(message)
        return self._waiting_bytes <= MAX_OWN_BYTES

    def send_pong(self, frame: bytes) -> None:
        """Take the answer to a ping, in place of an older one that still waits (RFC 6455, section 5.5.3).

        So one answer is all that a peer can make wait which asks and does not read, signed in or not.
        """
        if self._writer is not None:
            self._pong = frame
            self._schedule()

    def _add(self, message: bytes) -> None:
        if self._writer is None:
            return
        size = len(message)
        if size != self._header_of:
            self._header_of = size
            self._header = encode_binary_header(size)
        self._waiting.append(self._header)
        self._waiting.append(message)
        self._waiting_bytes += size
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled and not self._is_paused:
            self._is_scheduled = True
            self._outlet.add(self)

    def flush(self) -> None:
        """Write what waits, unless the connection takes no more."""
        self._is_scheduled = False
        if self._is_paused or self._writer is None:
            return
        waiting = self._waiting
        if self._pong:
            waiting.append(self._pong)
            self._pong = b""
        if not waiting:
            return
        self._waiting = []
        self._waiting_bytes = 0
        data = b"".join(waiting)
        self._counters.bytes_sent += len(data)
        self._writer.write(data)

    def writing_paused(self) -> None:
        """See `meshrelay.transport.direct_write.PausableOutbox`."""
        self._is_paused = True

    def writing_resumed(self) -> None:
        """See `meshrelay.transport.direct_write.PausableOutbox`."""
        self._is_paused = False
        self.flush()

    def finish(self, last_frame: bytes = b"") -> None:
        """Hand over all that waits and a frame behind it, even if the connection takes no more for now."""
        self._is_paused = False
        if last_frame:
            self._waiting += (self._pong, last_frame)
            self._pong = b""
        self.flush()
        self.stop()

    def stop(self) -> None:
        """Forget what waits and take nothing more."""
        self._writer = None
        self._waiting = []
        self._waiting_bytes = 0
        self._pong = b""
