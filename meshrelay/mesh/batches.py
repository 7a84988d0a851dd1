"""Messages to numbered batches, and numbered batches to messages exactly once and in order. Pure.

::

    push --> queue (bounded) --take--> batches in the window --> the other node --BatchReceiver--> messages
                                          ^ acknowledge: done, forgotten
                                          ^ relinked: the unacknowledged ones are taken again

A batch is kept until it is acknowledged. After a lost connection of the same two numberings the sender learns which
batch arrived last and sends the rest again; the receiver drops what it had. So nothing is lost or doubled while both
nodes live. A numbering is named by an epoch, a random number: it ends when the other node began anew, and then
what was on its way is dropped and told.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from meshrelay.errors import LocalProtocolError, RemoteProtocolError
from meshrelay.wire.node import (
    MAX_BATCH_BYTES,
    MAX_BATCH_MESSAGES,
    MAX_MESSAGE_BYTES,
    MESSAGE_OVERHEAD_BYTES,
    Batch,
    Message,
    Resume,
    encode_batch,
)

__all__ = ["BatchLimits", "BatchReceiver", "BatchSender"]

#: What a batch needs beside its messages: the number.
_BATCH_OVERHEAD_BYTES = 8


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of what one link keeps in memory."""

    #: Bytes that wait to be put into batches, heads of messages included.
    queue_bytes: int = 8 * 1024 * 1024
    #: Messages that wait.
    queue_messages: int = 100_000
    #: Batches that wait for their acknowledgement.
    window_batches: int = 16


@dataclass(frozen=True, slots=True)
class _Unacknowledged:
    number: int
    data: bytes
    message_count: int


