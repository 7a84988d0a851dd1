"""A node in memory that serves one kind of group, so that the chat-like commands can be tried without ports."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from meshrelay.client import Client
from meshrelay.client.address import NodeAddress
from meshrelay.client.identity import LinkTraits
from meshrelay.client.links import Credentials, Link, LinkReceiver
from meshrelay.client.options import ClientOptions
from meshrelay.model import Status
from meshrelay.wire.commands import (
    CORE_VER,
    Command,
    CoreCommand,
    decode_gid_message,
    decode_join_random,
    encode_created,
    encode_error,
    encode_pushed_message,
)
from meshrelay.wire.frame import Frame
from tests.client.node_end import NodeEnd, welcome_payload

__all__ = ["MemoryGroupNode"]

RANDOM_GROUP = "r" * 52


class _ServingEnd(NodeEnd):
    """One user's connection."""

    def __init__(self, node: MemoryGroupNode, receiver: LinkReceiver, credentials: Credentials) -> None:
        super().__init__(receiver, credentials)
        self._node = node

    def write(self, frames: Any) -> None:
        before = len(self.frames)
        super().write(frames)
        for frame in self.frames[before:]:
            # As over a wire: the answer comes in a turn of its own.
            self._node.clock.callLater(0, self._node.serve, self, frame)


class MemoryGroupNode:
    """Groups that exist, who is in them, and which pings are answered.

    :ivar groups: ID -> user IDs; what is not in it does not exist.
    """

    def __init__(self, *static_groups: str) -> None:
        self.clock = Clock()
        self.groups: dict[str, list[str]] = {group_id: [] for group_id in static_groups}
        self.ends: dict[str, NodeEnd] = {}
        self.answers_ping = True
        self.refuses_broadcasts = False

    def client(self, user: str) -> Client:
        """A client that is signed in."""
        client = Client(self.clock, "tcp://127.0.0.1:7200", user, opener=self.open)
        client.connect()
        self.turn()
        return client

    def turn(self, seconds: float = 0.0) -> None:
        """Let everything happen that is due."""
        self.clock.advance(seconds)
        for _ in range(20):
            self.clock.advance(0)

    def open(
        self,
        reactor: Any,
        address: NodeAddress,
        receiver: LinkReceiver,
        credentials: Credentials,
        options: ClientOptions,
    ) -> Deferred[tuple[Link, LinkTraits]]:
        """See `meshrelay.client.links.open_link`."""
        assert credentials.user is not None
        self.ends[credentials.user] = end = _ServingEnd(self, receiver, credentials)
        return succeed((end, LinkTraits()))

    def restart(self) -> None:
        """Forget every group and every connection, as a node that was started again."""
        self.groups.clear()
        for end in list(self.ends.values()):
            end.receiver.link_lost(None, "broken")

    def serve(self, end: NodeEnd, frame: Frame) -> None:
        """Answer one frame."""
        user = end.credentials.user or ""
        if (frame.ver, frame.cmd) == (CORE_VER, CoreCommand.HELLO):
            end.answer(frame, welcome_payload(user=user))
        elif (frame.ver, frame.cmd) == (CORE_VER, CoreCommand.PING):
            if self.answers_ping:
                end.answer(frame, frame.payload)
        elif frame.cmd == Command.GROUP_JOIN_RANDOM:
            is_new = RANDOM_GROUP not in self.groups
            self._join(RANDOM_GROUP, user, decode_join_random(frame.payload).message)
            end.answer(frame, encode_created(is_new, RANDOM_GROUP))
        elif frame.ver != CORE_VER:
            self._serve_group(end, frame, user)

    def _serve_group(self, end: NodeEnd, frame: Frame, user: str) -> None:
        group_id, message = decode_gid_message(frame.payload)
        if group_id not in self.groups or (self.refuses_broadcasts and frame.cmd == Command.GROUP_BROADCAST):
            end.answer(frame, encode_error(21, "no such group"), Status.BAD)
            return
        if frame.cmd == Command.GROUP_JOIN:
            self._join(group_id, user, message)
        else:
            self._tell(group_id, user, frame.cmd, message)
            if frame.cmd == Command.GROUP_LEAVE:
                self.groups[group_id].remove(user)
        end.answer(frame)

    def _join(self, group_id: str, user: str, message: bytes) -> None:
        self._tell(group_id, user, Command.GROUP_JOIN, message)
        self.groups.setdefault(group_id, []).append(user)

    def _tell(self, group_id: str, user: str, cmd: int, message: bytes) -> None:
        for member in self.groups.get(group_id, []):
            if member != user and (message or cmd == Command.GROUP_BROADCAST):
                self.ends[member].push(1, cmd, encode_pushed_message(group_id, user, message))
