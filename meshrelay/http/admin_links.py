"""``GET /links`` and ``GET /links/<room ID>``: which P2P links there are, and why some go through the node.

::

    curl http://127.0.0.1:7000/links
    {"node": "n1", "rooms": [{"room": "...", "groups": 2, "members": 9}], "rooms_left_out": 0, "counts": {...}}

    curl http://127.0.0.1:7000/links/<room ID>
    {"room": "...", "pairs": [{"user": "ann", "peer": "bob", "state": "relayed", "reason": "no_udp"}, ...],
     "pairs_left_out": 0}

The list is of the rooms that the asked node has made, the pairs are of a room of any node. State and reason are as in
`meshrelay.model.LinkPair`.

======  ==============================================================================================
status  meaning
======  ==============================================================================================
200     see above
400     no room ID
401     the admin key is needed, see `meshrelay.http.admin`
403     the caller may not ask at all
404     no such room
503     the room's node did not answer in time
======  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.web import http
from twisted.web.server import Request

from meshrelay.errors import RoomNotFound, RoomTimeout
from meshrelay.http.admin import AdminAccess
from meshrelay.http.page import Answer, Page, error_answer, json_answer, unavailable_answer
from meshrelay.model import LinkPair
from meshrelay.wire.buffer import GROUP_ID_BYTES

__all__ = ["LinkPages", "LinksPage"]


class LinkPages(NamedTuple):
    """What knows for the page; see `meshrelay.components.links.PeerLinks`."""

    node_id: str
    #: Room ID, link groups and members of each room of this node with links, as many as are told; and of how many.
    rooms: Callable[[], tuple[int, list[tuple[str, int, int]]]]
    counts: Callable[[], Mapping[str, int]]
    #: ``pairs(room_id)``; raises what `IPeerLinks.link_pairs` raises.
    pairs: Callable[[str], Awaitable[tuple[int, list[LinkPair]]]]


class LinksPage(Page):
    """See the module."""

    def __init__(self, links: LinkPages, admin: AdminAccess) -> None:
        super().__init__()
        self._links = links
        self._admin = admin

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See `Page.answer`."""
        refusal = self._admin.refusal(request)
        if refusal is not None:
            return refusal
        path = request.postpath or []
        if path in ([], [b""]):
            return self._list()
        [room_id, *rest] = path
        if rest or len(room_id) != GROUP_ID_BYTES or not room_id.isascii():
            return error_answer(http.BAD_REQUEST, f"the path must be /links/ and a room ID, {GROUP_ID_BYTES} letters")
        return Deferred.fromCoroutine(self._room(room_id.decode("ascii")))

    def _list(self) -> Answer:
        count, rooms = self._links.rooms()
        shown = [{"room": room_id, "groups": groups, "members": members} for room_id, groups, members in rooms]
        return json_answer(
            http.OK,
            {
                "node": self._links.node_id,
                "rooms": shown,
                "rooms_left_out": count - len(shown),
                "counts": dict(self._links.counts()),
            },
        )

    async def _room(self, room_id: str) -> Answer:
        try:
            count, pairs = await self._links.pairs(room_id)
        except RoomNotFound as error:
            return error_answer(http.NOT_FOUND, error.text)
        except RoomTimeout as error:
            return unavailable_answer(error.text)
        shown = [
            {"user": pair.user_id, "peer": pair.peer_id, "state": pair.state, "reason": pair.reason} for pair in pairs
        ]
        return json_answer(http.OK, {"room": room_id, "pairs": shown, "pairs_left_out": count - len(shown)})
