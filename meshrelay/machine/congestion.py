"""How many packets may be on the way at a time, and how evenly they leave.

The shape is RFC 9002's NewReno: slow start, one reduction per round of losses (the recovery period), one packet more
per round trip afterwards, a collapse to the minimum at persistent congestion, growth only while the window is in use.
The window counts packets as the peer's window does; small messages are merged into full packets whenever it blocks.

Three things differ, because plain NewReno takes every loss for a full queue and then rests at about 1.2 / sqrt(loss)
packets: 5.5 of them at 5 % loss, which on a path of 100 ms are 75 kB/s whatever the path could carry.

* A loss shrinks the window only when there is a sign of a queue: the smoothed round trip is over 1.5 times the lowest
  one of the last half minute, or more than `TOLERATED_LOSS` of the recent packets were lost. A radio link's few per
  cent are answered by resending alone. BBR (v2: 2 %) and PCC Allegro (5 %) draw the same line elsewhere. The cost: in
  front of a queue shorter than half a round trip we give way only at 10 % loss, so a NewReno flow beside us gets less.
* The reduction is to 0.7 (RFC 9438), not 0.5.
* When all the losses that caused a reduction turn out to be late packets, the reduction is undone (as RFC 4015 does).

Slow start also ends at the first sign of a queue (the idea of HyStart). `Pacer` spreads what the window allows over
the round trip (RFC 9002, section 7.7), in bursts of at most ten packets.
"""

from __future__ import annotations

from math import inf

from meshrelay.machine.rtt import RoundTrip

__all__ = ["INITIAL_WINDOW", "MINIMUM_WINDOW", "TOLERATED_LOSS", "CongestionWindow", "Pacer"]

#: Packets; RFC 9002, section 7.2.
INITIAL_WINDOW = 10
MINIMUM_WINDOW = 2

#: Share of lost packets that is still taken for the nature of the path; see the module's text.
TOLERATED_LOSS = 0.10

#: The loss share is an average over about this many packets: at 5 % loss 10 % are then 5 sigma away.
_LOSS_HORIZON = 256

_REDUCTION = 0.7

#: The queue sign: this factor over the lowest smoothed round trip, and at least this much in seconds.
_QUEUE_FACTOR = 1.5
_QUEUE_SECONDS = 0.005
_LOWEST_FOR_SECONDS = 15.0
#: Before this many samples the average still shows the first one.
_SETTLED_SAMPLES = 16

_PACING_GAIN = 1.25
_PACING_GAIN_SLOW_START = 2.0
_BURST_PACKETS = 10
_MIN_WAIT_SECONDS = 0.001


class CongestionWindow:
    """The number of packets that may be in flight. Invariant: MINIMUM_WINDOW <= window <= max_window."""

    def __init__(self, round_trip: RoundTrip, max_window: int) -> None:
        self._round_trip = round_trip
        self._max_window = max_window
        self.reset()

    def reset(self) -> None:
        """Start again from the initial window: the path is another one."""
        self.window = float(min(INITIAL_WINDOW, self._max_window))
        self.threshold = inf
        #: 0..1, over about the last 256 packets.
        self.loss_share = 0.0
        self.reductions = 0
        # Losses of packets numbered up to here belong to the reduction already made.
        self._recovery_end = 0
        self._undo_window = 0.0
        self._undo_threshold = inf
        self._undo_losses = 0
        # The lowest smoothed round trip of this and of the last quarter minute.
        self._lowest = inf
        self._lowest_before = inf
        self._lowest_until = 0.0

    @property
    def in_slow_start(self) -> bool:
        return self.window < self.threshold

    def acknowledged(self, count: int, largest_number: int, in_flight: int, now: float) -> None:
        """Note that the peer has `count` packets more.

        :param largest_number: the newest transmission among them.
        :param in_flight: before they were taken off: a window that is not in use does not grow.
        """
        self._watch_round_trip(now)
        self.loss_share *= (1 - 1 / _LOSS_HORIZON) ** count
        if largest_number <= self._recovery_end or 2 * in_flight < self.window:
            return
        if self.in_slow_start:
            if self._has_queue():
                self.threshold = self.window
            self.window = min(self.window + count, self._max_window)
        else:
            self.window = min(self.window + count / self.window, self._max_window)

    def lost(self, number: int, latest_number: int) -> None:
        """Note that the transmission `number` was lost; `latest_number` is the last one made."""
        self.loss_share += (1 - self.loss_share) / _LOSS_HORIZON
        if number <= self._recovery_end:
            self._undo_losses += 1
            return
        if self.loss_share <= TOLERATED_LOSS and not self._has_queue():
            return
        self._undo_window, self._undo_threshold, self._undo_losses = self.window, self.threshold, 1
        self._reduce(self.window * _REDUCTION, latest_number)

    def loss_was_wrong(self, number: int) -> None:
        """Note that the transmission `number`, reported lost, was only late."""
        self.loss_share = max(0.0, self.loss_share - 1 / _LOSS_HORIZON)
        if number > self._recovery_end or not self._undo_losses:
            return
        self._undo_losses -= 1
        if not self._undo_losses:
            self.window = max(self.window, self._undo_window)
            self.threshold = max(self.threshold, self._undo_threshold)

    def collapse(self, latest_number: int) -> None:
        """Go down to the minimum: nothing came back for several timeouts (RFC 9002, section 7.6)."""
        self._undo_losses = 0
        self._reduce(self.window * _REDUCTION, latest_number)
        self.window = float(MINIMUM_WINDOW)

    def packet_interval_seconds(self) -> float:
        """Return the time between two departures; 0 while there is no round trip sample."""
        smoothed = self._round_trip.smoothed
        if smoothed is None:
            return 0.0
        gain = _PACING_GAIN_SLOW_START if self.in_slow_start else _PACING_GAIN
        return smoothed / (gain * self.window)

    def _reduce(self, window: float, latest_number: int) -> None:
        self.window = self.threshold = max(window, float(MINIMUM_WINDOW))
        self._recovery_end = latest_number
        self.reductions += 1

    def _has_queue(self) -> bool:
        smoothed = self._round_trip.smoothed
        if smoothed is None:
            return False
        lowest = min(self._lowest, self._lowest_before)
        return smoothed > max(lowest * _QUEUE_FACTOR, lowest + _QUEUE_SECONDS)

    def _watch_round_trip(self, now: float) -> None:
        smoothed = self._round_trip.smoothed
        if smoothed is None or self._round_trip.samples < _SETTLED_SAMPLES:
            return
        if now >= self._lowest_until:
            self._lowest_before = self._lowest
            self._lowest = inf
            self._lowest_until = now + _LOWEST_FOR_SECONDS
        self._lowest = min(self._lowest, smoothed)


class Pacer:
    """When the next packet may leave: a token bucket kept as one point in time, which no rounding can stall."""

    __slots__ = ("_last", "_next")

    def __init__(self) -> None:
        self._next = -inf
        self._last = -inf

    def may_send(self, now: float) -> bool:
        return now >= self._next

    def sent(self, now: float, interval_seconds: float) -> None:
        """Note a departure; unused time is saved up for a burst of ten packets."""
        # Half an interval of grace, so that rounding never takes one packet off the burst.
        self._next = max(self._next, now - (_BURST_PACKETS - 0.5) * interval_seconds) + interval_seconds
        self._last = now

    def deadline(self) -> float:
        """Return when to ask again: a few packets per wake-up rather than one, when the interval is tiny."""
        return max(self._next, self._last + _MIN_WAIT_SECONDS)
