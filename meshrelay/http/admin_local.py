"""What the admin API wants of one node, done on that node: by its own pages, and by calls of others.

::

    GET /admin/users/ann on n1 --"admin.user"--> LocalNode of n2 --UserView--> n1

The payload of a call is msgpack of the question's type below, the answer msgpack of what `LocalNode` returns; fields
that a later version adds are passed over by this one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from heapq import nsmallest
from itertools import chain, islice
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from meshrelay.components.group_table import GroupTable, LiveGroup
from meshrelay.components.groups import Groups
from meshrelay.components.room_table import LiveRoom, RoomTable
from meshrelay.components.rooms import Rooms
from meshrelay.errors import MalformedFrame
from meshrelay.http.admin_bodies import GroupMember, GroupRow, GroupView, RoomRow, UserView
from meshrelay.interfaces import INodes
from meshrelay.session.registry import SessionRegistry
from meshrelay.wire.commands import BUILT_IN_VER, Command, encode_pushed_message, pushed_message_overhead

__all__ = [
    "ANNOUNCED_IN_A_TURN",
    "MAX_SHOWN_MEMBERS",
    "VERBS",
    "AnnounceQuestion",
    "DrainQuestion",
    "GroupQuestion",
    "KickQuestion",
    "LocalNode",
    "LocalParts",
    "PageQuestion",
    "Publication",
    "PublishQuestion",
    "UserQuestion",
    "Verb",
    "answer_calls",
]

#: Members of one group or room that are shown.
MAX_SHOWN_MEMBERS = 1000

#: Groups that are announced in before others get their turn.
ANNOUNCED_IN_A_TURN = 200

#: One more than a page has.
_MAX_ROWS = 1001


class Publication(msgspec.Struct, frozen=True):
    """What members of a group get.

    :ivar sender: the user that it comes from.
    :ivar ver: with `cmd`, of the push, which then names no sender; None = it looks like what clients say.
    """

    message: bytes
    sender: str
    reliable: bool = True
    ver: int | None = None
    cmd: int = 0

    @property
    def overhead_bytes(self) -> int:
        """What stands in front of the message in its push."""
        return pushed_message_overhead(self.sender) if self.ver is None else 0


class UserQuestion(msgspec.Struct, frozen=True):
    """About one user."""

    user: str


class KickQuestion(msgspec.Struct, frozen=True):
    """A user is to be closed."""

    user: str
    text: str


class GroupQuestion(msgspec.Struct, frozen=True):
    """About one group."""

    group: str


class PublishQuestion(msgspec.Struct, frozen=True):
    """Something is to be published in one group."""

    group: str
    publication: Publication


class AnnounceQuestion(msgspec.Struct, frozen=True):
    """Something is to be published in all groups that the node is to speak for."""

    publication: Publication


class PageQuestion(msgspec.Struct, frozen=True):
    """The next groups or rooms by ID."""

    after: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MAX_ROWS)]


class DrainQuestion(msgspec.Struct, frozen=True):
    """The node is to say goodbye to its clients."""


class Verb(NamedTuple):
    """One call.

    :ivar question: type of its payload.
    :ivar answer: type of what comes back.
    :ivar method: of `LocalNode`.
    """

    question: type[Any]
    answer: Any
    method: Callable[[LocalNode, Any], Any]


class LocalParts(NamedTuple):
    """Where the facts of a node are.

    :ivar drain: begins the end of the node; called once.
    """

    node_id: str
    registry: SessionRegistry
    groups: Groups
    rooms: Rooms
    nodes: INodes
    clock: IReactorTime
    drain: Callable[[], object]


class LocalNode:
    """This node; see the module."""

    def __init__(self, parts: LocalParts) -> None:
        self._parts = parts
        self._is_draining = False

    @property
    def node_id(self) -> str:
        """ID of this node."""
        return self._parts.node_id

    @property
    def _groups(self) -> GroupTable:
        return self._parts.groups.table

    @property
    def _rooms(self) -> RoomTable:
        return self._parts.rooms.table

    def user(self, question: UserQuestion) -> UserView | None:
        """The user's session; None: it is not here."""
        session = self._parts.registry.find_user(question.user)
        if session is None:
            return None
        return UserView(
            user=question.user,
            node=self.node_id,
            transport=session.user.transport,
            is_connected=session.is_attached,
            since=round(session.since, 3),
            groups=tuple(self._parts.groups.memberships(session)),
            rooms=tuple(self._parts.rooms.memberships(session)),
        )

    def kick(self, question: KickQuestion) -> bool:
        """End the user's session. False: it is not here."""
        return self._parts.registry.kick(question.user, question.text)

    def publish(self, question: PublishQuestion) -> bool:
        """Publish in a group that this node holds. False: it holds no such group."""
        if self._groups.find(question.group) is None:
            return False
        self._announce(question.group, question.publication)
        return True

    def _announce(self, group_id: str, publication: Publication) -> None:
        ver, cmd, message = publication.ver, publication.cmd, publication.message
        if ver is None:
            ver, cmd = BUILT_IN_VER, Command.GROUP_BROADCAST
            message = encode_pushed_message(group_id, publication.sender, message)
        self._parts.groups.announce(group_id, ver, cmd, message, publication.reliable)

    async def announce(self, question: AnnounceQuestion) -> int:
        """Publish in the groups that this node is the first of all holders of, and return how many they were."""
        count = 0
        for number, group in enumerate(self._groups):
            if number % ANNOUNCED_IN_A_TURN == ANNOUNCED_IN_A_TURN - 1:
                await self._next_turn()
            if self._groups.find(group.id) is group and self._is_first(group):
                self._announce(group.id, question.publication)
                count += 1
        return count

    def _next_turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        self._parts.clock.callLater(0, turn.callback, None)
        return turn

    def _is_first(self, group: LiveGroup) -> bool:
        """Whether this node speaks for the group: of all holders that can be reached it is the first by ID."""
        return not any(node_id < self.node_id and self._parts.nodes.is_up(node_id) for node_id in group.holders)

    def group(self, question: GroupQuestion) -> GroupView | None:
        """A group that this node holds; None: it does not."""
        group = self._groups.find(question.group)
        if group is None:
            return None
        members = [
            GroupMember(user=user_id, node=node_id)
            for user_id, node_id in islice(_members_of(group, self.node_id), MAX_SHOWN_MEMBERS)
        ]
        settings = group.settings
        return GroupView(
            id=group.id,
            allow_empty=settings.allow_empty,
            is_static=settings.is_static,
            ttl_seconds=settings.ttl_seconds,
            interval_ms=settings.interval_ms,
            nodes=tuple(sorted((self.node_id, *group.holders))),
            members=tuple(members),
            members_left_out=group.member_count - len(members),
        )

    def group_rows(self, question: PageQuestion) -> list[GroupRow]:
        """The next groups by ID."""
        groups = _page_of(self._groups, question)
        return [
            GroupRow(
                id=group.id,
                members=group.member_count,
                nodes=group.node_count,
                is_static=group.settings.is_static,
            )
            for group in groups
        ]

    def room_rows(self, question: PageQuestion) -> list[RoomRow]:
        """The next rooms by ID."""
        return [
            RoomRow(
                id=room.id,
                members=len(room.members),
                max_members=room.settings.max_members,
                owner=room.owner,
                node=self.node_id,
            )
            for room in _page_of(self._rooms, question)
        ]

    def drain(self, question: DrainQuestion) -> None:
        """Begin to say goodbye; a second time does nothing."""
        if not self._is_draining:
            self._is_draining = True
            self._parts.drain()


