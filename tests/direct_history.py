"""Users of a cluster who write to each other while lines, connections and a node break, and a checker of what came.

The rules that `History.check` holds it to:

1. No message reaches its peer twice.
2. What reaches one session of a peer from one sender comes in the order in which it was sent: all that was sent by one
   connection, and all that was answered with OK. (A request that was not answered when its sender went to another node
   may still be on its way there, and be overtaken by what the sender asks of the other node. And a user who signs in
   anew has two sessions until the node of the first one is told.)
3. A message that was answered with OK reaches its peer, unless it was taken while the peer's client did not read and
   what was kept for that client was given up afterwards. A client does not read from when its line is stuck, or its
   connection has broken, until it is back. What was kept is given up in exactly these cases:

   * the node that kept it died;
   * the session is over: the user signed in anew instead of resuming;
   * the client resumed, and was told that the session was not recovered;
   * the client does not acknowledge, so that nobody knows what it had read.

So a message that was taken while the peer's client read must have come, and so must one for a client that was away and
recovered its session, on whichever node. When it was taken lies between the request and the OK.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from random import Random

from zope.interface import implementer

from meshrelay.config.schema import Config, GroupConfig, SessionConfig
from meshrelay.interfaces import ISession, ISessionObserver
from meshrelay.model import CloseReason, Status
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.memory_mesh import Line
from meshrelay.testing.node import MemoryClient
from meshrelay.wire.commands import (
    CORE_VER,
    Command,
    CoreCommand,
    decode_error,
    decode_pushed_direct,
    encode_direct,
)
from meshrelay.wire.frame import Frame
from meshrelay.wire.hello import Hello, decode_welcome, encode_hello

__all__ = ["History", "Loss", "Sent", "Storm", "StormPlan"]

STEP_SECONDS = 0.02

#: Stands for the line of all messages with an OK.
_WITH_OK = 0


@dataclass
class Sent:
    """One message: `number` counts the messages of this sender to this peer."""

    sender: str
    peer: str
    number: int
    at: float
    #: Of the sender; each of its connections has another one.
    connection: int
    #: None = there was no OK.
    accepted_at: float | None = None
    #: Error code of the answer; None = there was none.
    refused: int | None = None


@dataclass
class Loss:
    """What was taken for a user between `since` and `until` was given up: see rule 3."""

    since: float
    until: float
    why: str


@dataclass
class History:
    """All that was sent, and what came."""

    sent: list[Sent] = field(default_factory=list)
    #: Peer -> (sender, number, session that it came by) in order.
    came: dict[str, list[tuple[str, int, str]]] = field(default_factory=lambda: defaultdict(list))
    losses: dict[str, list[Loss]] = field(default_factory=lambda: defaultdict(list))

    def check(self) -> list[str]:
        """Return what is wrong, one line each; see the module for the rules."""
        problems = []
        all_sent = {(sent.sender, sent.peer, sent.number): sent for sent in self.sent}
        for peer, messages in self.came.items():
            seen = set()
            newest: dict[tuple[str, str, int], int] = defaultdict(int)
            for sender, number, sid in messages:
                if (sender, number) in seen:
                    problems.append(f"{sender} to {peer}: {number} came twice")
                    continue
                seen.add((sender, number))
                sent = all_sent[sender, peer, number]
                lines = [sent.connection] if sent.accepted_at is None else [sent.connection, _WITH_OK]
                for line in lines:
                    if number < newest[sender, sid, line]:
                        problems.append(f"{sender} to {peer}: {number} came after {newest[sender, sid, line]}; {sent}")
                    newest[sender, sid, line] = max(number, newest[sender, sid, line])
        problems += [
            f"{sent.sender} to {sent.peer}: {sent.number}, sent at {sent.at:.2f} and taken at {sent.accepted_at:.2f}, "
            f"did not come; {self.losses[sent.peer]}"
            for sent in self.missing()
            if not self.is_excused(sent)
        ]
        return problems

    def missing(self) -> list[Sent]:
        """Messages with an OK that did not come."""
        came = {(sender, peer, number) for peer, messages in self.came.items() for sender, number, _ in messages}
        return [
            sent
            for sent in self.sent
            if sent.accepted_at is not None and (sent.sender, sent.peer, sent.number) not in came
        ]

    def is_excused(self, sent: Sent) -> bool:
        """Whether what was taken for the peer when this message was has been given up."""
        assert sent.accepted_at is not None
        return any(loss.since <= sent.accepted_at and loss.until >= sent.at for loss in self.losses[sent.peer])


@dataclass(frozen=True)
class StormPlan:
    """How much happens."""

    users: int = 300
    #: Each user writes to so many others.
    peers: int = 2
    steps: int = 120
    #: For each step.
    bursts: int = 8
    longest_burst: int = 4
    breaks: float = 0.5
    sign_ins: float = 0.1
    cuts: float = 0.06
    #: Of the users.
    acknowledging: float = 0.8
    kills: bool = True
    #: Of links between nodes, each way.
    longest_delay_seconds: float = 0.005


class _User:
    """One user, and the connection that it has now."""

    def __init__(self, user_id: str, transport: str, acks: bool) -> None:
        self.user_id = user_id
        self.transport = transport
        self.acks = acks
        self.client: MemoryClient | None = None
        self.node_id = ""
        self.sid = ""
        #: Pushes of this session, as ACK and HELLO count them.
        self.received = 0
        self.asked: dict[int, Sent] = {}
        #: Request ID of the HELLO; 0 = it was answered.
        self.hello = 0
        self.connections = 0
        self.resumed_from = ""
        #: Where its last connection broke.
        self.left = ""
        #: Its line is stuck.
        self.is_stalled = False
        #: sid -> since when its client does not read, and the node that keeps what comes.
        self.unread: dict[str, tuple[float, str]] = {}
        #: Connections that are read, oldest first, and how far.
        self.read_counts: dict[MemoryClient, int] = {}
        self.sids: dict[MemoryClient, str] = {}


@implementer(ISessionObserver)
class _Keeper:
    """Is told by one node for whom it keeps messages: also for sessions that a client never learned of."""

    def __init__(self, node_id: str, users: dict[str, _User], storm: Storm) -> None:
        self._node_id = node_id
        self._users = users
        self._storm = storm

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    session_back = session_moved = session_opened

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._users[session.user.user_id].unread.setdefault(session.user.sid, (self._storm.now, self._node_id))

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`."""
        unread = self._users[session.user.user_id].unread
        since, _ = unread.get(session.user.sid, (self._storm.now, ""))
        unread[session.user.sid] = since, self._node_id

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        self._storm.session_over(session.user.user_id, session.user.sid)


