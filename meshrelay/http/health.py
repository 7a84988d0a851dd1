"""Is the node alive, and may clients be sent to it: for load balancers, orchestrators and people.

``/health/live`` answers as long as the reactor turns. ``/health/ready`` answers 200 only while every port listens, the
node is not draining, so that a balancer takes it out before its clients are told to go, and a token has just come back
through the directory. While the directory is away the node still serves the clients that it has, but it would find no
user and no group for new ones, so that a balancer had better send them elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.server import Request

from meshrelay.http.page import Answer, Branch, Page, json_answer

__all__ = ["DirectoryProbe", "LivePage", "NodePhase", "ReadyPage", "health_pages"]

#: A token that comes back later is lost.
PROBE_SECONDS = 2.0

#: So old the outcome of a check may be; requests in between cost the directory nothing.
PROBE_INTERVAL_SECONDS = 1.0


class NodePhase(NamedTuple):
    """Where the node stands between its start and its stop.

    :ivar is_ready: it takes clients.
    :ivar is_starting: it does not take them yet; otherwise it does not any more.
    """

    is_ready: Callable[[], bool]
    is_starting: Callable[[], bool]

    def name(self) -> str:
        """Return "ready", "starting" or "draining"."""
        if self.is_ready():
            return "ready"
        return "starting" if self.is_starting() else "draining"


class DirectoryProbe:
    """Sends a token through the directory when somebody wants to know, at most once a second.

    :param loopback: `meshrelay.directory.interfaces.IDirectory.loopback`.
    :param make_token: a new token for each check.
    """

    _log = Logger()

    def __init__(
        self, loopback: Callable[[str], Deferred[None]], clock: IReactorTime, make_token: Callable[[], str]
    ) -> None:
        self._loopback = loopback
        self._clock = clock
        self._make_token = make_token
        self._began_at: float | None = None
        #: Of the last check that has ended; None while one runs.
        self._is_well: bool | None = None
        #: Each stands for a request that waits; there are as many as connections at most.
        self._waiting: dict[Deferred[bool], None] = {}
        self._is_failure_told = False

    def ask(self) -> Deferred[bool]:
        """Fires with whether the directory carries tokens, by a check that began at most a second before.

        It fires within 2 seconds and never fails.
        """
        if self._began_at is not None and self._is_well is None:
            return self._wait()
        if self._began_at is None or not 0 <= self._clock.seconds() - self._began_at < PROBE_INTERVAL_SECONDS:
            self._begin()
        return succeed(self._is_well) if self._is_well is not None else self._wait()

    def _wait(self) -> Deferred[bool]:
        waiter: Deferred[bool] = Deferred(lambda cancelled: self._waiting.pop(cancelled, None))
        self._waiting[waiter] = None
        return waiter

    def _begin(self) -> None:
        self._began_at = self._clock.seconds()
        self._is_well = None
        coming = self._loopback(self._make_token())
        coming.addTimeout(PROBE_SECONDS, self._clock)
        coming.addCallbacks(self._came_back, self._failed)

    def _came_back(self, _: None) -> None:
        self._is_failure_told = False
        self._ended(is_well=True)

    def _failed(self, failure: Failure) -> None:
        if not self._is_failure_told:
            self._is_failure_told = True
            self._log.warn("not ready, the directory carries no token: {why!r}", why=failure.value)
        self._ended(is_well=False)

    def _ended(self, is_well: bool) -> None:
        self._is_well = is_well
        waiting = list(self._waiting)
        for waiter in waiting:
            # One may have cancelled another.
            if waiter in self._waiting:
                del self._waiting[waiter]
                waiter.callback(is_well)


class LivePage(Page):
    """The process answers."""

    def answer(self, request: Request) -> Answer:
        """See `Page.answer`."""
        return json_answer(http.OK, {"status": "live"})


class ReadyPage(Page):
    """The node takes clients, or does not and says why.

    :param probe: None: there is no directory that could be away.
    """

    def __init__(self, node_id: str, phase: NodePhase, probe: DirectoryProbe | None) -> None:
        super().__init__()
        self._node_id = node_id
        self._phase = phase
        self._probe = probe

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See `Page.answer`."""
        if self._probe is None or not self._phase.is_ready():
            return self._status(is_directory_well=True)
        return self._probe.ask().addCallback(self._status)

    def _status(self, is_directory_well: bool) -> Answer:
        # It may have begun to drain meanwhile.
        status = self._phase.name()
        if status == "ready" and not is_directory_well:
            status = "directory"
        code = http.OK if status == "ready" else http.SERVICE_UNAVAILABLE
        return json_answer(code, {"status": status, "node": self._node_id})


def health_pages(node_id: str, phase: NodePhase, probe: DirectoryProbe | None) -> Branch:
    """Return the pages under ``/health``."""
    pages = Branch()
    pages.putChild(b"live", LivePage())
    pages.putChild(b"ready", ReadyPage(node_id, phase, probe))
    return pages
