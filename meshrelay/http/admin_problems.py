"""What can be wrong with a request to the admin API: a stable code, a status, and an answer that says what to change.

::

    {"error": "text for people", "code": "invalid_body", "field": "cmd", "limit": 65535}

``field`` names what is wrong in the body, the path, the query or the headers, ``limit`` the bound that it is over.
Codes are only ever added; the texts may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from meshrelay.errors import (
    CommandError,
    GroupNotFound,
    MalformedPayload,
    MeshRelayError,
    MessageIsEmpty,
    MessageTooLarge,
    NodesNotFound,
    ReliableTimeout,
    RemoteTimeout,
    RoomNotFound,
    RoomTimeout,
    UserDeclined,
    UserNotFound,
)
from meshrelay.http.page import RETRY_AFTER_SECONDS, Answer, json_answer

__all__ = ["PROBLEMS", "Problem", "problem_of", "statuses_of"]

#: Code -> status.
PROBLEMS: Mapping[str, int] = MappingProxyType(
    {
        "bad_path": HTTPStatus.BAD_REQUEST,
        "bad_query": HTTPStatus.BAD_REQUEST,
        "bad_header": HTTPStatus.BAD_REQUEST,
        "invalid_body": HTTPStatus.BAD_REQUEST,
        "message_empty": HTTPStatus.BAD_REQUEST,
        "key_needed": HTTPStatus.UNAUTHORIZED,
        "not_allowed": HTTPStatus.FORBIDDEN,
        "cross_site": HTTPStatus.FORBIDDEN,
        "no_such_path": HTTPStatus.NOT_FOUND,
        "group_not_found": HTTPStatus.NOT_FOUND,
        "room_not_found": HTTPStatus.NOT_FOUND,
        "user_not_found": HTTPStatus.NOT_FOUND,
        "node_not_found": HTTPStatus.NOT_FOUND,
        "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
        "declined": HTTPStatus.CONFLICT,
        "in_progress": HTTPStatus.CONFLICT,
        "length_required": HTTPStatus.LENGTH_REQUIRED,
        "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "wrong_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "key_reused": HTTPStatus.UNPROCESSABLE_ENTITY,
        "too_many_tries": HTTPStatus.TOO_MANY_REQUESTS,
        "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
        "node_unreachable": HTTPStatus.SERVICE_UNAVAILABLE,
        "directory_away": HTTPStatus.SERVICE_UNAVAILABLE,
        "timed_out": HTTPStatus.SERVICE_UNAVAILABLE,
    }
)

_CODES: Mapping[type[CommandError], str] = MappingProxyType(
    {
        MalformedPayload: "bad_path",
        MessageIsEmpty: "message_empty",
        MessageTooLarge: "too_large",
        GroupNotFound: "group_not_found",
        RoomNotFound: "room_not_found",
        UserNotFound: "user_not_found",
        UserDeclined: "declined",
        NodesNotFound: "node_unreachable",
        ReliableTimeout: "timed_out",
        RemoteTimeout: "timed_out",
        RoomTimeout: "timed_out",
    }
)


class Problem(MeshRelayError):
    """A request that is not done.

    :param code: one of `PROBLEMS`.
    :param text: for people; holds no secret.
    :param field: what is wrong; "" = the request as a whole.
    :param limit: the bound that it is over; None = it is over none.
    :param retry_after: seconds; None = as the status says.
    """

    def __init__(
        self, code: str, text: str, field: str = "", limit: int | None = None, retry_after: int | None = None
    ) -> None:
        self.code = code
        self.status: int = PROBLEMS[code]
        self.text = text
        self.field = field
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(f"{code}: {text}")

    def answer(self, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
        """Return what goes back, with `headers` beside those that the problem needs."""
        document: dict[str, object] = {"error": self.text, "code": self.code}
        if self.field:
            document["field"] = self.field
        if self.limit is not None:
            document["limit"] = self.limit
        seconds = self.retry_after
        if seconds is None and self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            seconds = RETRY_AFTER_SECONDS
        if seconds is not None:
            headers = (*headers, ("Retry-After", str(seconds)))
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers = (*headers, ("WWW-Authenticate", "Bearer"))
        return json_answer(self.status, document, headers)


def problem_of(error: CommandError) -> Problem:
    """Return what a caller is told when a component raised `error`."""
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), "internal")
    return Problem(code, error.text)


def statuses_of(codes: tuple[str, ...]) -> dict[int, list[str]]:
    """Return the codes by status, in order."""
    found: dict[int, list[str]] = {}
    for code in sorted(codes, key=lambda code: (PROBLEMS[code], code)):
        found.setdefault(PROBLEMS[code], []).append(code)
    return found
