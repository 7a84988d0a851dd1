"""Groups: broadcast groups without a size limit, on every transport (seed 001; client protocol, section 3).

This module holds what clients and the application may do with groups. Who is in which group is `group_table`'s
business, getting a frame to the members the fan-out's, and what the application is told `group_callbacks`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from zope.interface import implementer

from meshrelay.components.group_callbacks import GroupCallbacks
from meshrelay.components.group_table import GroupTable, LiveGroup, NewGroupSettings, merging_interval_ms
from meshrelay.components.hooks import Command
from meshrelay.errors import (
    EmptyAndNotJoined,
    GroupNotFound,
    InvalidTTL,
    MalformedPayload,
    MessageTooLarge,
    NodeOffline,
    NotMember,
    NotSignedIn,
)
from meshrelay.interfaces import Hook, IComponent, IGroups, ISession, ISessions, MessageMaker
from meshrelay.model import CloseReason, Group, User
from meshrelay.wire.buffer import GROUP_ID_BYTES, encode_str8
from meshrelay.wire.commands import (
    BUILT_IN_VER,
    JoinRandom,
    NewGroup,
    decode_gid_message,
    decode_join_random,
    decode_new_group,
    encode_created,
    encode_gid_message,
    encode_new_group,
    encode_pushed_message,
    pushed_message_overhead,
)
from meshrelay.wire.commands import Command as CommandNumber
from meshrelay.wire.frame import encode_push

__all__ = ["GroupRules", "Groups", "StaticGroupSettings"]

#: A lifetime must be greater (seed 001, NewGroup).
MIN_TTL_SECONDS = 10

#: Groups that a random join tries when the application's hooks take so long that its pick is gone meanwhile.
RANDOM_JOIN_TRIES = 8


class StaticGroupSettings(NamedTuple):
    """A group that exists from start to stop."""

    #: Exactly 52 ASCII characters.
    group_id: str
    interval_ms: int


class GroupRules(NamedTuple):
    """What the component must know of the configuration."""

    #: A push is never longer, so that a client can take what it may send.
    max_payload_bytes: int
    #: How other nodes reach this one; the node ID where the node has no links.
    mesh_endpoint: str
    static_groups: tuple[StaticGroupSettings, ...]


@implementer(IGroups, IComponent)
class Groups:
    """See `IGroups` and `IComponent`.

    :param is_draining: asked at each creation; True: the node is about to stop.
    """

    name = "group"

    def __init__(
        self,
        rules: GroupRules,
        table: GroupTable,
        sessions: ISessions,
        callbacks: GroupCallbacks,
        is_draining: Callable[[], bool],
    ) -> None:
        self._rules = rules
        self._table = table
        self._sessions = sessions
        self._callbacks = callbacks
        self._is_draining = is_draining
        self._create = Command(BUILT_IN_VER, CommandNumber.GROUP_CREATE, self._run_create)
        self._join = Command(BUILT_IN_VER, CommandNumber.GROUP_JOIN, self._run_join)
        self._leave = Command(BUILT_IN_VER, CommandNumber.GROUP_LEAVE, self._run_leave)
        self._broadcast = Command(BUILT_IN_VER, CommandNumber.GROUP_BROADCAST, self._run_broadcast)
        self._join_random = Command(BUILT_IN_VER, CommandNumber.GROUP_JOIN_RANDOM, self._run_join_random)
        self._list = Command(BUILT_IN_VER, CommandNumber.GROUP_LIST, self._run_list)
        self._is_exposed = False
        table.when_discarded(callbacks.group_discarded)
        for group_id, interval_ms in rules.static_groups:
            table.create(group_id, NewGroupSettings(True, True, 0, merging_interval_ms(interval_ms)))

    # What IComponent asks for.

    def command_table(self) -> Mapping[tuple[int, int], Command]:
        """See `IComponent`; empty unless `expose_commands` was called."""
        if not self._is_exposed:
            return {}
        commands = (self._create, self._join, self._leave, self._broadcast, self._join_random, self._list)
        return {(command.ver, command.cmd): command for command in commands}

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._callbacks.member_lost(session, self._table.groups_of(session))

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._callbacks.member_back(session, self._table.groups_of(session))

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        groups = self._table.groups_of(session)
        self._callbacks.member_gone(session, groups)
        for group in groups:
            self._table.remove(group.id, session)

    def statistics(self) -> Mapping[str, int]:
        """See `IComponent`."""
        return {"groups": len(self._table), "group_members": self._table.member_count}

    def stop(self) -> None:
        """See `IComponent`."""
        self._callbacks.stop()

    # What the application and, through the commands below, clients may do.

    def create_group(self, user: User | None, allow_empty: bool, join: bool, ttl_seconds: int, interval_ms: int) -> str:
        """See `IGroups`."""
        session = self._session_of(user) if user is not None and join else None
        return self._make(session, NewGroup(allow_empty, join, ttl_seconds, interval_ms)).id

    def _make(self, session: ISession | None, wanted: NewGroup) -> LiveGroup:
        """Make a group; `session` is its first member, None = it has none yet."""
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
            self._table.add(group.id, session)
        return group

    async def join_group(self, group_id: str, user: User, ver: int, cmd: int, message: bytes) -> None:
        """See `IGroups`."""
        session = self._session_of(user)
        self._check_size(message)
        group = self._table.add(group_id, session)
        self._tell_others(group, session, ver, cmd, message, True)

    async def leave_group(self, group_id: str, user: User, ver: int, cmd: int, message: bytes) -> None:
        """See `IGroups`."""
        session = self._session_of(user)
        self._check_size(message)
        group = self._table.remove(group_id, session)
        self._tell_others(group, session, ver, cmd, message, True)

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
        group = self._table.find(group_id)
        if group is not None:
            group.channel.publish(encode_push(ver, cmd, message), sender, reliable)

    def _tell_others(
        self, group: LiveGroup, sender: ISession, ver: int, cmd: int, message: bytes, reliable: bool
    ) -> None:
        if message:
            group.channel.publish(encode_push(ver, cmd, message), sender, reliable)

    def _session_of(self, user: User) -> ISession:
        session = self._sessions.find_session(user.sid)
        if session is None:
            raise NotSignedIn(f"user {user.user_id!r} is not signed in on this node")
        return session

    def _check_size(self, message: bytes) -> None:
        limit = self._rules.max_payload_bytes
        if len(message) > limit:
            raise MessageTooLarge(f"message of {len(message)} bytes, max_payload_bytes is {limit}")

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
        return [self._rules.mesh_endpoint] if self._table.find(group_id) is not None else []

    def get_group(self, group_id: str) -> Group | None:
        """See `IGroups`."""
        group = self._table.find(group_id)
        return group.snapshot(self._rules.mesh_endpoint) if group is not None else None

    # Registration.

    def expose_commands(self) -> None:
        """See `IGroups`."""
        if self._is_exposed:
            raise RuntimeError("the group commands are exposed already")
        self._is_exposed = True
        for command in self.command_table().values():
            command.seal()

    def before_create(self, hook: Hook) -> None:
        """See `IGroups`."""
        self._create.add_before(hook)

    def after_create(self, hook: Hook) -> None:
        """See `IGroups`."""
        self._create.add_after(hook)

    def before_join(self, hook: Hook) -> None:
        """See `IGroups`."""
        self._join.add_before(hook)

    def after_join(self, hook: Hook) -> None:
        """See `IGroups`."""
        self._join.add_after(hook)

    def before_leave(self, hook: Hook) -> None:
        """See `IGroups`."""
        self._leave.add_before(hook)

    def after_leave(self, hook: Hook) -> None:
        """See `IGroups`."""
        self._leave.add_after(hook)

    def before_broadcast(self, hook: Hook) -> None:
        """See `IGroups`."""
        self._broadcast.add_before(hook)

    def after_broadcast(self, hook: Hook) -> None:
        """See `IGroups`."""
        self._broadcast.add_after(hook)

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

    # The commands of clients (client protocol, section 3). They put the envelope around a message.

    def _run_create(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        wanted = decode_new_group(payload)
        return self._make(session if wanted.join else None, wanted).wire_id

    def _run_join(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        group_id, message = decode_gid_message(payload)
        self._join_with(session, group_id, message, reliable)
        return b""

    def _join_with(self, session: ISession, group_id: str, message: bytes, reliable: bool) -> None:
        frame = self._envelope(CommandNumber.GROUP_JOIN, session, group_id, message)
        group = self._table.add(group_id, session)
        if message:
            group.channel.publish(frame, session, reliable)

    def _run_leave(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        group_id, message = decode_gid_message(payload)
        frame = self._envelope(CommandNumber.GROUP_LEAVE, session, group_id, message)
        group = self._table.remove(group_id, session)
        if message:
            group.channel.publish(frame, session, reliable)
        return b""

    def _envelope(self, cmd: CommandNumber, session: ISession, group_id: str, message: bytes) -> bytes:
        """Return the push of `message` from `session`.

        :raises MessageTooLarge: with the envelope it would be longer than any client takes.
        """
        user_id = session.user.user_id
        limit = self._rules.max_payload_bytes - pushed_message_overhead(user_id)
        if len(message) > limit:
            raise MessageTooLarge(f"message of {len(message)} bytes, in a group {limit} fit")
        return encode_push(BUILT_IN_VER, cmd, encode_pushed_message(group_id, user_id, message))

    def _run_broadcast(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        # The hot path: the payload is passed on as it is, with the sender put between group ID and message.
        wire_id = payload[:GROUP_ID_BYTES]
        group = self._table.find(wire_id.decode("latin-1"))
        if group is None:
            decode_gid_message(payload)
            raise GroupNotFound
        if session not in group.channel:
            raise NotMember
        sender = encode_str8(session.user.user_id)
        if len(payload) + len(sender) > self._rules.max_payload_bytes:
            limit = self._rules.max_payload_bytes - GROUP_ID_BYTES - len(sender)
            raise MessageTooLarge(f"message of {len(payload) - GROUP_ID_BYTES} bytes, in a group {limit} fit")
        body = wire_id + sender + payload[GROUP_ID_BYTES:]
        group.channel.publish(encode_push(BUILT_IN_VER, CommandNumber.GROUP_BROADCAST, body), session, reliable)
        return b""

    def _run_list(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        if payload:
            raise MalformedPayload(f"{len(payload)} bytes too many: the payload is empty")
        return b"".join([group.wire_id for group in self._table.groups_of(session)])

    def _run_join_random(self, session: ISession, payload: bytes, reliable: bool) -> bytes | Awaitable[bytes]:
        wanted = decode_join_random(payload)
        if wanted.ttl_seconds <= MIN_TTL_SECONDS:
            raise InvalidTTL
        if self._join.before or self._join.after or self._create.before or self._create.after:
            return self._join_random_with_hooks(session, wanted, reliable)
        group = self._table.pick_joinable(session)
        if group is not None:
            self._join_with(session, group.id, wanted.message, reliable)
            return encode_created(False, group.id)
        return encode_created(True, self._make(session, self._new_group_of(wanted)).id)

    def _new_group_of(self, wanted: JoinRandom) -> NewGroup:
        return NewGroup(wanted.allow_empty, True, wanted.ttl_seconds, wanted.interval_ms)

    async def _join_random_with_hooks(self, session: ISession, wanted: JoinRandom, reliable: bool) -> bytes:
        """A random join is seen by hooks as the GROUP_JOIN or GROUP_CREATE that it turns into.

        Otherwise a hook that keeps users out of groups could be walked around.
        """
        for _ in range(RANDOM_JOIN_TRIES):
            group = self._table.pick_joinable(session)
            if group is None:
                break
            payload = encode_gid_message(group.id, wanted.message)
            await self._join.run_hooks(self._join.before, session, payload)
            # The group may be gone, or the user in it, since the hooks began to wait.
            if self._table.find(group.id) is not group or session in group.channel:
                continue
            self._join_with(session, group.id, wanted.message, reliable)
            await self._join.run_hooks(self._join.after, session, payload)
            return encode_created(False, group.id)
        payload = encode_new_group(self._new_group_of(wanted))
        await self._create.run_hooks(self._create.before, session, payload)
        group = self._make(session, self._new_group_of(wanted))
        await self._create.run_hooks(self._create.after, session, payload)
        return encode_created(True, group.id)
