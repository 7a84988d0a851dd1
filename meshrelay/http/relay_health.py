"""Does the relay take peers: ``/health/relay``, with the fields of NetBird's own health page.

NetBird's relay dials its public name to find out, and says 503 for ever where it cannot reach that name itself, from
inside a container for example. This one says what it knows: which ports listen, and whether it lets peers in.
Whether the public name leads here is for somebody outside to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from twisted.web import http
from twisted.web.server import Request

from meshrelay.http.page import Answer, Page, json_answer

__all__ = ["RelayHealth", "RelayHealthPage"]


class RelayHealth(NamedTuple):
    """What the page is made of.

    :ivar listeners: "ws", "quic": what listens now.
    :ivar is_open: peers are let in.
    :ivar certificate_ends_at: last second of the certificate, in Unix seconds; 0 = none is known.
    :ivar unix: the time of day.
    """

    listeners: Callable[[], list[str]]
    is_open: Callable[[], bool]
    certificate_ends_at: Callable[[], float]
    unix: Callable[[], float]


class RelayHealthPage(Page):
    """200 while the relay takes peers, 503 otherwise."""

    def __init__(self, health: RelayHealth) -> None:
        super().__init__()
        self._health = health

    def answer(self, request: Request) -> Answer:
        """See `Page.answer`."""
        health = self._health
        now = health.unix()
        listeners = health.listeners()
        is_healthy = bool(listeners) and health.is_open()
        body = {
            "status": "healthy" if is_healthy else "unhealthy",
            "timestamp": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "listeners": listeners or None,
            "certificate_valid": now <= health.certificate_ends_at(),
        }
        return json_answer(http.OK if is_healthy else http.SERVICE_UNAVAILABLE, body)
