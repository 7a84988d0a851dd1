"""The histories of many groups in memory: offsets given, messages kept, all within bounds. Pure; time is an argument.

An *epoch* names one life of a history. Within it offsets go up from 1 without a gap. Whatever might have left one out
begins another epoch, which is greater, so whoever has seen both knows which one counts.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from meshrelay.wire.group_log import LogPage

__all__ = ["ITEM_OVERHEAD_BYTES", "LogLimits", "MessageLogs", "count_fitting"]

#: What a message costs beside its own bytes, roughly; without it empty ones would have no bound.
ITEM_OVERHEAD_BYTES = 160

#: No group takes more than this part of the whole.
GROUP_SHARE = 8

#: Histories that are known at a time, empty ones included.
MAX_LOGS = 100_000

# Inside of `MessageLogs` the word `bytes` is a number.
_Entry: TypeAlias = bytes


class LogLimits(NamedTuple):
    """What is kept of one group."""

    #: Messages.
    size: int
    ttl_seconds: float


class _Log:
    __slots__ = ("bytes", "epoch", "head", "items", "ttl_seconds")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.head = 0
        self.bytes = 0
        self.ttl_seconds = 0.0
        #: (when, entry), oldest first; the last one has the offset `head`.
        self.items: deque[tuple[float, _Entry]] = deque()

    @property
    def first(self) -> int:
        """Offset of the oldest one that is kept."""
        return self.head + 1 - len(self.items)


class MessageLogs:
    """See the module.

    :param max_bytes: of all messages, with ITEM_OVERHEAD_BYTES for each. Over it whole histories go, the one that was
        added to longest ago first; the next message of such a group begins another epoch.
    :param max_logs: histories, likewise.
    """

    def __init__(self, max_bytes: int, max_logs: int = MAX_LOGS) -> None:
        self._max_bytes = max_bytes
        self._max_logs = max_logs
        #: The one that was added to last comes last.
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._bytes = 0
        self._count = 0
        #: Messages that were dropped for their number, age or size.
        self.dropped_count = 0
        #: Histories that were dropped whole because others needed the room.
        self.evicted_count = 0

    def __len__(self) -> int:
        return len(self._logs)

    @property
    def bytes(self) -> int:
        """What is kept."""
        return self._bytes

    @property
    def message_count(self) -> int:
        """Messages kept, of all groups."""
        return self._count

    def append(
        self, group_id: str, known_epoch: int, entries: Sequence[_Entry], limits: LogLimits, new_epoch: int, now: float
    ) -> tuple[int, int]:
        """Keep messages.

        :param known_epoch: the greatest that the caller has seen; an older history does not go on.
        :param new_epoch: what a history is called that begins now, if that is greater than `known_epoch`.
        :returns: epoch, offset of the first.
        """
        log = self._log_of(group_id, known_epoch, new_epoch)
        self._logs.move_to_end(group_id)
        log.ttl_seconds = limits.ttl_seconds
        first = log.head + 1
        for entry in entries:
            cost = len(entry) + ITEM_OVERHEAD_BYTES
            log.items.append((now, entry))
            log.bytes += cost
            self._bytes += cost
        log.head += len(entries)
        self._count += len(entries)
        while len(log.items) > limits.size or log.bytes > self._max_bytes // GROUP_SHARE:
            self._drop_first(log)
        self._drop_old(log, now)
        self._make_room(now)
        return log.epoch, first

    def read(
        self,
        group_id: str,
        known_epoch: int,
        after: int,
        bounds: tuple[int, int],
        new_epoch: int,
        now: float,
        limits: LogLimits,
    ) -> LogPage:
        """Return what is kept behind an offset, the oldest first. A group without a history gets an empty one.

        Reading with a known epoch above the present one is how a history is given up for another.

        :param bounds: messages, and bytes; one message comes whatever its length, unless the first is 0.
        """
        log = self._log_of(group_id, known_epoch, new_epoch)
        log.ttl_seconds = limits.ttl_seconds
        self._drop_old(log, now)
        max_entries, max_bytes = bounds
        first = max(after + 1, log.first)
        begin = first - log.first
        entries = [log.items[index][1] for index in range(begin, min(len(log.items), begin + max_entries))]
        count = count_fitting(entries, max_entries, max_bytes)
        return LogPage(log.epoch, log.head, first, tuple(entries[:count]))

    def _log_of(self, group_id: str, known_epoch: int, new_epoch: int) -> _Log:
        log = self._logs.get(group_id)
        if log is not None and log.epoch >= known_epoch:
            return log
        if log is not None:
            self._forget(group_id)
        log = self._logs[group_id] = _Log(max(known_epoch + 1, new_epoch))
        if len(self._logs) > self._max_logs:
            self._evict(next(iter(self._logs)))
        return log

    def _drop_first(self, log: _Log) -> None:
        _, entry = log.items.popleft()
        cost = len(entry) + ITEM_OVERHEAD_BYTES
        log.bytes -= cost
        self._bytes -= cost
        self._count -= 1
        self.dropped_count += 1

    def _drop_old(self, log: _Log, now: float) -> None:
        while log.items and log.items[0][0] <= now - log.ttl_seconds:
            self._drop_first(log)

    def _make_room(self, now: float) -> None:
        # What nobody adds to any more is given back by those who do, a little each time.
        self._drop_old(next(iter(self._logs.values())), now)
        while self._bytes > self._max_bytes:
            self._evict(next(iter(self._logs)))

    def _evict(self, group_id: str) -> None:
        self._forget(group_id)
        self.evicted_count += 1

    def _forget(self, group_id: str) -> None:
        log = self._logs.pop(group_id)
        self._bytes -= log.bytes
        self._count -= len(log.items)


def count_fitting(entries: Sequence[bytes], max_entries: int, max_bytes: int) -> int:
    """How many of these go together; the first one whatever its length."""
    count = size = 0
    for entry in entries[:max_entries]:
        size += len(entry)
        if size > max_bytes and count:
            break
        count += 1
    return count
