"""``POST /direct/<user ID>``: a direct message of the server, which the user gets wherever in the cluster it is.

::

    curl --data-binary "Closed for the night" http://127.0.0.1:7000/direct/ann

======  ==============================================================================================
status  meaning
======  ==============================================================================================
204     the user's node has taken the message for its session
400     the user ID is none, or the message is empty
401     the admin key is needed, see `meshrelay.http.admin`
403     the caller may not send at all
404     no such user
409     the application of the user's node declined the message
411     the request does not say how long the message is
413     the message is too long
503     nobody answered in time, and the message may have been delivered; or the user's node is not linked
======  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, NamedTuple

from twisted.internet.defer import Deferred
from twisted.web import http
from twisted.web.server import Request

from meshrelay.errors import (
    CommandError,
    MalformedPayload,
    MessageIsEmpty,
    MessageTooLarge,
    NodesNotFound,
    ReliableTimeout,
    UserDeclined,
    UserNotFound,
)
from meshrelay.http.admin import AdminAccess
from meshrelay.http.page import Answer, Page, error_answer, unavailable_answer

__all__ = ["DirectPage", "ServerMessages"]

_STATUSES: dict[type[CommandError], int] = {
    MalformedPayload: http.BAD_REQUEST,
    MessageIsEmpty: http.BAD_REQUEST,
    UserNotFound: http.NOT_FOUND,
    UserDeclined: http.CONFLICT,
    MessageTooLarge: http.REQUEST_ENTITY_TOO_LARGE,
}


class ServerMessages(NamedTuple):
    """What sends for the page.

    :ivar send: ``send(peer_id, message)``; raises what `IDirectMessages.send_direct` raises.
    """

    send: Callable[[str, bytes], Awaitable[None]]
    max_payload_bytes: int


class DirectPage(Page):
    """See the module."""

    methods: ClassVar[tuple[str, ...]] = ("POST",)

    def __init__(self, messages: ServerMessages, admin: AdminAccess) -> None:
        super().__init__()
        self._messages = messages
        self._admin = admin

    def refuse_body(self, request: Request, length: int | None) -> Answer | None:
        """See `Page.refuse_body`: a stranger's body is not read at all."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        if length is None:
            return error_answer(http.LENGTH_REQUIRED, "the request must have a Content-Length")
        limit = self._messages.max_payload_bytes
        if length > limit:
            return error_answer(http.REQUEST_ENTITY_TOO_LARGE, f"a message has at most {limit} bytes")
        return None

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See `Page.answer`."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            [user] = request.postpath or [b""]
            peer_id = user.decode("utf-8")
        except ValueError:
            return error_answer(http.BAD_REQUEST, "the path must be /direct/ and a user ID, with %2F for a slash")
        return Deferred.fromCoroutine(self._send(peer_id, self._body(request)))

    def _refusal(self, request: Request) -> Answer | None:
        if request.requestHeaders.hasHeader("Origin"):
            # Any web page can make the browser of an operator post to this machine, without seeing the answer.
            return error_answer(http.FORBIDDEN, "web pages may not send messages")
        return self._admin.refusal(request)

    def _body(self, request: Request) -> bytes:
        # At most what `refuse_body` let in; twisted.web leaves the type open.
        return request.content.read() if request.content is not None else b""

    async def _send(self, peer_id: str, message: bytes) -> Answer:
        try:
            await self._messages.send(peer_id, message)
        except (ReliableTimeout, NodesNotFound) as error:
            return unavailable_answer(error.text)
        except CommandError as error:
            return error_answer(_STATUSES.get(type(error), http.INTERNAL_SERVER_ERROR), error.text)
        return Answer(http.NO_CONTENT, b"")
