"""What a client tells its program: typed values, one class for each kind of event.

`decode_push` makes them from the pushes of a node. Pushes of ver 1 that this version does not know come as
`PushReceived` too, so a program can read the pushes of a newer node by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshrelay.wire.commands import BUILT_IN_VER, Command, decode_pushed_direct, decode_pushed_message
from meshrelay.wire.history_commands import (
    LoggedPush,
    PresenceChange,
    decode_logged_push,
    decode_presence_push,
)
from meshrelay.wire.room_commands import decode_pushed_owner

__all__ = [
    "Connected",
    "DirectCleared",
    "DirectMessageReceived",
    "DirectPeerGone",
    "Disconnected",
    "Event",
    "GroupLogged",
    "GroupMemberBack",
    "GroupMemberJoined",
    "GroupMemberLeft",
    "GroupMemberLost",
    "GroupMessageReceived",
    "GroupPresenceChanged",
    "GroupRecovered",
    "PushReceived",
    "RoomMemberJoined",
    "RoomMemberLeft",
    "RoomMemberLost",
    "RoomMessageReceived",
    "RoomOwnerChanged",
    "decode_push",
]


@dataclass(frozen=True, slots=True)
class Event:
    """What all events have in common: listen to this class to hear everything."""


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """The client is signed in, for the first time or again."""

    user_id: str
    node_id: str
    #: Names the session; a secret.
    sid: str
    #: True: it is the session from before the break, with its memberships.
    resumed: bool
    #: True: nothing that was pushed in between is missing.
    recovered: bool


@dataclass(frozen=True, slots=True)
class Disconnected(Event):
    """The connection of a signed-in client is gone."""

    #: Close code of the node; None when it gave none.
    code: int | None
    text: str
    #: True: the client comes back by itself.
    will_retry: bool


@dataclass(frozen=True, slots=True)
class _GroupEvent(Event):
    group_id: str
    user_id: str
    message: bytes


@dataclass(frozen=True, slots=True)
class GroupMessageReceived(_GroupEvent):
    """Another member broadcast `message`."""

    #: Its place in the history, from 1; 0 = it has none, or the group was joined without ``recover``.
    offset: int = 0


@dataclass(frozen=True, slots=True)
class GroupLogged(Event):
    """A message with its place in the history. Programs hear `GroupMessageReceived` or `PushReceived` instead."""

    push: LoggedPush


@dataclass(frozen=True, slots=True)
class GroupRecovered(Event):
    """The client is in a group again that it joined with ``recover``, after a break.

    Messages that were missed follow as if they came just now. When `recovered` is false something may be missing.
    """

    group_id: str
    recovered: bool
    #: Why the client is in the group no more; empty: it is.
    error: str = ""


@dataclass(frozen=True, slots=True)
class GroupPresenceChanged(Event):
    """Members of a watched group came, were lost or went. Without any of them: list them anew."""

    group_id: str
    #: How many there are now.
    count: int
    #: User IDs: came, or are back.
    there: tuple[str, ...]
    #: Lost their connection, and may come back.
    away: tuple[str, ...]
    #: Are members no more.
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupMemberJoined(_GroupEvent):
    """A user joined and said `message`."""


@dataclass(frozen=True, slots=True)
class GroupMemberLeft(_GroupEvent):
    """A user left and said `message`."""


@dataclass(frozen=True, slots=True)
class GroupMemberLost(_GroupEvent):
    """A member was lost without leaving; the application of the node made `message`."""


@dataclass(frozen=True, slots=True)
class GroupMemberBack(_GroupEvent):
    """A lost member is back; the application of the node made `message`."""


@dataclass(frozen=True, slots=True)
class _DirectEvent(Event):
    #: The other user; "" is the node's application, which no user can call itself.
    user_id: str
    message: bytes


@dataclass(frozen=True, slots=True)
class DirectMessageReceived(_DirectEvent):
    """Another user sent `message` to this one."""


@dataclass(frozen=True, slots=True)
class DirectCleared(_DirectEvent):
    """A user has ended the exchange of direct messages with this one and said `message` as the last. Not told when
    there was no last message."""


@dataclass(frozen=True, slots=True)
class DirectPeerGone(_DirectEvent):
    """The session of a user with whom this one exchanged direct messages is over; the application of the node made
    `message`. Not told when it made none."""


@dataclass(frozen=True, slots=True)
class _RoomEvent(Event):
    room_id: str
    user_id: str
    message: bytes


@dataclass(frozen=True, slots=True)
class RoomMessageReceived(_RoomEvent):
    """Another member broadcast `message`."""


@dataclass(frozen=True, slots=True)
class RoomMemberJoined(_RoomEvent):
    """A user joined and said `message`, which may be empty."""


@dataclass(frozen=True, slots=True)
class RoomMemberLeft(_RoomEvent):
    """A user left and said `message`, which may be empty."""


@dataclass(frozen=True, slots=True)
class RoomMemberLost(_RoomEvent):
    """A member was lost without leaving; the application of the room's node made `message`, which may be empty.

    With this client's own user ID: the client is in the room no more, for it was closed or its node died.
    """


@dataclass(frozen=True, slots=True)
class RoomOwnerChanged(Event):
    """The room has another owner."""

    room_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class PushReceived(Event):
    """A push of the application's own (ver 2 to 255), or one that this version has no class for."""

    ver: int
    cmd: int
    payload: bytes


