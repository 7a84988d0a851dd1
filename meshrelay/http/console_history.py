"""The node's counters, once a second -> rates of the last ten minutes, so that a page that is opened now has a past.

::

    NodeCounters, number of sessions --each STEP_SECONDS--> Sample --> ring of MAX_SAMPLES
                                     --each CLOSES_SECONDS--> closes by reason, to tell those of the last ten minutes

This runs whether or not somebody looks, and so costs a few additions a second, whatever the node does.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from meshrelay.counters import NodeCounters

__all__ = ["CLOSES_SECONDS", "COLUMNS", "MAX_SAMPLES", "STEP_SECONDS", "CloseCount", "History", "Sample"]

#: Time between two samples.
STEP_SECONDS = 1.0

#: Ten minutes.
MAX_SAMPLES = 600

#: Closes are remembered in steps of this.
CLOSES_SECONDS = 10.0

_MAX_CLOSES = int(MAX_SAMPLES * STEP_SECONDS / CLOSES_SECONDS)


class Sample(NamedTuple):
    """One second of the node. Rates are for each second since the sample before."""

    #: Unix seconds.
    at: float
    messages_received: float
    messages_sent: float
    bytes_received: float
    bytes_sent: float
    #: Sessions, those that are away included.
    sessions: int
    #: How late the reactor came for this sample.
    lag_ms: float


#: Names of the values of a sample, as pages are told them.
COLUMNS = Sample._fields


class CloseCount(NamedTuple):
    """How often connections of a transport were closed for one reason."""

    transport: str
    reason: str
    #: Since the start.
    total: int
    #: In the last ten minutes.
    recent: int


class History(Service):
    """Runs from start to stop of the node.

    :param clock: of Unix seconds, as reactors have them.
    :param session_count: how many there are.
    """

    def __init__(self, clock: IReactorTime, counters: NodeCounters, session_count: Callable[[], int]) -> None:
        self._clock = clock
        self._counters = counters
        self._session_count = session_count
        self._samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)
        self._closes: deque[Counter[tuple[str, str]]] = deque(maxlen=_MAX_CLOSES)
        self._until_closes = 0.0
        self._before = (0, 0, 0, 0)
        self._sampled_at = 0.0
        self._call: IDelayedCall | None = None

    def startService(self) -> None:
        """See `twisted.application.service.IService`."""
        super().startService()  # type: ignore[no-untyped-call]
        self._sampled_at = self._clock.seconds()
        self._before = self._totals()
        self._closes.append(self._counters.closes.copy())
        self._until_closes = CLOSES_SECONDS
        self._call = self._clock.callLater(STEP_SECONDS, self._take)

    def stopService(self) -> None:
        """See `twisted.application.service.IService`."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def samples(self) -> list[Sample]:
        """All that are kept, oldest first."""
        return list(self._samples)

    @property
    def latest(self) -> Sample | None:
        """The newest; None: there is none yet."""
        return self._samples[-1] if self._samples else None

    def closes(self) -> list[CloseCount]:
        """Closes by transport and reason, the most frequent of the last ten minutes first."""
        before = self._closes[0] if self._closes else Counter()
        counts = [
            CloseCount(transport, reason, total, total - before[transport, reason])
            for (transport, reason), total in self._counters.closes.items()
        ]
        return sorted(counts, key=lambda each: (-each.recent, -each.total, each.reason, each.transport))

    def _totals(self) -> tuple[int, int, int, int]:
        each = self._counters.transports.values()
        return (
            sum(transport.messages_received for transport in each),
            sum(transport.messages_sent for transport in each),
            sum(transport.bytes_received for transport in each),
            sum(transport.bytes_sent for transport in each),
        )

    def _take(self) -> None:
        self._call = self._clock.callLater(STEP_SECONDS, self._take)
        now = self._clock.seconds()
        # A clock that was set back must not make rates that are none.
        elapsed = max(now - self._sampled_at, STEP_SECONDS / 2)
        totals = self._totals()
        rates = [round((new - old) / elapsed, 1) for new, old in zip(totals, self._before, strict=True)]
        lag_ms = round(max(0.0, elapsed - STEP_SECONDS) * 1000, 2)
        self._samples.append(
            Sample(round(now, 3), rates[0], rates[1], rates[2], rates[3], self._session_count(), lag_ms)
        )
        self._before = totals
        self._sampled_at = now
        self._until_closes -= STEP_SECONDS
        if self._until_closes <= 0:
            self._until_closes = CLOSES_SECONDS
            self._closes.append(self._counters.closes.copy())
