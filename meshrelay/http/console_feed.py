"""The console's live data, over the protocol that all clients speak: one command, and a push a second.

::

    CONSOLE_WATCH (ver 1, cmd 150), u8: 1 = begin, 0 = end
        --> {"interval_seconds", "step_seconds", "columns", "samples", "state"}: what was, and what is
    push (ver 1, cmd 150) --> a state, see `meshrelay.http.console_state`

All in JSON. Only sessions that a ticket of the console opened may ask, see `meshrelay.http.console_tickets`; a page
that cannot reach the WebSocket port reads the same by HTTP, see `ConsoleFeed.read`. While nobody watches nothing is
read and no group is counted. A watcher that does not read is passed over until it has.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.background import start
from meshrelay.components.hooks import Command
from meshrelay.errors import MalformedPayload, Refused
from meshrelay.http.console_history import COLUMNS, STEP_SECONDS, History
from meshrelay.http.console_rates import GroupRates
from meshrelay.http.console_state import ConsoleView
from meshrelay.http.console_tickets import USER_PREFIX
from meshrelay.interfaces import ISession, ISessionObserver
from meshrelay.model import CloseReason
from meshrelay.wire.commands import BUILT_IN_VER
from meshrelay.wire.frame import encode_push
from meshrelay.wire.prepared import Batch

__all__ = ["CONSOLE_WATCH", "FEED_COUNTS", "MAX_WATCHERS", "PUSH_SECONDS", "ConsoleFeed"]

#: Of ver 1. 150 to 159 are the console's.
CONSOLE_WATCH = 150

#: Consoles at the same time.
MAX_WATCHERS = 32

#: Between two pushes.
PUSH_SECONDS = 1.0

#: Between two rounds of questions to other nodes, at least, and for each of them: a large cluster is asked less often.
LOOK_SECONDS = 2.0
LOOK_SECONDS_PER_NODE = 0.02

#: Who reads by HTTP counts as watching for this long.
READER_SECONDS = 5.0

#: Names of the counts of a feed.
FEED_COUNTS = ("watchers", "pushes", "pushes_skipped", "watchers_refused")


@implementer(ISessionObserver)
class ConsoleFeed:
    """Tells the watchers. See the module."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, view: ConsoleView, history: History, rates: GroupRates) -> None:
        self._clock = clock
        self._view = view
        self._history = history
        self._rates = rates
        self._watchers: dict[ISession, None] = {}
        self._read_until = 0.0
        self._call: IDelayedCall | None = None
        self._is_looking = False
        self._look_at = 0.0
        self._pushes = 0
        self._skipped = 0
        self._refused = 0

    def command_table(self) -> Mapping[tuple[int, int], Command]:
        """See `IComponent`."""
        return {(BUILT_IN_VER, CONSOLE_WATCH): Command(BUILT_IN_VER, CONSOLE_WATCH, self._run_watch)}

    @property
    def is_watched(self) -> bool:
        """Whether anything is read for anybody."""
        return self._call is not None

    def _run_watch(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        if not session.user.user_id.startswith(USER_PREFIX):
            raise Refused("only for the console of the node")
        if payload == b"\0":
            self._remove(session)
            return b""
        if payload != b"\1":
            raise MalformedPayload("CONSOLE_WATCH: one byte, 1 = begin, 0 = end")
        if session not in self._watchers:
            if len(self._watchers) >= MAX_WATCHERS:
                self._refused += 1
                raise Refused(f"{MAX_WATCHERS} consoles watch this node already")
            self._watchers[session] = None
        return self._everything()

    def read(self) -> bytes:
        """Return what CONSOLE_WATCH answers; for a page that reads again and again instead of being told."""
        self._read_until = self._clock.seconds() + READER_SECONDS
        return self._everything()

    def _everything(self) -> bytes:
        if self._call is None:
            self._rates.start()
            self._call = self._clock.callLater(PUSH_SECONDS, self._beat)
            self._look_around()
        return msgspec.json.encode(
            {
                "interval_seconds": PUSH_SECONDS,
                "step_seconds": STEP_SECONDS,
                "columns": COLUMNS,
                "samples": self._history.samples,
                "state": msgspec.Raw(self._view.encode(len(self._watchers))),
            }
        )

    def _beat(self) -> None:
        self._call = None
        if not self._watchers and self._clock.seconds() >= self._read_until:
            self._rates.stop()
            return
        self._call = self._clock.callLater(PUSH_SECONDS, self._beat)
        self._look_around()
        idle = [watcher for watcher in self._watchers if not watcher.queued_bytes]
        self._skipped += len(self._watchers) - len(idle)
        if idle:
            self._pushes += len(idle)
            batch = Batch([encode_push(BUILT_IN_VER, CONSOLE_WATCH, self._view.encode(len(self._watchers)))], [False])
            for watcher in idle:
                watcher.deliver(batch)

    def _look_around(self) -> None:
        if not self._is_looking and self._clock.seconds() >= self._look_at:
            self._is_looking = True
            start(self._look(), self._log, "looking around for the console")

    async def _look(self) -> None:
        nodes = 0
        try:
            nodes = await self._view.look_around()
        finally:
            self._is_looking = False
            self._look_at = self._clock.seconds() + max(LOOK_SECONDS, nodes * LOOK_SECONDS_PER_NODE)

    def _remove(self, session: ISession) -> None:
        self._watchers.pop(session, None)

    def stop(self) -> None:
        """Tell nobody anything any more."""
        self._watchers.clear()
        self._rates.stop()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        values = (len(self._watchers), self._pushes, self._skipped, self._refused)
        return dict(zip(FEED_COUNTS, values, strict=True))

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`: a page that comes back asks again."""
        self._remove(session)

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        self._remove(session)
        self._view.session_ended(session, reason)

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._remove(session)

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`."""