class BatchSender:
    """The batches of one direction of one link.

    :param epoch: random, above 0; another one for each sender.
    :ivar sent_messages: given to batches; resent ones are counted once.
    :ivar resent_batches: taken a second time.
    :ivar dropped_messages: did not fit the queue, or were on their way to a node that began anew.
    """

    def __init__(self, limits: BatchLimits, epoch: int) -> None:
        self._limits = limits
        self.epoch = epoch
        # Kind, payload, whether it may be dropped.
        self._queue: deque[tuple[int, bytes, bool]] = deque()
        self._unreliable_count = 0
        self.queued_bytes = 0
        #: Number of the last batch that was made.
        self.last_number = 0
        #: Number of the last batch that the other end has.
        self.acknowledged = 0
        self._window: deque[_Unacknowledged] = deque()
        #: How many of the window, counted from its end, must be taken again.
        self._resend_count = 0
        self.sent_messages = 0
        self.sent_batches = 0
        self.resent_batches = 0
        self.dropped_messages = 0

    @property
    def queued_messages(self) -> int:
        """Messages that wait to be put into batches."""
        return len(self._queue)

    @property
    def unacknowledged_batches(self) -> int:
        """Batches on their way."""
        return len(self._window)

    @property
    def can_take(self) -> bool:
        """True: `take` would return something."""
        return self._resend_count > 0 or (bool(self._queue) and len(self._window) < self._limits.window_batches)

    def push(self, kind: int, payload: bytes, is_reliable: bool = True) -> bool:
        """Queue one message. When the queue is full, the oldest unreliable ones make room.

        :param kind: 0 to 255.
        :param is_reliable: False: may be dropped for others.
        :returns: False: it was dropped itself, and counted.
        :raises LocalProtocolError: the kind is not a byte, or the payload has over 512 KiB.
        """
        size = len(payload) + MESSAGE_OVERHEAD_BYTES
        if len(payload) > MAX_MESSAGE_BYTES or not 0 <= kind <= 255:
            raise LocalProtocolError(f"message of kind {kind} and {len(payload)} bytes")
        if self._is_full(size) and not self._make_room(size):
            self.dropped_messages += 1
            return False
        self._queue.append((kind, payload, is_reliable))
        self._unreliable_count += not is_reliable
        self.queued_bytes += size
        return True

    def _is_full(self, size: int) -> bool:
        limits = self._limits
        return self.queued_bytes + size > limits.queue_bytes or len(self._queue) >= limits.queue_messages

    def _make_room(self, size: int) -> bool:
        """Drop unreliable messages, oldest first: a quarter of the queue at once, so that it is rarely walked."""
        limits = self._limits
        if self._unreliable_count == 0 or size > limits.queue_bytes:
            return False
        enough_bytes = min(limits.queue_bytes - size, limits.queue_bytes * 3 // 4)
        enough_messages = min(limits.queue_messages - 1, limits.queue_messages * 3 // 4)
        kept: deque[tuple[int, bytes, bool]] = deque()
        count = len(self._queue)
        for message in self._queue:
            _, payload, is_reliable = message
            if is_reliable or (self.queued_bytes <= enough_bytes and count <= enough_messages):
                kept.append(message)
                continue
            count -= 1
            self.queued_bytes -= len(payload) + MESSAGE_OVERHEAD_BYTES
            self._unreliable_count -= 1
            self.dropped_messages += 1
        self._queue = kept
        return not self._is_full(size)

    def take(self) -> list[tuple[int, bytes]]:
        """Return (number, encoded batch) of all that may be sent now: first what must be sent again, in order."""
        taken: list[tuple[int, bytes]] = []
        if self._resend_count:
            start = len(self._window) - self._resend_count
            taken = [(each.number, each.data) for each in list(self._window)[start:]]
            self.resent_batches += self._resend_count
            self._resend_count = 0
        while self._queue and len(self._window) < self._limits.window_batches:
            taken.append(self._next_batch())
        return taken

    def _next_batch(self) -> tuple[int, bytes]:
        queue = self._queue
        messages: list[Message] = []
        size = _BATCH_OVERHEAD_BYTES
        while queue and len(messages) < MAX_BATCH_MESSAGES:
            kind, payload, is_reliable = queue[0]
            size += len(payload) + MESSAGE_OVERHEAD_BYTES
            if size > MAX_BATCH_BYTES and messages:
                size -= len(payload) + MESSAGE_OVERHEAD_BYTES
                break
            queue.popleft()
            self._unreliable_count -= not is_reliable
            messages.append((kind, payload))
        self.queued_bytes -= size - _BATCH_OVERHEAD_BYTES
        self.last_number += 1
        self.sent_batches += 1
        self.sent_messages += len(messages)
        data = encode_batch(self.last_number, messages)
        self._window.append(_Unacknowledged(self.last_number, data, len(messages)))
        return self.last_number, data

    def acknowledge(self, number: int) -> None:
        """The other end has all batches up to `number`. An older number than the last one changes nothing.

        :raises RemoteProtocolError: no such batch was sent.
        """
        if number > self.last_number:
            raise RemoteProtocolError(f"batch {number} was acknowledged, the last one sent is {self.last_number}")
        window = self._window
        while window and window[0].number <= number:
            window.popleft()
        self._resend_count = min(self._resend_count, len(window))
        self.acknowledged = max(self.acknowledged, number)

    def relinked(self, received: int) -> None:
        """There is a new connection: all that came behind batch `received` is taken again.

        :raises RemoteProtocolError: no such batch was sent, or it is one that was acknowledged long ago.
        """
        if received < self.acknowledged:
            raise RemoteProtocolError(f"batch {received} is said to be the last, {self.acknowledged} was acknowledged")
        self.acknowledge(received)
        self._resend_count = len(self._window)

    def restart(self) -> int:
        """The other node began anew and knows nothing of this numbering: begin with 1 again.

        :returns: how many messages are dropped: those on their way and those that waited, all meant for the old one.
        """
        dropped = len(self._queue) + sum(each.message_count for each in self._window)
        self.dropped_messages += dropped
        self._queue.clear()
        self._window.clear()
        self._unreliable_count = self.queued_bytes = self._resend_count = 0
        self.last_number = self.acknowledged = 0
        return dropped

    def resume(self, resume: Resume, is_new_peer: bool) -> int:
        """Go on where the other end says that it stands.

        :param is_new_peer: the other node is another incarnation than before.
        :returns: how many messages were dropped because the other end began anew.
        :raises RemoteProtocolError: what it says cannot be.
        """
        # Who does not follow this numbering has got nothing of it.
        received = resume.received if resume.peer_epoch == self.epoch else 0
        if is_new_peer or received < self.acknowledged:
            return self.restart()
        self.relinked(received)
        return 0


class BatchReceiver:
    """The batches of the other direction.

    :ivar epoch: the numbering that is followed; 0 = none yet.
    :ivar received: number of the last batch that was received in order.
    :ivar duplicates: batches that came twice.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.received = 0
        self.received_messages = 0
        self.skipped_messages = 0
        self.duplicates = 0

    def follow(self, epoch: int) -> None:
        """From now on batches of this numbering come; another one than before begins with 1."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.received = 0

    def receive(self, batch: Batch) -> list[Message]:
        """Return the messages of a batch; none when it came before.

        :raises RemoteProtocolError: a batch before it is missing.
        """
        if batch.number <= self.received:
            self.duplicates += 1
            return []
        if batch.number != self.received + 1:
            raise RemoteProtocolError(f"batch {batch.number} came, {self.received + 1} is missing")
        self.received = batch.number
        self.received_messages += len(batch.messages)
        self.skipped_messages += batch.skipped_count
        return batch.messages
