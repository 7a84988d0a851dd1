"""Who may make, enter and join a group: the checks that clients and the application pass alike."""

from __future__ import annotations

from collections.abc import Callable

from meshrelay.components.group_nodes import GroupNodes
from meshrelay.components.group_table import (
    MIN_TTL_SECONDS,
    GroupTable,
    LiveGroup,
    NewGroupSettings,
    merging_interval_ms,
)
from meshrelay.errors import EmptyAndNotJoined, InvalidTTL, NodeOffline
from meshrelay.interfaces import ISession
from meshrelay.wire.commands import NewGroup

__all__ = ["GroupAdmission"]


class GroupAdmission:
    """See the module.

    :param is_draining: asked at each creation; True: the node is about to stop.
    """

    def __init__(self, table: GroupTable, group_nodes: GroupNodes, is_draining: Callable[[], bool]) -> None:
        self._table = table
        self._group_nodes = group_nodes
        self._is_draining = is_draining

    def make(self, session: ISession | None, wanted: NewGroup) -> LiveGroup:
        """Make a group; `session` is its first member, None = it has none yet.

        :raises GroupNewError: InvalidTTL, EmptyAndNotJoined, NodeOffline, TooManyGroups.
        :raises NotSignedIn: the session is over.
        """
        if wanted.ttl_seconds <= MIN_TTL_SECONDS:
            raise InvalidTTL
        if not wanted.allow_empty and session is None:
            raise EmptyAndNotJoined
        if self._is_draining():
            raise NodeOffline
        self._table.check_room(session)
        settings = NewGroupSettings(
            wanted.allow_empty, False, wanted.ttl_seconds, merging_interval_ms(wanted.interval_ms)
        )
        group = self._table.create(self._table.new_group_id(), settings)
        if session is not None:
            self.add(group.id, session)
        return group

    def must_wait(self, group_id: str) -> bool:
        """Whether the group, if there is one, must be entered first, or be asked where its history is."""
        group = self._table.find(group_id)
        if group is None:
            return not self._group_nodes.is_alone
        return group.log is not None and not group.log.is_synced

    async def enter(self, group_id: str) -> None:
        """Hold the group if it is one of another node, and know where its history is.

        The member must be added in the same turn.

        :raises GroupJoinError: GroupNotFound, RemoteTimeout, TooManyGroups.
        """
        group = self._table.find(group_id)
        if group is None and not self._group_nodes.is_alone:
            group = await self._group_nodes.enter(group_id)
        if group is not None and group.log is not None and not group.log.is_synced:
            group.pins += 1
            try:
                await group.log.sync()
            finally:
                self._group_nodes.unpin_later(group)

    def add(self, group_id: str, session: ISession) -> LiveGroup:
        """Make `session` a member of a group that this node holds; see `GroupTable.add`."""
        group = self._table.add(group_id, session)
        self._group_nodes.came_here(group, session.user.user_id)
        return group
