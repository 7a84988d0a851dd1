"""Times of deliveries -> counts in buckets, so that a long run needs no more memory than a short one.

A bucket is one hundredth wider than the one before it, so a percentile is right to one in a hundred.
"""

from __future__ import annotations

from collections import Counter
from math import log

__all__ = ["Latencies"]

_STEP = log(1.01)

#: Shorter times are all the same.
MIN_SECONDS = 0.000_001

#: Longer ones too; together that is at most 2,083 buckets.
MAX_SECONDS = 1000.0


class Latencies:
    """How long deliveries took."""

    __slots__ = ("_buckets", "count", "longest")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        #: Seconds of the slowest, exactly.
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """Count one delivery."""
        clipped = min(max(seconds, MIN_SECONDS), MAX_SECONDS)
        self._buckets[int(log(clipped / MIN_SECONDS) / _STEP)] += 1
        self.count += 1
        self.longest = max(self.longest, seconds)

    def percentile(self, share: float) -> float:
        """Return the seconds within which a share of all came; 0 when there were none.

        :param share: above 0, at most 1.
        """
        wanted = share * self.count
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                upper: float = MIN_SECONDS * 1.01 ** (bucket + 1)
                return min(upper, self.longest)
        return 0.0
