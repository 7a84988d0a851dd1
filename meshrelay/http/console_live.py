"""A node as its consoles see it, read while somebody wants to know, and for a few seconds more.

::

    ConsoleFeed, pages by HTTP --state, everything--> LiveNode --> ConsoleView, History, GroupRates
    a supervisor of workers ----part---------------->          --> other nodes, P2P pairs: once in a while

While nobody asks, nothing is read, no group is counted and no other node is asked; only the history goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from meshrelay.background import start
from meshrelay.http.console_history import COLUMNS, STEP_SECONDS, History, Sample
from meshrelay.http.console_rates import GroupRates
from meshrelay.http.console_state import ConsoleView, encode_state
from meshrelay.interfaces import ISession
from meshrelay.model import CloseReason

__all__ = ["PUSH_SECONDS", "READER_SECONDS", "ConsolePart", "ConsoleSource", "LiveNode", "encode_everything"]

#: Between two pushes; pages by HTTP ask as often.
PUSH_SECONDS = 1.0

#: The node is read for so long after somebody has asked.
READER_SECONDS = 5.0

#: Between two rounds of questions to other nodes, at least, and for each of them: a large cluster is asked less often.
LOOK_SECONDS = 2.0
LOOK_SECONDS_PER_NODE = 0.02


class ConsolePart(msgspec.Struct, frozen=True):
    """What one process tells of itself where several are shown as one node."""

    #: See `ConsoleView.read`.
    state: dict[str, Any]
    #: Those that were asked for, oldest first.
    samples: list[Sample]


class ConsoleSource(Protocol):
    """Where a feed has from what it tells; `LiveNode` is one. Both may fail with a CommandError: try again."""

    def state(self, consoles: int) -> Deferred[bytes]:
        """What is, as JSON.

        :param consoles: how many watch at this process.
        """

    def everything(self, consoles: int) -> Deferred[bytes]:
        """What was and what is, as CONSOLE_WATCH answers it."""


def encode_everything(samples: Sequence[Sample], state: bytes) -> bytes:
    """Return what CONSOLE_WATCH answers."""
    return msgspec.json.encode(
        {
            "interval_seconds": PUSH_SECONDS,
            "step_seconds": STEP_SECONDS,
            "columns": COLUMNS,
            "samples": samples,
            "state": msgspec.Raw(state),
        }
    )


class LiveNode:
    """See the module."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, view: ConsoleView, history: History, rates: GroupRates) -> None:
        self._clock = clock
        self._view = view
        self._history = history
        self._rates = rates
        self._until = 0.0
        self._call: IDelayedCall | None = None
        self._is_looking = False
        self._look_at = 0.0

    @property
    def is_read(self) -> bool:
        """Whether somebody asked not long ago."""
        return self._call is not None

    @property
    def samples(self) -> list[Sample]:
        """See `History.samples`."""
        return self._history.samples

    def state(self, consoles: int) -> Deferred[bytes]:
        """See `ConsoleSource`."""
        return succeed(encode_state(self.read(consoles)))

    def everything(self, consoles: int) -> Deferred[bytes]:
        """See `ConsoleSource`."""
        return succeed(encode_everything(self.samples, encode_state(self.read(consoles))))

    def part(self, consoles: int, since: float) -> ConsolePart:
        """Return what is to be added to what other processes tell.

        :param since: only samples that are newer, in Unix seconds.
        """
        return ConsolePart(self.read(consoles), [sample for sample in self.samples if sample.at > since])

    def read(self, consoles: int) -> dict[str, Any]:
        """Return what is; see `ConsoleView.read`."""
        self._wanted()
        return self._view.read(consoles)

    def _wanted(self) -> None:
        now = self._clock.seconds()
        self._until = now + READER_SECONDS
        if self._call is None:
            self._rates.start()
            self._call = self._clock.callLater(READER_SECONDS, self._check)
        if not self._is_looking and now >= self._look_at:
            self._is_looking = True
            start(self._look(), self._log, "looking around for the console")

    def _check(self) -> None:
        self._call = None
        left = self._until - self._clock.seconds()
        if left > 0:
            self._call = self._clock.callLater(left, self._check)
        else:
            self._rates.stop()

    async def _look(self) -> None:
        nodes = 0
        try:
            nodes = await self._view.look_around()
        finally:
            self._is_looking = False
            self._look_at = self._clock.seconds() + max(LOOK_SECONDS, nodes * LOOK_SECONDS_PER_NODE)

    def session_ended(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ConsoleView.session_ended`."""
        self._view.session_ended(session, reason)

    def stop(self) -> None:
        """Read nothing any more."""
        self._rates.stop()
        if self._call is not None:
            self._call.cancel()
            self._call = None
