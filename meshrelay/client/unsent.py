"""What waits to be sent because the node does not read: a bound, and a way to wait for the node."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from meshrelay.background import fire_all
from meshrelay.client.errors import NotConnected, UnsentFull

__all__ = ["Unsent"]

#: As many times the limit may wait before the connection is of no use. The program's own sends stop at the limit; what
#: comes on top are answers to a node that asks and does not read.
_HOPELESS_LIMITS = 2


class Unsent:
    """Bytes that were written after the transport asked to pause.

    The transport has a buffer of its own below that (64 KiB), which is not counted.

    :param limit_bytes: `ClientOptions.max_unsent_bytes`.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._is_paused = False
        self._draining: list[Deferred[None]] = []

    @property
    def is_hopeless(self) -> bool:
        """True: so much waits that the connection should be given up."""
        return self._size_bytes > _HOPELESS_LIMITS * self._limit_bytes

    def check(self, size_bytes: int) -> None:
        """Ask before so many bytes are written.

        :raises UnsentFull: too much waits already.
        """
        if self._is_paused and self._size_bytes + size_bytes > self._limit_bytes:
            raise UnsentFull(self._size_bytes, self._limit_bytes)

    def wrote(self, frames: list[bytes]) -> None:
        """These were given to the transport."""
        if self._is_paused:
            self._size_bytes += sum(map(len, frames))

    def when_drained(self) -> Deferred[None]:
        """Fire when the transport has caught up; at once when it is not behind. Fails with `NotConnected`."""
        done: Deferred[None] = Deferred(self._forget)
        if self._is_paused:
            self._draining.append(done)
        else:
            done.callback(None)
        return done

    def pause(self) -> None:
        """The transport asks to pause."""
        self._is_paused = True
        self._size_bytes = 0

    def resume(self) -> None:
        """The transport has caught up."""
        fire_all(self._restart(), None)

    def broken(self) -> None:
        """The connection is gone, with what waited."""
        fire_all(self._restart(), NotConnected())

    def _restart(self) -> list[Deferred[None]]:
        self._is_paused = False
        self._size_bytes = 0
        draining, self._draining = self._draining, []
        return draining

    def _forget(self, done: Deferred[None]) -> None:
        if done in self._draining:
            self._draining.remove(done)
