"""Clusters in memory for tests of rooms, and what their clients are told, short."""

from __future__ import annotations

from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.rooms import Rooms
from meshrelay.config.schema import Config, GroupConfig, RoomConfig, SessionConfig
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import Room, Status, User
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.memory_mesh import Line
from meshrelay.testing.node import MemoryClient
from meshrelay.wire.commands import Command, CoreCommand, decode_error, decode_pushed_message, encode_gid_message
from meshrelay.wire.frame import Frame
from meshrelay.wire.hello import Hello, decode_welcome, encode_hello
from meshrelay.wire.room_commands import (
    NewRoom,
    RoomList,
    decode_owner,
    decode_pushed_owner,
    decode_room_list,
    encode_new_room,
)

__all__ = ["RESUME_SECONDS", "RoomTestCase", "Told", "room_config", "told"]

RESUME_SECONDS = 4.0

_NAMES = {
    Command.ROOM_JOIN: "joined",
    Command.ROOM_LEAVE: "left",
    Command.ROOM_BROADCAST: "said",
    Command.ROOM_LOST: "lost",
}


class Told(NamedTuple):
    """A push in a room."""

    what: str
    user_id: str
    message: bytes = b""


def told(client: MemoryClient) -> list[Told]:
    """What came to a client of rooms since the last call; pushes of an application are "app" and its numbers."""
    pushes = []
    for frame in client.pushes():
        if frame.ver != 1:
            pushes.append(Told("app", f"{frame.ver}.{frame.cmd}", frame.payload))
        elif frame.cmd == Command.ROOM_OWNER:
            pushes.append(Told("owner", decode_pushed_owner(frame.payload).owner))
        else:
            pushes.append(Told(_NAMES[Command(frame.cmd)], *decode_pushed_message(frame.payload)[1:]))
    return pushes


def room_config(room: RoomConfig = RoomConfig()) -> Config:  # noqa: B008  (frozen)
    """The configuration of a node of the kit."""
    return Config(
        group=GroupConfig(send_interval_ms=0),
        session=SessionConfig(resume_seconds=RESUME_SECONDS, max_payload_bytes=4096),
        room=room,
    )


class RoomTestCase(SynchronousTestCase):
    """Nodes "a", "b" and "c"."""

    node_ids: tuple[str, ...] = ("a", "b", "c")
    config = room_config()
    line: Line | None = None

    def setUp(self) -> None:
        """Start them."""
        self.cluster = GroupCluster(self.node_ids, self.config, self.set_up, line=self.line)

    def set_up(self, relay: IMeshRelay) -> None:
        """The application of each node; none unless a test has one."""

    def sign_in(self, *user_ids: str, node_id: str = "a") -> list[MemoryClient]:
        """Clients of one node."""
        return [self.cluster[node_id].sign_in(user_id) for user_id in user_ids]

    def rooms(self, node_id: str = "a") -> Rooms:
        """The component of a node."""
        return self.cluster[node_id].rooms

    def user(self, user_id: str, node_id: str = "a") -> User:
        """A user as the application of a node sees one."""
        session = self.cluster[node_id].registry.find_user(user_id)
        assert session is not None
        return session.user

    def create(
        self,
        client: MemoryClient,
        max_members: int = 0,
        allow_empty: bool = False,
        join: bool = True,
        ttl_seconds: int = 60,
        interval_ms: int = 0,
    ) -> str:
        """Make a room."""
        wanted = NewRoom(max_members, allow_empty, join, ttl_seconds, interval_ms)
        answer = self.cluster.request(client, Command.ROOM_CREATE, encode_new_room(wanted))
        self.assertEqual(answer.status, Status.OK, answer)
        return answer.payload.decode("ascii")

    def ask(self, client: MemoryClient, cmd: Command, room_id: str, message: bytes = b"") -> Frame:
        """Ask for something of a room."""
        return self.cluster.request(client, cmd, encode_gid_message(room_id, message))

    def join(self, client: MemoryClient, room_id: str, message: bytes = b"") -> str:
        """Join, and return the owner."""
        answer = self.ask(client, Command.ROOM_JOIN, room_id, message)
        self.assertEqual(answer.status, Status.OK, answer)
        return decode_owner(answer.payload)

    def leave(self, client: MemoryClient, room_id: str, message: bytes = b"") -> None:
        """Leave."""
        self.assertEqual(self.ask(client, Command.ROOM_LEAVE, room_id, message).status, Status.OK)

    def say(self, client: MemoryClient, room_id: str, *messages: bytes) -> None:
        """Broadcast, without waiting for anything."""
        for message in messages:
            client.send(Command.ROOM_BROADCAST, encode_gid_message(room_id, message), reliable=True)

    def members(self, client: MemoryClient, room_id: str) -> RoomList:
        """Owner and members."""
        answer = self.ask(client, Command.ROOM_MEMBERS, room_id)
        self.assertEqual(answer.status, Status.OK, answer)
        return decode_room_list(answer.payload)

    def code(self, client: MemoryClient, cmd: Command, room_id: str, message: bytes = b"") -> int:
        """The code of a refusal."""
        answer = self.ask(client, cmd, room_id, message)
        self.assertNotEqual(answer.status, Status.OK)
        return decode_error(answer.payload)[0]

    def room(self, room_id: str, node_id: str = "a") -> Room:
        """The room as the application of a node sees it."""
        asked = Deferred.fromCoroutine(self.rooms(node_id).get_room(room_id))
        self.cluster.run(0.2)
        return self.successResultOf(asked)

    def quiet(self, *clients: MemoryClient) -> None:
        """Let everything arrive, and forget what clients were told until now."""
        self.cluster.run(0.2)
        for client in clients:
            client.frames()

    def resume(self, earlier: MemoryClient, node_id: str) -> MemoryClient:
        """Break a connection and resume its session at a node."""
        assert earlier.welcome is not None
        earlier.link.lose()
        client = self.cluster[node_id].connect()
        hello = encode_hello(Hello(protocol=1, user=earlier.welcome.user, resume=earlier.sid))
        request_id = client.ask(CoreCommand.HELLO, hello, ver=0)
        for _ in range(500):
            self.cluster.run(0.01)
            answer = client.answer_to(request_id)
            if answer is not None:
                client.welcome = decode_welcome(answer.payload)
                return client
        raise AssertionError("no answer to HELLO")

    def heard(self, client: MemoryClient) -> list[Told]:
        """What a client was told since the last call, when all of it has arrived."""
        self.cluster.run(0.2)
        return told(client)
