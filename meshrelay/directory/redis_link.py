"""One connection to Redis that is kept up, and the calls on it: bounded in number, each with a deadline.

::

    IDLE --first call--> CONNECTING --signed in--> UP
                          ^      |                  | lost, or dropped because an answer is overdue
                          |      v failed           v
                          +---- WAITING <-----------+        STOPPED: for good

While it is CONNECTING calls wait, in all other states but UP they fail at once: a server that is away must not hold
its callers up. A call that is overdue takes the connection with it, as no later answer on it can be trusted to come;
this is how a server that hangs is told from one that is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum, unique
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import fire_all
from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.redis_dial import CONNECT_ERRORS, RedisConnection
from meshrelay.machine.backoff import Backoff

__all__ = ["Connect", "LinkState", "RedisLink"]

#: ``connect()`` -> a connection that is ready.
Connect: TypeAlias = Callable[[], Coroutine[Deferred[Any], Any, RedisConnection]]

BACKOFF_BASE_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 2.0
#: A connection that lived shorter than this did not end the trouble: the backoff goes on growing.
_STEADY_SECONDS = 5.0
#: First words of refusals after which this connection is of no use: the server is not the master (yet, any more).
_DROPPING = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "UNBLOCKED")


@unique
class LinkState(Enum):
    """Where a link is."""

    IDLE = "idle"
    CONNECTING = "connecting"
    UP = "up"
    WAITING = "waiting"
    STOPPED = "stopped"


class RedisLink:
    """See the module.

    :param name: for the log.
    :param library: txredisapi.
    :param uniform: `random.uniform` of a random source.
    :param on_change: called when the link came up (True), and when it went down or could not come up (False).
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        library: Any,
        connect: Connect,
        options: DirectoryOptions,
        uniform: Callable[[float, float], float],
        on_change: Callable[[bool], object],
    ) -> None:
        self._clock = clock
        self._name = name
        self._library = library
        self._connect = connect
        self._options = options
        self._on_change = on_change
        self._backoff = Backoff(BACKOFF_BASE_SECONDS, BACKOFF_CAP_SECONDS, uniform)
        self._state = LinkState.IDLE
        self._connection: RedisConnection | None = None
        self._attempt: Deferred[Any] | None = None
        self._retry: IDelayedCall | None = None
        self._up_since = 0.0
        self._why_down = "not connected yet"
        #: Calls that wait for the connection; all are among the pending ones.
        self._waiting: dict[Deferred[Any], None] = {}
        self._pending = 0
        self._calls = 0
        self._refused_busy = 0
        self._timeouts = 0
        self._connections = 0

    @property
    def state(self) -> LinkState:
        """Where the link is."""
        return self._state

    @property
    def connection(self) -> RedisConnection | None:
        """The connection while the link is up."""
        return self._connection

    def call(self, send: Callable[[Any], Any]) -> Deferred[Any]:
        """Run ``send(protocol)``, which returns the Deferred of its answer.

        :returns: the answer within the deadline, or `DirectoryUnavailable`.
        """
        self._calls += 1
        if self._state in (LinkState.WAITING, LinkState.STOPPED):
            return fail(DirectoryUnavailable(self._why_down))
        if self._pending >= self._options.max_pending:
            self._refused_busy += 1
            return fail(DirectoryUnavailable(f"{self._pending} calls are waiting for an answer"))
        self._pending += 1
        answer = self._when_up().addCallback(lambda protocol: maybeDeferred(send, protocol))
        answer.addTimeout(self._options.deadline_seconds, self._clock)
        answer.addBoth(self._call_ended)
        return answer

    def when_up(self) -> Deferred[None]:
        """Fires when the link is up, at once if it is; `DirectoryUnavailable` when it is not to be had now."""
        return self.call(lambda protocol: None)

    def drop(self, why: str) -> None:
        """Give the connection up and make a new one. Calls in flight fail at once."""
        if self._connection is not None:
            self._why_down = why
            self._connection.protocol.transport.abortConnection()

    def stop(self) -> Deferred[None]:
        """End for good. Fires when the connection is closed."""
        was, self._state = self._state, LinkState.STOPPED
        self._why_down = "stopped"
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        if was is LinkState.CONNECTING and self._attempt is not None:
            self._attempt.cancel()
        self._fail_waiting()
        if self._connection is None:
            return succeed(None)
        closed: Deferred[Any] = self._connection.protocol.whenDisconnected()
        self._connection.protocol.transport.abortConnection()
        return closed.addCallback(lambda _: None)

    def statistics(self) -> dict[str, int]:
        """Counters, and the number of calls in flight."""
        return {
            "calls": self._calls,
            "pending": self._pending,
            "refused_busy": self._refused_busy,
            "timeouts": self._timeouts,
            "connections": self._connections,
        }

    def _when_up(self) -> Deferred[Any]:
        waiter: Deferred[Any] = Deferred(lambda cancelled: self._waiting.pop(cancelled, None))
        self._waiting[waiter] = None
        if self._state is LinkState.IDLE:
            self._open()
        elif self._connection is not None:
            self._serve_waiting(self._connection)
        return waiter

    def _serve_waiting(self, connection: RedisConnection) -> None:
        waiting, self._waiting = self._waiting, {}
        fire_all(waiting, connection.protocol)

    def _fail_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        fire_all(waiting, DirectoryUnavailable(self._why_down))

    def _call_ended(self, result: Any) -> Any:
        self._pending -= 1
        if not isinstance(result, Failure):
            return result
        if result.check(DeferredTimeoutError):
            self._timeouts += 1
            why = f"no answer within {self._options.deadline_seconds} seconds"
            self.drop(why)
            raise DirectoryUnavailable(why) from None
        if result.check(self._library.RedisError):
            detail = result.getErrorMessage()
            if detail.startswith(_DROPPING):
                self.drop(detail)
            raise DirectoryUnavailable(detail) from None
        return result

    def _open(self) -> None:
        self._state = LinkState.CONNECTING
        self._attempt = attempt = Deferred.fromCoroutine(self._connect())
        attempt.addTimeout(self._options.deadline_seconds, self._clock)
        attempt.addCallbacks(self._opened, self._failed)
        attempt.addErrback(lambda failure: self._log.failure("{name} link failed", failure=failure, name=self._name))

    def _opened(self, connection: RedisConnection) -> None:
        if self._state is LinkState.STOPPED:
            connection.protocol.transport.abortConnection()
            return
        self._log.info("{name} link is up", name=self._name)
        self._state = LinkState.UP
        self._connections += 1
        self._connection = connection
        self._up_since = self._clock.seconds()
        self._why_down = "connection lost"
        connection.protocol.whenDisconnected().addCallback(lambda _: self._lost())
        self._on_change(True)
        # Last: whoever is served may stop us.
        self._serve_waiting(connection)

    def _failed(self, failure: Failure) -> None:
        if self._state is LinkState.STOPPED:
            return
        self._why_down = self._explain(failure)
        # The first failure of an outage is worth a line, the hundredth is not.
        if not self._backoff.tries:
            self._log.warn("{name} link cannot come up: {why}", name=self._name, why=self._why_down)
        self._wait()

    def _explain(self, failure: Failure) -> str:
        error = failure.value
        if isinstance(error, DirectoryUnavailable):
            return error.detail
        if isinstance(error, DeferredTimeoutError):
            return f"not ready within {self._options.deadline_seconds} seconds"
        if not isinstance(error, (self._library.RedisError, *CONNECT_ERRORS)):
            self._log.failure("{name} link met a bug", failure=failure, name=self._name)
        return failure.getErrorMessage()

    def _lost(self) -> None:
        self._connection = None
        if self._state is LinkState.STOPPED:
            return
        self._log.warn("{name} link is down: {why}", name=self._name, why=self._why_down)
        if self._clock.seconds() - self._up_since >= _STEADY_SECONDS:
            self._backoff.succeeded()
        self._wait()

    def _wait(self) -> None:
        self._state = LinkState.WAITING
        self._retry = self._clock.callLater(self._backoff.next_delay(), self._open)
        self._on_change(False)
        # Last: whoever is told may call us, or stop us.
        self._fail_waiting()
