"""Which groups are busy: what is published in them, counted only while a console looks.

Each group has one place for somebody who wants to know what is published in it, see `LiveGroup.tap`. Whoever stands
there already is still told everything.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from meshrelay.components.group_table import GroupTable, LiveGroup, Tap
from meshrelay.interfaces import ISession

__all__ = ["LEAST_SECONDS", "MAX_COUNTED", "GroupRate", "GroupRates"]

#: Groups whose messages are counted at the same time; of more, the oldest.
MAX_COUNTED = 10_000

#: Readers that come closer together are told the same.
LEAST_SECONDS = 0.5


class GroupRate(NamedTuple):
    """What was published in a group on this node, for each second since it was asked before."""

    messages: float
    bytes: float


class _Count:
    """One group that is counted.

    :ivar before: who was told before.
    """

    __slots__ = ("before", "bytes", "group", "messages")

    def __init__(self, group: LiveGroup) -> None:
        self.group = group
        self.before: Tap | None = group.tap
        self.messages = 0
        self.bytes = 0

    def published(self, group: LiveGroup, frames: bytes, sender: ISession | None, count: int) -> None:
        self.messages += count
        self.bytes += len(frames)
        if self.before is not None:
            self.before(group, frames, sender, count)


class GroupRates:
    """See the module. Counts nothing until `start`."""

    def __init__(self, table: GroupTable, clock: IReactorTime) -> None:
        self._table = table
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        self._is_counting = False
        self._asked_at = 0.0
        #: What was told at that moment; None: nothing was since `start`.
        self._told: dict[str, GroupRate] | None = None
        table.when_made(self._made)
        table.when_discarded(self._discarded)

    def __len__(self) -> int:
        return len(self._counts)

    def start(self) -> None:
        """Count from now on; twice is as good as once."""
        if self._is_counting:
            return
        self._is_counting = True
        self._asked_at = self._clock.seconds()
        self._told = None
        for group in islice(self._table, MAX_COUNTED):
            self._made(group)

    def stop(self) -> None:
        """Count no more, and leave the groups as they were."""
        self._is_counting = False
        counts, self._counts = self._counts, {}
        for count in counts.values():
            count.group.tap = count.before

    def _made(self, group: LiveGroup) -> None:
        if self._is_counting and len(self._counts) < MAX_COUNTED:
            count = self._counts[group.id] = _Count(group)
            group.tap = count.published

    def _discarded(self, group: LiveGroup) -> None:
        self._counts.pop(group.id, None)

    def take(self) -> dict[str, GroupRate]:
        """The rates of the groups that were busy since the last call, by ID; busiest first.

        Who asks within `LEAST_SECONDS` of another reader is told the same as that one.
        """
        now = self._clock.seconds()
        elapsed = now - self._asked_at
        if self._told is not None and 0 <= elapsed < LEAST_SECONDS:
            return self._told
        elapsed = max(elapsed, 0.001)
        self._asked_at = now
        busy = sorted((each for each in self._counts.values() if each.messages), key=lambda each: -each.messages)
        rates = {}
        for count in busy:
            rates[count.group.id] = GroupRate(round(count.messages / elapsed, 1), round(count.bytes / elapsed, 1))
            count.messages = count.bytes = 0
        self._told = rates
        return rates
