"""What happens on this node -> events that webhooks tell; see `meshrelay.http.webhooks`.

::

    sessions --ISessionObserver--> connect, disconnect --.
    GroupTable --joined, published--> join, message -----+--> HookQueue of each URL that wants them

Only what began on this node is told here, so each event is told once in a cluster. Noting an event is all that the flow
of messages ever waits for: it becomes JSON when it is sent.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from zope.interface import implementer

from meshrelay.components.group_table import GroupTable, LiveGroup
from meshrelay.interfaces import ISession, ISessionObserver
from meshrelay.model import CloseReason
from meshrelay.wire.commands import BUILT_IN_VER, Command, decode_pushed_message
from meshrelay.wire.frame import encode_push_head, split_frames, whole_frames

__all__ = ["EventKind", "HookEvent", "HookEvents", "Noted"]

EventKind = Literal["connect", "disconnect", "join", "message"]

#: What an event costs in a queue beside its message.
_OVERHEAD_BYTES = 256

#: How the push of a message of a client begins.
_BROADCAST = encode_push_head(BUILT_IN_VER, Command.GROUP_BROADCAST, 0)[:4]


class HookEvent(NamedTuple):
    """One event.

    :ivar at: Unix seconds.
    :ivar user: "" = the server.
    :ivar detail: transport of a connect, reason of a disconnect.
    :ivar frame: the push of a message.
    """

    kind: EventKind
    at: float
    user: str = ""
    group: str = ""
    detail: str = ""
    frame: bytes = b""

    @property
    def size_bytes(self) -> int:
        """What it costs in memory, roughly."""
        return _OVERHEAD_BYTES + len(self.user) + len(self.frame)

    def document(self) -> dict[str, Any]:
        """Return what is sent."""
        document: dict[str, Any] = {"event": self.kind, "at": round(self.at, 3), "user": self.user}
        if self.kind == "connect":
            document["transport"] = self.detail
        elif self.kind == "disconnect":
            document["reason"] = self.detail
        else:
            document["group"] = self.group
        if self.kind == "message":
            # Where the push names a user, that is who the members see.
            document.update(_message_of(self.frame))
        return document


def _message_of(frame: bytes) -> dict[str, Any]:
    [push] = whole_frames(frame, len(frame))
    payload = push.payload
    content: dict[str, Any] = {"ver": push.ver, "cmd": push.cmd}
    if (push.ver, push.cmd) == (BUILT_IN_VER, Command.GROUP_BROADCAST):
        said = decode_pushed_message(payload)
        payload = said.message
        content["user"] = said.user_id
    try:
        content["text"] = payload.decode("utf-8")
    except UnicodeDecodeError:
        content["body"] = b64encode(payload).decode("ascii")
    return content


class Noted(NamedTuple):
    """Who is told of what: the queues of each kind.

    :ivar groups: patterns of the IDs of groups that are looked at.
    """

    connect: Sequence[Callable[[HookEvent], object]] = ()
    disconnect: Sequence[Callable[[HookEvent], object]] = ()
    join: Sequence[Callable[[HookEvent], object]] = ()
    message: Sequence[Callable[[HookEvent], object]] = ()
    groups: tuple[str, ...] = ("*",)


@implementer(ISessionObserver)
class HookEvents:
    """See the module.

    :param seconds: the time, in Unix seconds.
    """

    def __init__(self, noted: Noted, seconds: Callable[[], float]) -> None:
        self._noted = noted
        self._seconds = seconds

    def watch(self, table: GroupTable) -> None:
        """Note what happens in groups from now on."""
        if self._noted.message:
            for group in table:
                self._group_made(group)
            table.when_made(self._group_made)
        if self._noted.join:
            table.when_joined(self._joined)

    def _is_wanted(self, group_id: str) -> bool:
        return any(fnmatchcase(group_id, pattern) for pattern in self._noted.groups)

    def _group_made(self, group: LiveGroup) -> None:
        if self._is_wanted(group.id):
            group.tap = self._published

    def _joined(self, group: LiveGroup, session: ISession) -> None:
        # Who came with a session of another node was a member before.
        if session.is_attached and self._is_wanted(group.id):
            event = HookEvent("join", self._seconds(), session.user.user_id, group.id)
            for note in self._noted.join:
                note(event)

    def _published(self, group: LiveGroup, frames: bytes, sender: ISession | None, count: int) -> None:
        at = self._seconds()
        user = sender.user.user_id if sender is not None else ""
        for frame in split_frames(frames) if count > 1 else (frames,):
            if _is_message(frame):
                event = HookEvent("message", at, user, group.id, "", frame)
                for note in self._noted.message:
                    note(event)

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        event = HookEvent("connect", self._seconds(), session.user.user_id, "", session.user.transport)
        for note in self._noted.connect:
            note(event)

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        name = reason.name.lower() if reason is not None else "left"
        event = HookEvent("disconnect", self._seconds(), session.user.user_id, "", name)
        for note in self._noted.disconnect:
            note(event)

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`: it may come back, and has not left."""

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`: its user has not left the cluster."""

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`."""


def _is_message(frame: bytes) -> bool:
    """Whether a push is what somebody said, not what the node tells about members."""
    return frame[0] > BUILT_IN_VER or frame.startswith(_BROADCAST)
