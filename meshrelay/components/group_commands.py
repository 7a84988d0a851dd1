"""The group commands of clients (client protocol, section 3): payloads to calls, messages into their envelopes."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from meshrelay.components.group_admission import GroupAdmission
from meshrelay.components.group_broadcast import GroupBroadcast
from meshrelay.components.group_log_commands import GroupLogCommands
from meshrelay.components.group_nodes import GroupNodes
from meshrelay.components.group_table import MIN_TTL_SECONDS, GroupTable
from meshrelay.components.group_watch import WatchParts
from meshrelay.components.hooks import Command
from meshrelay.errors import GroupJoinError, InvalidTTL, MalformedPayload, MessageTooLarge
from meshrelay.interfaces import ISession
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

__all__ = ["GroupCommands"]

#: Groups that a random join tries when the application's hooks take so long that its pick is gone meanwhile.
RANDOM_JOIN_TRIES = 8


class GroupCommands:
    """What clients may call.

    :param max_payload_bytes: a push is never longer, so that a client can take what it may send.
    """

    def __init__(
        self,
        admission: GroupAdmission,
        table: GroupTable,
        group_nodes: GroupNodes,
        max_payload_bytes: int,
        watch: WatchParts,
    ) -> None:
        self._admission = admission
        self._table = table
        self._group_nodes = group_nodes
        self._max_payload_bytes = max_payload_bytes
        self.create = Command(BUILT_IN_VER, CommandNumber.GROUP_CREATE, self._run_create)
        self.join = Command(BUILT_IN_VER, CommandNumber.GROUP_JOIN, self._run_join)
        self.leave = Command(BUILT_IN_VER, CommandNumber.GROUP_LEAVE, self._run_leave)
        self.broadcast: Command = GroupBroadcast(table, max_payload_bytes).command
        self._join_random = Command(BUILT_IN_VER, CommandNumber.GROUP_JOIN_RANDOM, self._run_join_random)
        self._list = Command(BUILT_IN_VER, CommandNumber.GROUP_LIST, self._run_list)
        #: What is about history and presence.
        self.logs = GroupLogCommands(admission, table, watch, self.join, self._join_with)

    def table(self) -> Mapping[tuple[int, int], Command]:
        """Return (ver, cmd) -> command."""
        commands: tuple[Command, ...] = (
            self.create,
            self.join,
            self.leave,
            self.broadcast,
            self._join_random,
            self._list,
        )
        commands += self.logs.commands
        return {(command.ver, command.cmd): command for command in commands}

    def _run_create(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        wanted = decode_new_group(payload)
        return self._admission.make(session if wanted.join else None, wanted).wire_id

    def _run_join(self, session: ISession, payload: bytes, reliable: bool) -> bytes | Awaitable[bytes]:
        group_id, message = decode_gid_message(payload)
        if self._admission.must_wait(group_id):
            return self._join_elsewhere(session, group_id, message, reliable)
        self._join_with(session, group_id, message, reliable)
        return b""

    async def _join_elsewhere(self, session: ISession, group_id: str, message: bytes, reliable: bool) -> bytes:
        self._envelope(CommandNumber.GROUP_JOIN, session, group_id, message)
        await self._admission.enter(group_id)
        self._join_with(session, group_id, message, reliable)
        return b""

    def _join_with(self, session: ISession, group_id: str, message: bytes, reliable: bool) -> None:
        frame = self._envelope(CommandNumber.GROUP_JOIN, session, group_id, message)
        group = self._admission.add(group_id, session)
        if message:
            group.publish(frame, session, reliable)

    def _run_leave(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        group_id, message = decode_gid_message(payload)
        frame = self._envelope(CommandNumber.GROUP_LEAVE, session, group_id, message)
        group = self._table.remove(group_id, session)
        if message:
            group.publish(frame, session, reliable)
        self._table.settle(group)
        return b""

    def _envelope(self, cmd: CommandNumber, session: ISession, group_id: str, message: bytes) -> bytes:
        """Return the push of `message` from `session`.

        :raises MessageTooLarge: with the envelope it would be longer than any client takes.
        """
        user_id = session.user.user_id
        limit = self._max_payload_bytes - pushed_message_overhead(user_id)
        if len(message) > limit:
            raise MessageTooLarge(f"message of {len(message)} bytes, in a group {limit} fit")
        return encode_push(BUILT_IN_VER, cmd, encode_pushed_message(group_id, user_id, message))

    def _run_list(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        if payload:
            raise MalformedPayload(f"{len(payload)} bytes too many: the payload is empty")
        return b"".join([group.wire_id for group in self._table.groups_of(session)])

    def _run_join_random(self, session: ISession, payload: bytes, reliable: bool) -> bytes | Awaitable[bytes]:
        wanted = decode_join_random(payload)
        if wanted.ttl_seconds <= MIN_TTL_SECONDS:
            raise InvalidTTL
        if self.join.before or self.join.after or self.create.before or self.create.after:
            return self._join_random_with_hooks(session, wanted, reliable)
        group = self._table.pick_joinable(session.user.user_id)
        if group is not None and not self._admission.must_wait(group.id):
            self._join_with(session, group.id, wanted.message, reliable)
            return encode_created(False, group.id)
        if group is not None or not self._group_nodes.is_alone:
            return self._join_random_later(session, wanted, reliable, group.id if group is not None else None)
        return encode_created(True, self._admission.make(session, self._new_group_of(wanted)).id)

    async def _join_random_later(
        self, session: ISession, wanted: JoinRandom, reliable: bool, picked: str | None
    ) -> bytes:
        """:param picked: a group that must be entered first; None: one of another node is looked for."""
        if picked is None:
            group_id = await self._pick_elsewhere(session)
        else:
            group_id = picked if await self._is_entered(picked) else None
        if group_id is not None and not self._is_member(group_id, session):
            self._join_with(session, group_id, wanted.message, reliable)
            return encode_created(False, group_id)
        return encode_created(True, self._admission.make(session, self._new_group_of(wanted)).id)

    async def _pick_elsewhere(self, session: ISession) -> str | None:
        """A group of another node, held here from now on; None when none can be had."""
        group_id = await self._group_nodes.pick_elsewhere(session.user.user_id)
        return group_id if group_id is not None and await self._is_entered(group_id) else None

    async def _is_entered(self, group_id: str) -> bool:
        """Enter a group that was picked at random; False: it is not to be had, and another one is as good."""
        try:
            await self._admission.enter(group_id)
        except GroupJoinError:
            return False
        return self._table.find(group_id) is not None

    def _is_member(self, group_id: str, session: ISession) -> bool:
        group = self._table.find(group_id)
        return group is not None and session in group.channel

    def _new_group_of(self, wanted: JoinRandom) -> NewGroup:
        return NewGroup(wanted.allow_empty, True, wanted.ttl_seconds, wanted.interval_ms)

    async def _join_random_with_hooks(self, session: ISession, wanted: JoinRandom, reliable: bool) -> bytes:
        """A random join is seen by hooks as the GROUP_JOIN or GROUP_CREATE that it turns into.

        Otherwise a hook that keeps users out of groups could be walked around.
        """
        for _ in range(RANDOM_JOIN_TRIES):
            picked = self._table.pick_joinable(session.user.user_id)
            group_id = picked.id if picked else await self._group_nodes.pick_elsewhere(session.user.user_id)
            if group_id is None or self._is_member(group_id, session):
                # The other node knows only who is in its groups on that node.
                break
            payload = encode_gid_message(group_id, wanted.message)
            await self.join.run_hooks(self.join.before, session, payload)
            # The group may be gone, or the user in it, since the hooks began to wait.
            if self._is_member(group_id, session) or not await self._is_entered(group_id):
                continue
            self._join_with(session, group_id, wanted.message, reliable)
            await self.join.run_hooks(self.join.after, session, payload)
            return encode_created(False, group_id)
        payload = encode_new_group(self._new_group_of(wanted))
        await self.create.run_hooks(self.create.before, session, payload)
        group = self._admission.make(session, self._new_group_of(wanted))
        await self.create.run_hooks(self.create.after, session, payload)
        return encode_created(True, group.id)
