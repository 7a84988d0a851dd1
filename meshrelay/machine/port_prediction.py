"""Which ports of a symmetric NAT to try: the ones that come next, or many at once by chance.

A symmetric NAT gives each destination a port of its own, so the port that the node saw is not the one for the peer. If
it counts, the right one is a few steps beyond the last one seen (`next_ports`). If it draws lots, one end opens many
sockets towards the other, which gives many ports, and the other end tries many ports by chance: with 256 sockets and
1,024 ports out of 64,512 one of them hits in 98 of 100 cases, the birthday paradox (Ford, Srisuresh and Kegel, 2005,
section 5.1; RFC 5128, section 3.3). `PortSearch` holds back what one such attempt sends, so that it is no flood.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from random import Random

from meshrelay.machine.token_bucket import TokenBucket
from meshrelay.wire.addresses import UdpAddress

__all__ = [
    "FIRST_PORT",
    "PREDICTED_PORTS",
    "SEARCH_PACKETS_PER_SECOND",
    "SEARCH_PORTS",
    "SEARCH_SOCKETS",
    "PortSearch",
    "next_ports",
    "random_ports",
]

#: No NAT gives client sockets a lower port.
FIRST_PORT = 1024
_LAST_PORT = 65535

#: Ports that `next_ports` is asked for in one attempt.
PREDICTED_PORTS = 32

#: Sockets that one attempt opens, and ports that it tries.
SEARCH_SOCKETS = 256
SEARCH_PORTS = 1024

#: What attempts send together; less than a video call.
SEARCH_PACKETS_PER_SECOND = 500
_BURST = 50

#: Wakes up no more often than this for it.
_TICK_SECONDS = 0.02


def next_ports(last: int, step: int, count: int) -> list[int]:
    """Return the ports that a counting NAT gives next, the likeliest first; beyond 65,535 it begins again.

    :param last: the port that it gave last.
    :param step: from one port to the next; 0: not known, 1 is taken.
    """
    step = step or 1
    sign = 1 if step > 0 else -1
    steps = [step * number for number in range(1, count // 2 + 1)]
    # Others behind the same NAT take ports as well, in steps that we do not see.
    steps += [sign * number for number in range(1, count + 1)]
    span = _LAST_PORT + 1 - FIRST_PORT
    ports = ((last - FIRST_PORT + distance) % span + FIRST_PORT for distance in steps)
    return [port for port in dict.fromkeys(ports) if port != last][:count]


def random_ports(random: Random, count: int) -> list[int]:
    """Return so many different ports by chance."""
    return random.sample(range(FIRST_PORT, _LAST_PORT + 1), count)


class PortSearch:
    """Places to send a PROBE to, given out at a bounded rate: (address, socket) in order.

    It never holds more than one attempt: a new one takes the place of what is left of the one before.
    """

    def __init__(self, now: float) -> None:
        self._bucket = TokenBucket(SEARCH_PACKETS_PER_SECOND, _BURST, now)
        self._queue: deque[tuple[UdpAddress, int]] = deque()
        self._at = now

    def __len__(self) -> int:
        return len(self._queue)

    def begin(self, places: Iterable[tuple[UdpAddress, int]], now: float) -> None:
        """Search in these places, at most `SEARCH_SOCKETS` + `SEARCH_PORTS` of them."""
        self._queue.clear()
        for place in places:
            if len(self._queue) == SEARCH_SOCKETS + SEARCH_PORTS:
                break
            self._queue.append(place)
        self._at = now

    def stop(self) -> None:
        """Search no more."""
        self._queue.clear()

    def take(self, now: float) -> list[tuple[UdpAddress, int]]:
        """Return the places whose turn it is."""
        if not self._queue or now < self._at:
            return []
        self._at = now + _TICK_SECONDS
        return [self._queue.popleft() for _ in range(self._bucket.take_up_to(len(self._queue), now))]

    @property
    def deadline(self) -> float | None:
        """When to `take` again; None: nothing is searched."""
        return self._at if self._queue else None
