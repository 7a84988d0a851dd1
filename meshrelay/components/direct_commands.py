"""The commands of direct messages (client protocol, section 3): frames to messages, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

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
from meshrelay.wire.frame import FrameRun, encode_push_head
from meshrelay.wire.prepared import Batch

__all__ = ["MAX_KNOWN_HEADS", "DirectCommands"]

#: Beginnings of payloads of which it is remembered whom they name, and the other way round.
MAX_KNOWN_HEADS = 4096

_VER = BUILT_IN_VER
_DM_SEND = CommandNumber.DM_SEND.value


def _peer_of(head: bytes) -> str | None:
    """The peer whom the beginning of a payload names; None: it is none."""
    try:
        return decode_direct(head).user_id
    except MalformedPayload:
        return None


class DirectCommands:
    """What clients may call.

    :param clear_channel: ends a channel at both ends.
    :param max_payload_bytes: a push is never longer.
    """

    def __init__(
        self,
        routes: DirectRoutes,
        delivery: DirectDelivery,
        clear_channel: Callable[[Clear], object],
        max_payload_bytes: int,
    ) -> None:
        self._routes = routes
        self._delivery = delivery
        self._clear_channel = clear_channel
        self._max_payload_bytes = max_payload_bytes
        # Who talks does so more than once; the commonest heads are not read anew for each message.
        self._peer_of = lru_cache(MAX_KNOWN_HEADS)(_peer_of)
        self._sender_of = lru_cache(MAX_KNOWN_HEADS)(encode_str8)
        self._send = PipelinedCommand(BUILT_IN_VER, CommandNumber.DM_SEND, self._run_many)
        self._clear = Command(BUILT_IN_VER, CommandNumber.DM_CLEAR, self._run_clear)

    def table(self) -> Mapping[tuple[int, int], Command]:
        """Return (ver, cmd) -> command."""
        return {(command.ver, command.cmd): command for command in (self._send, self._clear)}

    def _run_many(self, session: ISession, frames: FrameRun, answers: Answers) -> None:
        # The hot path: messages in a row to the same peer of this node are pushed, and answered, all at once.
        user = session.user
        sender = self._sender_of(user.user_id)
        limit = self._max_payload_bytes - len(sender)
        head, peer, size = None, None, -1
        #: What is to be pushed to `peer`, and where the first of it stands in the run.
        pushes: list[bytes] = []
        first = 0
        for place, payload in enumerate(frames.payloads):
            start = payload[0] + 1 if payload else 0
            if payload[:start] != head:
                if pushes:
                    self._deliver(pushes, peer, frames.request_ids[first:place], answers)
                    pushes = []
                first = place
                head = payload[:start]
                peer, size = self._peer_here(user.user_id, head), -1
            if peer is not None and start < len(payload) <= limit + start:
                if len(payload) != size:
                    size = len(payload)
                    push_head = encode_push_head(_VER, _DM_SEND, len(sender) + size - start) + sender
                pushes.append(push_head + payload[start:])
            else:
                if pushes:
                    self._deliver(pushes, peer, frames.request_ids[first:place], answers)
                    pushes = []
                first = place + 1
                self._run_one(user, frames.request_ids[place], payload, limit, answers)
        if pushes:
            self._deliver(pushes, peer, frames.request_ids[first:] if first else frames.request_ids, answers)

    def _peer_here(self, user_id: str, head: bytes) -> ISession | None:
        """The session of a peer to whom messages can be pushed at once; None: they must go the long way."""
        if self._delivery.has_callbacks:
            return None
        peer_id = self._peer_of(head)
        return self._routes.session_here(user_id, peer_id) if peer_id is not None else None

    def _deliver(self, pushes: list[bytes], peer: ISession | None, request_ids: list[int], answers: Answers) -> None:
        if peer is not None:
            peer.deliver(Batch(pushes))
            self._routes.sent += len(pushes)
            self._delivery.delivered += len(pushes)
            answers.accept(request_ids)

    def _run_one(self, user: User, request_id: int, payload: bytes, limit: int, answers: Answers) -> None:
        try:
            peer_id, message = decode_direct(payload)
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
