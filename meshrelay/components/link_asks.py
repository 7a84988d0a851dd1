"""Calls to the home of a room, about links: made here, and answered here where this node is the home.

What the home refuses travels as its code and text, and is raised here as the same error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred

from meshrelay.components.link_facts import LinkFacts
from meshrelay.components.link_home import LinkHome
from meshrelay.components.link_parts import LinkSurroundings, within
from meshrelay.errors import (
    CommandError,
    ErrorCode,
    InternalError,
    LinkGroupSizeInvalid,
    MalformedFrame,
    MeshError,
    MessageTooLarge,
    NotEnoughMembers,
    NotInRoom,
    RateLimited,
    RoomNotFound,
    RoomTimeout,
)
from meshrelay.model import LinkPair
from meshrelay.wire.link_node import (
    LinkAsk,
    LinkFact,
    decode_answer,
    decode_facts,
    decode_page,
    decode_pairs,
    decode_relay,
    decode_reported,
    decode_start,
    encode_error_answer,
    encode_facts,
    encode_page,
    encode_pairs,
    encode_start,
)

__all__ = ["ANSWER_SECONDS", "LinkAsks"]

#: Longest wait for the home of a room; shorter than the time that a command has.
ANSWER_SECONDS = 5.0

#: Pages of one answer.
MAX_PAGES = 256

_T = TypeVar("_T")


def _rate_limited(text: str) -> CommandError:
    error = RateLimited(0.0)
    error.text = text
    return error


_ERRORS: Mapping[int, Callable[[str], CommandError]] = {
    ErrorCode.RATE_LIMITED: _rate_limited,
    ErrorCode.MESSAGE_TOO_LARGE: MessageTooLarge,
    ErrorCode.NOT_IN_ROOM: NotInRoom,
    ErrorCode.ROOM_NOT_FOUND: RoomNotFound,
    ErrorCode.NOT_ENOUGH_MEMBERS: NotEnoughMembers,
    ErrorCode.LINK_GROUP_SIZE_INVALID: LinkGroupSizeInvalid,
}


class LinkAsks:
    """See the module."""

    def __init__(self, around: LinkSurroundings, home: LinkHome, facts: LinkFacts) -> None:
        self._nodes = around.nodes
        self._rooms = around.rooms
        self._alarms = around.alarms
        self._home = home
        self._facts = facts
        for name, answer in (
            ("link.facts", self._answer_facts),
            ("link.members", self._answer_members),
            ("link.start", self._answer_start),
            ("link.pairs", self._answer_pairs),
        ):
            self._nodes.answer(name, answer)

    # Asked.

    async def _ask(self, name: str, room_id: str, payload: bytes, decode: Callable[[bytes], _T]) -> _T:
        home = self._rooms.home_of(room_id)
        if home is None:
            raise RoomNotFound
        asked = self._nodes.call(home, name, payload)
        try:
            code, answer = decode_answer(await within(self._alarms, asked, ANSWER_SECONDS))
            if not code:
                return decode(answer)
        except (MeshError, CancelledError) as error:
            raise RoomTimeout from error
        except MalformedFrame as error:
            raise InternalError("the room's node answered what cannot be read") from error
        raise _ERRORS.get(code, InternalError)(answer.decode("utf-8", "replace"))

    def _is_here(self, room_id: str) -> bool:
        return bool(self._rooms.home_of(room_id) == self._nodes.node_id)

    async def start(self, ask: LinkAsk) -> None:
        """Start links in a room, wherever its home is.

        :raises CommandError: as `IPeerLinks.start_links` says.
        """
        if self._is_here(ask.room_id):
            await self._home.start(ask)
        else:
            await self._ask("link.start", ask.room_id, encode_start(ask), bytes)

    async def members(self, room_id: str) -> list[LinkFact]:
        """Facts of all members, in join order.

        :raises RoomLeaveError: RoomNotFound, RoomTimeout.
        """
        if self._is_here(room_id):
            return await self._home.members(room_id)
        found: dict[str, LinkFact] = {}
        offset = 0
        for _ in range(MAX_PAGES):
            offset, facts = await self._ask("link.members", room_id, encode_page(room_id, offset), decode_facts)
            found.update((fact.user_id, fact) for fact in facts)
            if not offset:
                break
        return list(found.values())

    async def pairs(self, room_id: str) -> tuple[int, list[LinkPair]]:
        """See `LinkHome.pairs`; of any room."""
        if self._is_here(room_id):
            return await self._home.pairs(room_id)
        return await self._ask("link.pairs", room_id, encode_page(room_id, 0), decode_pairs)

    # Answered.

    def _answer_facts(self, node_id: str, payload: bytes) -> bytes:
        room_id, offset = decode_page(payload)
        return encode_facts(self._facts.in_room(room_id), offset)

    def _answer_members(self, node_id: str, payload: bytes) -> Deferred[bytes]:
        room_id, offset = decode_page(payload)

        async def members() -> bytes:
            return encode_facts(await self._home.members(room_id), offset)

        return Deferred.fromCoroutine(_answered(members()))

    def _answer_start(self, node_id: str, payload: bytes) -> Deferred[bytes]:
        ask = decode_start(payload)

        async def begin() -> bytes:
            await self._home.start(ask)
            return b""

        return Deferred.fromCoroutine(_answered(begin()))

    def _answer_pairs(self, node_id: str, payload: bytes) -> Deferred[bytes]:
        room_id, _ = decode_page(payload)

        async def pairs() -> bytes:
            count, first = await self._home.pairs(room_id)
            return encode_pairs(first, count)

        return Deferred.fromCoroutine(_answered(pairs()))

    # Told.

    def relay_received(self, node_id: str, payload: bytes) -> None:
        """LINK_RELAY: a member elsewhere has something for all link groups of a room of this node."""
        self._home.relay(decode_relay(payload))

    def report_received(self, node_id: str, payload: bytes) -> None:
        """LINK_REPORT: a member elsewhere has said how it reaches others."""
        self._home.report(decode_reported(payload))


async def _answered(answer: Awaitable[bytes]) -> bytes:
    try:
        return encode_error_answer(0, "") + await answer
    except CommandError as error:
        return encode_error_answer(error.code, error.text)
