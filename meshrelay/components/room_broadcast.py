"""ROOM_BROADCAST: what clients say to a room, many at a time (client protocol, section 3).

Broadcasts of one read that go to the same room are one run: published at once where the room is of this node, one
message to its home and one answer back where it is not. Nobody waits for the run before.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from meshrelay.components.hooks import Answers, PipelinedCommand
from meshrelay.components.push_runs import join_pushes
from meshrelay.components.room_asks import RoomAsks
from meshrelay.components.room_table import RoomTable
from meshrelay.errors import CommandError, MessageTooLarge, NotInRoom
from meshrelay.interfaces import ISession
from meshrelay.wire.buffer import GROUP_ID_BYTES, encode_str8
from meshrelay.wire.commands import BUILT_IN_VER, Command, decode_gid_message
from meshrelay.wire.frame import FrameRun
from meshrelay.wire.room_node import RoomOp

__all__ = ["RoomBroadcast"]


class RoomBroadcast:
    """The command.

    :param max_payload_bytes: a push is never longer, so that a client can take what it may send.
    """

    def __init__(self, table: RoomTable, asks: RoomAsks, max_payload_bytes: int) -> None:
        self._table = table
        self._asks = asks
        self._max_payload_bytes = max_payload_bytes
        self.command = PipelinedCommand(BUILT_IN_VER, Command.ROOM_BROADCAST, self._run_many, self._run)

    def _run(self, session: ISession, payload: bytes, reliable: bool) -> Deferred[bytes]:
        sender = encode_str8(session.user.user_id)
        frames, count = join_pushes(Command.ROOM_BROADCAST, [payload], 0, sender, self._max_payload_bytes)
        if not count:
            raise self._problem_of(payload, sender)
        return self._asks.ask(RoomOp.BROADCAST, decode_gid_message(payload).group_id, session.user, frames, reliable)

    def _problem_of(self, payload: bytes, sender: bytes) -> CommandError:
        try:
            message = decode_gid_message(payload).message
        except CommandError as error:
            return error
        limit = self._max_payload_bytes - GROUP_ID_BYTES - len(sender)
        return MessageTooLarge(f"message of {len(message)} bytes, in a room {limit} fit")

    def _run_many(self, session: ISession, run: FrameRun, answers: Answers) -> None:
        payloads, request_ids = run.payloads, run.request_ids
        sender = encode_str8(session.user.user_id)
        place = 0
        while place < len(payloads):
            frames, count = join_pushes(Command.ROOM_BROADCAST, payloads, place, sender, self._max_payload_bytes)
            if count:
                those = request_ids[place : place + count]
                self._publish(session, payloads[place], (frames, count), run.is_reliable, those, answers)
                place += count
            else:
                answers.refuse(request_ids[place], self._problem_of(payloads[place], sender))
                place += 1

    def _publish(
        self,
        session: ISession,
        first: bytes,
        pushes: tuple[bytes, int],
        reliable: bool,
        request_ids: list[int],
        answers: Answers,
    ) -> None:
        """Publish a run in the room that its first payload names."""

        def done(_: bytes, error: CommandError | None) -> None:
            if error is None:
                answers.accept(request_ids)
            else:
                for request_id in request_ids:
                    answers.refuse(request_id, error)

        frames, count = pushes
        user = session.user
        room = self._table.find(first[:GROUP_ID_BYTES].decode("latin-1"))
        if room is not None:
            # The short way of the hot path; an ask would come to the same.
            member = room.members.get(user.user_id)
            if member is None or member.sid != user.sid:
                done(b"", NotInRoom())
            else:
                room.outlet.publish(frames, member.place, reliable, count)
                done(b"", None)
            return
        try:
            room_id = decode_gid_message(first).group_id
        except CommandError as error:
            done(b"", error)
        else:
            self._asks.submit(RoomOp.BROADCAST, room_id, user, frames, reliable, done)
