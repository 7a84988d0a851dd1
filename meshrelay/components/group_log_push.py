"""Messages of a group with history on their way to its members here: as they are, or with their place in the history.

Two channels beside the one of the group: the group's own has what is not kept, the joins and leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshrelay.fanout.hub import Hub
from meshrelay.interfaces import ISession
from meshrelay.wire.buffer import encode_str8
from meshrelay.wire.commands import BUILT_IN_VER, Command
from meshrelay.wire.frame import encode_push
from meshrelay.wire.group_log import LogEntry, decode_entry
from meshrelay.wire.history_commands import encode_logged_push
from meshrelay.wire.prepared import Batch

if TYPE_CHECKING:
    from meshrelay.components.group_table import LiveGroup

__all__ = ["LogPushes", "is_broadcast", "plain_frame"]


def is_broadcast(ver: int, cmd: int) -> bool:
    """Whether a message is kept without its envelope of group and sender."""
    return ver == BUILT_IN_VER and cmd == Command.GROUP_BROADCAST


def plain_frame(wire_id: bytes, entry: LogEntry) -> bytes:
    """Return the push of a message as it is without a history."""
    if is_broadcast(entry.ver, entry.cmd):
        return encode_push(entry.ver, entry.cmd, wire_id + encode_str8(entry.sender) + entry.message)
    return encode_push(entry.ver, entry.cmd, entry.message)


class LogPushes:
    """See the module."""

    def __init__(self, group: LiveGroup, hub: Hub) -> None:
        self._group = group
        self._hub = hub
        interval_seconds = group.channel.interval_seconds
        self._plain = hub.open_channel(interval_seconds)
        self._with_offsets = hub.open_channel(interval_seconds)

    def join(self, session: ISession) -> None:
        """A member wants messages as they are."""
        self._plain.subscribe(session)

    def join_with_offsets(self, session: ISession, first: Sequence[tuple[int, int, bytes]]) -> None:
        """A member wants them with their offsets.

        :param first: (epoch, offset, entry) of what it gets before anything else.
        """
        if first:
            session.deliver(Batch([self._frame(epoch, offset, decode_entry(entry)) for epoch, offset, entry in first]))
        self._with_offsets.subscribe(session)

    def leave(self, session: ISession) -> None:
        """A member is none any more; what was pushed before still reaches it."""
        self._plain.unsubscribe(session)
        self._with_offsets.unsubscribe(session)

    def push(self, epoch: int, offset: int, data: bytes) -> None:
        """Hand one encoded entry to all members here but its sender; with its offset to the sender as well."""
        if not self._plain and not self._with_offsets:
            return
        entry = decode_entry(data)
        if self._plain:
            # The sender may be a member under a newer session by now; its own words are no news to it either.
            sender = self._group.members.get(entry.sender)
            self._plain.publish(plain_frame(self._group.wire_id, entry), sender, entry.is_reliable)
        if self._with_offsets:
            self._with_offsets.publish(self._frame(epoch, offset, entry), None, True)

    def _frame(self, epoch: int, offset: int, entry: LogEntry) -> bytes:
        message = (entry.sender, entry.ver, entry.cmd, entry.message)
        body = encode_logged_push(self._group.wire_id, epoch, offset, message)
        return encode_push(BUILT_IN_VER, Command.GROUP_RECOVER, body)

    def close(self) -> None:
        """Deliver what waits; nothing comes any more."""
        self._hub.close_channel(self._plain)
        self._hub.close_channel(self._with_offsets)
