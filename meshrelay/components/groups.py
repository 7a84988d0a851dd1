"""Groups: broadcast groups without a size limit, on every transport (seed 001; client protocol, section 3).

This module holds what clients and the application may do with groups. Who is in which group is `group_table`'s
business, getting a frame to the members the fan-out's, and what the application is told `group_callbacks`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.background import Alarms
from meshrelay.components.group_admission import GroupAdmission
from meshrelay.components.group_callbacks import GroupCallbacks
from meshrelay.components.group_commands import GroupCommands
from meshrelay.components.group_logs import GroupLogs
from meshrelay.components.group_nodes import GroupNodes
from meshrelay.components.group_table import GroupTable, LiveGroup, NewGroupSettings, merging_interval_ms
from meshrelay.components.group_watch import WatchParts
from meshrelay.components.hooks import Command, PlaceHooks
from meshrelay.config.schema import Config
from meshrelay.errors import (
    CommandError,
    GroupNotFound,
    MessageTooLarge,
    NotSignedIn,
)
from meshrelay.interfaces import IComponent, IGroups, ISession, ISessions, MessageMaker
from meshrelay.model import MAX_USER_ID_BYTES, CloseReason, Group, HistoryPage, Presence, User
from meshrelay.wire.buffer import GROUP_ID_BYTES
from meshrelay.wire.commands import (
    BUILT_IN_VER,
    NewGroup,
)
from meshrelay.wire.frame import encode_push
from meshrelay.wire.group_node import EntryType

__all__ = ["GroupRules", "GroupSet", "Groups", "StaticGroupSettings"]

#: How long a member that moved to another node still counts here, so that its groups live until it has arrived there.
MOVE_SECONDS = 5.0


class StaticGroupSettings(NamedTuple):
    """A group that exists from start to stop."""

    #: Exactly 52 ASCII characters.
    group_id: str
    interval_ms: int


class GroupRules(NamedTuple):
    """What the component must know of the configuration."""

    #: A push is never longer, so that a client can take what it may send.
    max_payload_bytes: int
    static_groups: tuple[StaticGroupSettings, ...]

    @classmethod
    def of(cls, config: Config) -> GroupRules:
        """Return what the configuration says."""
        static = tuple(StaticGroupSettings(each.group_id, each.interval_ms) for each in config.group.static_groups)
        return cls(config.session.max_payload_bytes, static)


class GroupSet(NamedTuple):
    """What the component consists of; see `meshrelay.components.group_parts`."""

    table: GroupTable
    group_nodes: GroupNodes
    callbacks: GroupCallbacks
    logs: GroupLogs
    watch: WatchParts


@implementer(IGroups, IComponent)
class Groups(PlaceHooks):
    """See `IGroups` and `IComponent`.

    :param is_draining: asked at each creation; True: the node is about to stop.
    """

    name = "group"
    _log = Logger()

    def __init__(
        self,
        rules: GroupRules,
        parts: GroupSet,
        sessions: ISessions,
        alarms: Alarms,
        is_draining: Callable[[], bool],
    ) -> None:
        self._alarms = alarms
        self._rules = rules
        table = self._table = parts.table
        self._nodes = parts.watch.nodes
        self._group_nodes = parts.group_nodes
        self._sessions = sessions
        self._callbacks = parts.callbacks
        self._logs = parts.logs
        self._admission = GroupAdmission(table, parts.group_nodes, is_draining)
        commands = GroupCommands(self._admission, table, parts.group_nodes, rules.max_payload_bytes, parts.watch)
        self._commands = commands
        self._past = commands.logs
        self._is_exposed = False
        table.when_discarded(parts.callbacks.group_discarded)
        for group_id, interval_ms in rules.static_groups:
            table.create(group_id, NewGroupSettings(True, True, 0, merging_interval_ms(interval_ms)))

    # What IComponent asks for.

    def command_table(self) -> Mapping[tuple[int, int], Command]:
        """See `IComponent`; empty unless `expose_commands` was called."""
        if not self._is_exposed:
            return {}
        return self._commands.table()

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        groups = self._table.groups_of(session)
        for group in groups:
            group.say(EntryType.AWAY, session)
            group.touch(session.user.user_id)
        self._callbacks.member_lost(session, groups)

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        groups = self._table.groups_of(session)
        for group in groups:
            group.say(EntryType.BACK, session)
            group.touch(session.user.user_id)
        self._callbacks.member_back(session, groups)

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        groups = self._table.groups_of(session)
        self._callbacks.member_gone(session, groups)
        for group in groups:
            self._table.settle(self._table.remove(group.id, session))

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`: the member stays one until the other node has had time to enter the groups."""
        groups = self._table.groups_of(session)
        self._callbacks.member_moved(session)
        for group in groups:
            group.channel.unsubscribe(session)
            group.leave_pushes(session)
        if groups:
            self._alarms.call_later(MOVE_SECONDS, lambda: self._forget_moved(session))

    def _forget_moved(self, session: ISession) -> None:
        for group in self._table.groups_of(session):
            self._table.settle(self._table.remove(group.id, session))

    async def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`: the member of a group on another node is one here from now on."""
        away = [group_id for group_id in group_ids if self._admission.must_wait(group_id)]
        entering = [Deferred.fromCoroutine(self._admission.enter(group_id)) for group_id in away]
        entered = await DeferredList(entering, consumeErrors=True)
        for group_id, (is_there, result) in zip(away, entered, strict=True):
            if not is_there:
                self._log.info(
                    "group {group_id} is not there for a user who came: {error}", group_id=group_id, error=result
                )
        for group_id in group_ids:
            try:
                self._admission.add(group_id, session)
            except CommandError:
                # Gone meanwhile, or more than one user may have: the rest is still worth having.
                continue

    def statistics(self) -> Mapping[str, int]:
        """See `IComponent`."""
        return {
            "groups": len(self._table),
            "group_members": self._table.member_count,
            **self._group_nodes.statistics(),
            **self._logs.statistics(),
        }

    def stop(self) -> None:
        """See `IComponent`."""
        self._callbacks.stop()
        self._group_nodes.stop()
        self._logs.stop()

    @property
    def table(self) -> GroupTable:
        """The groups of this node, for those who look at them and change nothing."""
        return self._table

    def held(self) -> Iterator[tuple[str, bytes]]:
        """All groups that the directory should know to be here, with what it keeps for them."""
        for group in self._table:
            if not group.settings.is_static and self._table.find(group.id) is group:
                yield group.id, b""

    def memberships(self, session: ISession) -> list[str]:
        """IDs of the groups that go with a session to another node, newest last."""
        return [group.id for group in self._table.groups_of(session)]

    def recall(self, user_id: str, sid: str) -> list[str]:
        """The groups of a user whose node cannot be reached, as far as this node knows."""
        return self._group_nodes.recall(user_id, sid)

    # What the application and, through the commands below, clients may do.

    def create_group(self, user: User | None, allow_empty: bool, join: bool, ttl_seconds: int, interval_ms: int) -> str:
        """See `IGroups`."""
        session = self._session_of(user) if user is not None and join else None
        return self._admission.make(session, NewGroup(allow_empty, join, ttl_seconds, interval_ms)).id

    async def join_group(self, group_id: str, user: User, ver: int, cmd: int, message: bytes) -> None:
        """See `IGroups`."""
        session = self._session_of(user)
        self._check_size(message)
        await self._admission.enter(group_id)
        group = self._admission.add(group_id, session)
        self._tell_others(group, session, ver, cmd, message, True)

    async def leave_group(self, group_id: str, user: User, ver: int, cmd: int, message: bytes) -> None:
        """See `IGroups`."""
        session = self._session_of(user)
        self._check_size(message)
        group = self._table.remove(group_id, session)
        self._tell_others(group, session, ver, cmd, message, True)
        self._table.settle(group)

    def broadcast(self, group_id: str, sender: User, ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """See `IGroups`."""
        self._publish(group_id, self._sessions.find_session(sender.sid), ver, cmd, message, reliable)

    def announce(self, group_id: str, ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """See `IGroups`."""
        self._publish(group_id, None, ver, cmd, message, reliable)

    def _publish(
        self, group_id: str, sender: ISession | None, ver: int, cmd: int, message: bytes, reliable: bool
    ) -> None:
        if ver < BUILT_IN_VER:
            raise ValueError("ver 0 is the node's own, pushes have 1 to 255")
        self._check_size(message)
        frame = encode_push(ver, cmd, message)
        group = self._table.find(group_id)
        if group is not None:
            if group.extra_bytes:
                self._check_size(message, group.extra_bytes + GROUP_ID_BYTES + 1 + MAX_USER_ID_BYTES)
            group.publish(frame, sender, reliable)
        else:
            self._group_nodes.forward(group_id, frame, reliable)

    def _tell_others(
        self, group: LiveGroup, sender: ISession, ver: int, cmd: int, message: bytes, reliable: bool
    ) -> None:
        if message:
            group.publish(encode_push(ver, cmd, message), sender, reliable)

    def _session_of(self, user: User) -> ISession:
        session = self._sessions.find_session(user.sid)
        if session is None:
            raise NotSignedIn(f"user {user.user_id!r} is not signed in on this node")
        return session

    def _check_size(self, message: bytes, head_bytes: int = 0) -> None:
        limit = self._rules.max_payload_bytes - head_bytes
        if len(message) > limit:
            raise MessageTooLarge(f"message of {len(message)} bytes, {limit} fit")

    def group_ids(self, user: User) -> list[str]:
        """See `IGroups`."""
        session = self._sessions.find_session(user.sid)
        return [group.id for group in self._table.groups_of(session)] if session is not None else []

    def latest_group_id(self, user: User) -> str | None:
        """See `IGroups`."""
        group_ids = self.group_ids(user)
        return group_ids[-1] if group_ids else None

    def member_nodes(self, group_id: str) -> list[str]:
        """See `IGroups`."""
        group = self._table.find(group_id)
        if group is None:
            return []
        nodes = [self._nodes.node_id, *(node_id for node_id in group.holders if not self._nodes.is_lost(node_id))]
        return [self._nodes.endpoint_of(node_id) for node_id in nodes]

    def get_group(self, group_id: str) -> Group | None:
        """See `IGroups`."""
        group = self._table.find(group_id)
        return group.snapshot(self._nodes.endpoint_of, self._nodes.node_id) if group is not None else None

    async def history(self, group_id: str, after: int, limit: int) -> HistoryPage:
        """See `IGroups`."""
        return await self._past.page(self._group_of(group_id), after, limit)

    def presence(self, group_id: str, after: str, limit: int) -> Presence:
        """See `IGroups`."""
        return self._past.presence(self._group_of(group_id), after, limit)

    def _group_of(self, group_id: str) -> LiveGroup:
        group = self._table.find(group_id)
        if group is None:
            raise GroupNotFound
        return group

    # Registration.

    def expose_commands(self) -> None:
        """See `IGroups`."""
        if self._is_exposed:
            raise RuntimeError("the group commands are exposed already")
        self._is_exposed = True
        for command in self.command_table().values():
            command.seal()

    def on_discard_message(self, make: MessageMaker) -> None:
        """See `IGroups`."""
        self._callbacks.on_discard_message(make)

    def on_rejoin_message(self, make: MessageMaker) -> None:
        """See `IGroups`."""
        self._callbacks.on_rejoin_message(make)

    def on_tick(self, group_id: str, callback: Callable[[str], object], interval_seconds: float) -> None:
        """See `IGroups`."""
        if self._table.find(group_id) is None:
            raise GroupNotFound
        self._callbacks.on_tick(group_id, callback, interval_seconds)
