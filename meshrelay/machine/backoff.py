"""How long to wait before the next try, so that many who were cut off together do not come back together.

Full jitter: the delay before try n is uniform between 0 and ``min(cap, base * 2**n)``. The jitter is taken after the
cap; the other order makes every late try wait for exactly the cap, and a whole crowd comes back at that tick.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Backoff"]

#: 2 to this power times any base is over any cap; larger exponents would overflow a float.
_MAX_DOUBLINGS = 64


class Backoff:
    """Delays between tries.

    :param base_seconds: the longest delay before the first new try, above 0.
    :param cap_seconds: the longest delay at all, at least `base_seconds`.
    :param uniform: `random.uniform` of the caller's random source.
    :raises ValueError: a number is out of its range.
    """

    def __init__(self, base_seconds: float, cap_seconds: float, uniform: Callable[[float, float], float]) -> None:
        if not 0 < base_seconds <= cap_seconds:
            raise ValueError(f"base {base_seconds} and cap {cap_seconds}: 0 < base <= cap is needed")
        self._base_seconds = base_seconds
        self._cap_seconds = cap_seconds
        self._uniform = uniform
        self._tries = 0

    @property
    def tries(self) -> int:
        """Delays given since the last success."""
        return self._tries

    def next_delay(self) -> float:
        """Return the seconds to wait before the next try."""
        longest: float = self._base_seconds * 2.0 ** min(self._tries, _MAX_DOUBLINGS)
        self._tries += 1
        return self._uniform(0.0, min(self._cap_seconds, longest))

    def succeeded(self) -> None:
        """A try worked: begin with `base_seconds` again."""
        self._tries = 0
