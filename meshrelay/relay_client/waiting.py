"""Calls of one connection that wait, in order, each with something in its hand; a deadline ends all that wait.

A deadline holds until it is changed: calls that begin after it fail at once, as with the connections of Go's net
package, on whose users' habits those of NetBird's relay are built.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall

from meshrelay.background import fire_all
from meshrelay.relay_client.errors import DeadlinePassed, TooManyWaiting

__all__ = ["MAX_WAITING", "Waiting"]

#: Calls of one kind that may wait in one connection.
MAX_WAITING = 100

T = TypeVar("T")
R = TypeVar("R")


class Waiting(Generic[T, R]):
    """Calls that end with an `R`, and bring a `T`.

    :param clock: the reactor.
    """

    __slots__ = ("_calls", "_clock", "_deadline", "_timer")

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._calls: deque[tuple[T, Deferred[R]]] = deque()
        self._deadline: float | None = None
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def is_too_late(self) -> bool:
        """True: the deadline is over."""
        return self._deadline is not None and self._clock.seconds() >= self._deadline

    def add(self, item: T) -> Deferred[R]:
        """Wait; to be called when `is_too_late` is not.

        :returns: fires when the owner takes it; fails with `DeadlinePassed`, or with `TooManyWaiting` at once.
            Cancelling it forgets the item.
        """
        if len(self._calls) >= MAX_WAITING:
            return fail(TooManyWaiting(MAX_WAITING))
        done: Deferred[R] = Deferred(self._forget)
        self._calls.append((item, done))
        return done

    def take(self) -> tuple[T, Deferred[R]]:
        """Return the oldest one, which the owner is to end."""
        return self._calls.popleft()

    def set_deadline(self, at: float | None) -> None:
        """End what waits, and what comes later, at this time of the reactor's clock; None = never."""
        self._deadline = at
        self._stop_timer()
        if at is not None:
            self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._expire)

    def end(self, error: Exception) -> None:
        """End all with an error, for good."""
        self._stop_timer()
        self._fail_all(error)

    def _expire(self) -> None:
        self._timer = None
        self._fail_all(DeadlinePassed())

    def _fail_all(self, error: Exception) -> None:
        calls, self._calls = self._calls, deque()
        fire_all((done for _, done in calls), error)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _forget(self, done: Deferred[R]) -> None:
        self._calls = deque(call for call in self._calls if call[1] is not done)
