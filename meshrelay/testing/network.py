"""A bad network made of numbers: delay, jitter, loss, doubles, reordering, a slow line, black-outs; from a seed.

`LossyPath` decides for each packet when and how often it arrives; `SimulatedPair` joins two pure machines by two such
paths and moves a virtual clock from one thing that happens to the next, so an hour of traffic takes seconds and the
same seed always does the same. Nothing here touches a socket or the real time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from meshrelay.errors import PacketRejected
from meshrelay.machine.reliability import Event, ReliabilityMachine
from meshrelay.wire.datagram import PacketKind

__all__ = ["Impairment", "LossyPath", "SimulatedEnd", "SimulatedPair"]

#: What the sealed datagram has beside the content, and IP and UDP before that.
_OVERHEAD_BYTES = 26 + 16 + 28


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
    #: (from, to) on the virtual clock: nothing that is sent meanwhile arrives.
    black_outs: tuple[tuple[float, float], ...] = ()


class LossyPath:
    """One direction. Keeps count of what it did in `counters`."""

    def __init__(self, impairment: Impairment, seed: int) -> None:
        self.impairment = impairment
        self.counters: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._line_free_at = 0.0

    def arrivals(self, size_bytes: int, now: float) -> list[float]:
        """Return when a packet of this size, sent at `now`, arrives: no, one or two times."""
        how, draw = self.impairment, self._random.random
        self.counters["sent"] += 1
        if how.loss and draw() < how.loss:
            self.counters["lost"] += 1
            return []
        if any(begin <= now < end for begin, end in how.black_outs):
            self.counters["blacked_out"] += 1
            return []
        departure = self._departure(size_bytes + _OVERHEAD_BYTES, now)
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


class SimulatedEnd:
    """One machine of a `SimulatedPair` and what came out of it."""

    def __init__(self, machine: ReliabilityMachine, path: LossyPath) -> None:
        self.machine = machine
        #: The path that its packets take.
        self.path = path
        #: (virtual time, event), in order.
        self.events: list[tuple[float, Event]] = []
        #: False: events stay in the machine, as when the application does not read.
        self.is_fetching = True
        #: When set, called with every event instead of keeping it in `events`.
        self.on_event: Callable[[Event, float], None] | None = None
        self.rejected: Counter[str] = Counter()
        #: Kind -> packets put on the path.
        self.sent: Counter[PacketKind] = Counter()


class SimulatedPair:
    """Two machines and the network between them, on a virtual clock that starts at 0.

    :param there: from client to node; `back` from node to client, by default the same.
    """

    def __init__(
        self,
        client: ReliabilityMachine,
        node: ReliabilityMachine,
        there: Impairment,
        back: Impairment | None = None,
        seed: int = 0,
    ) -> None:
        self.now = 0.0
        self.client = SimulatedEnd(client, LossyPath(there, 2 * seed))
        self.node = SimulatedEnd(node, LossyPath(back or there, 2 * seed + 1))
        self._order = count()
        # (time, order, what happens)
        self._agenda: list[tuple[float, int, SimulatedEnd | None, tuple[PacketKind, bytes] | Callable[[], None]]] = []

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a virtual time, such as sending a message."""
        heappush(self._agenda, (time, next(self._order), None, action))

    def connect(self) -> None:
        """Let the client begin."""
        self.client.machine.connect(self.now)

    def run(self, until: float, stop: Callable[[], bool] | None = None) -> bool:
        """Let time pass up to `until` or until `stop` says True, which is asked after every step.

        :returns: what `stop` said last.
        """
        self._flush(self.client)
        self._flush(self.node)
        while stop is None or not stop():
            time = self._next_time()
            if time is None or time > until:
                self.now = until
                return False
            self.now = max(self.now, time)
            self._step()
        return True

    def _next_time(self) -> float | None:
        times = [self.client.machine.next_deadline(), self.node.machine.next_deadline()]
        if self._agenda:
            times.append(self._agenda[0][0])
        return min((time for time in times if time is not None), default=None)

    def _step(self) -> None:
        """Do one thing that is due; only the ends that it touches are looked at again."""
        if self._agenda and self._agenda[0][0] <= self.now:
            _, _, end, what = heappop(self._agenda)
            if end is None or not isinstance(what, tuple):
                assert callable(what)
                what()
                self._flush(self.client)
                self._flush(self.node)
                return
            try:
                end.machine.receive_packet(*what, self.now)
            except PacketRejected as error:
                end.rejected[error.reason] += 1
            self._flush(end)
            return
        for end in (self.client, self.node):
            deadline = end.machine.next_deadline()
            if deadline is not None and deadline <= self.now:
                end.machine.deadline_passed(self.now)
                self._flush(end)

    def _flush(self, end: SimulatedEnd) -> None:
        machine = end.machine
        while end.is_fetching and (event := machine.next_event()) is not None:
            if end.on_event is not None:
                end.on_event(event, self.now)
            else:
                end.events.append((self.now, event))
        other = self.node if end is self.client else self.client
        for packet in machine.packets_to_send(self.now):
            end.sent[packet[0]] += 1
            for time in end.path.arrivals(len(packet[1]), self.now):
                heappush(self._agenda, (time, next(self._order), other, packet))
