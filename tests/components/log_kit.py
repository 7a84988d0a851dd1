"""Members of groups with history, for tests: they follow a group as the client library does."""

from __future__ import annotations

from random import Random

from meshrelay.client.events import Event, GroupMessageReceived, GroupRecovered
from meshrelay.client.positions import GroupPositions
from meshrelay.config.history import GroupHistory
from meshrelay.config.schema import Config, GroupConfig, SessionConfig
from meshrelay.model import Status
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.node import MemoryClient
from meshrelay.wire.commands import (
    BUILT_IN_VER,
    CORE_VER,
    Command,
    CoreCommand,
    decode_pushed_message,
    encode_gid_message,
)
from meshrelay.wire.hello import Hello, decode_welcome, encode_hello
from meshrelay.wire.history_commands import (
    AskRecover,
    Recovered,
    decode_logged_push,
    decode_recovered,
    encode_ask_recover,
)

__all__ = ["Follower", "Plain", "World", "log_config", "recover"]


def log_config(size: int = 100, ttl_seconds: float = 300.0, **group: object) -> Config:
    """A configuration in which every group has a history."""
    rule = GroupHistory(pattern="*", history_size=size, history_ttl_seconds=ttl_seconds)
    return Config(
        group=GroupConfig(send_interval_ms=0, history=(rule,), **group),  # type: ignore[arg-type]
        session=SessionConfig(resume_seconds=30),
    )


def recover(client: MemoryClient, group_id: str, epoch: int = 0, offset: int = 0) -> Recovered:
    """GROUP_RECOVER on one node."""
    payload = encode_ask_recover(AskRecover(group_id, epoch, offset, b""))
    return decode_recovered(client.request(Command.GROUP_RECOVER, payload).payload)


class Plain:
    """A member without offsets that never goes away.

    :ivar heard: messages in order.
    """

    def __init__(self, client: MemoryClient) -> None:
        self._client = client
        self.heard: list[bytes] = []

    def read(self) -> None:
        """Take what has come."""
        for frame in self._client.pushes():
            if frame.cmd == Command.GROUP_BROADCAST:
                self.heard.append(decode_pushed_message(frame.payload).message)


class Follower:
    """A member that comes back again and again.

    :ivar stretches: between two moments at which something may have been missed: (epoch, offset, message) in order.
    :ivar answers: to GROUP_RECOVER, each with the position that was asked for.
    """

    def __init__(self, world: World, user_id: str) -> None:
        self._world = world
        self.user_id = user_id
        self.client: MemoryClient | None = None
        self.node_id = ""
        self.positions = GroupPositions()
        self.positions.follow(world.group_id, 0, 0)
        self.stretches: list[list[tuple[int, int, bytes]]] = [[]]
        self.answers: list[tuple[tuple[int, int], Recovered]] = []
        self._request_id: int | None = None
        self._asked = (0, 0)
        self._read = 0
        self._sid: str | None = None

    def connect(self, node_id: str, is_resumed: bool) -> None:
        """Sign in at a node; what was missed is asked for when the node lets us in."""
        self.node_id = node_id
        self.client = self._world.cluster[node_id].connect()
        self._read = 0
        self._request_id = None
        hello = Hello(protocol=1, user=self.user_id, resume=self._sid if is_resumed else None)
        self.client.ask(CoreCommand.HELLO, encode_hello(hello), CORE_VER)

    def lose(self) -> None:
        """Break the connection."""
        if self.client is not None:
            self.client.link.lose()
            self.gone()

    def gone(self) -> None:
        """The connection is no more."""
        self.client = None
        self.positions.unanswered(self._world.group_id)
        self._request_id = None

    def read(self) -> None:
        """Take what has come, in its order."""
        client = self.client
        if client is None:
            return
        received = client.link.received
        while self._read < len(received):
            frame = received[self._read]
            self._read += 1
            if frame.status != Status.PUSH:
                if frame.ver == CORE_VER and frame.cmd == CoreCommand.HELLO:
                    self._welcomed(client, frame.payload)
                elif frame.request_id == self._request_id:
                    self._answered(client, frame.status, frame.payload)
            elif frame.cmd == Command.GROUP_RECOVER and frame.ver == BUILT_IN_VER:
                push = decode_logged_push(frame.payload)
                events, is_missing = self.positions.pushed(push, self.user_id)
                self._told(events, push.epoch)
                if is_missing:
                    self._ask(client)

    def _welcomed(self, client: MemoryClient, payload: bytes) -> None:
        welcome = decode_welcome(payload)
        self._sid = welcome.sid
        if not (welcome.resumed and welcome.recovered):
            self._ask(client)

    def _ask(self, client: MemoryClient) -> None:
        position = self.positions.asks(self._world.group_id, True)
        if position is not None:
            self._asked = position
            payload = encode_ask_recover(AskRecover(self._world.group_id, *position, b""))
            self._request_id = client.ask(Command.GROUP_RECOVER, payload)

    def _answered(self, client: MemoryClient, status: int, payload: bytes) -> None:
        self._request_id = None
        if status != Status.OK:
            self.positions.unanswered(self._world.group_id)
            self._world.refused += 1
            self._world.cluster.clock.callLater(0.5, self._ask_again, client)
            return
        answer = decode_recovered(payload)
        self.answers.append((self._asked, answer))
        self._told(self.positions.answered(self._world.group_id, answer), 0)

    def _ask_again(self, client: MemoryClient) -> None:
        if self.client is client:
            self._ask(client)

    def _told(self, events: list[Event], epoch: int) -> None:
        for event in events:
            if isinstance(event, GroupRecovered) and not event.recovered:
                self.stretches.append([])
            elif isinstance(event, GroupMessageReceived):
                self.stretches[-1].append((epoch, event.offset, event.message))

    def say(self, message: bytes) -> None:
        """Broadcast."""
        if self.client is not None:
            self.client.send(Command.GROUP_BROADCAST, encode_gid_message(self._world.group_id, message), reliable=True)


