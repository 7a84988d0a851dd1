"""Round trip samples in, the retransmission timeout and the patience with late packets out.

The timeout is RFC 6298's (smoothed, variation, gains 1/8 and 1/4); its floor is lower than the RFC's one second
because both ends acknowledge within tens of milliseconds. `patience_seconds` is what RFC 8985 (RACK) calls the round
trip plus the reordering window: how long a packet may stay out once later ones were acknowledged before it counts as
lost. A path with jitter delivers out of order all the time; a fixed small patience would resend half of the stream.
Here it follows the slowest round trips really seen: up at once, down by 1/1024 of the distance at each sample.
"""

from __future__ import annotations

__all__ = ["RoundTrip"]

#: RFC 6298, section 2.5: a bound on the timeout must be at least this.
MAX_TIMEOUT_SECONDS = 60.0

#: Timers of an event loop are no finer than this (G of RFC 6298).
GRANULARITY_SECONDS = 0.001

_HIGH_DECAY = 1 / 1024


class RoundTrip:
    """What is known of the path's delay; all values in seconds.

    :param floor_seconds: the shortest timeout.
    :param initial_timeout_seconds: the timeout while there is no sample.
    """

    __slots__ = ("_floor", "_high", "_initial", "minimum", "samples", "smoothed", "variation")

    def __init__(self, floor_seconds: float, initial_timeout_seconds: float) -> None:
        self._floor = floor_seconds
        self._initial = initial_timeout_seconds
        #: None before the first sample.
        self.smoothed: float | None = None
        self.variation = 0.0
        #: The fastest round trip; 0 before the first sample.
        self.minimum = 0.0
        self.samples = 0
        self._high = 0.0

    def reset(self) -> None:
        """Forget the samples: the path is another one. A timeout shorter than the first one is the new guess."""
        self._initial = min(self._initial, self.timeout_seconds)
        self.smoothed = None
        self.variation = self.minimum = self._high = 0.0
        self.samples = 0

    def add_sample(self, seconds: float) -> None:
        """Take one measured round trip of a packet that was sent exactly once (Karn)."""
        self.samples += 1
        if self.smoothed is None:
            self.smoothed = self.minimum = self._high = seconds
            self.variation = seconds / 2
            return
        self.minimum = min(self.minimum, seconds)
        self.variation += (abs(self.smoothed - seconds) - self.variation) / 4
        self.smoothed += (seconds - self.smoothed) / 8
        self._high -= (self._high - self.smoothed) * _HIGH_DECAY
        self._high = max(self._high, seconds)

    def add_late(self, seconds: float) -> None:
        """Note that a packet which was believed lost had only taken this long: be more patient."""
        self._high = max(self._high, seconds)

    @property
    def timeout_seconds(self) -> float:
        """The RFC 6298 timeout before any doubling."""
        if self.smoothed is None:
            return max(self._floor, self._initial)
        timeout = self.smoothed + max(GRANULARITY_SECONDS, 4 * self.variation)
        return min(max(timeout, self._floor), MAX_TIMEOUT_SECONDS)

    @property
    def patience_seconds(self) -> float:
        """How long after its sending a packet counts as lost, given that later ones were acknowledged.

        Between 9/8 (RFC 9002, section 6.1.2) and twice (RFC 8985, section 6.2) the smoothed round trip.
        """
        if self.smoothed is None:
            return self._initial
        high = self._high + (self._high - self.smoothed) / 4
        return min(max(high, self.smoothed * 1.125), self.smoothed * 2) + GRANULARITY_SECONDS
