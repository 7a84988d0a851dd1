"""What runs beside the flow of messages: coroutines that nobody waits for, and many coarse alarms on one timer.

`Alarms` is a hashed wheel: connections set thousands of deadlines (HELLO, idle, heartbeat, resume) that almost never
fire, and a reactor timer for each would cost memory and a heap operation for each message.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from heapq import heappop, heappush
from inspect import isawaitable
from math import ceil
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["Alarm", "Alarms", "fire_all", "in_time", "let_go", "result_of", "start", "stop_reactor"]

T = TypeVar("T")


def start(coroutine: Coroutine[Deferred[object], object, object], log: Logger, what: str) -> Deferred[None]:
    """Run `coroutine` to its end; a failure is logged as "what failed".

    :returns: fires with None when it has ended, never with a failure.
    """

    def ended(_: object) -> None:
        return None

    done = Deferred.fromCoroutine(coroutine)
    return done.addCallbacks(ended, lambda failure: log.failure("{what} failed", failure=failure, what=what))


async def result_of(result: object) -> object:
    """Return what a callback of the application gives in the end: what it returned, or what comes of that."""
    return await result if isawaitable(result) else result


def let_go(work: Deferred[T], cancelled: Callable[[], object] | None = None) -> Deferred[T]:
    """Fire with what `work` gives. Who cancels this cancels `work`, and waits no more whatever becomes of that.

    A coroutine may catch its cancellation and wait for something else, for ever perhaps.

    :param cancelled: called before `work` is cancelled.
    """

    def give_up(_: Deferred[T]) -> None:
        if cancelled is not None:
            cancelled()
        work.cancel()

    def ended(outcome: T | Failure) -> None:
        # Afterwards nobody waits for it.
        if not answer.called:
            answer.callback(outcome)

    answer: Deferred[T] = Deferred(give_up)
    work.addBoth(ended)
    return answer


def in_time(work: Deferred[T], seconds: float, clock: IReactorTime) -> Deferred[T]:
    """Fire with what `work` gives; after `seconds` it is cancelled as by `let_go`, and this fails with Twisted's
    TimeoutError."""
    return let_go(work).addTimeout(seconds, clock)


def fire_all(waiting: Iterable[Deferred[T]], outcome: T | Exception) -> None:
    """Fire all of `waiting` but those that are cancelled meanwhile, by whoever hears of another one.

    :param outcome: an exception: they fail.
    """
    for done in waiting:
        if done.called:
            continue
        if isinstance(outcome, Exception):
            done.errback(outcome)
        else:
            done.callback(outcome)


def stop_reactor(reactor: Any) -> None:
    """Stop `reactor`, unless somebody has done so: a signal, the admin API, the end of the supervisor."""
    with suppress(ReactorNotRunning):
        reactor.stop()


class Alarm:
    """A call that is due later. Made by `Alarms.call_later`."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    @property
    def is_set(self) -> bool:
        """False: it rang or was cancelled."""
        return self._callback is not None

    def cancel(self) -> None:
        """Never ring. Cancelling twice, or after it rang, does nothing."""
        self._callback = None

    def _ring(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Alarms:
    """Any number of alarms on one reactor timer.

    :param clock: its `callLater` is used for the next slot only.
    :param resolution_seconds: an alarm rings at its time or up to this much later, never before.
    :ivar now: gives the seconds of the clock; its own function, for it is asked at each read.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, resolution_seconds: float = 0.05) -> None:
        self._clock = clock
        self.now: Callable[[], float] = clock.seconds
        self._resolution_seconds = resolution_seconds
        self._slots: dict[int, list[Alarm]] = {}
        #: A heap of the slots: groups may have lifetimes in ever so many of them.
        self._order: list[int] = []
        self._next_slot: int | None = None
        self._timer: IDelayedCall | None = None

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Alarm:
        """Call `callback` once, `seconds` from now. What it raises is logged."""
        alarm = Alarm(callback)
        slot = ceil((self.now() + seconds) / self._resolution_seconds)
        alarms = self._slots.get(slot)
        if alarms is None:
            alarms = self._slots[slot] = []
            heappush(self._order, slot)
        alarms.append(alarm)
        if self._next_slot is None or slot < self._next_slot:
            self._wait_for(slot)
        return alarm

    def stop(self) -> None:
        """Forget all alarms."""
        self._slots.clear()
        self._order.clear()
        self._next_slot = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _wait_for(self, slot: int) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._next_slot = slot
        delay = max(0.0, slot * self._resolution_seconds - self.now())
        self._timer = self._clock.callLater(delay, self._slot_due)

    def _slot_due(self) -> None:
        # Floating point may wake us a hair early; the slot that was waited for is due by definition.
        passed = int(self.now() / self._resolution_seconds)
        last_due = max(passed, self._next_slot or 0)
        self._next_slot = None
        due = []
        while self._order and self._order[0] <= last_due:
            due.append(heappop(self._order))
        for slot in due:
            for alarm in self._slots.pop(slot, ()):
                try:
                    alarm._ring()
                except Exception:  # one alarm's bug must not silence the others
                    self._log.failure("an alarm failed")
        if self._order:
            self._wait_for(self._order[0])
