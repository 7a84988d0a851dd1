"""GROUP_RECOVER, GROUP_HISTORY and GROUP_PRESENCE: what clients ask about the past and the presence of a group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from meshrelay.components.group_admission import GroupAdmission
from meshrelay.components.group_log import READ_BYTES, READ_ENTRIES
from meshrelay.components.group_table import GroupTable, LiveGroup
from meshrelay.components.group_watch import PresenceWatch, WatchParts, presence_of
from meshrelay.components.hooks import Command
from meshrelay.errors import GroupNotFound, MeshError, NotMember, RateLimited, TimedOut
from meshrelay.interfaces import ISession
from meshrelay.model import MAX_USER_ID_BYTES, HistoryMessage, HistoryPage, Presence
from meshrelay.wire.commands import BUILT_IN_VER, encode_gid_message
from meshrelay.wire.commands import Command as CommandNumber
from meshrelay.wire.group_log import decode_entry
from meshrelay.wire.history_commands import (
    PRESENCE_OFF,
    PRESENCE_ON,
    AskRecover,
    Recovered,
    decode_ask_history,
    decode_ask_presence,
    decode_ask_recover,
    encode_history_page,
    encode_presence,
    encode_recovered,
)

__all__ = ["GroupLogCommands", "JoinWith"]

#: ``join(session, group_id, message, reliable)`` makes the session a member and tells the others.
JoinWith = Callable[[ISession, str, bytes, bool], object]

#: Of an answer, before its messages.
_PAGE_HEAD_BYTES = 24


class GroupLogCommands:
    """See the module.

    :param join: the command GROUP_JOIN: its hooks are asked here as well, or they could be walked around.
    :param join_with: what it does in the end.
    """

    def __init__(
        self,
        admission: GroupAdmission,
        table: GroupTable,
        watch_parts: WatchParts,
        join: Command,
        join_with: JoinWith,
    ) -> None:
        self._admission = admission
        self._table = table
        self._watch_parts = watch_parts
        self._join = join
        self._join_with = join_with
        self._recover = Command(BUILT_IN_VER, CommandNumber.GROUP_RECOVER, self._run_recover)
        self._history = Command(BUILT_IN_VER, CommandNumber.GROUP_HISTORY, self._run_history)
        self._presence = Command(BUILT_IN_VER, CommandNumber.GROUP_PRESENCE, self._run_presence)

    @property
    def commands(self) -> tuple[Command, ...]:
        """What clients may call."""
        return (self._recover, self._history, self._presence)

    def _member_of(self, group_id: str, session: ISession) -> LiveGroup:
        group = self._table.find(group_id)
        if group is None:
            raise GroupNotFound
        if session not in group.channel:
            raise NotMember
        return group

    def _is_member(self, group_id: str, session: ISession) -> bool:
        group = self._table.find(group_id)
        return group is not None and session in group.channel

    def _run_recover(self, session: ISession, payload: bytes, reliable: bool) -> Awaitable[bytes]:
        return self._recover_of(session, decode_ask_recover(payload), reliable)

    async def _recover_of(self, session: ISession, ask: AskRecover, reliable: bool) -> bytes:
        is_new = not self._is_member(ask.group_id, session)
        payload = encode_gid_message(ask.group_id, ask.message)
        if is_new:
            await self._join.run_hooks(self._join.before, session, payload)
            await self._admission.enter(ask.group_id)
            if not self._is_member(ask.group_id, session):
                self._join_with(session, ask.group_id, ask.message, reliable)
        log = self._member_of(ask.group_id, session).log
        recovery = log.begin_recovery(session) if log is not None else None
        if log is not None and recovery is None:
            raise RateLimited(1.0)
        try:
            if is_new:
                await self._join.run_hooks(self._join.after, session, payload)
            if log is None or recovery is None:
                return encode_recovered(Recovered(False, 0, 0))
            return encode_recovered(Recovered(*await log.recover(recovery, ask.epoch, ask.offset)))
        except BaseException:
            if log is not None and recovery is not None:
                log.give_up(recovery)
            raise

    def _run_history(self, session: ISession, payload: bytes, reliable: bool) -> Awaitable[bytes]:
        ask = decode_ask_history(payload)
        group = self._member_of(ask.group_id, session)
        room = self._watch_parts.max_payload_bytes - _PAGE_HEAD_BYTES
        return self._encoded_page(group, ask.after, ask.limit, room)

    async def _encoded_page(self, group: LiveGroup, after: int, limit: int, max_bytes: int) -> bytes:
        return encode_history_page(await self.page(group, after, limit, max_bytes))

    async def page(self, group: LiveGroup, after: int, limit: int, max_bytes: int = READ_BYTES) -> HistoryPage:
        """A part of the history of a group.

        :raises TimedOut: where it is kept is away.
        """
        if group.log is None:
            return HistoryPage(0, 0, ())
        try:
            found = await group.log.page(after, (min(limit, READ_ENTRIES), min(max_bytes, READ_BYTES)))
        except MeshError as error:
            raise TimedOut("the history of the group is away") from error
        entries = map(decode_entry, found.entries)
        messages = tuple(
            HistoryMessage(offset, entry.sender, entry.ver, entry.cmd, entry.message)
            for offset, entry in enumerate(entries, found.first)
        )
        return HistoryPage(found.epoch, found.head, messages)

    def presence(self, group: LiveGroup, after: str, limit: int) -> Presence:
        """Who is in a group."""
        return presence_of(group, self._watch_parts.nodes, self._watch_parts.max_members, after, limit)

    def _run_presence(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        ask = decode_ask_presence(payload)
        group = self._member_of(ask.group_id, session)
        if ask.flags & PRESENCE_ON:
            if group.watch is None:
                group.watch = PresenceWatch(group, self._watch_parts)
            group.watch.add(session)
        elif ask.flags & PRESENCE_OFF and group.watch is not None:
            group.watch.remove(session)
        fitting = (self._watch_parts.max_payload_bytes - 4) // (2 + MAX_USER_ID_BYTES)
        presence = self.presence(group, ask.after, min(ask.limit, fitting))
        return encode_presence(presence.count, presence.members)
