"""What the admin API does, anywhere in the cluster: each function of the table of routes is here.

::

    request --AdminRoute--> AdminActions --> LocalNode of this node
                                        `--> directory (which node?) --call--> LocalNode of another one

Whoever is asked must be linked and answer within `CALL_SECONDS`. Lists leave out the nodes that do not, and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime

from meshrelay.components.direct import DirectMessages
from meshrelay.components.rooms import Rooms
from meshrelay.directory.interfaces import IDirectory
from meshrelay.errors import CommandError, MeshError
from meshrelay.http.admin_bodies import (
    Announced,
    Announcement,
    Delivered,
    DrainBegun,
    GroupMember,
    GroupMessage,
    GroupPage,
    GroupRow,
    GroupView,
    Kicked,
    NewMessage,
    Published,
    RoomPage,
    RoomRow,
    RoomView,
    UserView,
)
from meshrelay.http.admin_local import (
    MAX_SHOWN_MEMBERS,
    VERBS,
    AnnounceQuestion,
    DrainQuestion,
    GroupQuestion,
    KickQuestion,
    LocalNode,
    PageQuestion,
    Publication,
    PublishQuestion,
    UserQuestion,
)
from meshrelay.http.admin_problems import Problem, problem_of
from meshrelay.interfaces import INodes
from meshrelay.model import check_user_id
from meshrelay.wire.buffer import GROUP_ID_BYTES

__all__ = ["CALL_SECONDS", "DEFAULT_ROWS", "MAX_REASON_BYTES", "MAX_ROWS", "AdminActions", "AdminParts", "Input"]

#: For the answer of another node, and for that of the directory.
CALL_SECONDS = 2.0

#: Groups or rooms of one page.
DEFAULT_ROWS = 100
MAX_ROWS = 1000

#: What a kicked client is told goes into the close frame of a WebSocket.
MAX_REASON_BYTES = 123

_T = TypeVar("_T")


class Input(NamedTuple):
    """What a request says.

    :ivar path: name -> value of the variable parts.
    :ivar query: as in the table of routes, checked.
    :ivar body: of the type in the table; None where there is none.
    """

    path: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    body: Any = None


class AdminParts(NamedTuple):
    """What the API stands on.

    :ivar directory: None = this node is alone.
    :ivar read_nodes: see `meshrelay.http.cluster.ClusterStatus.read`.
    """

    local: LocalNode
    rooms: Rooms
    direct: DirectMessages
    nodes: INodes
    directory: IDirectory | None
    read_nodes: Callable[[], Any]
    clock: IReactorTime
    max_payload_bytes: int


class AdminActions:
    """See the module."""

    def __init__(self, parts: AdminParts) -> None:
        self._parts = parts
        self._local = parts.local

    @property
    def max_payload_bytes(self) -> int:
        """Of any message."""
        return self._parts.max_payload_bytes

    # Other nodes.

    async def _ask(self, node_id: str, name: str, question: object) -> Any:
        """Ask one node, this one or another.

        :raises Problem: it did not answer.
        """
        verb = VERBS[name]
        if node_id == self._local.node_id:
            result = verb.method(self._local, question)
            return await result if hasattr(result, "__await__") else result
        call: Deferred[bytes] = self._parts.nodes.call(node_id, name, msgspec.msgpack.encode(question))
        try:
            answer = await call.addTimeout(CALL_SECONDS, self._parts.clock)
            return msgspec.msgpack.decode(answer, type=verb.answer)
        except (MeshError, DeferredTimeoutError, msgspec.DecodeError) as error:
            raise Problem("node_unreachable", f"node {node_id} does not answer") from error

    async def _ask_all(self, name: str, question: object) -> tuple[list[Any], tuple[str, ...]]:
        """Ask all nodes at once.

        :returns: the answers, and the IDs of the nodes that did not give one.
        """
        others = sorted(self._parts.nodes.known())
        coming = [Deferred.fromCoroutine(self._try(each, name, question)) for each in (self._local.node_id, *others)]
        results = await gatherResults(coming, consumeErrors=True)
        left_out = tuple(each for each, (is_there, _) in zip(others, results[1:], strict=True) if not is_there)
        return [answer for is_there, answer in results if is_there], left_out

    async def _try(self, node_id: str, name: str, question: object) -> tuple[bool, Any]:
        try:
            return True, await self._ask(node_id, name, question)
        except Problem:
            return False, None

    async def _look_up(self, find: Callable[[IDirectory], Deferred[_T | None]]) -> _T | None:
        directory = self._parts.directory
        if directory is None:
            return await succeed(None)
        try:
            return await find(directory).addTimeout(CALL_SECONDS, self._parts.clock)
        except (MeshError, DeferredTimeoutError) as error:
            raise Problem("directory_away", "the directory cannot be asked") from error

    # Groups.

    async def publish(self, given: Input) -> Published:
        """Publish in one group."""
        return await self._publish(_place_id(given.path["group"], "group"), given.body)

    async def _publish(self, group_id: str, body: GroupMessage) -> Published:
        question = PublishQuestion(group_id, self._publication_of(body))
        if self._local.publish(question):
            return Published(group=group_id, node=self._local.node_id)
        for node_id in await self._holders(group_id):
            if await self._ask(node_id, "admin.publish", question):
                return Published(group=group_id, node=node_id)
        raise Problem("group_not_found", "there is no such group", "group")

    def _publication_of(self, body: GroupMessage) -> Publication:
        publication = Publication(body.message(), body.checked_sender(), body.reliable, body.ver, body.cmd or 0)
        limit = self._parts.max_payload_bytes - publication.overhead_bytes
        if len(publication.message) > limit:
            raise Problem("too_large", f"a message has at most {limit} bytes here", "body", limit)
        return publication

    async def _holders(self, group_id: str) -> list[str]:
        """Other nodes that hold a group, those that can be reached first."""
        record = await self._look_up(lambda directory: directory.find_group(group_id))
        nodes = self._parts.nodes
        others = [each for each in record.nodes if each != self._local.node_id] if record is not None else []
        return sorted(others, key=lambda node_id: not nodes.is_up(node_id))

    async def announce(self, given: Input) -> Published | Announced:
        """Publish in one group or in all."""
        body: Announcement = given.body
        if body.group is not None:
            return await self._publish(_place_id(body.group, "group"), body)
        question = AnnounceQuestion(self._publication_of(body))
        counts, left_out = await self._ask_all("admin.announce", question)
        return Announced(groups=sum(counts), nodes_left_out=left_out)

    async def group(self, given: Input) -> GroupView:
        """One group."""
        group_id = _place_id(given.path["group"], "group")
        question = GroupQuestion(group_id)
        view = self._local.group(question)
        if view is not None:
            return view
        for node_id in await self._holders(group_id):
            found: GroupView | None = await self._ask(node_id, "admin.group", question)
            if found is not None:
                return found
        raise Problem("group_not_found", "there is no such group", "group")

    async def groups(self, given: Input) -> GroupPage:
        """Groups of all nodes, by ID."""
        rows, after, left_out = await self._rows("admin.groups", given)
        return GroupPage(groups=rows, next=after, nodes_left_out=left_out)

    async def rooms(self, given: Input) -> RoomPage:
        """Rooms of all nodes, by ID."""
        rows, after, left_out = await self._rows("admin.rooms", given)
        return RoomPage(rooms=rows, next=after, nodes_left_out=left_out)

    async def _rows(self, name: str, given: Input) -> tuple[tuple[Any, ...], str | None, tuple[str, ...]]:
        limit = _rows_wanted(given.query.get("limit"))
        after = given.query.get("cursor", "")
        if len(after) > GROUP_ID_BYTES or not after.isascii():
            raise Problem("bad_query", "cursor must be what an earlier page has in next", "cursor")
        # A group is on many nodes: with one more of each it is known whether there are more.
        pages, left_out = await self._ask_all(name, PageQuestion(after, limit + 1))
        found: dict[str, GroupRow | RoomRow] = {}
        for row in (row for page in pages for row in page):
            found.setdefault(row.id, row)
        rows = tuple(found[each] for each in sorted(found)[:limit])
        return rows, rows[-1].id if len(found) > limit else None, left_out

    async def room(self, given: Input) -> RoomView:
        """One room."""
        room = await self._parts.rooms.get_room(_place_id(given.path["room"], "room"))
        shown = room.members[:MAX_SHOWN_MEMBERS]
        return RoomView(
            id=room.id,
            max_members=room.max_members,
            allow_empty=room.allow_empty,
            ttl_seconds=room.ttl_seconds,
            interval_ms=room.interval_ms,
            owner=room.owner,
            members=tuple(GroupMember(user=each.user_id, node=each.node_id) for each in shown),
            members_left_out=len(room.members) - len(shown),
        )

    # Users.

    async def send_direct(self, given: Input) -> Delivered:
        """Send a direct message as the server."""
        user_id = _user_id(given.path["user"])
        body: NewMessage = given.body
        message = body.message()
        direct = self._parts.direct
        try:
            if body.ver is None:
                await direct.send_as_server(user_id, message)
            else:
                await direct.send_direct(None, user_id, body.ver, body.cmd or 0, message)
        except CommandError as error:
            raise problem_of(error) from error
        return Delivered(user=user_id)

    async def user(self, given: Input) -> UserView:
        """Where a user is, and in what."""
        user_id = _user_id(given.path["user"])
        question = UserQuestion(user_id)
        view = self._local.user(question) or await self._at_node_of(user_id, "admin.user", question)
        if view is None:
            raise _no_such_user()
        found: UserView = view
        return found

    async def kick(self, given: Input) -> Kicked:
        """End the session of a user."""
        user_id = _user_id(given.path["user"])
        text = given.query.get("reason", "")
        if len(text.encode("utf-8")) > MAX_REASON_BYTES:
            raise Problem("bad_query", f"reason has at most {MAX_REASON_BYTES} bytes", "reason", MAX_REASON_BYTES)
        question = KickQuestion(user_id, text)
        if self._local.kick(question):
            return Kicked(user=user_id, node=self._local.node_id)
        record = await self._look_up(lambda directory: directory.find_user(user_id))
        if record is None or not await self._ask(record.node_id, "admin.kick", question):
            raise _no_such_user()
        return Kicked(user=user_id, node=record.node_id)

    async def _at_node_of(self, user_id: str, name: str, question: object) -> Any:
        record = await self._look_up(lambda directory: directory.find_user(user_id))
        return await self._ask(record.node_id, name, question) if record is not None else None

    # Nodes.

    async def nodes(self, given: Input) -> Any:
        """All nodes, links and the directory."""
        return await self._parts.read_nodes()

    async def drain(self, given: Input) -> DrainBegun:
        """Let a node say goodbye to its clients, and end."""
        node_id = given.path["node"]
        if node_id != self._local.node_id and node_id not in self._parts.nodes.known():
            raise Problem("node_not_found", "there is no such node", "node")
        await self._ask(node_id, "admin.drain", DrainQuestion())
        return DrainBegun(node=node_id)


def _place_id(text: str, field: str) -> str:
    if len(text) != GROUP_ID_BYTES or not text.isascii() or not text.isprintable() or " " in text:
        problem = f"the ID of a {field} has {GROUP_ID_BYTES} ASCII characters without blanks"
        raise Problem("bad_path", problem, field, GROUP_ID_BYTES)
    return text


def _user_id(text: str) -> str:
    try:
        return check_user_id(text)
    except ValueError as error:
        raise Problem("bad_path", str(error), "user") from None


def _no_such_user() -> Problem:
    return Problem("user_not_found", "no such user is signed in", "user")


def _rows_wanted(text: str | None) -> int:
    if text is None:
        return DEFAULT_ROWS
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_ROWS)) and 1 <= int(text) <= MAX_ROWS):
        raise Problem("bad_query", f"limit must be a whole number from 1 to {MAX_ROWS}", "limit", MAX_ROWS)
    return int(text)
