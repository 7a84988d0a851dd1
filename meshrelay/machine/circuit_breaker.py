"""A circuit breaker: whoever fails again and again is left in peace for a while, then tried once. Pure.

::

    closed --`failures` failures in a row--> open --`open_seconds`--> half-open --success--> closed
                                              ^                            |
                                              `----------failure-----------'
"""

from __future__ import annotations

from enum import Enum

__all__ = ["BreakerState", "CircuitBreaker"]


class BreakerState(Enum):
    """See the module."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """Starts closed.

    :param failures: in a row, that open it; >= 1.
    :param open_seconds: how long nothing is tried.
    :ivar opened: how often it has opened.
    """

    def __init__(self, failures: int, open_seconds: float) -> None:
        self._limit = failures
        self._open_seconds = open_seconds
        self._failed = 0
        self._opened_at = 0.0
        self._state = BreakerState.CLOSED
        self.opened = 0

    @property
    def state(self) -> BreakerState:
        """What it is in."""
        return self._state

    def wait_seconds(self, now: float) -> float | None:
        """How long until something may be tried: 0.0 = now, None = when the try that is under way has ended."""
        if self._state is BreakerState.CLOSED:
            return 0.0
        if self._state is BreakerState.HALF_OPEN:
            return None
        return max(0.0, self._opened_at + self._open_seconds - now)

    def begin(self) -> None:
        """Something is tried; allowed by `wait_seconds`."""
        if self._state is BreakerState.OPEN:
            self._state = BreakerState.HALF_OPEN

    def succeeded(self) -> None:
        """A try went well."""
        self._failed = 0
        self._state = BreakerState.CLOSED

    def failed(self, now: float) -> None:
        """A try went wrong."""
        self._failed += 1
        is_over = self._failed >= self._limit and self._state is BreakerState.CLOSED
        if is_over or self._state is BreakerState.HALF_OPEN:
            self._state = BreakerState.OPEN
            self._opened_at = now
            self.opened += 1
