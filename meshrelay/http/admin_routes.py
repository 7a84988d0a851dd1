"""The admin API as one table: a path and a method -> what is done, what it takes, and what it may answer.

The page finds its way by this table, and the OpenAPI file is made from it, so the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from twisted.web import http

from meshrelay.http.admin_actions import DEFAULT_ROWS, MAX_REASON_BYTES, MAX_ROWS, AdminActions, Input
from meshrelay.http.admin_bodies import (
    Announced,
    Announcement,
    Delivered,
    DrainBegun,
    GroupMessage,
    GroupPage,
    GroupView,
    Kicked,
    NewMessage,
    Published,
    RoomPage,
    RoomView,
    UserView,
)
from meshrelay.wire.buffer import GROUP_ID_BYTES

__all__ = [
    "CHANGE_PROBLEMS",
    "COMMON_PROBLEMS",
    "POST_PROBLEMS",
    "ROUTES",
    "Parameter",
    "Route",
    "methods_of",
    "route_of",
]

Schema = Mapping[str, Any]


class Parameter(NamedTuple):
    """A variable part of a path, or what may stand behind the question mark."""

    name: str
    text: str
    #: JSON Schema.
    schema: Schema


class Route(NamedTuple):
    """One thing that can be done.

    :ivar path: parts below ``/admin``; ``{name}`` is variable.
    :ivar operation: its name in the OpenAPI file.
    :ivar status: of the answer when it is done.
    :ivar answers: types of that answer; none = any object.
    :ivar problems: codes, beside those that every route may answer.
    :ivar body: type of the JSON that it takes; None = a POST takes an empty object.
    :ivar takes_bytes: the body may be the message itself as well.
    """

    method: str
    path: tuple[str, ...]
    operation: str
    summary: str
    run: Callable[[AdminActions, Input], Awaitable[Any]]
    answers: tuple[type[Any], ...] = ()
    problems: tuple[str, ...] = ()
    query: tuple[Parameter, ...] = ()
    body: type[Any] | None = None
    takes_bytes: bool = False
    status: int = http.OK

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variable parts."""
        return tuple(part[1:-1] for part in self.path if part.startswith("{"))


#: What any request may be answered.
COMMON_PROBLEMS = (
    "bad_path",
    "bad_query",
    "key_needed",
    "not_allowed",
    "no_such_path",
    "method_not_allowed",
    "too_large",
    "too_many_tries",
    "internal",
    "timed_out",
)

#: What a POST or DELETE may be answered beside that, and what any POST may.
CHANGE_PROBLEMS = ("cross_site",)
POST_PROBLEMS = ("bad_header", "invalid_body", "in_progress", "length_required", "wrong_type", "key_reused")

_REMOTE = ("node_unreachable", "directory_away")

_PAGING = (
    Parameter(
        "limit",
        f"How many at most; {DEFAULT_ROWS} unless it is said.",
        MappingProxyType({"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": DEFAULT_ROWS}),
    ),
    Parameter(
        "cursor",
        "What the page before has in next.",
        MappingProxyType({"type": "string", "pattern": rf"^[\x21-\x7e]{{0,{GROUP_ID_BYTES}}}$"}),
    ),
)

_REASON = Parameter(
    "reason",
    f"What the client is told, at most {MAX_REASON_BYTES} bytes of UTF-8.",
    # Bytes are what is counted; so many characters always fit.
    MappingProxyType({"type": "string", "maxLength": MAX_REASON_BYTES // 4}),
)

ROUTES: Sequence[Route] = (
    Route(
        "POST",
        ("groups", "{group}", "messages"),
        "publish",
        "Publish a message of the server in a group of any node.",
        AdminActions.publish,
        (Published,),
        ("group_not_found", *_REMOTE),
        body=GroupMessage,
        takes_bytes=True,
        status=http.ACCEPTED,
    ),
    Route(
        "POST",
        ("announcements",),
        "announce",
        "Publish a message of the server in all groups of the cluster, or in one.",
        AdminActions.announce,
        (Announced, Published),
        ("group_not_found", *_REMOTE),
        body=Announcement,
        status=http.ACCEPTED,
    ),
    Route(
        "POST",
        ("users", "{user}", "messages"),
        "send_direct",
        "Send a direct message of the server to a user of any node.",
        AdminActions.send_direct,
        (Delivered,),
        ("message_empty", "user_not_found", "declined", *_REMOTE),
        body=NewMessage,
        takes_bytes=True,
    ),
    Route(
        "GET",
        ("users", "{user}"),
        "get_user",
        "Where a user is signed in, since when, and in which groups and rooms.",
        AdminActions.user,
        (UserView,),
        ("user_not_found", *_REMOTE),
    ),
    Route(
        "DELETE",
        ("users", "{user}"),
        "kick",
        "End the session of a user with close code 4504.",
        AdminActions.kick,
        (Kicked,),
        ("user_not_found", *_REMOTE),
        query=(_REASON,),
    ),
    Route(
        "GET",
        ("groups",),
        "list_groups",
        "Groups of all nodes, sorted by ID.",
        AdminActions.groups,
        (GroupPage,),
        query=_PAGING,
    ),
    Route(
        "GET",
        ("groups", "{group}"),
        "get_group",
        "A group and its members on all nodes.",
        AdminActions.group,
        (GroupView,),
        ("group_not_found", *_REMOTE),
    ),
    Route(
        "GET",
        ("rooms",),
        "list_rooms",
        "Rooms of all nodes, sorted by ID.",
        AdminActions.rooms,
        (RoomPage,),
        query=_PAGING,
    ),
    Route(
        "GET",
        ("rooms", "{room}"),
        "get_room",
        "A room and its members.",
        AdminActions.room,
        (RoomView,),
        ("room_not_found",),
    ),
    Route("GET", ("nodes",), "list_nodes", "All nodes, their links and the directory.", AdminActions.nodes),
    Route(
        "POST",
        ("nodes", "{node}", "drain"),
        "drain",
        "Let a node say goodbye to its clients and end, as SIGTERM does.",
        AdminActions.drain,
        (DrainBegun,),
        ("node_not_found", "node_unreachable"),
        status=http.ACCEPTED,
    ),
)


def route_of(method: str, path: Sequence[str]) -> tuple[Route, dict[str, str]] | None:
    """Find the route of a request.

    :param path: decoded parts below ``/admin``.
    :returns: the route and its variable parts; None: there is none of this method.
    """
    for route in ROUTES:
        found = _match(route, path) if route.method == method else None
        if found is not None:
            return route, found
    return None


def methods_of(path: Sequence[str]) -> tuple[str, ...]:
    """The methods that a path takes, as Allow names them; empty: there is no such path."""
    methods = [route.method for route in ROUTES if _match(route, path) is not None]
    return tuple(each for method in methods for each in ((method, "HEAD") if method == "GET" else (method,)))


def _match(route: Route, path: Sequence[str]) -> dict[str, str] | None:
    if len(route.path) != len(path):
        return None
    found = {}
    for wanted, given in zip(route.path, path, strict=True):
        if wanted.startswith("{"):
            found[wanted[1:-1]] = given
        elif wanted != given:
            return None
    return found
