"""GROUP_BROADCAST: what clients say to a group, many at a time (client protocol, section 3).

The hot path. A client's frame and the push that comes of it differ in nothing but the sender between group ID and
message, so a run of frames to one group becomes a run of pushes by putting a new head in front of each message: one
join for all of them, and one entry in the group's channel.
"""

from __future__ import annotations

from meshrelay.components.group_table import GroupTable, LiveGroup
from meshrelay.components.hooks import Answers, PipelinedCommand
from meshrelay.components.push_runs import join_pushes
from meshrelay.errors import CommandError, GroupNotFound, MessageTooLarge, NotMember
from meshrelay.interfaces import ISession
from meshrelay.wire.buffer import GROUP_ID_BYTES, encode_str8
from meshrelay.wire.commands import BUILT_IN_VER, Command, decode_gid_message
from meshrelay.wire.frame import FrameRun, encode_push_head

__all__ = ["GroupBroadcast"]


class GroupBroadcast:
    """The command.

    :param max_payload_bytes: a push is never longer, so that a client can take what it may send.
    """

    def __init__(self, table: GroupTable, max_payload_bytes: int) -> None:
        self._table = table
        self._max_payload_bytes = max_payload_bytes
        self.command = PipelinedCommand(BUILT_IN_VER, Command.GROUP_BROADCAST, self._run_many, self._run)

    def _run(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        wire_id = payload[:GROUP_ID_BYTES]
        group = self._group_of(wire_id, payload, session)
        sender = encode_str8(session.user.user_id)
        self._check_size(payload, sender, group)
        body_bytes = len(payload) + len(sender)
        head = encode_push_head(BUILT_IN_VER, Command.GROUP_BROADCAST, body_bytes)
        group.publish(head + wire_id + sender + payload[GROUP_ID_BYTES:], session, reliable)
        return b""

    def _group_of(self, wire_id: bytes, payload: bytes, session: ISession) -> LiveGroup:
        group = self._table.find(wire_id.decode("latin-1"))
        if group is None:
            decode_gid_message(payload)
            raise GroupNotFound
        if session not in group.channel:
            raise NotMember
        return group

    def _check_size(self, payload: bytes, sender: bytes, group: LiveGroup) -> None:
        if len(payload) + len(sender) > self._max_payload_bytes - group.extra_bytes:
            limit = self._max_payload_bytes - group.extra_bytes - GROUP_ID_BYTES - len(sender)
            raise MessageTooLarge(f"message of {len(payload) - GROUP_ID_BYTES} bytes, in a group {limit} fit")

    def _run_many(self, session: ISession, run: FrameRun, answers: Answers) -> None:
        payloads, request_ids, reliable = run.payloads, run.request_ids, run.is_reliable
        place = 0
        while place < len(payloads):
            taken = self._publish_neighbours(session, payloads, place, reliable)
            if taken:
                answers.accept(request_ids[place : place + taken])
            else:
                taken = 1
                try:
                    self._run(session, payloads[place], reliable)
                except CommandError as error:
                    answers.refuse(request_ids[place], error)
                else:
                    answers.accept([request_ids[place]])
            place += taken

    def _publish_neighbours(self, session: ISession, payloads: list[bytes], start: int, reliable: bool) -> int:
        """Publish the payloads from `start` on that go to the same group, in one piece.

        :returns: how many they were; 0: the first one must be looked at by itself.
        """
        wire_id = payloads[start][:GROUP_ID_BYTES]
        group = self._table.find(wire_id.decode("latin-1"))
        if group is None or session not in group.channel:
            return 0
        sender = encode_str8(session.user.user_id)
        limit = self._max_payload_bytes - group.extra_bytes
        frames, count = join_pushes(Command.GROUP_BROADCAST, payloads, start, sender, limit)
        if count:
            group.publish(frames, session, reliable, count)
        return count
