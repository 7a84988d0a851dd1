"""Rooms of this node and the other nodes: their asks to `RoomHome`, its casts to them, and nodes that come and go."""

from __future__ import annotations

from zope.interface import implementer

from meshrelay.background import Alarms
from meshrelay.components.node_post import NodePost
from meshrelay.components.room_asks import RoomAsks
from meshrelay.components.room_edge import RoomEdge
from meshrelay.components.room_home import RoomHome
from meshrelay.errors import CommandError
from meshrelay.interfaces import INodeObserver, INodes
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.room_node import (
    MAX_ANSWER_BYTES,
    RoomAnswer,
    decode_room_ask,
    encode_room_answer,
)

__all__ = ["RoomCasts", "RoomNodes"]


class RoomCasts:
    """Sends casts; who cannot be sent one is told to `link_full` a moment later, when nothing is being changed.

    :ivar sent: casts.
    :ivar lost: casts that were not taken.
    """

    def __init__(self, nodes: INodes, post: NodePost, alarms: Alarms) -> None:
        self._nodes = nodes
        self._post = post
        self._alarms = alarms
        #: (room ID, node ID).
        self._full: set[tuple[str, str]] = set()
        self.home: RoomHome | None = None
        self.sent = 0
        self.lost = 0

    def send(self, room_id: str, node_id: str, cast: bytes, reliable: bool) -> None:
        """Send a cast. A node that is not known gets none: its members are expected elsewhere.

        :param reliable: not all of it may be lost.
        """
        if self._post.send(node_id, NodeKind.ROOM_CAST, cast):
            self.sent += 1
            return
        self.lost += 1
        if reliable and node_id in self._nodes.known():
            if not self._full:
                self._alarms.call_later(0, self._tell_full)
            self._full.add((room_id, node_id))

    def _tell_full(self) -> None:
        full, self._full = self._full, set()
        for room_id, node_id in full:
            if self.home is not None:
                self.home.link_full(room_id, node_id)


@implementer(INodeObserver)
class RoomNodes:
    """See the module."""

    def __init__(self, nodes: INodes, home: RoomHome, asks: RoomAsks, edge: RoomEdge, post: NodePost) -> None:
        self._home = home
        self._asks = asks
        self._edge = edge
        self._post = post
        for kind, handler in (
            (NodeKind.ROOM_ASK, self._asked),
            (NodeKind.ROOM_ANSWER, asks.answer_received),
            (NodeKind.ROOM_CAST, edge.cast_received),
            (NodeKind.ROOM_OUT, edge.out_received),
        ):
            nodes.handle(kind, handler)
        nodes.add_observer(self)

    def _asked(self, node_id: str, payload: bytes) -> None:
        ask = decode_room_ask(payload)
        code = 0
        try:
            data = self._home.perform(node_id, ask)
        except CommandError as error:
            code, data = error.code, error.text.encode("utf-8", "replace")
        if ask.number:
            self._answer(node_id, ask.number, code, data)

    def _answer(self, node_id: str, number: int, code: int, data: bytes) -> None:
        for start in range(0, len(data) or 1, MAX_ANSWER_BYTES):
            has_more = start + MAX_ANSWER_BYTES < len(data)
            part = RoomAnswer(number, has_more, code, data[start : start + MAX_ANSWER_BYTES])
            if not self._post.send(node_id, NodeKind.ROOM_ANSWER, encode_room_answer(part)):
                # Who asked gives up after a while, and says so if it must.
                return

    def node_met(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._asks.node_met(node_id)

    def node_lost(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._home.node_lost(node_id)
        self._asks.node_lost(node_id)
        self._edge.home_lost(node_id)

    def node_back(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._home.node_back(node_id)
        self._edge.home_back(node_id)

    def node_gone(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._post.node_gone(node_id)
        self._home.node_gone(node_id)
        self._edge.home_gone(node_id)
        self._asks.node_gone(node_id)
