"""A token bucket: so many events a second, with a burst. Pure, time is an argument."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """Starts full.

    :param rate_per_second: tokens that come in each second, > 0.
    :param burst: tokens that it holds at most, >= 1.
    """

    __slots__ = ("_burst", "_rate_per_second", "_tokens", "_updated_at")

    def __init__(self, rate_per_second: float, burst: float, now: float) -> None:
        self._rate_per_second = rate_per_second
        self._burst = burst
        self._tokens = burst
        self._updated_at = now

    def take(self, now: float) -> float:
        """Take one token.

        :returns: 0.0, or the seconds until there is one; then nothing was taken.
        """
        self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate_per_second)
        self._updated_at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate_per_second

    def peek(self, now: float) -> float:
        """Return the seconds until there is a token, 0.0 = there is one. Nothing is taken."""
        tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate_per_second)
        return 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._rate_per_second

    def take_up_to(self, count: int, now: float) -> int:
        """Take `count` tokens, or as many as there are.

        :returns: how many were taken.
        """
        tokens = self._tokens + (now - self._updated_at) * self._rate_per_second
        # Asked for each message: a call of min costs as much as all the rest.
        if tokens > self._burst:  # noqa: PLR1730
            tokens = self._burst
        self._updated_at = now
        # Below 0: `now`, the begin of a read, may lie before the last token was taken.
        taken = count if tokens >= count else max(0, int(tokens))
        self._tokens = tokens - taken
        return taken

    def take_all(self, count: int, now: float) -> bool:
        """Take `count` tokens. False: there are not so many, and none was taken."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate_per_second)
        self._updated_at = now
        if count > self._tokens:
            return False
        self._tokens -= count
        return True
