"""Where the messages of groups with history are kept: what a store promises, and the one in memory.

A store gives the offsets. Everybody who holds a group asks the same one, so there is one order in the whole cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from meshrelay.machine.message_logs import LogLimits, MessageLogs
from meshrelay.wire.group_log import LogPage

__all__ = ["HistoryStore", "MemoryHistory", "new_epoch"]

#: Bits of an epoch that are random, below the milliseconds of its beginning.
_RANDOM_BITS = 20


def new_epoch(now: float, random_below: Callable[[int], int]) -> int:
    """Return the name of a history that begins at `now`: greater than earlier ones, and another one at each place."""
    return (max(0, int(now * 1000)) << _RANDOM_BITS) + random_below((1 << _RANDOM_BITS) - 1) + 1


class HistoryStore(Protocol):
    """Keeps messages.

    Every Deferred fires within two seconds, or fails with a `MeshError`: the store is away, and what was to be kept may
    be kept or not.
    """

    def append(
        self, group_id: str, known_epoch: int, entries: Sequence[bytes], limits: LogLimits
    ) -> Deferred[tuple[int, int]]:
        """Keep messages; see `meshrelay.machine.message_logs.MessageLogs.append`."""

    def read(
        self, group_id: str, known_epoch: int, after: int, bounds: tuple[int, int], limits: LogLimits
    ) -> Deferred[LogPage]:
        """Return what is kept behind an offset; see `meshrelay.machine.message_logs.MessageLogs.read`."""

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""

    def stop(self) -> Deferred[None]:
        """End. Fires when nothing is open any more."""


class MemoryHistory:
    """`HistoryStore` in this process. Its Deferreds have fired.

    :param max_bytes: of all groups.
    :param random_below: ``random_below(n)`` -> a number from 0 to n - 1.
    """

    def __init__(self, max_bytes: int, clock: IReactorTime, random_below: Callable[[int], int]) -> None:
        self._logs = MessageLogs(max_bytes)
        self._clock = clock
        self._random_below = random_below

    def _new_epoch(self) -> int:
        return new_epoch(self._clock.seconds(), self._random_below)

    def append(
        self, group_id: str, known_epoch: int, entries: Sequence[bytes], limits: LogLimits
    ) -> Deferred[tuple[int, int]]:
        """See `HistoryStore`."""
        now = self._clock.seconds()
        return succeed(self._logs.append(group_id, known_epoch, entries, limits, self._new_epoch(), now))

    def read(
        self, group_id: str, known_epoch: int, after: int, bounds: tuple[int, int], limits: LogLimits
    ) -> Deferred[LogPage]:
        """See `HistoryStore`."""
        now = self._clock.seconds()
        return succeed(self._logs.read(group_id, known_epoch, after, bounds, self._new_epoch(), now, limits))

    def statistics(self) -> Mapping[str, int]:
        """See `HistoryStore`."""
        logs = self._logs
        return {
            "group_log_groups": len(logs),
            "group_log_messages": logs.message_count,
            "group_log_bytes": logs.bytes,
            "group_log_dropped": logs.dropped_count,
            "group_log_evicted": logs.evicted_count,
        }

    def stop(self) -> Deferred[None]:
        """See `HistoryStore`."""
        return succeed(None)
