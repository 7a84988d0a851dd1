"""`twisted.internet.task.Clock` for simulations with tens of thousands of timers.

Twisted's sorts all of them each time one is added; this one keeps a heap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

__all__ = ["HeapClock"]


class HeapClock(Clock):
    """See the module. Calls of the same time are made in the order in which they were added."""

    def __init__(self) -> None:
        super().__init__()
        #: (time, order, call); a call that was cancelled or moved is passed over when it comes up.
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._order = count()
        self._waiting: dict[DelayedCall, None] = {}

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> IDelayedCall:
        """See `IReactorTime.callLater`."""
        call = DelayedCall(self.seconds() + delay, callable, args, kw, self._cancelled, self._moved, self.seconds)
        self._waiting[call] = None
        self._push(call)
        return call

    def _push(self, call: DelayedCall) -> None:
        heappush(self._heap, (call.getTime(), next(self._order), call))

    def _cancelled(self, call: DelayedCall) -> None:
        self._waiting.pop(call, None)

    def _moved(self, call: DelayedCall) -> None:
        self._push(call)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """See `IReactorTime.getDelayedCalls`."""
        return sorted(self._waiting, key=lambda call: call.getTime())

    def advance(self, amount: float) -> None:
        """Let time pass and make the calls that are due, with the ones that they add."""
        self.rightNow += amount
        heap, waiting = self._heap, self._waiting
        while heap and heap[0][0] <= self.seconds():
            time, _, call = heappop(heap)
            if call not in waiting or time != call.getTime():
                # A call that was put off says so only now (Twisted's DelayedCall.reset).
                if call in waiting and call.getTime() > time:
                    self._push(call)
                continue
            del waiting[call]
            call.called = 1
            call.func(*call.args, **call.kw)
