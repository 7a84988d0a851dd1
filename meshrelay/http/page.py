"""One page: an HTTP request -> an `Answer`. What all pages have in common stands here.

A page says which methods it takes and makes one answer; headers that every answer needs, HEAD, and the 405 for other
methods are added here.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import msgspec
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

__all__ = ["Answer", "Branch", "NotFoundPage", "Page", "error_answer", "json_answer", "send_answer"]

JSON_TYPE = "application/json"


class Answer(NamedTuple):
    """What goes back.

    :ivar headers: beside Content-Type, Content-Length and Cache-Control.
    """

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(status: int, value: object, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Return `value` as JSON."""
    return Answer(status, msgspec.json.encode(value), JSON_TYPE, headers)


def error_answer(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Return ``{"error": text}``."""
    return json_answer(status, {"error": text}, headers)


def send_answer(request: Request, answer: Answer) -> None:
    """Write `answer` and finish the request; a HEAD request gets the headers alone."""
    request.setResponseCode(answer.status)
    request.setHeader("Content-Type", answer.content_type)
    request.setHeader("Content-Length", str(len(answer.body)))
    # Answers hold secrets or what is true at this moment only.
    request.setHeader("Cache-Control", "no-store")
    request.setHeader("X-Content-Type-Options", "nosniff")
    for name, value in answer.headers:
        request.setHeader(name, value)
    request.write(answer.body)
    request.finish()


class Page(Resource):
    """Answers all requests at its path and below. Abstract."""

    isLeaf = True

    #: In the order in which Allow names them.
    methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def render(self, request: Request) -> int:
        """See `twisted.web.resource.IResource.render`."""
        method = request.method.decode("latin-1")
        is_allowed = method in self.methods
        send_answer(request, self.answer(request) if is_allowed else self._not_allowed(method))
        return NOT_DONE_YET

    def _not_allowed(self, method: str) -> Answer:
        allowed = ", ".join(self.methods)
        return error_answer(
            http.NOT_ALLOWED, f"method {method[:32]} is not allowed here, use {allowed}", (("Allow", allowed),)
        )

    def answer(self, request: Request) -> Answer:
        """Answer a request whose method is one of ``methods``."""
        raise NotImplementedError


class NotFoundPage(Page):
    """Every path that leads nowhere."""

    def answer(self, request: Request) -> Answer:
        """See `Page.answer`."""
        return error_answer(http.NOT_FOUND, "no such page")


class Branch(NotFoundPage):
    """A level of the tree: its children are pages, everything else there is none."""

    isLeaf = False

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See `twisted.web.resource.IResource.getChildWithDefault`."""
        return NotFoundPage()
