"""The console's live data, over the protocol that all clients speak: one command, and a push a second.

::

    CONSOLE_WATCH (ver 1, cmd 150), u8: 1 = begin, 0 = end
        --> {"interval_seconds", "step_seconds", "columns", "samples", "state"}: what was, and what is
    push (ver 1, cmd 150) --> a state, see `meshrelay.http.console_state`

All in JSON. Only sessions that a ticket of the console opened may ask, see `meshrelay.http.console_tickets`; a page
that cannot reach the WebSocket port reads the same by HTTP, see `ConsoleFeed.read`. A watcher that does not read is
passed over until it has.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.background import start
from meshrelay.components.hooks import Command
from meshrelay.errors import CommandError, MalformedPayload, Refused
from meshrelay.http.console_live import PUSH_SECONDS, ConsoleSource, LiveNode
from meshrelay.http.console_tickets import USER_PREFIX
from meshrelay.interfaces import ISession, ISessionObserver
from meshrelay.model import CloseReason
from meshrelay.wire.commands import BUILT_IN_VER
from meshrelay.wire.commands import Command as CommandNumber
from meshrelay.wire.frame import encode_push
from meshrelay.wire.prepared import Batch

__all__ = ["FEED_COUNTS", "MAX_WATCHERS", "ConsoleFeed"]

#: Consoles at the same time.
MAX_WATCHERS = 32

#: Names of the counts of a feed.
FEED_COUNTS = ("watchers", "pushes", "pushes_skipped", "watchers_refused")


@implementer(ISessionObserver)
class ConsoleFeed:
    """Tells the watchers. See the module.

    :param own: this process; it is told of sessions that end.
    :param source: what is told: `own`, or something that has it from several processes.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, own: LiveNode, source: ConsoleSource) -> None:
        self._clock = clock
        self._own = own
        self._source = source
        self._watchers: dict[ISession, None] = {}
        self._call: IDelayedCall | None = None
        self._is_reading = False
        self._pushes = 0
        self._skipped = 0
        self._refused = 0

    def command_table(self) -> Mapping[tuple[int, int], Command]:
        """See `IComponent`."""
        command = Command(BUILT_IN_VER, CommandNumber.CONSOLE_WATCH, self._run_watch)
        return {(BUILT_IN_VER, CommandNumber.CONSOLE_WATCH): command}

    @property
    def watcher_count(self) -> int:
        """Consoles that watch here."""
        return len(self._watchers)

    def _run_watch(self, session: ISession, payload: bytes, reliable: bool) -> bytes | Deferred[bytes]:
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
        if self._call is None:
            self._call = self._clock.callLater(PUSH_SECONDS, self._beat)
        return self.read().addErrback(self._not_answered, session)

    def _not_answered(self, failure: Failure, session: ISession) -> Failure:
        self._remove(session)
        return failure

    def read(self) -> Deferred[bytes]:
        """Return what CONSOLE_WATCH answers; for a page that reads again and again instead of being told."""
        return self._source.everything(len(self._watchers))

    def _beat(self) -> None:
        self._call = None
        if not self._watchers:
            return
        self._call = self._clock.callLater(PUSH_SECONDS, self._beat)
        idle = self._idle()
        self._skipped += len(self._watchers) - len(idle)
        if idle and not self._is_reading:
            self._is_reading = True
            start(self._push(), self._log, "telling consoles")

    def _idle(self) -> list[ISession]:
        return [watcher for watcher in self._watchers if not watcher.queued_bytes]

    async def _push(self) -> None:
        try:
            state = await self._source.state(len(self._watchers))
        except CommandError as error:
            # The pages stand still for a second; the next beat tries again.
            self._log.info("consoles are told nothing: {why}", why=error.text)
            return
        finally:
            self._is_reading = False
        idle = self._idle()
        self._pushes += len(idle)
        batch = Batch([encode_push(BUILT_IN_VER, CommandNumber.CONSOLE_WATCH, state)], [False])
        for watcher in idle:
            watcher.deliver(batch)

    def _remove(self, session: ISession) -> None:
        self._watchers.pop(session, None)

    def stop(self) -> None:
        """Tell nobody anything any more."""
        self._watchers.clear()
        self._own.stop()
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
        self._own.session_ended(session, reason)

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._remove(session)

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`."""
