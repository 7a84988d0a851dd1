"""One page: an HTTP request -> an `Answer`. What all pages have in common stands here.

A page says which methods it takes and makes one answer, at once or later; headers that every answer needs, HEAD, the
405 for other methods, and the 503 for answers that do not come in time are added here.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar, NamedTuple

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

__all__ = [
    "Answer",
    "Branch",
    "JSON_TYPE",
    "NO_BODY_ANSWER",
    "NotFoundPage",
    "PAGE_SECONDS",
    "Page",
    "RETRY_AFTER_SECONDS",
    "error_answer",
    "json_answer",
    "send_answer",
    "unavailable_answer",
]

JSON_TYPE = "application/json"

#: An answer that comes later must be there by then.
PAGE_SECONDS = 5.0

#: A client that was told to come back later waits at least this long.
RETRY_AFTER_SECONDS = 5


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


#: To a request with a body where none is taken.
NO_BODY_ANSWER = error_answer(http.REQUEST_ENTITY_TOO_LARGE, "requests have no body here")


def unavailable_answer(text: str) -> Answer:
    """Return a 503 that says when to ask again."""
    return error_answer(http.SERVICE_UNAVAILABLE, text, (("Retry-After", str(RETRY_AFTER_SECONDS)),))


def send_answer(request: Request, answer: Answer) -> None:
    """Write `answer` and finish the request; a HEAD request gets the headers alone."""
    # twisted.web does not know the names of all of them.
    request.setResponseCode(answer.status, HTTPStatus(answer.status).phrase.encode("ascii"))
    request.setHeader("Content-Type", answer.content_type)
    if answer.status != http.NO_CONTENT:
        request.setHeader("Content-Length", str(len(answer.body)))
    # Answers hold secrets or what is true at this moment only.
    request.setHeader("Cache-Control", "no-store")
    request.setHeader("X-Content-Type-Options", "nosniff")
    for name, value in answer.headers:
        request.setHeader(name, value)
    request.write(answer.body)
    request.finish()


def _send_later(request: Request, coming: Deferred[Answer], log: Logger) -> None:
    """Send the answer when it is there; a client that is gone meanwhile, or waits for too long, cancels it."""
    is_gone = False

    def client_gone(_: Failure) -> None:
        nonlocal is_gone
        is_gone = True
        coming.cancel()

    def answered(answer: Answer) -> None:
        if not is_gone:
            send_answer(request, answer)

    def failed(failure: Failure) -> None:
        if is_gone:
            return
        if failure.check(DeferredTimeoutError):
            send_answer(request, unavailable_answer("the answer did not come in time"))
        else:
            request.processingFailed(failure)

    assert request.site is not None
    request.notifyFinish().addErrback(client_gone)
    coming.addTimeout(PAGE_SECONDS, request.site.reactor)
    coming.addCallbacks(answered, failed)
    coming.addErrback(lambda failure: log.failure("an answer could not be sent", failure=failure))


class Page(Resource):
    """Answers all requests at its path and below. Abstract."""

    isLeaf = True
    _log = Logger()

    #: In the order in which Allow names them.
    methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def render(self, request: Request) -> int:
        """See `twisted.web.resource.IResource.render`."""
        method = request.method.decode("latin-1")
        answer = self.answer(request) if method in self.methods else self.not_allowed(request)
        if isinstance(answer, Deferred):
            _send_later(request, answer, self._log)
        else:
            send_answer(request, answer)
        return NOT_DONE_YET

    def not_allowed(self, request: Request) -> Answer:
        """Answer a request whose method is none of ``methods``."""
        method = request.method.decode("latin-1")
        allowed = ", ".join(self.methods)
        return error_answer(
            http.NOT_ALLOWED, f"method {method[:32]} is not allowed here, use {allowed}", (("Allow", allowed),)
        )

    def refuse_body(self, request: Request, length: int | None) -> Answer | None:
        """The answer to a request that announces a body, None: it may come. Asked before the body is read.

        :param request: its headers have come, its method and path are not set yet.
        :param length: in bytes; None = the request does not say.
        """
        return NO_BODY_ANSWER

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """Answer a request whose method is one of ``methods``.

        :returns: the answer, or what fires with it within `PAGE_SECONDS`; cancelled when nobody waits for it any more.
        """
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
