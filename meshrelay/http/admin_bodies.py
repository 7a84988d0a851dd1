"""What goes in and out of the admin API: bodies of requests and answers, as types that check themselves.

The OpenAPI file is made from these types, so a description stands here and nowhere else.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshrelay.http.admin_problems import Problem
from meshrelay.model import MAX_USER_ID_BYTES, check_user_id
from meshrelay.wire.commands import FIRST_APPLICATION_VER

__all__ = [
    "DEFAULT_SENDER",
    "Announced",
    "Announcement",
    "Delivered",
    "DrainBegun",
    "GroupMember",
    "GroupMessage",
    "GroupPage",
    "GroupRow",
    "GroupView",
    "Kicked",
    "NewMessage",
    "Published",
    "RoomPage",
    "RoomRow",
    "RoomView",
    "UserView",
]

#: Who a message of the server comes from in a group: the pushes of groups always name a user.
DEFAULT_SENDER = "server"

_Ver = Annotated[
    int,
    msgspec.Meta(
        ge=FIRST_APPLICATION_VER, le=255, description="Command version of the push; without it, what clients say."
    ),
]
_Cmd = Annotated[int, msgspec.Meta(ge=0, le=65535, description="Command number of the push; needs ver.")]


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of the server: text or body, one of the two."""

    text: Annotated[str, msgspec.Meta(description="The message; it goes out as UTF-8.")] | None = None
    body: Annotated[bytes, msgspec.Meta(description="The message in base64.")] | None = None
    ver: _Ver | None = None
    cmd: _Cmd | None = None
    #: False: it may be lost on the way to a UDP client.
    reliable: bool = True

    def message(self) -> bytes:
        """Return the bytes of the message.

        :raises Problem: there is not exactly one.
        """
        if (self.text is None) is (self.body is None):
            raise Problem("invalid_body", "there must be either text or body", "text")
        if (self.ver is None) is not (self.cmd is None):
            raise Problem("invalid_body", "ver and cmd go together", "cmd" if self.cmd is None else "ver")
        return self.body if self.body is not None else (self.text or "").encode("utf-8")


class GroupMessage(NewMessage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of the server to the members of a group: text or body, one of the two."""

    sender: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=MAX_USER_ID_BYTES,
            description=f"The user ID that it comes from for members; {DEFAULT_SENDER} unless it is said.",
        ),
    ] = DEFAULT_SENDER

    def checked_sender(self) -> str:
        """Return the user ID that it comes from.

        :raises Problem: it is none.
        """
        try:
            return check_user_id(self.sender)
        except ValueError as error:
            raise Problem("invalid_body", f"sender: {error}", "sender", MAX_USER_ID_BYTES) from None


class Announcement(GroupMessage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of the server to the members of one group, or of all groups."""

    group: Annotated[str, msgspec.Meta(description="ID of the group; without it all groups.")] | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was published in a group."""

    group: str
    #: The node that has published it.
    node: str


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was published in all groups."""

    #: Groups that got it; who is in several of them gets it several times.
    groups: int
    #: Nodes that could not be asked.
    nodes_left_out: tuple[str, ...]


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """A direct message that the user's node has taken."""

    user: str


class Kicked(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was ended."""

    user: str
    node: str


class DrainBegun(msgspec.Struct, frozen=True, kw_only=True):
    """A node that says goodbye to its clients, and ends."""

    node: str


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-in user."""

    user: str
    node: str
    #: tcp, websocket or udp; "" for a session that came from another node and is away.
    transport: str
    #: False: the connection was lost, and the session may be resumed.
    is_connected: bool
    #: Sign-in on this node, seconds since 1970.
    since: float
    groups: tuple[str, ...]
    rooms: tuple[str, ...]


class GroupRow(msgspec.Struct, frozen=True, kw_only=True):
    """A group, in short."""

    id: str
    members: int
    #: How many nodes hold it.
    nodes: int
    is_static: bool


class GroupPage(msgspec.Struct, frozen=True, kw_only=True):
    """Groups of the cluster by ID."""

    groups: tuple[GroupRow, ...]
    #: The cursor for more; null = that is all.
    next: str | None
    #: Nodes that could not be asked.
    nodes_left_out: tuple[str, ...]


class GroupMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a group or a room."""

    user: str
    node: str


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group."""

    id: str
    allow_empty: bool
    is_static: bool
    #: From its creation; 0 for a static group.
    ttl_seconds: int
    #: Merging interval; 0 = no merging.
    interval_ms: int
    #: The nodes that hold it.
    nodes: tuple[str, ...]
    members: tuple[GroupMember, ...]
    members_left_out: int


class RoomRow(msgspec.Struct, frozen=True, kw_only=True):
    """A room, in short."""

    id: str
    members: int
    max_members: int
    #: User ID; null = the room is empty.
    owner: str | None
    node: str


class RoomPage(msgspec.Struct, frozen=True, kw_only=True):
    """Rooms of the cluster by ID."""

    rooms: tuple[RoomRow, ...]
    #: The cursor for more; null = that is all.
    next: str | None
    #: Nodes that could not be asked.
    nodes_left_out: tuple[str, ...]


class RoomView(msgspec.Struct, frozen=True, kw_only=True):
    """A room."""

    id: str
    max_members: int
    allow_empty: bool
    #: From its creation.
    ttl_seconds: int
    #: Merging interval; 0 = no merging.
    interval_ms: int
    owner: str | None
    #: In join order.
    members: tuple[GroupMember, ...]
    members_left_out: int
