"""What a bad network does: sizes and times of packets in, times of arrival out; from a seed.

`LossyPath` is one direction of a path for datagrams, `StreamPath` one for a byte stream. Both are pure: time is an
argument, so a simulation (`network`) and proxies on real sockets (`udp_proxy`, `tcp_proxy`) share them.

A byte stream cannot lose anything, and whoever stands between two TCP connections sees no segments. So `StreamPath` is
a model of what loss feels like to the reader: a lost segment comes later, and all behind it wait. How much later is
what RFC 6298 and RFC 5681 say: one round trip where three newer segments show the gap, else the retransmission timer
(at least 200 ms, the floor of Linux), which doubles. There is no congestion window in it. To compare with a kernel's
own TCP, impair its packets instead: ``benchmarks/rudp.py`` does.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass

__all__ = ["STREAM_TRIES", "Impairment", "LossyPath", "StreamPath"]

#: Headers of IP and UDP, and of IP and TCP with its time stamps.
DATAGRAM_OVERHEAD_BYTES = 28
SEGMENT_OVERHEAD_BYTES = 52

#: Times that a segment is sent again before its connection is given up, and the timer's limits (Linux).
STREAM_TRIES = 15
_TIMER_FLOOR_SECONDS = 0.2
_TIMER_CEILING_SECONDS = 120.0

#: Newer segments that show a gap (RFC 5681, section 3.2).
_SHOWING_SEGMENTS = 3


@dataclass(frozen=True, slots=True)
class Impairment:
    """What one direction does to packets. Shares are 0..1, times are seconds."""

    #: Each packet takes `delay_seconds` plus or minus up to `jitter_seconds`, drawn for itself: jitter reorders.
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    #: Share of packets that are held back by up to `reordering_seconds` more.
    reordering: float = 0.0
    reordering_seconds: float = 0.05
    #: Bytes per second of the line, headers included; 0 = no limit.
    rate_bytes: float = 0.0
    #: What may wait in front of the line; more is dropped.
    queue_bytes: int = 65536
    #: (from, to) on the clock of the caller: nothing that is sent meanwhile arrives.
    black_outs: tuple[tuple[float, float], ...] = ()


class LossyPath:
    """One direction of a path for datagrams. Keeps count of what it did in `counters`.

    :param seed: of the only source of randomness.
    :param overhead_bytes: what each packet takes on the line beside its size.
    """

    def __init__(self, impairment: Impairment, seed: int, overhead_bytes: int = DATAGRAM_OVERHEAD_BYTES) -> None:
        self.impairment = impairment
        #: True: nothing arrives until it is False again.
        self.is_black_hole = False
        self.counters: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._overhead_bytes = overhead_bytes
        self._line_free_at = 0.0

    def arrivals(self, size_bytes: int, now: float) -> list[float]:
        """Return when a packet of this size, sent at `now`, arrives: no, one or two times."""
        how, draw = self.impairment, self._random.random
        self.counters["sent"] += 1
        if how.loss and draw() < how.loss:
            self.counters["lost"] += 1
            return []
        if self.is_black_hole or any(begin <= now < end for begin, end in how.black_outs):
            self.counters["blacked_out"] += 1
            return []
        departure = self._departure(size_bytes + self._overhead_bytes, now)
        if departure is None:
            self.counters["overflowed"] += 1
            return []
        times = [self._arrival(departure)]
        if how.duplication and draw() < how.duplication:
            self.counters["duplicated"] += 1
            times.append(self._arrival(departure))
        return times

    def _departure(self, size_bytes: int, now: float) -> float | None:
        rate = self.impairment.rate_bytes
        if not rate:
            return now
        begin = max(now, self._line_free_at)
        if (begin - now) * rate > self.impairment.queue_bytes:
            return None
        self._line_free_at = begin + size_bytes / rate
        return self._line_free_at

    def _arrival(self, departure: float) -> float:
        how, draw = self.impairment, self._random.random
        late = how.jitter_seconds * (2 * draw() - 1) if how.jitter_seconds else 0.0
        if how.reordering and draw() < how.reordering:
            self.counters["reordered"] += 1
            late += how.reordering_seconds * draw()
        return departure + max(0.0, how.delay_seconds + late)


class StreamPath:
    """One direction of a byte stream, as its reader feels it; see the module's text. Keeps count in `counters`.

    What was sent first arrives first. Doubles cost a stream nothing and are left out. A line of limited rate drops
    nothing either: its writer is made to wait, which is the caller's part.
    """

    def __init__(self, impairment: Impairment, seed: int) -> None:
        self.impairment = impairment
        #: True: nothing shall arrive until it is False again; the caller holds it back.
        self.is_black_hole = False
        self.counters: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._line_free_at = 0.0
        self._last_arrival = 0.0
        self._sent_at: deque[float] = deque(maxlen=_SHOWING_SEGMENTS)

    def arrival(self, size_bytes: int, now: float) -> float | None:
        """Return when a segment of this size, sent at `now`, can be read; None = its connection is given up."""
        how, draw = self.impairment, self._random.random
        self.counters["sent"] += 1
        departure = self._departure(size_bytes, now)
        if departure is None:
            self.counters["given_up"] += 1
            return None
        late = how.jitter_seconds * (2 * draw() - 1) if how.jitter_seconds else 0.0
        if how.reordering and draw() < how.reordering:
            self.counters["reordered"] += 1
            late += how.reordering_seconds * draw()
        self._last_arrival = max(self._last_arrival, departure + max(0.0, how.delay_seconds + late))
        return self._last_arrival

    def _departure(self, size_bytes: int, now: float) -> float | None:
        """Return when the transmission that gets through leaves."""
        how = self.impairment
        time = now
        if how.rate_bytes:
            time = max(now, self._line_free_at) + (size_bytes + SEGMENT_OVERHEAD_BYTES) / how.rate_bytes
            self._line_free_at = time
        round_trip = 2 * how.delay_seconds
        timer = max(_TIMER_FLOOR_SECONDS, round_trip + 4 * how.jitter_seconds)
        is_busy = len(self._sent_at) == _SHOWING_SEGMENTS and time - self._sent_at[0] <= round_trip
        self._sent_at.append(time)
        for tried in range(STREAM_TRIES + 1):
            if not self._is_lost(time):
                return time
            self.counters["lost"] += 1
            if is_busy and not tried:
                time += round_trip
            else:
                time += timer
                timer = min(2 * timer, _TIMER_CEILING_SECONDS)
        return None

    def _is_lost(self, time: float) -> bool:
        how = self.impairment
        if any(begin <= time < end for begin, end in how.black_outs):
            return True
        return bool(how.loss) and self._random.random() < how.loss
