"""A bad network made of numbers: delay, jitter, loss, doubles, reordering, a slow line, black-outs; from a seed.

`LossyPath` decides for each packet when and how often it arrives; `SimulatedPair` joins two pure machines by two such
paths and moves a virtual clock from one thing that happens to the next, so an hour of traffic takes seconds and the
same seed always does the same. Nothing here touches a socket or the real time; `udp_proxy` and `tcp_proxy` do the same
to real ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from meshrelay.errors import PacketRejected
from meshrelay.machine.reliability import Event, ReliabilityMachine
from meshrelay.testing.impairment import Impairment, LossyPath
from meshrelay.wire.datagram import PacketKind

__all__ = ["Impairment", "LossyPath", "SimulatedEnd", "SimulatedPair"]

#: What the sealed datagram has beside the content, and IP and UDP before that.
_OVERHEAD_BYTES = 26 + 16 + 28


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
        self.client = SimulatedEnd(client, LossyPath(there, 2 * seed, _OVERHEAD_BYTES))
        self.node = SimulatedEnd(node, LossyPath(back or there, 2 * seed + 1, _OVERHEAD_BYTES))
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
