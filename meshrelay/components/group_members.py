"""Members of groups whose node is another one: who they are, and what becomes of them when their node is lost.

::

    entries of a cast, GROUP_MEMBERS --> RemoteMembers --> get_group, recall
    node lost, back, gone            -->               --> GROUP_LOST, GROUP_BACK from one of the living holders

What is known of members outlives their node for a while, so that a user whose node died can be given back the groups
on another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from hmac import compare_digest

from meshrelay.background import Alarms
from meshrelay.components.group_callbacks import GroupCallbacks, Tell
from meshrelay.components.group_spread import Holder, RemoteMember
from meshrelay.components.group_table import LiveGroup
from meshrelay.interfaces import INodes
from meshrelay.wire.group_node import EntryType, encode_entry, encode_forward
from meshrelay.wire.node_kinds import NodeKind

__all__ = ["MAX_ORPHANS", "RemoteMembers"]

#: Memberships that are remembered after their node is gone.
MAX_ORPHANS = 1_000_000

#: Nodes that are lost within this time are lost together.
SETTLE_SECONDS = 0.5

#: Members that are told about in one go, so that the loss of a node with many stops nobody for long.
MEMBERS_AT_ONCE = 500


class RemoteMembers:
    """Index of all remote members of this node's groups. Invariant: it names exactly those that a `Holder` has.

    :param orphan_seconds: how long memberships are remembered when their node is gone.
    """

    def __init__(self, nodes: INodes, alarms: Alarms, callbacks: GroupCallbacks, orphan_seconds: float) -> None:
        self._nodes = nodes
        self._alarms = alarms
        self._callbacks = callbacks
        self._orphan_seconds = orphan_seconds
        #: User ID -> group ID -> who has the member.
        self._holders_of: dict[str, dict[str, Holder]] = {}
        #: Node ID -> group ID -> group that it holds as well.
        self._groups_of: dict[str, dict[str, LiveGroup]] = {}
        #: User ID -> (sid, group IDs) of nodes that are gone.
        self._orphans: dict[str, tuple[str, list[str]]] = {}
        self._orphan_count = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def orphan_count(self) -> int:
        """Memberships of nodes that are gone, at most `MAX_ORPHANS`."""
        return self._orphan_count

    def shared_with(self, node_id: str) -> list[LiveGroup]:
        """The groups that this node and another hold."""
        return list(self._groups_of.get(node_id, {}).values())

    def holder_came(self, group: LiveGroup, holder: Holder, members: Iterator[tuple[str, RemoteMember]]) -> None:
        """Another node holds the group, with these members so far."""
        self._forget_members(group, holder)
        self._groups_of.setdefault(holder.node_id, {})[group.id] = group
        for user_id, member in members:
            self._set(group, holder, user_id, member)

    def holder_went(self, group: LiveGroup, holder: Holder) -> None:
        """Another node does not hold the group any more, or this one does not."""
        self._forget_members(group, holder)
        groups = self._groups_of.get(holder.node_id)
        if groups is not None and groups.pop(group.id, None) is not None and not groups:
            del self._groups_of[holder.node_id]

    def _forget_members(self, group: LiveGroup, holder: Holder) -> None:
        for user_id in list(holder.members):
            self.left(group, holder, user_id)

    def joined(self, group: LiveGroup, holder: Holder, user_id: str, sid: str) -> None:
        """A member came, or came back from another node."""
        self._set(group, holder, user_id, RemoteMember(sid))

    def _set(self, group: LiveGroup, holder: Holder, user_id: str, member: RemoteMember) -> None:
        groups = self._holders_of.setdefault(user_id, {})
        before = groups.get(group.id)
        if before is None:
            self._count += 1
        elif before is not holder:
            # It signed in on another node; the one it was on may be gone without having said so.
            before.members.pop(user_id, None)
        groups[group.id] = holder
        holder.members[user_id] = member
        group.touch(user_id)

    def left(self, group: LiveGroup, holder: Holder, user_id: str) -> None:
        """A member left. Nothing if it is not one, or by now one of another node."""
        if holder.members.pop(user_id, None) is None:
            return
        group.touch(user_id)
        groups = self._holders_of.get(user_id)
        if groups is not None and groups.get(group.id) is holder:
            del groups[group.id]
            self._count -= 1
            if not groups:
                del self._holders_of[user_id]

    def came_here(self, group: LiveGroup, user_id: str) -> None:
        """A member of another node is one of this node now."""
        holder = self._holders_of.get(user_id, {}).get(group.id)
        if holder is not None:
            self.left(group, holder, user_id)

    def went_away(self, holder: Holder, user_id: str, is_away: bool) -> None:
        """The connection of a member broke, or it is back; its node has told the group."""
        member = holder.members.get(user_id)
        if member is not None:
            holder.members[user_id] = member._replace(is_away=is_away)

    def recall(self, user_id: str, sid: str) -> list[str]:
        """The groups of a user whose node cannot be reached; the sid is the proof that it is asked for by right."""
        found: dict[str, None] = {}
        given = sid.encode("utf-8", "replace")
        for group_id, holder in self._holders_of.get(user_id, {}).items():
            is_same = compare_digest(holder.members[user_id].sid.encode("utf-8", "replace"), given)
            if is_same and not self._nodes.is_up(holder.node_id):
                found[group_id] = None
        orphan = self._orphans.get(user_id)
        if orphan is not None and compare_digest(orphan[0].encode("utf-8", "replace"), given):
            found.update(dict.fromkeys(orphan[1]))
        return list(found)

    def node_lost(self, node_id: str) -> None:
        """Tell the groups that the members of a node are lost, where this node is the one to do it.

        Not at once: when a line breaks several nodes are lost, one shortly after the other, and who speaks depends on
        who is left.
        """
        self._alarms.call_later(SETTLE_SECONDS, lambda: self._tell_node_lost(node_id))
        self._touch_members(node_id)
        for group in self.shared_with(node_id):
            if group.log is not None:
                group.log.check()

    def _tell_node_lost(self, node_id: str) -> None:
        if self._nodes.is_lost(node_id):
            self._walk(node_id, self._tell_lost)

    def _tell_lost(self, group: LiveGroup, holder: Holder, user_id: str, member: RemoteMember) -> None:
        if not member.is_away and member.lost_to is None and self._is_announcer(group, holder.node_id):
            listeners = self._reachable(group)
            holder.members[user_id] = member._replace(lost_to=listeners)
            self._callbacks.remote_member_lost(group, user_id, member.sid, self._teller(listeners))

    def _touch_members(self, node_id: str) -> None:
        for group, _, user_id in self._members_of(node_id):
            group.touch(user_id)

    def node_back(self, node_id: str) -> None:
        """Tell the groups that the members of a node are back, if this node has told that they were lost."""
        self._touch_members(node_id)
        self._walk(node_id, self._tell_back)

    def _tell_back(self, group: LiveGroup, holder: Holder, user_id: str, member: RemoteMember) -> None:
        if member.lost_to is not None:
            holder.members[user_id] = member._replace(lost_to=None)
            if not member.is_away:
                # By now the nodes behind the line are reached as well, and have heard of no loss.
                self._callbacks.remote_member_back(group, user_id, member.sid, self._teller(member.lost_to))

    def _reachable(self, group: LiveGroup) -> tuple[str, ...]:
        """The holders on this side of a broken line: the other side sees it the other way round."""
        return tuple(node_id for node_id in group.holders if not self._nodes.is_lost(node_id))

    def _teller(self, node_ids: tuple[str, ...]) -> Tell:
        return lambda group, frame: self._tell_on(node_ids, group, frame)

    def _tell_on(self, node_ids: tuple[str, ...], group: LiveGroup, frame: bytes) -> None:
        """Push to the members of this node and of these."""
        group.channel.publish(frame, None, True)
        payload = encode_forward(group.wire_id, encode_entry(EntryType.FRAMES, frame))
        for node_id in node_ids:
            self._nodes.send(node_id, NodeKind.GROUP_TELL, payload)

    def _is_announcer(self, group: LiveGroup, node_id: str) -> bool:
        """One of the living holders speaks, the one with the smallest ID: all of them see the same one."""
        own_id = self._nodes.node_id
        return all(own_id < other for other in group.holders if other != node_id and not self._nodes.is_lost(other))

    def _walk(self, node_id: str, visit: Callable[[LiveGroup, Holder, str, RemoteMember], None]) -> None:
        """Visit all members of a node, some at a time."""
        self._walk_on(self._members_of(node_id), visit)

    def _members_of(self, node_id: str) -> Iterator[tuple[LiveGroup, Holder, str]]:
        for group in self.shared_with(node_id):
            holder = group.holders.get(node_id)
            for user_id in list(holder.members) if holder is not None else ():
                assert holder is not None
                yield group, holder, user_id

    def _walk_on(
        self,
        members: Iterator[tuple[LiveGroup, Holder, str]],
        visit: Callable[[LiveGroup, Holder, str, RemoteMember], None],
    ) -> None:
        for count, (group, holder, user_id) in enumerate(members, 1):
            # It may have left, or come back elsewhere, since the walk began.
            member = holder.members.get(user_id)
            if member is not None:
                visit(group, holder, user_id, member)
            if count == MEMBERS_AT_ONCE:
                self._alarms.call_later(0, partial(self._walk_on, members, visit))
                return

    def holder_died(self, group: LiveGroup, holder: Holder) -> None:
        """The node of a holder is gone: its members are no longer any, but are remembered for a while."""
        untold = []
        for user_id, member in holder.members.items():
            self._remember(group.id, user_id, member.sid)
            if not member.is_away and member.lost_to is None:
                untold.append((user_id, member.sid))
        self.holder_went(group, holder)
        if untold and not self._nodes.is_lost(holder.node_id):
            # It began anew before it was missed.
            self._alarms.call_later(SETTLE_SECONDS, partial(self._tell_died, group, holder.node_id, untold))

    def _tell_died(self, group: LiveGroup, node_id: str, members: list[tuple[str, str]]) -> None:
        if not self._is_announcer(group, node_id):
            return
        for user_id, sid in members:
            holder = self._holders_of.get(user_id, {}).get(group.id)
            if holder is None and user_id not in group.members:
                self._callbacks.remote_member_lost(group, user_id, sid, self._teller(self._reachable(group)))

    def _remember(self, group_id: str, user_id: str, sid: str) -> None:
        if self._orphan_count >= MAX_ORPHANS or self._orphan_seconds <= 0:
            return
        orphan = self._orphans.get(user_id)
        if orphan is None or orphan[0] != sid:
            if orphan is not None:
                self._orphan_count -= len(orphan[1])
            orphan = self._orphans[user_id] = (sid, [])
            self._alarms.call_later(self._orphan_seconds, partial(self._forget_orphan, user_id, orphan))
        orphan[1].append(group_id)
        self._orphan_count += 1

    def _forget_orphan(self, user_id: str, orphan: tuple[str, list[str]]) -> None:
        if self._orphans.get(user_id) is orphan:
            self._orphan_count -= len(orphan[1])
            del self._orphans[user_id]
