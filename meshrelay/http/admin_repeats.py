"""Requests that come twice: whoever did not hear the answer asks again with the same key, and nothing is done twice.

::

    Idempotency-Key --> new: done, and its answer is kept for ten minutes
                   `--> seen with the same request: the answer that was kept
                   `--> seen with another request: a mistake of the caller

Only answers that say "done" are kept; what went wrong may be tried again with the same key. The table is this node's:
another node knows nothing of it.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from meshrelay.http.admin_problems import Problem
from meshrelay.http.page import Answer

__all__ = ["KEEP_SECONDS", "MAX_KEYS", "MAX_KEY_CHARACTERS", "Repeats", "fingerprint_of"]

#: How long an answer is kept.
KEEP_SECONDS = 600.0

#: Keys that are remembered; beyond, the oldest one is forgotten early.
MAX_KEYS = 10_000

MAX_KEY_CHARACTERS = 128

_KEY = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY_CHARACTERS}}}")

#: Says that an answer was kept.
_REPLAYED = ("Idempotency-Replayed", "true")


class _Kept(NamedTuple):
    fingerprint: bytes
    ends_at: float
    #: None: it is being done.
    answer: Answer | None


def fingerprint_of(*parts: bytes) -> bytes:
    """Return what tells requests apart: equal parts, equal fingerprint."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


class Repeats:
    """See the module.

    :ivar replayed: requests that were answered from here.
    :ivar evicted: answers that were forgotten early.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self.replayed = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self, key: str, fingerprint: bytes) -> Answer | None:
        """A request with this key is there.

        :returns: the answer of the same request before; None: it is to be done now, and `done` or `failed` follows.
        :raises Problem: no key, the key of another request, or the same request is being done.
        """
        if not _KEY.fullmatch(key):
            text = f"Idempotency-Key must be 1 to {MAX_KEY_CHARACTERS} printable ASCII characters without blanks"
            raise Problem("bad_header", text, "Idempotency-Key", MAX_KEY_CHARACTERS)
        self._forget_old()
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= MAX_KEYS:
                self.evicted += 1
                del self._kept[next(iter(self._kept))]
            self._kept[key] = _Kept(fingerprint, self._clock.seconds() + KEEP_SECONDS, None)
            return None
        if kept.fingerprint != fingerprint:
            raise Problem("key_reused", "another request came with this key", "Idempotency-Key")
        if kept.answer is None:
            raise Problem("in_progress", "the same request is being done", "Idempotency-Key", retry_after=1)
        self.replayed += 1
        return kept.answer._replace(headers=(*kept.answer.headers, _REPLAYED))

    def _forget_old(self) -> None:
        now = self._clock.seconds()
        while self._kept:
            key, kept = next(iter(self._kept.items()))
            if kept.ends_at > now:
                return
            del self._kept[key]

    def done(self, key: str, fingerprint: bytes, answer: Answer) -> None:
        """The request with this key was done: keep what it was answered."""
        kept = self._kept.get(key)
        if kept is not None and kept.answer is None and kept.fingerprint == fingerprint:
            self._kept[key] = kept._replace(answer=answer)

    def failed(self, key: str, fingerprint: bytes) -> None:
        """The request with this key was not done: it may be tried again."""
        kept = self._kept.get(key)
        if kept is not None and kept.answer is None and kept.fingerprint == fingerprint:
            del self._kept[key]
