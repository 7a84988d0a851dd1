"""Guesses at the admin key: each address may be wrong ten times, and then once in ten seconds.

Whoever is over that is refused without a look at its key, so that guessing gets nobody anywhere. The right key does not
help then either, or it could be found among the guesses.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from twisted.internet.interfaces import IReactorTime

from meshrelay.counters import NodeCounters
from meshrelay.machine.token_bucket import TokenBucket

__all__ = ["MAX_ADDRESSES", "WRONG_KEYS_AT_ONCE", "WRONG_KEY_SECONDS", "WrongKeys"]

#: Wrong keys of one address before it has to wait.
WRONG_KEYS_AT_ONCE = 10

#: An address may try once more after this.
WRONG_KEY_SECONDS = 10.0

#: Addresses that are remembered; the one that was wrong the longest ago is forgotten first.
MAX_ADDRESSES = 4096

#: Networks of one IPv6 customer.
_IPV6_PREFIX_BITS = 64


class WrongKeys:
    """Remembers who was wrong.

    :param counters: its `refused` gets "admin_key" and "admin_key_rate".
    """

    def __init__(self, clock: IReactorTime, counters: NodeCounters) -> None:
        self._clock = clock
        self._counters = counters
        self._buckets: dict[str, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_seconds(self, host: str) -> float:
        """How long an address has to wait before its key is looked at; 0.0 = not at all."""
        bucket = self._buckets.get(_network(host))
        wait = bucket.peek(self._clock.seconds()) if bucket is not None else 0.0
        if wait:
            self._counters.refused["admin_key_rate"] += 1
        return wait

    def was_wrong(self, host: str) -> None:
        """An address has shown a key that is none."""
        self._counters.refused["admin_key"] += 1
        network = _network(host)
        now = self._clock.seconds()
        bucket = self._buckets.pop(network, None)
        if bucket is None:
            bucket = TokenBucket(1 / WRONG_KEY_SECONDS, WRONG_KEYS_AT_ONCE, now)
            if len(self._buckets) >= MAX_ADDRESSES:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[network] = bucket
        bucket.take(now)


def _network(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        # A Unix socket: all its callers are one.
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(int(address) >> (128 - _IPV6_PREFIX_BITS))
    return str(getattr(address, "ipv4_mapped", None) or address)
