"""The URLs by which a peer finds its overlay: when to dial which.

Every URL is dialled at the start and again whenever nothing at it is linked, for as long as the peer lives. The wait
before the next dial grows with each failure; a URL that had a link a moment ago is dialled in quick succession, as what
runs there is probably just being started anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit

from meshrelay.machine.backoff import Backoff

__all__ = [
    "BASE_SECONDS",
    "CAP_SECONDS",
    "FEW_LINKS_FACTOR",
    "QUICK_CAP_SECONDS",
    "QUICK_SECONDS",
    "STABLE_SECONDS",
    "BootstrapState",
    "BootstrapStatus",
    "Bootstraps",
]

#: The longest wait after the first failure, and at all.
BASE_SECONDS = 0.5
CAP_SECONDS = 30.0
#: For so long after the loss of a good link the longest wait is `QUICK_CAP_SECONDS`.
QUICK_SECONDS = 60.0
QUICK_CAP_SECONDS = 3.0
#: A link that lasted so long was a good one: waits are short again after it.
STABLE_SECONDS = 10.0
#: Waits are this much shorter while the peer has too few links.
FEW_LINKS_FACTOR = 1 / 3

_DEFAULT_PORTS = {"ws": 80, "wss": 443}


class BootstrapState(StrEnum):
    """Where a URL is."""

    WAITING = "waiting"
    DIALLING = "dialling"
    LINKED = "linked"
    #: It leads to ourselves.
    OWN = "own"


class BootstrapStatus(NamedTuple):
    """One URL, for people."""

    url: str
    state: BootstrapState
    #: Dials that led to nothing since the last good link.
    failures: int
    #: Who was found there last.
    peer_id: bytes | None


class _Place:
    """One URL and what became of it."""

    __slots__ = ("failed_at", "failures", "good_until", "opened_at", "peer_id", "quick", "slow", "state", "url", "wait")

    def __init__(self, url: str, uniform: Callable[[float, float], float]) -> None:
        self.url = url
        self.state = BootstrapState.WAITING
        self.peer_id: bytes | None = None
        self.failures = 0
        self.quick = Backoff(BASE_SECONDS, QUICK_CAP_SECONDS, uniform)
        self.slow = Backoff(BASE_SECONDS, CAP_SECONDS, uniform)
        self.opened_at = 0.0
        #: When the last good link was lost.
        self.good_until: float | None = None
        #: When the wait began; None: never dialled, so there is nothing to wait for.
        self.failed_at: float | None = None
        self.wait = 0.0

    def due_at(self, has_few_links: bool) -> float | None:
        """When to dial; None: at once."""
        if self.failed_at is None:
            return None
        return self.failed_at + self.wait * (FEW_LINKS_FACTOR if has_few_links else 1.0)

    def begin_wait(self, now: float) -> None:
        """Wait for the next dial."""
        self.state = BootstrapState.WAITING
        is_quick = self.good_until is not None and now < self.good_until + QUICK_SECONDS
        self.failed_at = now
        self.wait = (self.quick if is_quick else self.slow).next_delay()


class Bootstraps:
    """Which URLs to dial. Times are seconds of one clock that never goes back.

    Methods that name a URL take it as `due` gave it, and raise `KeyError` for others: our bug.

    :param urls: ``ws://`` and ``wss://``, checked before. Two spellings of one place are one; the first is used.
    :param uniform: `random.uniform` of the caller's random source.
    """

    def __init__(self, urls: Iterable[str], uniform: Callable[[float, float], float]) -> None:
        first: dict[tuple[str, str, int, str], str] = {}
        for url in urls:
            first.setdefault(_place_of(url), url)
        self._places = {url: _Place(url, uniform) for url in first.values()}

    @property
    def urls(self) -> tuple[str, ...]:
        """Each place once, as it was first spelled."""
        return tuple(self._places)

    @property
    def linked_count(self) -> int:
        """Places with a link to who is there, over whatever connection."""
        return sum(place.state is BootstrapState.LINKED for place in self._places.values())

    def due(self, now: float, *, has_few_links: bool = False) -> list[str]:
        """Return what to dial now; `dialling` is to follow for each.

        :param has_few_links: the peer has fewer links than it wants: waits are shorter.
        """
        found = []
        for place in self._places.values():
            if place.state is BootstrapState.WAITING:
                due_at = place.due_at(has_few_links)
                if due_at is None or due_at <= now:
                    found.append(place.url)
        return found

    def next_at(self, now: float, *, has_few_links: bool = False) -> float | None:
        """Return when `due` will give something, at least `now`; None: not before something happens."""
        times = [
            now if due_at is None else max(now, due_at)
            for place in self._places.values()
            if place.state is BootstrapState.WAITING
            for due_at in (place.due_at(has_few_links),)
        ]
        return min(times, default=None)

    def dialling(self, url: str) -> None:
        """A dial begins; one of `opened`, `failed` and `reached_self` is to follow."""
        self._places[url].state = BootstrapState.DIALLING

    def opened(self, url: str, now: float, peer_id: bytes | None = None) -> None:
        """The peer there has a link with us: this one, or one from before, and then this one need not stay.

        :param peer_id: who it is, so that `peer_linked` and `peer_lost` know it.
        """
        place = self._places[url]
        place.state = BootstrapState.LINKED
        place.opened_at = now
        place.peer_id = peer_id

    def failed(self, url: str, now: float) -> None:
        """The dial led to nothing."""
        place = self._places[url]
        if place.state is BootstrapState.OWN:
            return
        place.failures += 1
        place.begin_wait(now)

    def lost(self, url: str, now: float) -> None:
        """The link to the peer there is gone. Does nothing if it had none."""
        place = self._places[url]
        if place.state is not BootstrapState.LINKED:
            return
        if now - place.opened_at >= STABLE_SECONDS:
            place.good_until = now
            place.failures = 0
            place.quick.succeeded()
            place.slow.succeeded()
        else:
            place.failures += 1
        place.begin_wait(now)

    def peer_linked(self, peer_id: bytes, now: float) -> None:
        """A link to this peer opened, whoever dialled: the places where it was found need no dial."""
        for place in self._places.values():
            if place.peer_id == peer_id and place.state is BootstrapState.WAITING:
                self.opened(place.url, now, peer_id)

    def peer_lost(self, peer_id: bytes, now: float) -> None:
        """The last link to this peer is gone: `lost` for each place where it was found."""
        for place in self._places.values():
            if place.peer_id == peer_id:
                self.lost(place.url, now)

    def reached_self(self, url: str) -> None:
        """Whoever is there said our own ID: it is never dialled again."""
        self._places[url].state = BootstrapState.OWN

    def is_own(self, url: str) -> bool:
        """Whether the URL turned out to lead to ourselves."""
        return self._places[url].state is BootstrapState.OWN

    def statistics(self) -> list[BootstrapStatus]:
        """Return one line for each place."""
        return [
            BootstrapStatus(place.url, place.state, place.failures, place.peer_id) for place in self._places.values()
        ]


def _place_of(url: str) -> tuple[str, str, int, str]:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = (parts.hostname or "").removesuffix(".")
    return scheme, host, parts.port or _DEFAULT_PORTS.get(scheme, 0), path
