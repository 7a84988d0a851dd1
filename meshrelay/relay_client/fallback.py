"""Servers to which datagrams are too small for what is sent: WebSocket alone is used for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["MAX_URLS", "TransportFallback"]

_FIRST_SECONDS = 600.0
_LONGEST_SECONDS = 3600.0

#: Servers that are remembered; the oldest one is forgotten for one more.
MAX_URLS = 1000


class _Window(NamedTuple):
    seconds: float
    ends_at: float


class TransportFallback:
    """What all clients of a manager have learned, by configured URL; kept in memory only.

    :param now: seconds, monotonic.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._windows: dict[str, _Window] = {}

    def record(self, url: str) -> None:
        """Use no datagrams for 10 minutes; each time that this was not long enough for twice as long, up to an hour.

        Does nothing while they are not used.
        """
        now = self._now()
        window = self._windows.pop(url, None)
        if window is None:
            window = _Window(_FIRST_SECONDS, now + _FIRST_SECONDS)
        elif window.ends_at <= now:
            seconds = min(2.0 * window.seconds, _LONGEST_SECONDS)
            window = _Window(seconds, now + seconds)
        if len(self._windows) >= MAX_URLS:
            del self._windows[next(iter(self._windows))]
        self._windows[url] = window

    def is_active(self, url: str) -> bool:
        """True: no datagrams to this server now."""
        window = self._windows.get(url)
        return window is not None and self._now() < window.ends_at
