"""A webhook's server in memory: what was posted, and answers that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from twisted.internet.defer import Deferred, succeed

__all__ = ["FakePost", "Posted"]


class Posted(NamedTuple):
    """One POST."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    answer: Deferred[int]

    @property
    def document(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    @property
    def events(self) -> list[Any]:
        """Its events."""
        events: list[Any] = self.document["events"]
        return events


class FakePost:
    """Takes POSTs; answers at once with `status`, or never while that is None."""

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.status: int | None = 200
        self.is_closed = False

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Deferred[int]:
        """See `meshrelay.http.webhook_queue.Post`."""
        answer: Deferred[int] = Deferred()
        self.posted.append(Posted(url, body, headers, answer))
        if self.status is not None:
            answer.callback(self.status)
        return answer

    def close(self) -> Deferred[None]:
        """See `meshrelay.http.webhooks.PostWithEnd`."""
        self.is_closed = True
        return succeed(None)
