"""Sends everybody away before the node stops: in batches, so that another node is not run over."""

from __future__ import annotations

from math import ceil

from twisted.internet.defer import Deferred

from meshrelay.background import Alarm, Alarms
from meshrelay.model import CloseReason
from meshrelay.session.connection import Connection
from meshrelay.session.reception import Reception

__all__ = ["Drain"]

#: A batch is sent away this often.
BATCH_SECONDS = 0.1

#: Connections of a batch, however long ``drain_seconds`` is: a handful need not be spread, and a balancer that asks
#: every second or two should still see that the node is not ready while clients leave it.
MIN_BATCH = 4

#: How long the last clients may take to read GOODBYE and close.
LINGER_SECONDS = 5.5


class Drain:
    """One end of service; used once.

    :param drain_seconds: over which the GOODBYEs are spread.
    """

    def __init__(self, reception: Reception, alarms: Alarms, drain_seconds: float) -> None:
        self._reception = reception
        self._alarms = alarms
        self._drain_seconds = drain_seconds
        self._waiting: list[Connection] = []
        self._ends_at = 0.0
        self._alarm: Alarm | None = None
        self._gives_up_at = 0.0
        self._done: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        """Let nobody in any more and say GOODBYE to everybody.

        :returns: fires when every connection is closed, or at the latest ``drain_seconds`` and 5.5 seconds from now.
        """
        self._reception.is_draining = True
        self._waiting = list(self._reception.connections)
        self._ends_at = self._alarms.now() + self._drain_seconds
        self._gives_up_at = self._ends_at + LINGER_SECONDS
        self._next()
        return self._done

    def _next(self) -> None:
        # Counted anew each time: alarms are a little late, and the last batch must not be.
        batches = max(1, ceil((self._ends_at - self._alarms.now()) / BATCH_SECONDS))
        size = max(MIN_BATCH, ceil(len(self._waiting) / batches))
        batch, self._waiting = self._waiting[:size], self._waiting[size:]
        for connection in batch:
            connection.close(CloseReason.DRAINING)
        # Whoever was accepted by the kernel before the port was closed comes last.
        if not self._waiting:
            self._waiting = list(self._reception.connections)
        if not self._waiting and not self._reception.lingering:
            self.cut()
        elif self._alarms.now() >= self._gives_up_at:
            self.cut()
        else:
            self._alarm = self._alarms.call_later(BATCH_SECONDS, self._next)

    def cut(self) -> None:
        """Be done now, whoever is still there."""
        if self._alarm is not None:
            self._alarm.cancel()
        if not self._done.called:
            self._done.callback(None)
