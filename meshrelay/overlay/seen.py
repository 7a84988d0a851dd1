"""What came before: (sender, nonce) of an envelope -> has it been here within the last two minutes?

The first thing that the router asks about an envelope; npm's package sends two or three copies of each, and keeps all
nonces for ever. Here a window of time and a number of entries bound them, and when there is no room the link that
brought most loses its oldest first: whoever floods forgets its own envelopes, not those of its neighbours.
"""

from __future__ import annotations

from collections import deque

__all__ = ["MAX_NONCES", "NONCE_SECONDS", "NonceWindow"]

#: Copies of an envelope that come later are new ones; longer than any copy is under way through twenty peers.
NONCE_SECONDS = 120.0

#: Of all links together; about 200 bytes each.
MAX_NONCES = 100_000

#: So many are let go at once: who has most is looked up among all links, and that should be rare.
_EVICTED_AT_ONCE = 64


class NonceWindow:
    """See the module. Each entry is in one queue, that of the link that brought it, oldest first.

    :param max_nonces: entries of all links together, at least one.
    """

    def __init__(self, max_nonces: int = MAX_NONCES) -> None:
        self._max_nonces = max_nonces
        self._times: dict[bytes, float] = {}
        self._queues: dict[bytes, deque[bytes]] = {}
        #: Entries that had to go before their time.
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._times)

    @property
    def link_count(self) -> int:
        """Links that have a share; never more than there are entries, once `expire` was called."""
        return len(self._queues)

    def is_new(self, sender: bytes, nonce: str, link: bytes, now: float) -> bool:
        """Remember an envelope.

        :param sender: 20 bytes.
        :param link: ID of the neighbour that it came from; its share of the window pays for it.
        :returns: False: it has been here.
        """
        # One string of bytes takes half the memory of a tuple; senders are all of one length.
        key = sender + nonce.encode("utf-8", "surrogatepass")
        times = self._times
        came = times.get(key)
        if came is not None:
            if came > now - NONCE_SECONDS:
                return False
            # It keeps its place in the queue, and with it goes early when there is no room: never wrong, rarely so.
            times[key] = now
            return True
        queue = self._queues.get(link)
        if queue is None:
            queue = self._queues[link] = deque()
        elif queue:
            self._expire(queue, now - NONCE_SECONDS)
        if len(times) >= self._max_nonces:
            self._evict()
        times[key] = now
        queue.append(key)
        # Making room may have emptied this link's queue, and taken it away.
        self._queues[link] = queue
        return True

    def expire(self, now: float) -> None:
        """Forget what is too old; to be called every minute or so, for links that bring nothing any more."""
        for link, queue in list(self._queues.items()):
            self._expire(queue, now - NONCE_SECONDS)
            if not queue:
                del self._queues[link]

    def _expire(self, queue: deque[bytes], horizon: float) -> None:
        times = self._times
        while queue and times[queue[0]] <= horizon:
            del times[queue.popleft()]

    def _evict(self) -> None:
        link = max(self._queues, key=lambda candidate: len(self._queues[candidate]))
        queue = self._queues[link]
        # Not all of a small share: with many links each of them has little.
        for _ in range(max(1, min(_EVICTED_AT_ONCE, len(queue) // 4))):
            del self._times[queue.popleft()]
            self.evicted += 1
        if not queue:
            del self._queues[link]
