"""A packet that is sent again at doubling distances until it is answered: a SYN or a FIN."""

from __future__ import annotations

from meshrelay.machine.rtt import MAX_TIMEOUT_SECONDS

__all__ = ["Repeat"]

#: One millisecond doubled this often is over the longest timeout; larger exponents would only grow the number.
_MAX_DOUBLINGS = 16


class Repeat:
    """When the packet is due; the owner sends it and decides what answers it."""

    __slots__ = ("at", "first_sent_at", "tries")

    def __init__(self) -> None:
        #: When it is due (again); None = not started, or answered.
        self.at: float | None = None
        self.first_sent_at = 0.0
        self.tries = 0

    def sent(self, now: float, timeout_seconds: float) -> None:
        """Note that it leaves; the next time is one doubled timeout later."""
        if not self.tries:
            self.first_sent_at = now
        self.at = now + min(timeout_seconds * 2.0 ** min(self.tries, _MAX_DOUBLINGS), MAX_TIMEOUT_SECONDS)
        self.tries += 1

    def is_exhausted(self, max_tries: int, now: float) -> bool:
        """Tell whether it is due after it was sent and then repeated `max_tries` times."""
        return self.at is not None and now >= self.at and self.tries > max_tries
