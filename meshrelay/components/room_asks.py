"""What this node wants of rooms, wherever their home is: at once where that is here, by numbered messages elsewhere.

Asks of a room travel in the order in which they are made, and nobody waits for the one before. Each is answered, or
given up after `ANSWER_SECONDS`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import count

from twisted.internet.defer import Deferred

from meshrelay.background import Alarms
from meshrelay.components.node_post import NodePost
from meshrelay.components.place_ids import home_key, node_key
from meshrelay.errors import (
    AlreadyMember,
    CommandError,
    ErrorCode,
    InternalError,
    MessageTooLarge,
    NotInRoom,
    RoomFull,
    RoomNotFound,
    RoomTimeout,
    UnknownCommand,
)
from meshrelay.interfaces import INodes
from meshrelay.model import User
from meshrelay.wire.buffer import GROUP_ID_BYTES
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.room_node import RoomAnswer, RoomAsk, RoomOp, decode_room_answer, encode_room_ask

__all__ = ["ANSWER_SECONDS", "CHECK_SECONDS", "MAX_PENDING", "RoomAsks"]

#: Longest wait for the home of a room; shorter than the time that a command has.
ANSWER_SECONDS = 5.0

#: Deadlines are looked at this often.
CHECK_SECONDS = 0.25

#: Asks of this node that wait for their answers.
MAX_PENDING = 200_000

#: Data of one answer, all its parts together.
MAX_DATA_BYTES = 8 * 1024 * 1024

#: ``done(data, error)``: data of the answer, or what went wrong.
Done = Callable[[bytes, CommandError | None], object]

_ERRORS: Mapping[int, type[CommandError]] = {
    ErrorCode.UNKNOWN_COMMAND: UnknownCommand,
    ErrorCode.MESSAGE_TOO_LARGE: MessageTooLarge,
    ErrorCode.ALREADY_MEMBER: AlreadyMember,
    ErrorCode.ROOM_FULL: RoomFull,
    ErrorCode.NOT_IN_ROOM: NotInRoom,
    ErrorCode.ROOM_NOT_FOUND: RoomNotFound,
}


class _Waiting:
    """Somebody waits for an answer."""

    __slots__ = ("done", "gives_up_at", "node_id", "number", "parts", "size")

    def __init__(self, number: int, node_id: str, done: Done, gives_up_at: float) -> None:
        self.number = number
        self.node_id = node_id
        self.done = done
        self.gives_up_at = gives_up_at
        self.parts: list[bytes] = []
        self.size = 0


class RoomAsks:
    """See the module.

    :param perform: ``perform(node_id, ask)`` -> data of the answer, where this node is the home; see `RoomHome`.
    :ivar timeouts: asks that were given up.
    """

    def __init__(self, nodes: INodes, post: NodePost, alarms: Alarms, perform: Callable[[str, RoomAsk], bytes]) -> None:
        self._nodes = nodes
        self._post = post
        self._alarms = alarms
        self._perform = perform
        self._homes = {node_key(nodes.node_id): nodes.node_id}
        self._numbers = count(1)
        self._waiting: dict[int, _Waiting] = {}
        #: Oldest first; those answered since the last check are among them.
        self._deadlines: deque[_Waiting] = deque()
        self._is_checking = False
        self.timeouts = 0

    @property
    def pending_count(self) -> int:
        """Asks without an answer, at most `MAX_PENDING`."""
        return len(self._waiting)

    def home_of(self, room_id: str) -> str | None:
        """ID of the node that made a room; None: no node that is known."""
        return self._homes.get(home_key(room_id)) if len(room_id) == GROUP_ID_BYTES else None

    def submit(
        self, op: RoomOp, room_id: str, user: User | None, data: bytes, reliable: bool, done: Done | None = None
    ) -> None:
        """Want something of a room.

        :param user: for whom; None = the application.
        :param done: called once, perhaps before this returns; None = nobody wants to know.
        """
        user_id, sid = (user.user_id, user.sid) if user is not None else ("", "")
        home = self.home_of(room_id)
        if home is None:
            self._finish(done, b"", RoomNotFound())
        elif home == self._nodes.node_id:
            try:
                data = self._perform(home, RoomAsk(0, op, reliable, room_id, user_id, sid, data))
            except CommandError as error:
                self._finish(done, b"", error)
            else:
                self._finish(done, data, None)
        elif self._nodes.is_lost(home):
            self._finish(done, b"", RoomTimeout("the room's node cannot be reached"))
        else:
            self._send(home, RoomAsk(0, op, reliable, room_id, user_id, sid, data), done)

    def _finish(self, done: Done | None, data: bytes, error: CommandError | None) -> None:
        if done is not None:
            done(data, error)

    def _send(self, home: str, ask: RoomAsk, done: Done | None) -> None:
        if done is None:
            self._post.send(home, NodeKind.ROOM_ASK, encode_room_ask(ask))
            return
        if len(self._waiting) >= MAX_PENDING:
            done(b"", RoomTimeout(f"{MAX_PENDING} commands wait for other nodes, the limit of this one"))
            return
        number = next(self._numbers)
        if not self._post.send(home, NodeKind.ROOM_ASK, encode_room_ask(ask._replace(number=number))):
            done(b"", RoomTimeout("too much waits for the room's node"))
            return
        waiting = _Waiting(number, home, done, self._alarms.now() + ANSWER_SECONDS)
        self._waiting[number] = waiting
        self._deadlines.append(waiting)
        self._check_later()

    def ask(
        self, op: RoomOp, room_id: str, user: User | None, data: bytes = b"", reliable: bool = True
    ) -> Deferred[bytes]:
        """Like `submit`; fires with the data of the answer, or fails with a CommandError."""
        answer: Deferred[bytes] = Deferred()

        def done(data: bytes, error: CommandError | None) -> None:
            if error is None:
                answer.callback(data)
            else:
                answer.errback(error)

        self.submit(op, room_id, user, data, reliable, done)
        return answer

    def tell(self, op: RoomOp, room_id: str, user: User) -> None:
        """Want something that must arrive as long as the home is known, and that needs no answer."""
        home = self.home_of(room_id)
        if home == self._nodes.node_id:
            self.submit(op, room_id, user, b"", True)
        elif home is not None:
            ask = RoomAsk(0, op, True, room_id, user.user_id, user.sid, b"")
            self._post.tell(home, NodeKind.ROOM_ASK, encode_room_ask(ask))

    def answer_received(self, node_id: str, payload: bytes) -> None:
        """ROOM_ANSWER: the home has done something, or not."""
        answer = decode_room_answer(payload)
        waiting = self._waiting.get(answer.number)
        if waiting is None or waiting.node_id != node_id:
            return
        waiting.size += len(answer.data)
        if waiting.size > MAX_DATA_BYTES:
            self._end(waiting, b"", InternalError())
            return
        waiting.parts.append(answer.data)
        if answer.has_more:
            return
        data = b"".join(waiting.parts)
        if answer.code:
            self._end(waiting, b"", _error_of(answer))
        else:
            self._end(waiting, data, None)

    def _end(self, waiting: _Waiting, data: bytes, error: CommandError | None) -> None:
        if self._waiting.pop(waiting.number, None) is not None:
            waiting.parts.clear()
            waiting.done(data, error)

    def _check_later(self) -> None:
        if not self._is_checking:
            self._is_checking = True
            self._alarms.call_later(CHECK_SECONDS, self._check)

    def _check(self) -> None:
        self._is_checking = False
        now = self._alarms.now()
        deadlines = self._deadlines
        while deadlines and (deadlines[0].number not in self._waiting or deadlines[0].gives_up_at <= now):
            waiting = deadlines.popleft()
            if waiting.number in self._waiting:
                self.timeouts += 1
                self._end(waiting, b"", RoomTimeout())
        if deadlines:
            self._check_later()

    # Nodes come and go.

    def node_met(self, node_id: str) -> None:
        """Rooms of this node can be found from now on."""
        self._homes[node_key(node_id)] = node_id

    def node_lost(self, node_id: str) -> None:
        """Nobody waits for it any more."""
        for waiting in list(self._waiting.values()):
            if waiting.node_id == node_id:
                self._end(waiting, b"", RoomTimeout("the room's node was lost"))

    def node_gone(self, node_id: str) -> None:
        """There are no rooms of this node any more."""
        self._homes.pop(node_key(node_id), None)
        self.node_lost(node_id)


def _error_of(answer: RoomAnswer) -> CommandError:
    error_class = _ERRORS.get(answer.code, InternalError)
    return error_class(answer.data.decode("utf-8", "replace"))
