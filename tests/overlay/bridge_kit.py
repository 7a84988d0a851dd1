"""A peer of the overlay that is nothing but what it was told to send, for tests of the bridge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, succeed

from meshrelay.overlay.bridge import BridgedMessage

__all__ = ["ALICE", "BOB", "HERE", "HeardMessage", "MemoryPeer"]

ALICE, BOB, HERE = b"a" * 20, b"b" * 20, b"h" * 20


class HeardMessage(NamedTuple):
    """A message of another peer."""

    sender: bytes
    data: Any


class MemoryPeer:
    """`BridgedPeer` without an overlay.

    :ivar sent: all that was sent and not taken by the test yet.
    :ivar is_slow: what is sent from now on stays under way until `finish`.
    """

    def __init__(self, peer_id: bytes = HERE) -> None:
        self.peer_id = peer_id
        self.channels = {ALICE}
        self.sent: list[tuple[bytes, Any]] = []
        self.is_slow = False
        self.error: Exception | None = None
        self._under_way: list[Deferred[None]] = []
        self._callbacks: list[Callable[[BridgedMessage], object]] = []

    def send(self, to: bytes, data: Any) -> Deferred[None]:
        """See `BridgedPeer`."""
        self.sent.append((to, data))
        if self.error is not None:
            raise self.error
        if not self.is_slow:
            return succeed(None)
        self._under_way.append(Deferred())
        return self._under_way[-1]

    def on_message(self, callback: Callable[[BridgedMessage], object]) -> object:
        """See `BridgedPeer`."""
        self._callbacks.append(callback)
        return None

    def hear(self, data: Any, sender: bytes = ALICE) -> None:
        """Let another peer send to this one."""
        for callback in self._callbacks:
            callback(HeardMessage(sender, data))

    def finish(self, error: Exception | None = None) -> None:
        """All that is under way arrives, or fails."""
        under_way, self._under_way = self._under_way, []
        for sending in under_way:
            if error is None:
                sending.callback(None)
            else:
                sending.errback(error)

    def take(self) -> list[tuple[bytes, Any]]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent
