"""How late the reactor comes round: everything the node does waits for the turn before it.

A call is put off by half a second again and again; what it comes late by is what every client's message waited at that
moment. The largest value goes to the counters, all of them to a histogram.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from meshrelay.counters import Durations, NodeCounters

__all__ = ["LAG_BUCKETS_SECONDS", "LagMeter"]

#: Time between two measurements.
INTERVAL_SECONDS = 0.5

#: Upper bounds of the histogram.
LAG_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class LagMeter(Service):
    """Runs from start to stop of the node.

    :ivar delays: all measurements.
    """

    def __init__(self, clock: IReactorTime, counters: NodeCounters) -> None:
        self._clock = clock
        self._counters = counters
        self._due = 0.0
        self._call: IDelayedCall | None = None
        self.delays = Durations(LAG_BUCKETS_SECONDS)

    def startService(self) -> None:
        """See `twisted.application.service.IService`."""
        super().startService()  # type: ignore[no-untyped-call]
        self._wait()

    def stopService(self) -> None:
        """See `twisted.application.service.IService`."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _wait(self) -> None:
        self._due = self._clock.seconds() + INTERVAL_SECONDS
        self._call = self._clock.callLater(INTERVAL_SECONDS, self._measure)

    def _measure(self) -> None:
        late = max(0.0, self._clock.seconds() - self._due)
        self._counters.reactor_lag_seconds = max(self._counters.reactor_lag_seconds, late)
        self.delays.add(late)
        self._wait()
