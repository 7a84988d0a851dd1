"""Out of a list of servers the one that lets this client in first; it becomes the home relay.

All are tried, a few at a time. First means the fastest one now, name look-up, handshake and token included; which one
is nearest is not measured otherwise. All the others are given up at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.defer import TimeoutError as DeferTimeoutError
from twisted.python.failure import Failure

from meshrelay.relay.addresses import canonical_url
from meshrelay.relay_client.client import RelayClient
from meshrelay.relay_client.errors import NoRelayServer
from meshrelay.relay_client.options import RelayOptions
from meshrelay.relay_client.race import Attempt, RaceFailed, race

__all__ = ["ServerPicker"]


class ServerPicker:
    """See the module.

    :param make_client: makes a client for a URL, not connected.
    """

    def __init__(self, reactor: Any, make_client: Callable[[str], RelayClient], options: RelayOptions) -> None:
        self._reactor = reactor
        self._make_client = make_client
        self._options = options

    def pick(self, urls: Iterable[str]) -> Deferred[RelayClient]:
        """Connect to one of these; the same one twice, in whatever spelling, is tried once.

        :returns: fires with a client that is signed in; fails with `NoRelayServer` when none lets it in within 30 s, or
            the list is empty. Cancelling it leaves nothing behind.
        """
        places: dict[str, str] = {}
        for url in urls:
            places.setdefault(canonical_url(url), url)
        attempts: list[Attempt[RelayClient]] = [(url, partial(self._connect, url)) for url in places.values()]
        if not attempts:
            return fail(NoRelayServer())
        picked = race(attempts, self._options.max_parallel_dials)
        picked.addTimeout(self._options.pick_seconds, self._reactor)
        return picked.addErrback(self._failed)

    def _connect(self, url: str) -> Deferred[RelayClient]:
        client = self._make_client(url)
        return client.connect().addCallback(lambda _: client)

    def _failed(self, failure: Failure) -> RelayClient:
        if failure.check(CancelledError):
            failure.raiseException()
        failure.trap(RaceFailed, DeferTimeoutError)
        detail = failure.getErrorMessage()
        if failure.check(DeferTimeoutError):
            detail = f"no answer within {self._options.pick_seconds:g} s"
        raise NoRelayServer(detail) from failure.value
