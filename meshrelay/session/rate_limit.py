"""How many commands one connection may send, and how many refusals it is answered before it is closed."""

from __future__ import annotations

from meshrelay.errors import RateLimited
from meshrelay.machine.token_bucket import TokenBucket

__all__ = ["CommandRate"]

#: Commands that may come at once, as a multiple of the rate (configuration, commands_per_second).
BURST = 2

#: Refused commands that are answered before the connection is closed, as a multiple of the rate; never under
#: `MIN_REFUSALS`, or a low rate would close a client for one burst.
REFUSALS = 20
MIN_REFUSALS = 100


class CommandRate(TokenBucket):
    """A bucket of commands, which run as `take_up_to` says, and one of refusals that nobody empties by accident.

    :param commands_per_second: > 0.
    """

    __slots__ = ("_refusals",)

    def __init__(self, commands_per_second: float, now: float) -> None:
        super().__init__(commands_per_second, max(1.0, commands_per_second * BURST), now)
        self._refusals = TokenBucket(commands_per_second, max(MIN_REFUSALS, commands_per_second * REFUSALS), now)

    def check(self, now: float) -> RateLimited | None:
        """Take one command. None: it is allowed; else what its sender is to be answered."""
        wait_seconds = self.take(now)
        return RateLimited(wait_seconds) if wait_seconds else None

    def is_flood(self, now: float) -> bool:
        """Count one refusal. True: the sender has not heeded so many that it is to be closed."""
        return self._refusals.take(now) > 0