_Place = TypeVar("_Place", LiveGroup, LiveRoom)


def _page_of(places: Iterable[_Place], question: PageQuestion) -> list[_Place]:
    wanted = (place for place in places if place.id > question.after)
    return nsmallest(question.limit, wanted, key=lambda place: place.id)


def _members_of(group: LiveGroup, node_id: str) -> Iterable[tuple[str, str]]:
    """User and node of each member, those of this node first."""
    here = ((user_id, node_id) for user_id in group.members)
    there = ((user_id, holder.node_id) for holder in group.holders.values() for user_id in holder.members)
    return chain(here, there)


#: Name of the call -> what it is. The names go over the links: they never change their meaning.
VERBS: Mapping[str, Verb] = MappingProxyType(
    {
        "admin.user": Verb(UserQuestion, UserView | None, LocalNode.user),
        "admin.kick": Verb(KickQuestion, bool, LocalNode.kick),
        "admin.publish": Verb(PublishQuestion, bool, LocalNode.publish),
        "admin.announce": Verb(AnnounceQuestion, int, LocalNode.announce),
        "admin.group": Verb(GroupQuestion, GroupView | None, LocalNode.group),
        "admin.groups": Verb(PageQuestion, list[GroupRow], LocalNode.group_rows),
        "admin.rooms": Verb(PageQuestion, list[RoomRow], LocalNode.room_rows),
        "admin.drain": Verb(DrainQuestion, None, LocalNode.drain),
    }
)


def answer_calls(local: LocalNode, nodes: INodes) -> None:
    """Let other nodes ask this one."""
    for name, verb in VERBS.items():
        nodes.answer(name, _answer(local, name, verb))


def _answer(local: LocalNode, name: str, verb: Verb) -> Callable[[str, bytes], Deferred[bytes] | bytes]:
    def answer(node_id: str, payload: bytes) -> Deferred[bytes] | bytes:
        try:
            question = msgspec.msgpack.decode(payload, type=verb.question)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise MalformedFrame(f"{name}: {error}") from error
        result = verb.method(local, question)
        if isinstance(result, Awaitable):
            return Deferred.fromCoroutine(_encode_later(result))
        return msgspec.msgpack.encode(result)

    return answer


async def _encode_later(result: Any) -> bytes:
    return msgspec.msgpack.encode(await result)