class Storm:
    """Runs one history.

    :param seed: of everything that is drawn.
    :ivar codes: how often each error code was answered.
    :ivar thrown_out: connections that a node closed although they were the newest of their users.
    :ivar recovered: sessions that went on without a gap after their connection broke, and of those
    :ivar moved: the ones on another node.
    """

    def __init__(self, seed: int, plan: StormPlan = StormPlan()) -> None:
        self._plan = plan
        self._random = Random(seed)
        config = Config(group=GroupConfig(send_interval_ms=0), session=SessionConfig(resume_seconds=20.0))
        self.cluster = GroupCluster("abc", config, seed=seed, line=Line(0.001, plan.longest_delay_seconds, 0.02))
        self.history = History()
        self.codes: dict[int, int] = defaultdict(int)
        self.thrown_out = 0
        self.recovered = 0
        self.moved = 0
        self._numbers: dict[tuple[str, str], int] = defaultdict(int)
        #: (time, user, node): who comes back when.
        self._returns: list[tuple[float, _User, str]] = []
        self._users = {}
        for index in range(plan.users):
            user_id = f"user-{index}"
            transport = self._random.choice(("tcp", "websocket"))
            self._users[user_id] = _User(user_id, transport, self._random.random() < plan.acknowledging)
        users = list(self._users.values())
        self._pairs = [(user, self._random.choice(users)) for user in users for _ in range(plan.peers)]
        for node_id in self.cluster.node_ids:
            self.cluster[node_id].registry.add_observer(_Keeper(node_id, self._users, self))

    @property
    def now(self) -> float:
        """Seconds of the cluster's clock."""
        return self.cluster.clock.seconds()

    def run(self) -> History:
        """Let everything happen, and then calm down."""
        users = list(self._users.values())
        for user in users:
            self._come(user, self._random.choice(self.cluster.node_ids), "")
        self._step(5)
        for step in range(self._plan.steps):
            if self._plan.kills and step == self._plan.steps // 2:
                self._kill(self._random.choice(self.cluster.node_ids))
            self._disturb(users)
            for _ in range(self._plan.bursts):
                self._write(*self._random.choice(self._pairs))
            self._step()
        for user in users:
            if user.is_stalled:
                self._unstall(user)
        # Longer than anything is looked for or waited for.
        self._step(40, 0.2)
        for user in users:
            for sid in list(user.unread):
                self._lost(user, sid, "never came back")
        return self.history

    def _step(self, count: int = 1, seconds: float = STEP_SECONDS) -> None:
        for _ in range(count):
            self.cluster.run(seconds, seconds)
            for user in self._users.values():
                for client in list(user.read_counts):
                    self._read(user, client)
            due = [each for each in self._returns if each[0] <= self.now]
            for each in due:
                self._returns.remove(each)
                self._come(each[1], each[2], each[1].sid)

    # What goes wrong.

    def _disturb(self, users: list[_User]) -> None:
        random, plan = self._random, self._plan
        if random.random() < plan.cuts:
            self.cluster.links.mesh.cut(*random.sample(self.cluster.node_ids, 2))
        for user in users:
            if user.is_stalled and random.random() < 0.1:
                self._break(user)
        for rate, happens in ((plan.breaks, self._break), (plan.sign_ins, self._sign_in_elsewhere)):
            user = random.choice(users)
            if random.random() < rate and user.client is not None and not user.hello:
                happens(user)

    def _sign_in_elsewhere(self, user: _User) -> None:
        if user.is_stalled and user.client is not None:
            user.client.lose()
            self._disconnected(user)
        # The earlier connection is read until its node closes it.
        user.asked.clear()
        self._come(user, self._random.choice(self.cluster.node_ids), "")

    def _break(self, user: _User) -> None:
        client = user.client
        assert client is not None
        if user.is_stalled or self._random.random() < 0.5:
            client.lose()
            if not user.acks:
                self._stops_reading(user)
                self._lost(user, user.sid, "does not acknowledge")
            self._goes_away(user)
        else:
            # Nobody notices that it reads nothing, for a while.
            client.link.stall()
            user.is_stalled = True
            self._stops_reading(user)

    def _goes_away(self, user: _User) -> None:
        self._disconnected(user)
        user.left = user.node_id
        node_id = user.node_id if self._random.random() < 0.4 else self._random.choice(self.cluster.node_ids)
        self._returns.append((self.now + self._random.random() * 0.6, user, node_id))

    def _disconnected(self, user: _User) -> None:
        self._stops_reading(user)
        if user.client is not None:
            del user.read_counts[user.client]
        user.client = None
        user.is_stalled = False
        user.hello = 0
        user.asked.clear()

    def _stops_reading(self, user: _User) -> None:
        user.unread.setdefault(user.sid, (self.now, user.node_id))

    def _unstall(self, user: _User) -> None:
        assert user.client is not None
        user.client.link.unstall()
        user.is_stalled = False
        user.unread.pop(user.sid, None)

    def _kill(self, node_id: str) -> None:
        self.cluster.kill(node_id)
        for user in self._users.values():
            if user.node_id == node_id and user.client is not None:
                self._read(user, user.client)
                self._disconnected(user)
                self._returns.append((self.now + self._random.random(), user, self.cluster.node_ids[0]))
            for sid, (_, keeper) in list(user.unread.items()):
                if keeper == node_id:
                    self._lost(user, sid, "its node died")
            for client in list(user.read_counts):
                if client.node.relay.node_id == node_id:
                    del user.read_counts[client]
        # Who was about to come back there goes elsewhere.
        self._returns = [
            (at, user, self.cluster.node_ids[-1] if where == node_id else where) for at, user, where in self._returns
        ]

    def session_over(self, user_id: str, sid: str) -> None:
        """A node has ended a session."""
        if sid in self._users[user_id].unread:
            self._lost(self._users[user_id], sid, "its session is over")

    def _lost(self, user: _User, sid: str, why: str) -> None:
        since, _ = user.unread.pop(sid)
        self.history.losses[user.user_id].append(Loss(since, self.now, why))

    # What users do.

    def _come(self, user: _User, node_id: str, resume: str) -> None:
        client = user.client = self.cluster[node_id].connect(user.transport)
        user.read_counts[client] = 0
        user.connections += 1
        user.node_id = node_id
        user.resumed_from = resume
        received = user.received if resume and user.acks else None
        hello = Hello(protocol=1, user=user.user_id, acks=user.acks, resume=resume or None, received=received)
        user.hello = client.ask(CoreCommand.HELLO, encode_hello(hello), CORE_VER)

    def _write(self, user: _User, peer: _User) -> None:
        if user.client is None or user.hello or user.client.link.is_closed:
            return
        for _ in range(self._random.randint(1, self._plan.longest_burst)):
            pair = user.user_id, peer.user_id
            self._numbers[pair] += 1
            sent = Sent(*pair, self._numbers[pair], self.now, user.connections)
            self.history.sent.append(sent)
            payload = encode_direct(peer.user_id, b"%d" % sent.number)
            user.asked[user.client.ask(Command.DM_SEND, payload)] = sent

    def _read(self, user: _User, client: MemoryClient) -> None:
        frames = client.link.received
        new = frames[user.read_counts[client] :]
        user.read_counts[client] = len(frames)
        is_present = client is user.client
        for frame in new:
            if is_present and frame.request_id and frame.request_id == user.hello:
                self._welcomed(user, client, frame.payload)
            elif is_present and frame.request_id:
                self._answered(user, frame)
            elif frame.status == Status.PUSH and frame.ver:
                user.received += is_present
                pushed = decode_pushed_direct(frame.payload)
                self.history.came[user.user_id].append((pushed.user_id, int(pushed.message), user.sids[client]))
        if client.link.is_closed and not is_present:
            del user.read_counts[client]
        elif client.link.is_closed:
            self.thrown_out += 1
            self._goes_away(user)
        elif new and is_present and user.acks and not user.hello and self._random.random() < 0.3:
            client.acknowledge(user.received)

    def _welcomed(self, user: _User, client: MemoryClient, payload: bytes) -> None:
        welcome = decode_welcome(payload)
        user.hello = 0
        if not welcome.resumed:
            user.received = 0
            self._look_for_lost(user)
        elif user.resumed_from in user.unread:
            if welcome.recovered:
                del user.unread[user.resumed_from]
                self.recovered += 1
                self.moved += user.left != user.node_id
            else:
                self._lost(user, user.resumed_from, "not recovered")
        user.sid = user.sids[client] = welcome.sid

    def _look_for_lost(self, user: _User) -> None:
        registries = [self.cluster[node_id].registry for node_id in self.cluster.node_ids]
        for sid in list(user.unread):
            if all(registry.find_session(sid) is None for registry in registries):
                self._lost(user, sid, "got lost on its way to another node")

    def _answered(self, user: _User, frame: Frame) -> None:
        sent = user.asked.pop(frame.request_id, None)
        if sent is None:
            return
        if frame.status == Status.OK:
            sent.accepted_at = self.now
        else:
            sent.refused = decode_error(frame.payload)[0]
            self.codes[sent.refused] += 1
