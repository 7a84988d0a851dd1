"""Brings the home relay back: the same one if it can be had, else any of the list, for as long as it takes.

============  ==========================================================================================
quick try     1.5 s after the loss, once, the same server
then          all servers of the list at once: now, and after 2, 4, 8, ... 60 s, each 50 % more or less
============  ==========================================================================================

The delays count from the beginning of one try to that of the next. They are spread by chance because all peers of a
relay lose it in the same moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.relay.errors import RelayError
from meshrelay.relay_client.client import RelayClient
from meshrelay.relay_client.options import RelayOptions

__all__ = ["Guard"]


class Guard:
    """See the module.

    :param pick: connects to a server of the list as it is then.
    :param restored: called with a client that is signed in, each time that the guard has succeeded.
    :ivar last_error: why the last try failed; None after a success.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        pick: Callable[[], Deferred[RelayClient]],
        restored: Callable[[RelayClient], None],
        options: RelayOptions,
    ) -> None:
        self.last_error: BaseException | None = None
        self._reactor = reactor
        self._pick = pick
        self._restored = restored
        self._options = options
        self._running: Deferred[None] | None = None

    @property
    def is_running(self) -> bool:
        """True: it is looking for a server."""
        return self._running is not None

    def start(self, lost: RelayClient | None, error: BaseException | None = None) -> None:
        """Look for a server. Does nothing when it does so already.

        :param lost: to be tried first, if its server is still one of the list.
        :param error: why there is none.
        """
        self.last_error = error
        if self._running is not None:
            return
        running = self._running = Deferred.fromCoroutine(self._run(lost))
        running.addErrback(self._ended)

    def stop(self) -> None:
        """Look no further."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    async def _run(self, lost: RelayClient | None) -> None:
        if lost is not None:
            await deferLater(self._reactor, self._options.quick_reconnect_seconds)
            try:
                await lost.connect()
            except RelayError as error:
                self.last_error = error
            else:
                self._found(lost)
                return
        backoff = self._options.backoff()
        while True:
            began_at = self._reactor.seconds()
            try:
                client = await self._pick()
            except RelayError as error:
                self.last_error = error
            else:
                self._found(client)
                return
            delay = began_at + backoff.next_delay() - self._reactor.seconds()
            await deferLater(self._reactor, max(0.0, delay))

    def _found(self, client: RelayClient) -> None:
        self._running = None
        self.last_error = None
        self._restored(client)

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._running = None
            self._log.failure("the search for a relay failed", failure=failure)
