"""Several ways to one thing, at once or one after the other: the first that works is it, the others are dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["Attempt", "RaceFailed", "race"]

T = TypeVar("T")

#: What to call it in an error, and how to begin it. Cancelling what it returns must leave nothing behind.
Attempt = tuple[str, Callable[[], "Deferred[T]"]]


class RaceFailed(Exception):
    """Nothing worked; the text has the word of each, in the order in which they began.

    :ivar failures: in the same order.
    """

    def __init__(self, failures: list[tuple[str, Failure]]) -> None:
        self.failures = failures
        super().__init__("; ".join(f"{label}: {_text(failure)}" for label, failure in failures))


def _text(failure: Failure) -> str:
    return failure.getErrorMessage() or type(failure.value).__name__


class _Race(Generic[T]):
    def __init__(self, attempts: Iterable[Attempt[T]], parallel: int) -> None:
        self.done: Deferred[T] = Deferred(lambda _: self._stop())
        self._parallel = parallel
        self._waiting = deque(enumerate(attempts))
        self._running: dict[int, Deferred[T]] = {}
        self._failures: dict[int, tuple[str, Failure]] = {}
        self._is_over = False

    def go_on(self) -> None:
        while self._waiting and len(self._running) < self._parallel and not self._is_over:
            number, (label, begin) = self._waiting.popleft()
            running = self._running[number] = begin()
            running.addCallbacks(self._won, self._lost, (number,), errbackArgs=(number, label))
        if not self._running and not self._is_over:
            self._is_over = True
            self.done.errback(RaceFailed([self._failures[number] for number in sorted(self._failures)]))

    def _won(self, result: T, number: int) -> None:
        self._running.pop(number, None)
        if self._is_over:
            return
        self._stop()
        self.done.callback(result)

    def _lost(self, failure: Failure, number: int, label: str) -> None:
        self._running.pop(number, None)
        if not self._is_over:
            self._failures[number] = (label, failure)
            self.go_on()

    def _stop(self) -> None:
        self._is_over = True
        running, self._running = self._running, {}
        for deferred in running.values():
            deferred.cancel()


def race(attempts: Iterable[Attempt[T]], parallel: int) -> Deferred[T]:
    """Begin attempts, at most so many at a time, until one works; the others are cancelled.

    :returns: fires with what the first one that worked gave; fails with `RaceFailed`. Cancelling it cancels them all.
    """
    running: _Race[T] = _Race(attempts, parallel)
    running.go_on()
    return running.done
