"""The link commands of clients (client protocol, section 3): payloads to calls, answers to payloads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from meshrelay.components.hooks import Command, PipelinedCommand
from meshrelay.components.link_facts import LinkFacts
from meshrelay.errors import MessageTooLarge
from meshrelay.interfaces import ISession
from meshrelay.wire.commands import BUILT_IN_VER, decode_gid_message, encode_pushed_message, pushed_message_overhead
from meshrelay.wire.commands import Command as CommandNumber
from meshrelay.wire.link_commands import (
    LinkReport,
    LinkStart,
    decode_link_start,
    decode_report,
    encode_public_address,
    encode_relayed,
)
from meshrelay.wire.link_node import LinkRelayed

__all__ = ["LinkCommands"]


class LinkCommands:
    """What clients may call.

    :param begin: ``begin(session, wanted)`` starts links, as `IPeerLinks.start_links` says.
    :param relay: ``relay(session, relayed)`` -> whether it was sent; raises NotInRoom, RoomNotFound or RoomTimeout.
    :param report: ``report(session, reported)``; raises the same.
    :param max_payload_bytes: a push is never longer, so that a client can take what it may send.
    """

    def __init__(
        self,
        facts: LinkFacts,
        begin: Callable[[ISession, LinkStart], Awaitable[None]],
        relay: Callable[[ISession, LinkRelayed], Awaitable[bool]],
        report: Callable[[ISession, LinkReport], Awaitable[None]],
        forward: PipelinedCommand,
        max_payload_bytes: int,
    ) -> None:
        self._facts = facts
        self._begin = begin
        self._relay = relay
        self._report = report
        self._forward = forward
        self._max_payload_bytes = max_payload_bytes
        self._addresses = Command(BUILT_IN_VER, CommandNumber.LINK_ADDRESSES, self._run_addresses)
        self.start = Command(BUILT_IN_VER, CommandNumber.LINK_START, self._run_start)
        self._relay_command = Command(BUILT_IN_VER, CommandNumber.LINK_RELAY, self._run_relay)
        self._state = Command(BUILT_IN_VER, CommandNumber.LINK_STATE, self._run_state)

    def table(self) -> Mapping[tuple[int, int], Command]:
        """Return (ver, cmd) -> command."""
        commands = (self._addresses, self.start, self._relay_command, self._state, self._forward)
        return {(command.ver, command.cmd): command for command in commands}

    def _run_addresses(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        return encode_public_address(self._facts.tell(session, payload))

    async def _run_start(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        await self._begin(session, decode_link_start(payload))
        return b""

    async def _run_relay(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        room_id, message = decode_gid_message(payload)
        user = session.user
        limit = self._max_payload_bytes - pushed_message_overhead(user.user_id)
        if len(message) > limit:
            raise MessageTooLarge(f"message of {len(message)} bytes, in a room {limit} fit")
        pushed = encode_pushed_message(room_id, user.user_id, message)
        relayed = LinkRelayed(room_id, user.user_id, user.sid, reliable, BUILT_IN_VER, CommandNumber.LINK_RELAY, pushed)
        return encode_relayed(await self._relay(session, relayed))

    async def _run_state(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        await self._report(session, decode_report(payload))
        return b""
