"""The home of rooms by itself: what other nodes ask is called, what it sends them is kept."""

from __future__ import annotations

from typing import NamedTuple

from twisted.internet.task import Clock

from meshrelay.background import Alarms
from meshrelay.components.room_home import RoomHome, RoomRules
from meshrelay.components.room_losses import RoomLosses
from meshrelay.components.room_outlet import OutletWays, RoomOutlet
from meshrelay.components.room_seats import RoomSeats
from meshrelay.components.room_table import LiveRoom, RoomTable
from meshrelay.counters import NodeCounters
from meshrelay.fanout.hub import Hub
from meshrelay.fanout.turn import Turn
from meshrelay.testing.builders import make_sid
from meshrelay.wire.commands import Command, decode_pushed_message
from meshrelay.wire.frame import Frame, whole_frames
from meshrelay.wire.room_commands import NewRoom, decode_pushed_owner
from meshrelay.wire.room_node import RoomAsk, RoomOp, RoomOut, decode_room_cast

__all__ = ["HomeKit", "Sent"]


class Sent(NamedTuple):
    """One push that was sent to a node."""

    node_id: str
    what: str
    user_id: str
    message: bytes = b""


class HomeKit:
    """Node a, the home.

    :ivar outs: (node, out) of all that were told to be out.
    :ivar is_draining: the node is about to stop.
    """

    def __init__(self, max_members: int = 5, resume_seconds: float = 4.0) -> None:
        self.clock = Clock()
        self.is_draining = False
        self.outs: list[tuple[str, RoomOut]] = []
        self._casts: list[tuple[str, bytes]] = []
        alarms, turn = Alarms(self.clock), Turn(self.clock)
        self.seats = RoomSeats(Hub(turn, self.clock, NodeCounters()), 10)
        ways = OutletWays("a", self.seats, turn, alarms, lambda room_id, node_id, cast, _: self._cast(node_id, cast))
        numbers = iter(range(1000))
        self.table = RoomTable(
            "a",
            10,
            alarms,
            lambda size: next(numbers).to_bytes(size, "big"),
            lambda room_id, interval_ms: RoomOutlet(room_id, interval_ms, ways),
        )
        self.losses = RoomLosses(100)
        self.home = RoomHome(
            "a",
            self.table,
            self.losses,
            alarms,
            RoomRules(1000, max_members, 10, 10, resume_seconds),
            lambda: self.is_draining,
            lambda node_id, out: self.outs.append((node_id, out)),
        )

    def _cast(self, node_id: str, cast: bytes) -> None:
        self._casts.append((node_id, cast))

    def create(self, max_members: int = 0, allow_empty: bool = True) -> LiveRoom:
        """Make a room that nobody is in."""
        return self.home.create(None, NewRoom(max_members, allow_empty, False, 60, 0))

    def ask(
        self, room: LiveRoom, op: int, user_id: str = "", node_id: str = "b", data: bytes = b"", sid: str | None = None
    ) -> bytes:
        """Let a node ask for something."""
        own = make_sid(user_id) if user_id else ""
        return self.home.perform(node_id, RoomAsk(0, op, True, room.id, user_id, own if sid is None else sid, data))

    def join(self, room: LiveRoom, *users: str) -> None:
        """Let users join, each written as "user@node"."""
        for user in users:
            user_id, _, node_id = user.partition("@")
            self.ask(room, RoomOp.JOIN, user_id, node_id)

    def sent(self) -> list[Sent]:
        """What was sent to other nodes since the last call, when the turn is over."""
        self.clock.advance(0)
        casts, self._casts = self._casts, []
        return [
            _sent(node_id, frame)
            for node_id, cast in casts
            for entry in decode_room_cast(cast)[1]
            for frame in whole_frames(entry.frames, 10_000)
        ]


def _sent(node_id: str, frame: Frame) -> Sent:
    if frame.ver == 1 and frame.cmd == Command.ROOM_OWNER:
        return Sent(node_id, "owner", decode_pushed_owner(frame.payload).owner)
    if frame.ver == 1:
        pushed = decode_pushed_message(frame.payload)
        return Sent(node_id, Command(frame.cmd).name, pushed.user_id, pushed.message)
    return Sent(node_id, "app", "", frame.payload)
