"""Is the node alive, and may clients be sent to it: for load balancers, orchestrators and people.

``/health/live`` answers as long as the reactor turns. ``/health/ready`` answers 200 only while every port listens and
the node is not draining, so that a balancer takes it out before its clients are told to go.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.web import http
from twisted.web.server import Request

from meshrelay.http.page import Answer, Branch, Page, json_answer

__all__ = ["LivePage", "ReadyPage", "health_pages"]


class LivePage(Page):
    """The process answers."""

    def answer(self, request: Request) -> Answer:
        """See `Page.answer`."""
        return json_answer(http.OK, {"status": "live"})


class ReadyPage(Page):
    """The node takes clients, or does not.

    :param is_ready: False while it starts and from the moment it drains.
    """

    def __init__(self, node_id: str, is_ready: Callable[[], bool]) -> None:
        super().__init__()
        self._node_id = node_id
        self._is_ready = is_ready

    def answer(self, request: Request) -> Answer:
        """See `Page.answer`."""
        if self._is_ready():
            return json_answer(http.OK, {"status": "ready", "node": self._node_id})
        return json_answer(http.SERVICE_UNAVAILABLE, {"status": "draining", "node": self._node_id})


def health_pages(node_id: str, is_ready: Callable[[], bool]) -> Branch:
    """Return the pages under ``/health``."""
    pages = Branch()
    pages.putChild(b"live", LivePage())
    pages.putChild(b"ready", ReadyPage(node_id, is_ready))
    return pages
