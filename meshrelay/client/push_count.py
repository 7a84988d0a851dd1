"""How many pushes came, and when the node has to be told (client protocol, section 2, ACK). Pure."""

from __future__ import annotations

from struct import Struct

__all__ = ["PushCount"]

#: The protocol wants an ACK at least every 5 s; a second keeps the node's replay buffer short.
_ACK_SECONDS = 1.0
#: ... and so does an ACK for each quarter of the default replay_bytes.
_ACK_BYTES = 65536

_U32 = Struct("!I")
_MASK = (1 << 32) - 1


class PushCount:
    """Pushes of ver >= 1 in one session.

    :ivar total: how many, mod 2^32.
    :ivar due_at: when an ACK has to go out; None = nothing is to be told.
    """

    __slots__ = ("_unacknowledged_bytes", "due_at", "total")

    def __init__(self) -> None:
        self.total = 0
        self.due_at: float | None = None
        self._unacknowledged_bytes = 0

    def add(self, size_bytes: int, now: float) -> bool:
        """One more. True: so much came that the ACK is due at once."""
        self.total = (self.total + 1) & _MASK
        self._unacknowledged_bytes += size_bytes
        if self.due_at is None:
            self.due_at = now + _ACK_SECONDS
        return self._unacknowledged_bytes >= _ACK_BYTES

    def count(self) -> None:
        """One more, on a connection that acknowledges by itself: nothing is to be told."""
        self.total = (self.total + 1) & _MASK

    def acknowledge(self) -> bytes:
        """Return the payload of an ACK that goes out now."""
        self.forget()
        return _U32.pack(self.total)

    def forget(self) -> None:
        """The connection is another one, HELLO has told the count."""
        self.due_at = None
        self._unacknowledged_bytes = 0

    def restart(self) -> None:
        """The session is another one."""
        self.forget()
        self.total = 0
