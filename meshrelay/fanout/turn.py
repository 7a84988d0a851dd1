"""What is put off until all reads of this reactor turn were handled.

Joining and writing once a turn is what makes fan-out fast: under load a turn takes longer, more frames meet in it, and
each costs less; without load nothing waits. Joins come before writes, so that an answer and the pushes of the same
turn leave in one write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import call
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

__all__ = ["Flushable", "Sendable", "Turn"]

#: Sockets that are written to one right behind the other. More would let the first ones wait for the last ones' data.
TOGETHER = 64


class Flushable(Protocol):
    """Something that has work for the end of the turn."""

    def flush(self) -> None:
        """Do the work. Called once for each time it was scheduled."""


class Sendable(Flushable, Protocol):
    """Something that, most of the time, has just one thing to send."""

    def take(self) -> tuple[Callable[[bytes], int], bytes] | None:
        """Give away the only thing there is to send, and what sends it; nothing else is done to it before.

        :returns: None: it is not that simple, `flush` must be called.
        """

    def not_sent(self, rest: bytes) -> None:
        """The end of what was taken could not be sent."""


class Turn:
    """The end of the current reactor turn."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._joins: list[Flushable] = []
        self._sends: list[Sendable] = []
        self._writes: list[Flushable] = []
        #: Until the joins are done: what they add is done in the same turn.
        self._is_scheduled = False
        #: What is sent now cannot become more in this turn.
        self._is_settled = False
        #: True: what a receiver is given now is the only thing that it is given before `send_some`.
        self.is_once = False
        #: What has only to be sent: who gets it, what sends it, and the data. Goes out before all that waits.
        self.ready: list[tuple[Sendable, Callable[[bytes], int], bytes]] = []
        #: Another one whenever what was ready is sent. Nobody has two things ready: the first may not go out whole.
        self.block = 0

    def join(self, flushable: Flushable) -> None:
        """Flush `flushable` at the end of the turn, before all writes."""
        self._joins.append(flushable)
        if not self._is_scheduled:
            self._schedule()

    def send(self, sendable: Sendable) -> None:
        """Send what `sendable` has at the end of the turn, after all joins."""
        self._sends.append(sendable)
        if not self._is_scheduled:
            self._schedule()

    def write(self, flushable: Flushable) -> None:
        """Flush `flushable` at the end of the turn, after all joins and what was sent for them."""
        self._writes.append(flushable)
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._clock.callLater(0, self.end)

    def end(self) -> None:
        """Do everything that was put off. What is scheduled meanwhile belongs to the next turn."""
        # Joins first: they add to the writes of this same turn.
        joins, self._joins = self._joins, []
        self._is_settled = len(joins) == 1 and not self._sends
        self._flush(joins)
        self._is_scheduled = self._is_settled = self.is_once = False
        if self.ready:
            self.send_ready()
        if self._joins:
            self._schedule()
        sends, self._sends = self._sends, []
        for start in range(0, len(sends), TOGETHER):
            self._send_together(sends[start : start + TOGETHER])
        writes, self._writes = self._writes, []
        self._flush(writes)

    def give_once(self) -> None:
        """What follows gives each receiver one thing at most, until `send_some`.

        For a join that gives each of many receivers one thing: call it before each `TOGETHER` of them.
        """
        self.is_once = self._is_settled

    def send_some(self) -> None:
        """Send what there is already, unless something of this turn may still be added to it.

        For a join that gives each of many receivers one thing: call it behind each `TOGETHER` of them, and the first
        ones need not wait for the last ones.
        """
        if self._is_settled:
            self.send_ready()
            sends, self._sends = self._sends, []
            self._send_together(sends)

    def send_ready(self) -> None:
        """Send what is ready. Whoever writes to a receiver in another way has this done before."""
        self.is_once = False
        if not self.ready:
            return
        self.block += 1
        ready, self.ready = self.ready, []
        receivers, sends, data = zip(*ready, strict=True)
        self._send_each(receivers, sends, data)

    def _send_together(self, sendables: list[Sendable]) -> None:
        """First everything is made ready, then the sockets are written to without a pause.

        A receiver that is woken by the first write finds the rest while it is still awake; what Python does between two
        writes would let it fall asleep again, and waking it is dearer than the write.
        """
        simple: list[Sendable] = []
        others: list[Flushable] = []
        sends: list[Callable[[bytes], int]] = []
        data: list[bytes] = []
        for sendable in sendables:
            taken = sendable.take()
            if taken is None:
                others.append(sendable)
            else:
                simple.append(sendable)
                sends.append(taken[0])
                data.append(taken[1])
        self._send_each(simple, sends, data)
        self._flush(others)

    def _send_each(
        self, receivers: Sequence[Sendable], sends: Sequence[Callable[[bytes], int]], data: Sequence[bytes]
    ) -> None:
        counts = _counts_of(sends, data)
        if counts != list(map(len, data)):
            for receiver, each, count in zip(receivers, data, counts, strict=True):
                if count < len(each):
                    self._tell_rest(receiver, each[count:])

    def _tell_rest(self, sendable: Sendable, rest: bytes) -> None:
        try:
            sendable.not_sent(rest)
        except Exception:  # one receiver's error must never reach another
            self._log.failure("sending to {sendable} failed", sendable=sendable)

    def _flush(self, flushables: list[Flushable]) -> None:
        for flushable in flushables:
            try:
                flushable.flush()
            except Exception:  # one receiver's error must never reach another
                self._log.failure("flushing {flushable} failed", flushable=flushable)


def _counts_of(sends: Sequence[Callable[[bytes], int]], data: Sequence[bytes]) -> list[int]:
    """Make each call, and return what each took; 0 where it raised OSError."""
    counts: list[int] = []
    calls = map(call, sends, data)
    while len(counts) < len(sends):
        try:
            # A loop without a line of Python in it. What came before an error is in the list, and the map goes on.
            counts.extend(calls)
        except OSError:
            counts.append(0)
    return counts
