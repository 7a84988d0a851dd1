"""Who wants to know that the directory lost its data."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

__all__ = ["EpochWatch", "LossWatchers"]


class LossWatchers:
    """Callbacks in order of registration; one that fails is logged and does not keep the others from being called."""

    _log = Logger()

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], object]] = []
        #: How often they were called.
        self.losses = 0

    def add(self, callback: Callable[[], object]) -> None:
        """Call `callback` at each loss; it may return a Deferred."""
        self._callbacks.append(callback)

    def notify(self) -> None:
        """Call all of them."""
        self.losses += 1
        for callback in tuple(self._callbacks):
            done = maybeDeferred(callback)
            done.addErrback(lambda failure: self._log.failure("a watcher of the directory failed", failure=failure))


class EpochWatch:
    """Tells the watchers of a directory elsewhere when its data may be lost: another epoch, or back after it was away.

    :ivar was_away: it did not answer since it was last heard.
    """

    def __init__(self, watchers: LossWatchers) -> None:
        self._watchers = watchers
        self._epoch: str | None = None
        self.was_away = False

    def went_away(self) -> None:
        """It does not answer."""
        self.was_away = True

    def heard(self, epoch: str) -> None:
        """It answers, and its data have this epoch."""
        is_lost = self.was_away or self._epoch not in (None, epoch)
        self._epoch = epoch
        self.was_away = False
        if is_lost:
            self._watchers.notify()
