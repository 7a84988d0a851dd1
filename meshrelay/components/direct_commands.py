"""The commands of direct messages (client protocol, section 3): frames to messages, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from meshrelay.components.direct_delivery import DirectDelivery, check_message_size
from meshrelay.components.direct_routes import DirectRoutes
from meshrelay.components.hooks import Answers, Command, PipelinedCommand
from meshrelay.errors import CommandError, MalformedPayload, MessageIsEmpty
from meshrelay.interfaces import ISession
from meshrelay.model import User
from meshrelay.wire.buffer import encode_str8
from meshrelay.wire.commands import BUILT_IN_VER, decode_direct
from meshrelay.wire.commands import Command as CommandNumber
from meshrelay.wire.direct_node import Clear, Direct
from meshrelay.wire.frame import Frame, encode_push
from meshrelay.wire.prepared import Batch

__all__ = ["DirectCommands"]


class DirectCommands:
    """What clients may call.

    :param clear_channel: ends a channel at both ends.
    :param used: called when channels were used.
    :param max_payload_bytes: a push is never longer.
    """

    def __init__(
        self,
        routes: DirectRoutes,
        delivery: DirectDelivery,
        clear_channel: Callable[[Clear], object],
        used: Callable[[], object],
        max_payload_bytes: int,
    ) -> None:
        self._routes = routes
        self._delivery = delivery
        self._clear_channel = clear_channel
        self._used = used
        self._max_payload_bytes = max_payload_bytes
        self._send = PipelinedCommand(BUILT_IN_VER, CommandNumber.DM_SEND, self._run_many)
        self._clear = Command(BUILT_IN_VER, CommandNumber.DM_CLEAR, self._run_clear)

    def table(self) -> Mapping[tuple[int, int], Command]:
        """Return (ver, cmd) -> command."""
        return {(command.ver, command.cmd): command for command in (self._send, self._clear)}

    def _run_many(self, session: ISession, frames: list[Frame], answers: Answers) -> None:
        # The hot path: messages in a row to the same peer of this node are pushed, and answered, all at once.
        user = session.user
        sender = encode_str8(user.user_id)
        limit = self._max_payload_bytes - len(sender)
        head, peer = None, None
        run: list[tuple[int, bytes]] = []
        for frame in frames:
            payload = frame.payload
            start = payload[0] + 1 if payload else 0
            if payload[:start] != head:
                self._deliver_run(run, peer, sender, answers)
                run = []
                head, peer = payload[:start], self._peer_here(user.user_id, payload)
            message = payload[start:]
            if peer is not None and 0 < len(message) <= limit:
                run.append((frame.request_id, message))
                continue
            self._deliver_run(run, peer, sender, answers)
            run = []
            self._run_one(user, frame, limit, answers)
        self._deliver_run(run, peer, sender, answers)
        self._used()

    def _peer_here(self, user_id: str, payload: bytes) -> ISession | None:
        """The session of a peer to whom messages can be pushed at once; None: they must go the long way."""
        if self._delivery.has_callbacks:
            return None
        try:
            peer_id, _ = decode_direct(payload)
        except MalformedPayload:
            return None
        return self._routes.session_here(user_id, peer_id)

    def _deliver_run(
        self, run: list[tuple[int, bytes]], peer: ISession | None, sender: bytes, answers: Answers
    ) -> None:
        if run and peer is not None:
            frames = [encode_push(BUILT_IN_VER, CommandNumber.DM_SEND, sender + message) for _, message in run]
            peer.deliver(Batch(frames))
            self._routes.sent += len(run)
            self._delivery.delivered += len(run)
            answers.accept([request_id for request_id, _ in run])

    def _run_one(self, user: User, frame: Frame, limit: int, answers: Answers) -> None:
        request_id = frame.request_id
        try:
            peer_id, message = decode_direct(frame.payload)
            if not message:
                raise MessageIsEmpty
            check_message_size(message, limit)
        except CommandError as error:
            answers.refuse(request_id, error)
            return

        def done(error: CommandError | None) -> None:
            if error is None:
                answers.accept([request_id])
            else:
                answers.refuse(request_id, error)

        direct = Direct(user.user_id, user.sid, peer_id, BUILT_IN_VER, CommandNumber.DM_SEND, True, message)
        self._routes.send(direct, done)

    def _run_clear(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        peer_id, message = decode_direct(payload)
        user_id = session.user.user_id
        check_message_size(message, self._max_payload_bytes - len(encode_str8(user_id)))
        self._clear_channel(Clear(user_id, peer_id, BUILT_IN_VER, CommandNumber.DM_CLEAR, True, message))
        return b""
