"""Clients that hop from node to node, for stories: all ways take their time, and a seed decides what happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from meshrelay.config.schema import SessionConfig
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.records import UserRecord
from meshrelay.mesh.registration import Registration
from meshrelay.model import Status
from meshrelay.testing.builders import make_group_id
from meshrelay.testing.paired_nodes import PairedNodes
from meshrelay.wire.commands import CORE_VER, CoreCommand, decode_goodbye
from meshrelay.wire.frame import Frame
from meshrelay.wire.hello import Hello, decode_welcome, encode_hello
from tests.session.roaming_kit import HELLO_ID, Client, DirectClaims, RoamingKit, RoamingNode

__all__ = ["Hopper", "HopWorld"]

T = TypeVar("T")

#: A client whose HELLO is not answered for so long tries another connection.
PATIENCE_SECONDS = 8.0

G = make_group_id("g")


class Way:
    """One direction of one connection: what is sent arrives later, in its order."""

    def __init__(self, clock: Clock, delay: Callable[[], float]) -> None:
        self._clock = clock
        self._delay = delay
        self._last_at = 0.0

    def send(self, callback: Callable[..., object], *args: object) -> None:
        """Call it at the other end."""
        self._send_in(self._delay(), callback, *args)

    def end(self, callback: Callable[[], object]) -> None:
        """The same, with no more to wait for than what was sent before."""
        self._send_in(0.001, callback)

    def _send_in(self, seconds: float, callback: Callable[..., object], *args: object) -> None:
        now = self._clock.seconds()
        self._last_at = max(self._last_at + 1e-6, now + seconds)
        self._clock.callLater(self._last_at - now, callback, *args)


class FarDirectory:
    """A directory at the end of a line, as one node has it; only what sessions ask."""

    refresh_seconds = 0.0

    def __init__(self, directory: MemoryDirectory, there: Way, back: Way) -> None:
        self._directory = directory
        self._there = there
        self._back = back

    def _ask(self, call: Callable[..., Deferred[T]], *args: object) -> Deferred[T]:
        answer: Deferred[T] = Deferred()

        def ask() -> None:
            call(*args).addBoth(lambda result: self._back.send(answer.callback, result))

        self._there.send(ask)
        return answer

    def find_user(self, user_id: str) -> Deferred[UserRecord | None]:
        """See `IDirectory`."""
        return self._ask(self._directory.find_user, user_id)

    def claim_user(self, record: UserRecord) -> Deferred[UserRecord | None]:
        """See `IDirectory`."""
        return self._ask(self._directory.claim_user, record)

    def release_user(self, user_id: str, sid: str, node_id: str) -> Deferred[bool]:
        """See `IDirectory`."""
        return self._ask(self._directory.release_user, user_id, sid, node_id)

    def refresh(
        self, node_id: str, users: Iterable[UserRecord], groups: Iterable[tuple[str, bytes]]
    ) -> Deferred[list[UserRecord]]:
        """See `IDirectory`."""
        return self._ask(self._directory.refresh, node_id, list(users), list(groups))

    def watch_lost(self, callback: Callable[[], object]) -> None:
        """See `IDirectory`; nothing is ever lost."""


class RealClaims(DirectClaims):
    """The registration as a node has it."""

    def __init__(self, directory: IDirectory, node_id: str, clock: Clock) -> None:
        self.roaming = None
        self._registration = Registration(
            directory,
            node_id,
            clock,
            self._records,
            tuple,
            self._displaced,
            self._taken_over,
        )
        self._registration.start()

    def _records(self) -> Iterable[UserRecord]:
        return self.roaming.records() if self.roaming is not None else ()

    def _displaced(self, record: UserRecord | None) -> None:
        if self.roaming is not None and record is not None:
            self.roaming.displaced(record)

    def _taken_over(self, record: UserRecord) -> None:
        if self.roaming is not None:
            self.roaming.taken_over(record)

    def claim(self, record: UserRecord) -> None:
        """See `UserRegistration`."""
        self._registration.claim(record)

    def release(self, user_id: str, sid: str) -> None:
        """See `UserRegistration`."""
        self._registration.release(user_id, sid)

    def moved(self, user_id: str, sid: str) -> None:
        """See `UserRegistration`."""
        self._registration.moved(user_id, sid)


class FarNodes(PairedNodes):
    """Nodes that reach each other sooner or later."""

    def __init__(self, clock: Clock, delay: Callable[[], float]) -> None:
        super().__init__("abc", clock)
        self._far_clock = clock
        self._delay = delay

    def later(self, callback: Callable[[], object]) -> None:
        """See `PairedNodes`."""
        self._far_clock.callLater(self._delay(), callback)


class Call:
    """One connection of a `Hopper`, as it sees it.

    :param there: the way to the node, of all connections of one client: what it says later is read later.
    """

    def __init__(self, world: HopWorld, node: RoamingNode, there: Way) -> None:
        self.node = node
        self._there = there
        self._is_cut = False
        self.back = Way(world.clock, world.delay)
        self.client: Client | None = None
        self.read = 0
        self.is_online = False

    def say(self, callback: Callable[..., object], *args: object) -> None:
        """Have it done at the node, unless the connection is cut before."""
        self._there.send(lambda: None if self._is_cut else callback(*args))

    def lose(self) -> None:
        """The connection ends, and the node hears of it behind what was said."""
        self._there.end(self._lost)

    def _lost(self) -> None:
        if self.client is not None:
            self.client.lose()

    def cut(self) -> None:
        """What is on its way does not arrive, and the node is not told."""
        self._is_cut = True


class Hopper:
    """A client like that of the library: it has one connection at a time, and goes on with its session.

    :ivar heard: payloads of pushes.
    :ivar codes: close codes that it was told on the connection that it had.
    :ivar welcomes: (resumed, recovered) of each sign-in.
    """

    def __init__(self, world: HopWorld, user_id: str, acks: bool) -> None:
        self.user_id = user_id
        self.sid = ""
        self.heard: list[bytes] = []
        self.codes: list[int] = []
        self.errors: list[Frame] = []
        self.welcomes: list[tuple[bool, bool]] = []
        self.call: Call | None = None
        self._world = world
        self._acks = acks
        self._received = 0
        self._ways = {node_id: Way(world.clock, world.delay) for node_id in "abc"}
        self._group: list[str] = [G] if world.random.random() < 0.6 else []

    def hop(self, node: RoamingNode, is_anew: bool = False) -> None:
        """Leave the connection, if there is one, and find another."""
        self.drop()
        if is_anew:
            self.sid = ""
        call = self.call = Call(self._world, node, self._ways[node.node_id])
        call.say(self._open, call)
        self._world.clock.callLater(PATIENCE_SECONDS, self._give_up, call)

    def _open(self, call: Call) -> None:
        if not self._world.is_alive(call.node):
            call.back.send(self._lost, call)
            return
        call.client = Client(call.node)
        self._world.calls.append((self, call))
        hello = Hello(
            protocol=1,
            user=self.user_id,
            acks=self._acks,
            resume=self.sid or None,
            received=self._received if self.sid and self._acks else None,
        )
        if call is self.call:
            self._send(call, CoreCommand.HELLO, encode_hello(hello), HELLO_ID)

    def _send(self, call: Call, cmd: int, payload: bytes, request_id: int = 0) -> None:
        client = call.client
        assert client is not None
        call.say(client.send, cmd, payload, CORE_VER, request_id)

    def drop(self) -> None:
        """The line breaks: the node hears of it soon, or when it has not heard anything for too long."""
        call, self.call = self.call, None
        if call is None:
            return
        if self._world.random.random() < 0.8:
            call.lose()
        else:
            call.cut()

    def _give_up(self, call: Call) -> None:
        if call is self.call and not call.is_online:
            self._again(call)

    def _again(self, call: Call) -> None:
        self.drop()
        self._world.clock.callLater(self._world.random.choice((0.05, 0.2, 1.0)), self._come_back)

    def _come_back(self) -> None:
        if self.call is None:
            self.hop(self._world.any_node())

    def _lost(self, call: Call) -> None:
        if call is self.call:
            self._again(call)

    def read(self, call: Call) -> None:
        """Have what the node has sent brought here."""
        client = call.client
        assert client is not None
        frames = client.link.received
        while call.read < len(frames):
            call.back.send(self._hear, call, frames[call.read])
            call.read += 1
        if client.link.is_closed or not self._world.is_alive(call.node):
            self._world.calls.remove((self, call))
            call.back.send(self._lost, call)

    def _hear(self, call: Call, frame: Frame) -> None:
        if call is not self.call:
            return
        if frame.request_id == HELLO_ID:
            self._answered(call, frame)
        elif frame.status == Status.PUSH and frame.ver != CORE_VER:
            self.heard.append(frame.payload)
            self._received += 1
            if self._acks and self._world.random.random() < 0.5:
                self._send(call, CoreCommand.ACK, self._received.to_bytes(4, "big"))
        elif frame.status == Status.PUSH and frame.cmd == CoreCommand.PING:
            self._send(call, CoreCommand.PONG, frame.payload)
        elif frame.status == Status.PUSH and frame.cmd == CoreCommand.GOODBYE:
            self.codes.append(decode_goodbye(frame.payload)[0])
            if self.codes[-1] >= 4500:
                self.sid = ""
            self._again(call)

    def _answered(self, call: Call, frame: Frame) -> None:
        if frame.status != Status.OK:
            self.errors.append(frame)
            self._again(call)
            return
        welcome = decode_welcome(frame.payload)
        if not welcome.resumed:
            self._received = 0
        self.sid = welcome.sid
        self.welcomes.append((welcome.resumed, welcome.recovered))
        call.is_online = True
        self._world.joined(call.node, self, self._group)


class HopWorld(RoamingKit):
    """Three nodes, some users, and a seed.

    :param skew_seconds: how far the clocks of the nodes may differ.
    :ivar has_killed: a node has died; what it was to tell others is told to nobody.
    """

    def __init__(self, seed: int, skew_seconds: float = 0.0) -> None:
        self.random = Random(seed)
        self.calls: list[tuple[Hopper, Call]] = []
        #: Most delays of a story are below this.
        self._usual_seconds = self.random.choice((0.001, 0.01, 0.1))
        self._far: dict[str, FarDirectory] = {}
        self._number = 0
        self.has_killed = False
        super().__init__(SessionConfig(resume_seconds=60))
        for node in (self.a, self.b, self.c):
            node.clock_is_off_by = round(self.random.uniform(-skew_seconds, skew_seconds) * 1e6)
        self.hoppers = [Hopper(self, user_id, acks) for user_id, acks in (("ann", True), ("bob", True), ("cid", False))]
        for hopper in self.hoppers:
            hopper.hop(self.any_node())
        self.run(1.0)

    def make_nodes(self, with_delay: bool) -> PairedNodes:
        """See `RoamingKit`."""
        return FarNodes(self.clock, self.delay)

    def directory_of(self, node_id: str) -> IDirectory:
        """See `RoamingKit`."""
        if node_id not in self._far:
            ways = (Way(self.clock, self.delay), Way(self.clock, self.delay))
            self._far[node_id] = FarDirectory(self.directory, *ways)
        return self._far[node_id]  # type: ignore[return-value]

    def make_claims(self, node_id: str) -> DirectClaims:
        """See `RoamingKit`."""
        return RealClaims(self.directory_of(node_id), node_id, self.clock)

    def delay(self) -> float:
        """How long something takes; a machine may stall now and then."""
        if self.random.random() < 0.03:
            return self.random.choice((0.2, 0.7, 2.5))
        return self.random.random() * self._usual_seconds

    def is_alive(self, node: RoamingNode) -> bool:
        """Whether a node lives."""
        return node.node_id in self._living

    def any_node(self) -> RoamingNode:
        """Return one that lives."""
        return self.random.choice([node for node in (self.a, self.b, self.c) if self.is_alive(node)])

    def living(self, user_id: str) -> list[str]:
        """The living nodes that have a session of a user."""
        return [node_id for node_id in self.where(user_id) if node_id in self._living]

    def joined(self, node: RoamingNode, hopper: Hopper, group_ids: list[str]) -> None:
        """A client is in, and in its groups; all nodes know who is in those."""
        session = node.registry.find_user(hopper.user_id)
        if session is not None and group_ids:
            node.groups.of[session] = group_ids
            for each in (self.a, self.b, self.c):
                each.groups.known[hopper.user_id, hopper.sid] = group_ids

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(max(1, round(seconds / 0.005))):
            self.clock.advance(0.005)
            for hopper, call in list(self.calls):
                hopper.read(call)
            if self.clock.seconds() >= self._registered_at + 3:
                self._register()

    def step(self) -> None:
        """Let something happen."""
        random = self.random
        hopper = random.choice(self.hoppers)
        what = random.random()
        if what < 0.35:
            hopper.hop(self.any_node())
        elif what < 0.5:
            hopper.hop(self.any_node())
            self.run(random.choice((0.005, 0.02, 0.1)))
            hopper.hop(self.any_node())
        elif what < 0.53:
            hopper.hop(self.any_node(), is_anew=True)
        elif what < 0.8:
            self.push(hopper)
        elif what < 0.805 and len(self._living) == 3:
            self.has_killed = True
            self.kill(self.any_node())
        self.run(random.choice((0.005, 0.005, 0.02, 0.1, 0.5)))

    def push(self, hopper: Hopper) -> None:
        """Push to a user where the directory says."""
        record = self.record(hopper.user_id)
        node = next((each for each in (self.a, self.b, self.c) if record and each.node_id == record.node_id), None)
        session = node.registry.find_user(hopper.user_id) if node is not None else None
        if session is not None:
            self._number += 1
            session.push(1, 113, b"%d" % self._number, True)

    def settle(self) -> None:
        """Let all come back, and what is on its way arrive."""
        self.run(25.0)
