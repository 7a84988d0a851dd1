"""Is the other end of a relay connection alive: HEALTH_CHECK messages and the time -> a verdict. Pure.

The server asks and the client echoes; each looks at its own clock whether something came. Only HEALTH_CHECK counts as
life, other messages do not: that is what NetBird's two ends do.
"""

from __future__ import annotations

__all__ = ["HealthWatch", "attempt_threshold"]


def attempt_threshold(text: str | None) -> int:
    """Return how many verdicts may fail, out of NB_RELAY_HC_ATTEMPT_THRESHOLD: 1 unless it is a number above 0."""
    try:
        return max(int(text or ""), 1)
    except ValueError:
        return 1


class HealthWatch:
    """Decides that the other end is gone when `threshold` looks in a row found that nothing came.

    :param verdict_seconds: from one look to the next.
    :param threshold: 1 = the first failure counts.
    """

    __slots__ = ("_failures", "_is_heard", "_threshold", "_verdict_seconds", "next_look_at")

    def __init__(self, verdict_seconds: float, threshold: int, now: float) -> None:
        self._verdict_seconds = verdict_seconds
        self._threshold = threshold
        self._failures = 0
        self._is_heard = False
        #: When `is_gone` has to be asked.
        self.next_look_at = now + verdict_seconds

    def heard(self) -> None:
        """A HEALTH_CHECK came."""
        self._is_heard = True
        self._failures = 0

    def is_gone(self, now: float) -> bool:
        """Look; to be called when `next_look_at` has come.

        A look that came late counts as one: ticks that this process slept through prove nothing about the other end.
        """
        self.next_look_at = now + self._verdict_seconds
        if self._is_heard:
            self._is_heard = False
            return False
        self._failures += 1
        return self._failures >= self._threshold
