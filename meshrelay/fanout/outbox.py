"""What waits for one connection: bounded, and written once a turn.

A push that finds nothing waiting is written at the end of the turn together with what else the turn has for the
connection. While the connection does not take more (its writer says so), everything waits here, and over
``limit_bytes`` the policy decides:

===========  =================================================================
disconnect   the connection is closed with SLOW_CONSUMER
drop_oldest  the oldest pushes go
drop_newest  the push that came last goes
===========  =================================================================

Answers are never dropped; a connection whose answers alone are over the bound is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from meshrelay.counters import NodeCounters, TransportCounters
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IStreamWriter

__all__ = ["DISCONNECT", "DROP_NEWEST", "DROP_OLDEST", "POLICIES", "Outbox", "OutboxLimits"]

DISCONNECT = "disconnect"
DROP_OLDEST = "drop_oldest"
DROP_NEWEST = "drop_newest"
POLICIES = (DISCONNECT, DROP_OLDEST, DROP_NEWEST)

#: More than this is not joined into one write, nor left waiting for the end of a turn.
MAX_WRITE_BYTES = 128 * 1024

#: Answers that wait one behind the other are joined up to here: each for itself would take more room than its bytes,
#: and a policy that looks for something to drop would have to pass them all.
MAX_JOINED_BYTES = 4096


class OutboxLimits(NamedTuple):
    """The bound of each outbox, and what happens there."""

    limit_bytes: int
    policy: str


#: Data, the count of frames in it, and whether a policy may drop it. A plain tuple: one is made for each delivery.
_Item: TypeAlias = tuple[bytes, int, bool]


class Outbox:
    """The queue in front of one connection.

    :param overflowed: called with the bytes that wait when the connection has to be closed for it.
    :param dropped: called with the count of frames that a policy dropped.
    """

    __slots__ = (
        "_block",
        "_counters",
        "_dropped",
        "_finished",
        "_is_over",
        "_is_paused",
        "_is_scheduled",
        "_limits",
        "_node_counters",
        "_overflowed",
        "_turn",
        "_waiting",
        "_waiting_bytes",
        "_writer",
    )

    def __init__(
        self,
        writer: IStreamWriter,
        turn: Turn,
        limits: OutboxLimits,
        counters: TransportCounters,
        node_counters: NodeCounters,
        overflowed: Callable[[int], None],
        dropped: Callable[[int], None],
    ) -> None:
        self._writer = writer
        self._turn = turn
        self._limits = limits
        self._counters = counters
        self._node_counters = node_counters
        self._overflowed = overflowed
        self._dropped = dropped
        self._waiting: list[_Item] = []
        self._waiting_bytes = 0
        self._is_scheduled = False
        self._is_paused = False
        self._is_over = False
        #: The `Turn.block` in which something for this connection was made ready.
        self._block = -1
        self._finished: Callable[[], None] | None = None

    @property
    def waiting_bytes(self) -> int:
        """What was pushed and not yet handed to the writer."""
        return self._waiting_bytes

    def push(self, data: bytes, count: int) -> None:
        """Send `data`, which holds `count` frames, unless the policy drops it."""
        if self._waiting_bytes or self._is_paused or self._is_over or self._is_scheduled:
            self._add((data, count, True))
        elif self._finished is None:
            # Nothing is in the way: what almost every delivery of a fan-out meets.
            turn = self._turn
            if turn.is_once and self._block != turn.block and (send := self._writer.direct_send()) is not None:
                self._block = turn.block
                counters = self._counters
                counters.bytes_sent += len(data)
                counters.messages_sent += count
                turn.ready.append((self, send, data))
                return
            self._waiting.append((data, count, True))
            self._waiting_bytes = len(data)
            self._is_scheduled = True
            turn.send(self)

    def send(self, data: bytes, count: int = 1) -> None:
        """Send `data`, which holds `count` frames that no policy may drop."""
        self._add((data, count, False))

    def _add(self, item: _Item) -> None:
        if self._is_over or self._finished is not None:
            return
        if self._is_paused and not item[2]:
            self._queue_answer(item)
        else:
            self._waiting.append(item)
        self._waiting_bytes += len(item[0])
        if self._is_paused:
            if self._waiting_bytes > self._limits.limit_bytes:
                self._overflow()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._turn.send(self)
        elif self._waiting_bytes > MAX_WRITE_BYTES:
            # Not at the end of the turn: a client that asks much in one read would make us hold all the answers.
            self._write()

    def _queue_answer(self, item: _Item) -> None:
        last = self._waiting[-1] if self._waiting else None
        if last is not None and not last[2] and len(last[0]) < MAX_JOINED_BYTES:
            self._waiting[-1] = (last[0] + item[0], last[1] + item[1], False)
        else:
            self._waiting.append(item)

    def take(self) -> tuple[Callable[[bytes], int], bytes] | None:
        """See `meshrelay.fanout.turn.Sendable`."""
        waiting = self._waiting
        if len(waiting) != 1 or self._is_paused or self._finished is not None:
            return None
        data, count, _ = waiting[0]
        send = self._writer.direct_send()
        if send is None:
            return None
        self._is_scheduled = False
        waiting.clear()
        self._waiting_bytes = 0
        counters = self._counters
        counters.bytes_sent += len(data)
        counters.messages_sent += count
        return send, data

    def not_sent(self, rest: bytes) -> None:
        """See `meshrelay.fanout.turn.Sendable`."""
        self._writer.not_sent(rest)

    def flush(self) -> None:
        """Write what waits; called at the end of a turn."""
        self._is_scheduled = False
        self._write()

    def _write(self) -> None:
        if self._block == self._turn.block:
            self._turn.send_ready()
        while self._waiting and not self._is_paused and not self._is_over:
            items = self._take()
            data = items[0][0] if len(items) == 1 else b"".join([item[0] for item in items])
            counters = self._counters
            counters.bytes_sent += len(data)
            for item in items:
                counters.messages_sent += item[1]
            self._writer.write(data)
        if self._waiting_bytes > self._limits.limit_bytes:
            self._overflow()
        elif not self._waiting and self._finished is not None:
            self._is_over = True
            finished, self._finished = self._finished, None
            finished()

    def _take(self) -> list[_Item]:
        """Take what makes one write off the front: everything, or up to `MAX_WRITE_BYTES` of it."""
        if self._waiting_bytes <= MAX_WRITE_BYTES:
            items, self._waiting = self._waiting, []
            self._waiting_bytes = 0
            return items
        size = 0
        for index, item in enumerate(self._waiting):
            size += len(item[0])
            if size > MAX_WRITE_BYTES and index:
                size -= len(item[0])
                break
        else:
            index = len(self._waiting)
        items = self._waiting[:index]
        del self._waiting[:index]
        self._waiting_bytes -= size
        return items

    def writing_paused(self) -> None:
        """The connection takes no more for now."""
        self._is_paused = True

    def writing_resumed(self) -> None:
        """The connection has taken everything that was written."""
        self._is_paused = False
        self._write()

    def finish(self, finished: Callable[[], None]) -> None:
        """Take nothing more, and call `finished` once everything was handed to the writer."""
        self._finished = finished
        if not self._is_paused:
            self._write()

    def discard(self) -> None:
        """Forget what waits."""
        self._waiting = []
        self._waiting_bytes = 0

    def stop(self) -> None:
        """The connection is gone: forget what waits and drop all that comes."""
        self._is_over = True
        self._finished = None
        self.discard()

    def _overflow(self) -> None:
        limit = self._limits.limit_bytes
        policy = self._limits.policy
        if policy == DROP_NEWEST:
            self._drop_newest()
        elif policy == DROP_OLDEST:
            self._drop_oldest()
        if self._waiting_bytes > limit:
            self._overflowed(self._waiting_bytes)

    def _drop_newest(self) -> None:
        excess = self._waiting_bytes - self._limits.limit_bytes
        kept = []
        count = 0
        while excess > 0 and self._waiting:
            item = self._waiting.pop()
            data, frames, is_droppable = item
            if is_droppable:
                excess -= len(data)
                self._waiting_bytes -= len(data)
                count += frames
            else:
                kept.append(item)
        self._waiting += reversed(kept)
        if count:
            self._count_dropped(count)

    def _drop_oldest(self) -> None:
        excess = self._waiting_bytes - self._limits.limit_bytes
        kept = []
        count = 0
        seen = 0
        # Stops as soon as enough is gone: dropping must not cost more the longer the queue is.
        for item in self._waiting:
            if excess <= 0:
                break
            seen += 1
            data, frames, is_droppable = item
            if is_droppable:
                excess -= len(data)
                self._waiting_bytes -= len(data)
                count += frames
            else:
                kept.append(item)
        self._waiting[:seen] = kept
        if count:
            self._count_dropped(count)

    def _count_dropped(self, count: int) -> None:
        self._node_counters.outbox_dropped[self._limits.policy] += count
        self._dropped(count)