_GROUP_EVENTS: dict[int, Callable[[str, str, bytes], Event]] = {
    Command.GROUP_BROADCAST.value: GroupMessageReceived,
    Command.GROUP_JOIN.value: GroupMemberJoined,
    Command.GROUP_LEAVE.value: GroupMemberLeft,
    Command.GROUP_LOST.value: GroupMemberLost,
    Command.GROUP_BACK.value: GroupMemberBack,
}

_ROOM_EVENTS: dict[int, Callable[[str, str, bytes], Event]] = {
    Command.ROOM_BROADCAST.value: RoomMessageReceived,
    Command.ROOM_JOIN.value: RoomMemberJoined,
    Command.ROOM_LEAVE.value: RoomMemberLeft,
    Command.ROOM_LOST.value: RoomMemberLost,
}

_DIRECT_EVENTS: dict[int, Callable[[str, bytes], Event]] = {
    Command.DM_SEND.value: DirectMessageReceived,
    Command.DM_CLEAR.value: DirectCleared,
    Command.DM_PEER_GONE.value: DirectPeerGone,
}


def _presence_changed(payload: bytes) -> Event:
    push = decode_presence_push(payload)
    there, away, gone = (
        tuple(user_id for each, user_id in push.changes if each == wanted)
        for wanted in (PresenceChange.THERE, PresenceChange.AWAY, PresenceChange.GONE)
    )
    return GroupPresenceChanged(push.group_id, push.members, there, away, gone)


def decode_push(ver: int, cmd: int, payload: bytes) -> Event:
    """Return the event that a push stands for.

    :param ver: 1 to 255; the pushes of ver 0 are the connection's own business.
    :raises MalformedPayload: the node's fault.
    """
    if ver == BUILT_IN_VER:
        make = _GROUP_EVENTS.get(cmd) or _ROOM_EVENTS.get(cmd)
        if make is not None:
            return make(*decode_pushed_message(payload))
        make_direct = _DIRECT_EVENTS.get(cmd)
        if make_direct is not None:
            return make_direct(*decode_pushed_direct(payload))
        if cmd == Command.GROUP_RECOVER:
            return GroupLogged(decode_logged_push(payload))
        if cmd == Command.GROUP_PRESENCE:
            return _presence_changed(payload)
        if cmd == Command.ROOM_OWNER:
            return RoomOwnerChanged(*decode_pushed_owner(payload))
    return PushReceived(ver, cmd, payload)
