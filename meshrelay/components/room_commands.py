"""The room commands of clients (client protocol, section 3): payloads to calls, messages into their envelopes."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from meshrelay.components.hooks import Command
from meshrelay.components.room_asks import RoomAsks
from meshrelay.components.room_broadcast import RoomBroadcast
from meshrelay.components.room_edge import RoomEdge
from meshrelay.components.room_table import RoomTable
from meshrelay.errors import MessageTooLarge
from meshrelay.interfaces import ISession
from meshrelay.wire.buffer import encode_str8
from meshrelay.wire.commands import (
    BUILT_IN_VER,
    decode_gid_message,
    encode_pushed_message,
    pushed_message_overhead,
)
from meshrelay.wire.commands import Command as CommandNumber
from meshrelay.wire.frame import encode_push
from meshrelay.wire.room_commands import decode_new_room, decode_room_id
from meshrelay.wire.room_node import RoomOp

__all__ = ["RoomCommands"]


class RoomCommands:
    """What clients may call.

    :param max_payload_bytes: a push is never longer, so that a client can take what it may send.
    """

    def __init__(self, edge: RoomEdge, table: RoomTable, asks: RoomAsks, max_payload_bytes: int) -> None:
        self._edge = edge
        self._asks = asks
        self._max_payload_bytes = max_payload_bytes
        self.create = Command(BUILT_IN_VER, CommandNumber.ROOM_CREATE, self._run_create)
        self.join = Command(BUILT_IN_VER, CommandNumber.ROOM_JOIN, self._run_join)
        self.leave = Command(BUILT_IN_VER, CommandNumber.ROOM_LEAVE, self._run_leave)
        self.broadcast: Command = RoomBroadcast(table, asks, max_payload_bytes).command
        self._members = Command(BUILT_IN_VER, CommandNumber.ROOM_MEMBERS, self._run_members)

    def table(self) -> Mapping[tuple[int, int], Command]:
        """Return (ver, cmd) -> command."""
        commands = (self.create, self.join, self.leave, self.broadcast, self._members)
        return {(command.ver, command.cmd): command for command in commands}

    def _run_create(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        wanted = decode_new_room(payload)
        return self._edge.create(session if wanted.join else None, wanted).encode("ascii")

    def _run_join(self, session: ISession, payload: bytes, reliable: bool) -> Awaitable[bytes]:
        room_id, message = decode_gid_message(payload)
        frame = self._envelope(CommandNumber.ROOM_JOIN, session, room_id, message)
        return self._join(session, room_id, frame, reliable)

    async def _join(self, session: ISession, room_id: str, frame: bytes, reliable: bool) -> bytes:
        return encode_str8(await self._edge.join(session, room_id, frame, reliable))

    def _run_leave(self, session: ISession, payload: bytes, reliable: bool) -> Awaitable[bytes]:
        room_id, message = decode_gid_message(payload)
        frame = self._envelope(CommandNumber.ROOM_LEAVE, session, room_id, message)
        return self._leave(session, room_id, frame, reliable)

    async def _leave(self, session: ISession, room_id: str, frame: bytes, reliable: bool) -> bytes:
        await self._edge.leave(session, room_id, frame, reliable)
        return b""

    def _envelope(self, cmd: CommandNumber, session: ISession, room_id: str, message: bytes) -> bytes:
        """Return the push of `message` from `session`; unlike that of a group it is sent even if that is empty.

        :raises MessageTooLarge: with the envelope it would be longer than any client takes.
        """
        user_id = session.user.user_id
        limit = self._max_payload_bytes - pushed_message_overhead(user_id)
        if len(message) > limit:
            raise MessageTooLarge(f"message of {len(message)} bytes, in a room {limit} fit")
        return encode_push(BUILT_IN_VER, cmd, encode_pushed_message(room_id, user_id, message))

    def _run_members(self, session: ISession, payload: bytes, reliable: bool) -> Awaitable[bytes]:
        return self._asks.ask(RoomOp.MEMBERS, decode_room_id(payload), session.user)
