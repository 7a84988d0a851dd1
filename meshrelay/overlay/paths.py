"""The way back: from which link did a peer's last envelope come? And which ways have failed?

The router learns from each envelope, and sends one copy the same way back. Only the link counts on which the envelope
really came: what its path says, anybody may write. Nor can the sender be believed, so a path that an unsigned envelope
shows never takes the place of a fresh one that a signed one showed.

A way that is in doubt (the target did not acknowledge) is not used alone for a minute.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

__all__ = ["DOUBT_SECONDS", "MAX_DOUBTS", "MAX_PATHS", "PATH_SECONDS", "LearnedPaths"]

#: So long is a path fresh.
PATH_SECONDS = 60.0

#: Of all links together. When there is no room, the link that showed most paths loses its oldest: who invents senders
#: forgets those that it invented.
MAX_PATHS = 50_000

#: So many are let go at once: who has most is looked up among all links, and that should be rare.
_EVICTED_AT_ONCE = 64

#: So long is a way in doubt that failed.
DOUBT_SECONDS = 60.0

#: The oldest goes first.
MAX_DOUBTS = 10_000


class _Path(NamedTuple):
    link: bytes
    learned_at: float
    is_verified: bool


class LearnedPaths:
    """See the module.

    :param max_paths: entries, at least one.
    """

    def __init__(self, max_paths: int = MAX_PATHS) -> None:
        self._max_paths = max_paths
        self._paths: OrderedDict[bytes, _Path] = OrderedDict()
        # The oldest first.
        self._by_link: dict[bytes, dict[bytes, None]] = {}
        #: Target and link -> the end of the doubt.
        self._doubts: OrderedDict[bytes, float] = OrderedDict()
        #: Paths that had to go before their time.
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def doubt_count(self) -> int:
        """Ways in doubt, some of them no more."""
        return len(self._doubts)

    def learn(self, sender: bytes, link: bytes, now: float, *, is_verified: bool = False) -> None:
        """An envelope of a sender came on a link.

        :param is_verified: the sender's signature was right; this also ends a doubt.
        """
        old = self._paths.get(sender)
        if old is not None:
            if old.is_verified and not is_verified and now - old.learned_at < PATH_SECONDS:
                return
            self._unlist(sender, old.link)
        elif len(self._paths) >= self._max_paths:
            self._evict()
        self._paths[sender] = _Path(link, now, is_verified)
        self._paths.move_to_end(sender)
        self._by_link.setdefault(link, {})[sender] = None
        if is_verified:
            self.worked(sender, link)

    def find(self, target: bytes, now: float) -> bytes | None:
        """The link that a target was last heard on, while that is fresh."""
        path = self._paths.get(target)
        return path.link if path is not None and now - path.learned_at < PATH_SECONDS else None

    def forget(self, link: bytes) -> None:
        """A link is gone, and all paths over it."""
        for sender in self._by_link.pop(link, ()):
            del self._paths[sender]

    def failed(self, target: bytes, link: bytes, now: float) -> None:
        """What was sent to a target over a link was not acknowledged."""
        key = target + link
        self._doubts[key] = now + DOUBT_SECONDS
        self._doubts.move_to_end(key)
        if len(self._doubts) > MAX_DOUBTS:
            self._doubts.popitem(last=False)

    def worked(self, target: bytes, link: bytes) -> None:
        """What was sent to a target over a link arrived."""
        if self._doubts:
            self._doubts.pop(target + link, None)

    def is_doubtful(self, target: bytes, link: bytes, now: float) -> bool:
        """Whether a way has failed within the last minute."""
        if not self._doubts:
            return False
        until = self._doubts.get(target + link)
        return until is not None and now < until

    def expire(self, now: float) -> None:
        """Forget what is too old; to be called every minute or so."""
        # Both are in the order in which they were written, so the old ones are in front.
        while self._paths and now - next(iter(self._paths.values())).learned_at >= PATH_SECONDS:
            sender, path = self._paths.popitem(last=False)
            self._unlist(sender, path.link)
        while self._doubts and next(iter(self._doubts.values())) <= now:
            self._doubts.popitem(last=False)

    def _evict(self) -> None:
        senders = max(self._by_link.values(), key=len)
        for sender in list(islice(senders, max(1, min(_EVICTED_AT_ONCE, len(senders) // 4)))):
            self._unlist(sender, self._paths.pop(sender).link)
            self.evicted += 1

    def _unlist(self, sender: bytes, link: bytes) -> None:
        senders = self._by_link[link]
        del senders[sender]
        if not senders:
            del self._by_link[link]