class World:
    """A cluster with one group, its plain members and followers, and a seed that decides what happens.

    :ivar said: messages that were broadcast, with their senders.
    """

    def __init__(self, seed: int, size: int, node_count: int = 3) -> None:
        self.random = Random(seed)
        self.refused = 0
        self._names = [f"n{number}" for number in range(node_count)]
        self._lives = 0
        self.cluster = GroupCluster(self._names, log_config(size), seed=seed)
        maker = self.cluster["n0"].sign_in("maker")
        self.group_id = maker.create_group(allow_empty=True, ttl_seconds=100_000)
        self.maker = Plain(maker)
        self.said: dict[bytes, str] = {}
        self.followers = [Follower(self, f"user-{number}") for number in range(4)]
        for follower in self.followers:
            follower.connect(self.random.choice(self._names), False)
        self.run(1.0)

    def run(self, seconds: float) -> None:
        """Let time pass, and everybody read."""
        for _ in range(max(1, round(seconds / 0.02))):
            self.cluster.run(0.02, 0.02)
            for follower in self.followers:
                follower.read()
            self.maker.read()

    def step(self, may_kill: bool) -> None:
        """Let something happen."""
        random = self.random
        follower = random.choice(self.followers)
        what = random.random()
        if what < 0.6:
            for _ in range(random.choice((1, 1, 1, 3, 10))):
                message = f"{len(self.said)}".encode()
                self.said[message] = follower.user_id
                follower.say(message)
        elif what < 0.75:
            follower.lose()
        elif what < 0.97 or not may_kill or len(self.cluster.node_ids) < 3:
            if follower.client is None:
                follower.connect(random.choice(self.cluster.node_ids), random.random() < 0.7)
        else:
            self.kill(random.choice([node_id for node_id in self.cluster.node_ids if node_id != "n0"]))
        self.run(random.choice((0.02, 0.02, 0.1, 0.5)))

    def kill(self, node_id: str) -> None:
        """End a node, and start another one."""
        self.cluster.kill(node_id)
        for follower in self.followers:
            if follower.node_id == node_id:
                follower.gone()
        self._lives += 1
        self.cluster.add(f"x{self._lives}")

    def settle(self) -> None:
        """Let everybody come back, and what is on its way arrive."""
        self.run(35.0)
        for follower in self.followers:
            if follower.client is None:
                follower.connect(self.random.choice(self.cluster.node_ids), True)
        self.run(3.0)
        self.followers[0].say(b"the end")
        self.run(3.0)
