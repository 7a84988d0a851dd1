"""Who wants to know that the directory lost its data."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

__all__ = ["LossWatchers"]


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
