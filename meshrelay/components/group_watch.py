"""Who is in a group, in the whole cluster, and what changes of that for those who asked to be told.

::

    joins, leaves, losses, here and elsewhere --touch--> users to look at --end of the turn--> who is there now?
                                                                                          |
                                            one push with all that changed, to the members who watch

What is told is found by looking, not by adding up what happened: somebody who moves from one node to another, or
leaves and comes back within a turn, has not changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meshrelay.background import Alarm, Alarms
from meshrelay.fanout.hub import Hub
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import INodes, ISession
from meshrelay.model import MAX_USER_ID_BYTES, Presence
from meshrelay.wire.buffer import GROUP_ID_BYTES
from meshrelay.wire.commands import BUILT_IN_VER, Command
from meshrelay.wire.frame import encode_push
from meshrelay.wire.history_commands import PresenceChange, encode_presence_push

if TYPE_CHECKING:
    from meshrelay.components.group_table import LiveGroup

__all__ = ["COUNT_SECONDS", "PresenceWatch", "WatchParts", "count_of", "presence_of"]

#: A group that only says how many are there says so this often.
COUNT_SECONDS = 1.0

_HEAD_BYTES = GROUP_ID_BYTES + 4


def count_of(group: LiveGroup, nodes: INodes) -> int:
    """How many members the group has on nodes that can be reached."""
    there = sum(len(holder.members) for holder in group.holders.values() if not nodes.is_lost(holder.node_id))
    return len(group.members) + there


def _state_of(group: LiveGroup, nodes: INodes, user_id: str) -> PresenceChange:
    """What a user is in the group."""
    found = PresenceChange.GONE
    session = group.members.get(user_id)
    if session is not None:
        if session.is_attached:
            return PresenceChange.THERE
        found = PresenceChange.AWAY
    for holder in group.holders.values():
        member = holder.members.get(user_id)
        if member is not None and not nodes.is_lost(holder.node_id):
            if not member.is_away:
                return PresenceChange.THERE
            found = PresenceChange.AWAY
    return found


def _states_of(group: LiveGroup, nodes: INodes) -> dict[str, PresenceChange]:
    users = set(group.members)
    for holder in group.holders.values():
        if not nodes.is_lost(holder.node_id):
            users.update(holder.members)
    return {user_id: _state_of(group, nodes, user_id) for user_id in users}


def presence_of(group: LiveGroup, nodes: INodes, max_members: int, after: str, limit: int) -> Presence:
    """Return who is there: a page of at most `limit` behind a user ID, or just the count of more than `max_members`."""
    count = count_of(group, nodes)
    if count > max_members:
        return Presence(count, ())
    states = _states_of(group, nodes)
    page = sorted(user_id for user_id in states if user_id > after)[:limit]
    return Presence(len(states), tuple((user_id, states[user_id] is PresenceChange.AWAY) for user_id in page))


class WatchParts(NamedTuple):
    """What every `PresenceWatch` stands on."""

    nodes: INodes
    hub: Hub
    turn: Turn
    alarms: Alarms
    #: Of groups that say who is there.
    max_members: int
    #: Of a push.
    max_payload_bytes: int


class PresenceWatch:
    """The watchers of one group. See the module."""

    def __init__(self, group: LiveGroup, parts: WatchParts) -> None:
        self._group = group
        self._parts = parts
        self._channel = parts.hub.open_channel()
        #: What the watchers know; None: only how many.
        self._known: dict[str, PresenceChange] | None = {}
        self._touched: set[str] = set()
        self._is_scheduled = False
        self._alarm: Alarm | None = None

    def add(self, session: ISession) -> None:
        """Tell a member what changes from now on; it is told what is now by others."""
        if not self._channel:
            self._look_anew()
        self._channel.subscribe(session)

    def remove(self, session: ISession) -> None:
        """Tell a member nothing more."""
        self._channel.unsubscribe(session)
        if not self._channel:
            self._known = {}
            self._touched.clear()

    def touch(self, user_id: str) -> None:
        """Look at a user when the turn ends."""
        if not self._channel:
            return
        if self._known is None:
            if self._alarm is None:
                self._alarm = self._parts.alarms.call_later(COUNT_SECONDS, self._tell_count)
            return
        # Not more than this: whoever is told of so many lists them anew.
        if len(self._touched) <= 2 * self._parts.max_members:
            self._touched.add(user_id)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._parts.turn.join(self)

    def flush(self) -> None:
        """See `meshrelay.fanout.turn.Flushable`."""
        self._is_scheduled = False
        touched, self._touched = self._touched, set()
        known = self._known
        if known is None or not self._channel:
            return
        count = count_of(self._group, self._parts.nodes)
        if count > self._parts.max_members or len(touched) > 2 * self._parts.max_members:
            self._look_anew()
            self._push(count, [])
            return
        changes = []
        for user_id in touched:
            state = _state_of(self._group, self._parts.nodes, user_id)
            if known.get(user_id, PresenceChange.GONE) is not state:
                changes.append((int(state), user_id))
                if state is PresenceChange.GONE:
                    del known[user_id]
                else:
                    known[user_id] = state
        if changes:
            self._push(len(known), changes)

    def _look_anew(self) -> None:
        if count_of(self._group, self._parts.nodes) > self._parts.max_members:
            self._known = None
        else:
            self._known = _states_of(self._group, self._parts.nodes)

    def _tell_count(self) -> None:
        self._alarm = None
        if self._channel:
            self._look_anew()
            self._push(count_of(self._group, self._parts.nodes), [])

    def _push(self, count: int, changes: list[tuple[int, str]]) -> None:
        at_once = max(1, (self._parts.max_payload_bytes - _HEAD_BYTES) // (2 + MAX_USER_ID_BYTES))
        for start in range(0, max(1, len(changes)), at_once):
            body = encode_presence_push(self._group.wire_id, count, changes[start : start + at_once])
            self._channel.publish(encode_push(BUILT_IN_VER, Command.GROUP_PRESENCE, body), None, True)

    def close(self) -> None:
        """The group is not held here any more."""
        self._parts.hub.close_channel(self._channel)
        if self._alarm is not None:
            self._alarm.cancel()
